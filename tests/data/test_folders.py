"""A folder per label, and imagefolder as Hugging Face's documentation shows it."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polytag.data.formats.recognise import recognise
from polytag.data.load import load_dataset
from polytag.data.read_options import ReadOptions
from polytag.errors import DataError

# ---- a folder per label ----


def test_an_image_in_several_folders_has_several_labels(tmp_path, add_images, labels):
    add_images(tmp_path, "cat/1.jpg", "dog/2.jpg", "cat/deeper/3.png")
    (tmp_path / "dog/1.jpg").write_bytes((tmp_path / "cat/1.jpg").read_bytes())
    os.link(tmp_path / "dog/2.jpg", tmp_path / "cat/2.jpg")
    (tmp_path / "cat/Thumbs.db").touch()
    assert recognise(tmp_path) == "folder"
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {("", "cat/1.jpg"): "cat dog", ("", "cat/2.jpg"): "cat dog", ("", "cat/deeper/3.png"): "cat"}
    assert dataset.paths[0] == tmp_path / "cat/1.jpg"


def test_one_name_for_two_images_is_two_images(tmp_path, add_images, labels):
    """Cameras and tools number each folder from 1."""
    add_images(tmp_path, "cat/0001.jpg", "dog/0001.jpg")
    assert labels(load_dataset(tmp_path)) == {("", "cat/0001.jpg"): "cat", ("", "dog/0001.jpg"): "dog"}


def test_splits_above_the_labels(tmp_path, add_images, labels):
    add_images(tmp_path, "train/cat/1.jpg", "valid/dog/1.jpg", "Test/cat/9.jpg")
    assert labels(load_dataset(tmp_path)) == {
        ("test", "Test/cat/9.jpg"): "cat",
        ("train", "train/cat/1.jpg"): "cat",
        ("val", "valid/dog/1.jpg"): "dog",
    }


def test_a_class_called_train_is_no_split(tmp_path, add_images, labels):
    add_images(tmp_path, "bus/1.jpg", "train/2.jpg")
    assert labels(load_dataset(tmp_path)) == {("", "bus/1.jpg"): "bus", ("", "train/2.jpg"): "train"}


def test_a_circle_of_links_ends(tmp_path, add_images):
    add_images(tmp_path, "cat/1.jpg")
    (tmp_path / "cat/again").symlink_to(tmp_path / "cat")
    assert load_dataset(tmp_path).ids == ("cat/1.jpg",)


def test_of_a_folder_and_links_to_it_the_folder_is_read(tmp_path, add_images):
    """Also where the link comes first in the alphabet; the first link that leads out of the data is a folder as any other."""
    data = tmp_path / "data"
    add_images(tmp_path, "data/cat/1.jpg", "data/dog/2.jpg", "elsewhere/3.jpg")
    for link, target in (("a_cat", "data/cat"), ("zebra", "data/dog"), ("bird", "elsewhere"), ("robin", "elsewhere")):
        (data / link).symlink_to(tmp_path / target)
    dataset = load_dataset(data)
    assert dataset.ids == ("bird/3.jpg", "cat/1.jpg", "dog/2.jpg")
    assert dataset.interpretation.notes[0] == (
        "left out, because people do not put their images there: "
        + ", ".join(f"{link}/ (a link to another folder of the data)" for link in ("a_cat", "robin", "zebra"))
    )


@pytest.mark.parametrize("name", ["images/1.jpg", "train/1.jpg", "1.jpg", "train/images/1.jpg"])
def test_images_without_labels_are_not_taken_for_labelled(tmp_path, add_images, name):
    add_images(tmp_path, name)
    with pytest.raises(DataError, match="no annotations were recognised"):
        recognise(tmp_path)


def test_no_image(tmp_path):
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError) as error:
        load_dataset(tmp_path, options=ReadOptions(format="folder"))
    assert str(error.value) == (
        f"no image in a folder of its label\n  where: {tmp_path}\n  got: none\n  expected: such as cat/1.jpg or train/cat/1.jpg"
    )


# ---- imagefolder ----

ROWS = [{"file_name": "0001.png", "labels": ["cat", "dog"]}, {"file_name": "0002.png", "labels": []}, {"file_name": "0003.png"}]


def test_metadata_jsonl(tmp_path, write, add_images, labels):
    write(tmp_path / "metadata.jsonl", "\n".join(json.dumps(row) for row in ROWS))
    add_images(tmp_path, "0001.png", "0002.png", "0003.png", "not-listed.png")
    assert recognise(tmp_path) == "imagefolder"
    expected = {("", "0001.png"): "cat dog", ("", "0002.png"): "", ("", "0003.png"): "?cat ?dog"}
    assert labels(load_dataset(tmp_path)) == expected
    assert labels(load_dataset(tmp_path / "metadata.jsonl")) == expected


def test_metadata_in_the_folder_of_each_split(tmp_path, write, add_images, labels):
    """The documentation's folder/train/metadata.csv; names may repeat from split to split."""
    write(tmp_path / "train/metadata.csv", "file_name,cat,dog\n0001.png,1,0\nsub/0002.png,,1\n")
    write(tmp_path / "validation/metadata.csv", "file_name,cat,dog\n0001.png,0,0\n")
    add_images(tmp_path, "train/0001.png", "train/sub/0002.png", "validation/0001.png")
    assert labels(load_dataset(tmp_path)) == {
        ("train", "train/0001.png"): "cat",
        ("train", "train/sub/0002.png"): "?cat dog",
        ("val", "validation/0001.png"): "",
    }


def test_metadata_above_the_splits_with_a_split_column(tmp_path, write, add_images, labels):
    write(tmp_path / "metadata.csv", "file_name,label,split\ndata/a.jpg,cat,train\ndata/b.jpg,dog,validation\n")
    add_images(tmp_path / "data", "a.jpg", "b.jpg")
    assert labels(load_dataset(tmp_path)) == {("train", "data/a.jpg"): "cat", ("val", "data/b.jpg"): "dog"}


def test_metadata_parquet(tmp_path, add_images, labels):
    pq.write_table(pa.table({"file_name": ["a.jpg"], "labels": [["cat"]]}), tmp_path / "metadata.parquet")
    add_images(tmp_path, "a.jpg")
    assert labels(load_dataset(tmp_path)) == {("", "a.jpg"): "cat"}


def message(data, **options):
    with pytest.raises(DataError) as error:
        load_dataset(data, options=ReadOptions(**options))
    return str(error.value)


def test_malformed_json_lines(tmp_path, write, add_images):
    add_images(tmp_path, "0001.png")
    path = write(tmp_path / "metadata.jsonl", json.dumps(ROWS[0]) + '\n{"file_name": "0002.png", "labels": [}\n')
    assert message(tmp_path) == f"malformed JSON\n  where: {path}:2\n  got: Expecting value, at column 38\n  expected: JSON"


def test_json_lines_of_another_kind(tmp_path, write):
    path = write(tmp_path / "metadata.jsonl", '\n["0001.png"]\n')
    assert message(tmp_path) == (f'malformed JSON Lines\n  where: {path}:2\n  got: ["0001.png"]\n  expected: one object per line')


@pytest.mark.parametrize("cell", [1.5, {"a": 1}, [["cat"]], [True]])
def test_labels_that_are_no_texts(tmp_path, write, add_images, cell):
    add_images(tmp_path, "0001.png")
    path = write(tmp_path / "metadata.jsonl", json.dumps({"file_name": "0001.png", "labels": cell}))
    assert message(tmp_path) == (
        f"a list of labels cannot be read\n  where: {path}:1\n  got: {cell!r} in column 'labels'\n"
        "  expected: texts divided by the separator, or a list of texts\n"
        "  next: write the names of the classes that are present, or a column of 1 and 0 for each class"
    )


def test_an_image_of_metadata_that_does_not_exist(tmp_path, write):
    path = write(tmp_path / "train/metadata.jsonl", json.dumps(ROWS[0]))
    assert message(tmp_path) == (
        f"a listed image does not exist\n  where: {path}:1\n  got: '0001.png'\n  expected: an image in {tmp_path}/train\n"
        "  next: put the image there, name its folder with the option image_dirs (--image-dir), or take it off the list"
    )


def test_metadata_without_file_name(tmp_path, write):
    path = write(tmp_path / "metadata.csv", "image,label\na.jpg,cat\n")
    assert message(tmp_path) == (
        f"the table has no such column\n  where: {path}:1\n  got: image, label\n  expected: a column 'file_name'"
    )


def test_two_metadata_files(tmp_path, write):
    write(tmp_path / "metadata.csv", "")
    write(tmp_path / "metadata.jsonl", "")
    assert message(tmp_path) == (
        f"two metadata files in one folder\n  where: {tmp_path}\n  got: metadata.csv, metadata.jsonl\n  expected: one of them"
    )


def test_no_metadata_file(tmp_path):
    assert message(tmp_path, format="imagefolder") == (
        f"no metadata file\n  where: {tmp_path}\n  got: none\n"
        "  expected: metadata.csv or metadata.jsonl or metadata.parquet, or one in each split's folder"
    )


# ---- what only looks like labels ----


def test_what_people_do_not_put_there_is_left_out_and_said(tmp_path, add_images, labels):
    add_images(tmp_path, "cat/1.jpg", "dog/1.jpg", "cat/._1.jpg", "__MACOSX/cat/._1.jpg", ".ipynb_checkpoints/1-checkpoint.jpg")
    add_images(tmp_path, "@eaDir/1.jpg", "runs/pets/plot.png", "elsewhere-called/grid.png", "unlabeled/3.jpg", "4.jpg")
    for run in ("runs/pets", "elsewhere-called"):
        (tmp_path / run / "args.yaml").write_text("recipe: probe\n")
        (tmp_path / run / "results.csv").write_text("epoch\n")
    (tmp_path / "heic").mkdir()
    (tmp_path / "heic/5.heic").write_bytes(b"")
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {("", "cat/1.jpg"): "cat", ("", "dog/1.jpg"): "dog"}
    assert dataset.interpretation.notes == (
        "left out, because people do not put their images there: .ipynb_checkpoints/, @eaDir/, __MACOSX/, cat/._1.jpg and 2 more",
        "left out, in no folder of a label: 4.jpg",
        "left out, not labelled: unlabeled/, images: 1",
        "folders without an image are no labels: elsewhere-called/, heic/, runs/",
    )


def test_splits_beside_other_folders(tmp_path, add_images, labels):
    add_images(tmp_path, "train/cat/1.jpg", "val/dog/2.jpg", "extra/3.jpg", "test/4.jpg")
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {("train", "train/cat/1.jpg"): "cat", ("val", "val/dog/2.jpg"): "dog"}
    assert dataset.interpretation.notes == ("left out, because they are no splits with folders of labels: extra/, test/",)


@pytest.mark.parametrize("names", [("training_set", "test_set"), ("train_images", "Test-Images"), ("trainset", "testset")])
def test_other_names_of_splits(tmp_path, add_images, labels, names):
    add_images(tmp_path, f"{names[0]}/cat/1.jpg", f"{names[1]}/dog/1.jpg")
    assert [split for split, _ in labels(load_dataset(tmp_path))] == ["test", "train"]


def test_predictions_beside_the_runs_of_ultralytics_are_left_out(tmp_path, add_images):
    add_images(tmp_path, "cat/1.jpg", "dog/1.jpg", "runs/detect/train/grid.png", "runs/detect/predict/1.jpg")
    (tmp_path / "runs/detect/train/args.yaml").write_text("")
    assert load_dataset(tmp_path).label_set.names == ("cat", "dog")


def test_one_split_beside_another_folder_is_asked_about(tmp_path, add_images, labels):
    add_images(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "truck/3.jpg")
    assert message(tmp_path) == (
        f"'train' may be a split or a label\n  where: {tmp_path}\n  got: folders in 'train', and beside it 'truck'\n"
        "  expected: splits alone, such as train and val, or labels alone\n"
        f"  next: give the folder {tmp_path}/train; or read 'train' as the only split with --yes"
    )
    accepted = load_dataset(tmp_path, options=ReadOptions(accept_doubts=True))
    assert labels(accepted) == {("train", "train/cat/1.jpg"): "cat", ("train", "train/dog/1.jpg"): "dog"}


@pytest.mark.parametrize(
    ("folder", "accepted"),
    [("PetImages", {("", "PetImages/cat/1.jpg"): "cat", ("", "PetImages/dog/1.jpg"): "dog"}),
     ("a/train", {("train", "a/train/cat/1.jpg"): "cat", ("train", "a/train/dog/1.jpg"): "dog"})],
)  # fmt: skip
def test_one_folder_too_high(tmp_path, add_images, labels, folder, accepted):
    add_images(tmp_path, f"{folder}/cat/1.jpg", f"{folder}/dog/1.jpg")
    outer, _, split = folder.partition("/")
    assert message(tmp_path) == (
        f"the labels may be one folder deeper\n  where: {tmp_path}\n"
        f"  got: images in {f'{outer}/{split}' if split else f'{outer}/cat, {outer}/dog'}\n"
        "  expected: such as cat/1.jpg or train/cat/1.jpg\n"
        f"  next: give the folder {tmp_path}/{outer}; or accept its folders as labels or splits with --yes"
    )
    assert labels(load_dataset(tmp_path, options=ReadOptions(accept_doubts=True))) == accepted


def test_the_innermost_folder_is_named(tmp_path, add_images):
    add_images(tmp_path, "ILSVRC/Data/CLS-LOC/train/n01/1.jpg", "ILSVRC/Data/CLS-LOC/train/n02/1.jpg")
    with pytest.raises(DataError, match=f"next: give the folder {tmp_path}/ILSVRC/Data/CLS-LOC;"):
        load_dataset(tmp_path)


def test_one_folder_too_high_with_an_image_of_its_own(tmp_path, add_images):
    add_images(tmp_path, "PetImages/cat/1.jpg", "PetImages/dog/1.jpg", "PetImages/logo.png")
    with pytest.raises(DataError, match="the labels may be one folder deeper"):
        load_dataset(tmp_path)


def test_labels_of_which_each_has_folders_are_asked_about(tmp_path, add_images, labels):
    add_images(tmp_path, "farm/cat/1.jpg", "farm/dog/1.jpg", "town/cat/1.jpg")
    with pytest.raises(DataError, match="if the labels are farm, town, accept them with --yes"):
        load_dataset(tmp_path)
    accepted = load_dataset(tmp_path, options=ReadOptions(accept_doubts=True))
    assert accepted.label_set.names == ("farm", "town")


def test_data_in_a_folder_that_is_no_label_are_named(tmp_path, add_images):
    add_images(tmp_path, "data/cat/1.jpg", "data/dog/1.jpg")
    with pytest.raises(DataError) as error:
        load_dataset(tmp_path)
    assert error.value.next_step == f"give the folder {tmp_path}/data, which looks like the format folder"


def test_datumaro_puts_images_without_a_label_in_a_folder(tmp_path, add_images, labels):
    add_images(tmp_path, "cat/1.jpg", "dog/2.jpg", "no_label/3.jpg")
    assert labels(load_dataset(tmp_path)) == {("", "cat/1.jpg"): "cat", ("", "dog/2.jpg"): "dog", ("", "no_label/3.jpg"): ""}
