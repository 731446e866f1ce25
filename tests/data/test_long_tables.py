"""Tables with a row for each image and label: joined, contradictions unknown, and what cannot be known told."""

from pathlib import Path

import pytest

from polytag import ReadOptions, load_dataset
from polytag.errors import AnnotationError

COMMUNITY = Path(__file__).parents[2] / "../shared/cases/community"


@pytest.fixture
def table(tmp_path, write, add_images):
    """A table beside four images."""
    add_images(tmp_path, "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    return lambda text, name="labels.csv": write(tmp_path / name, text)


def refused(data: Path, **options: object) -> str:
    with pytest.raises(AnnotationError) as error:
        load_dataset(data, options=ReadOptions(**options))  # pyright: ignore[reportArgumentType]
    return str(error.value)


def test_the_rows_of_an_image_are_joined(table, tmp_path, labels):
    table("filename,label\na.jpg,dog\nb.jpg,cat\na.jpg,cat\nb.jpg,cat\n")
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {("", "a.jpg"): "cat dog", ("", "b.jpg"): "cat"}
    assert dict(dataset.interpretation.found) == {
        "images": "column 'filename'",
        "labels": "column 'label', one row for each image and label",
    }
    assert dataset.interpretation.notes == (
        "the image and label of another row are repeated in 1 row, which changes nothing",
        "2 images are in no row, such as 'c.jpg': whether they have no label or were never annotated cannot be told, so they are "
        "left out",
    )


@pytest.mark.parametrize(
    ("header", "cells", "splits"),
    [
        ("partition", ("0", "1", "2"), ("train", "val", "test")),
        ("is_train", ("1", "0", "1"), ("train", "val", "train")),
        ("phase", ("Train", "validation", "test"), ("train", "val", "test")),
    ],
)
def test_splits_are_as_in_other_tables(table, tmp_path, header, cells, splits):
    rows = "".join(f"{name}.jpg,dog,{cell}\n{name}.jpg,cat,{cell}\n" for name, cell in zip("abc", cells, strict=True))
    table(f"filename,label,{header}\n{rows}")
    assert load_dataset(tmp_path).split_N == splits


def test_a_flag_that_may_be_the_split_is_asked_about(table, tmp_path):
    table("filename,label,train\na.jpg,dog,1\na.jpg,cat,1\nb.jpg,cat,0\n")
    assert refused(tmp_path).startswith("a column of 1 and 0 that may be the split\n")
    assert load_dataset(tmp_path, options=ReadOptions(split_column="train")).split_N == ("train", "val")


@pytest.mark.parametrize(
    ("other", "error"),
    [
        ("filename,label,present\nb.jpg,dog,0\nb.jpg,cat,1\n", "two tables disagree about their columns\n"),
        ("filename,label,ok\nb.jpg,dog,0\nb.jpg,cat,1\n", "a column of 1 and 0 that may say which labels are absent\n"),
        ("filename,label\nb.jpg,dog|cat\n", "label lists beside a table with a row for each image and label\n"),
    ],
)
def test_another_table_of_other_columns_or_cells(table, tmp_path, other, error):
    """The first table decides the columns: dog was once present in b.jpg, and `dog|cat` a class."""
    table("filename,label\na.jpg,dog\na.jpg,cat\n", "train.csv")
    table(other, "val.csv")
    assert refused(tmp_path).startswith(error)


def test_a_label_called_nan_is_asked_about(table, tmp_path, labels):
    path = table("filename,label\na.jpg,dog\na.jpg,cat\nb.jpg,nan\n")
    assert refused(tmp_path).startswith(
        f"a label that may say that there is none\n  where: {path}:4\n  got: 'nan' in column 'label'\n"
    )


def test_a_column_that_may_be_the_answers_is_asked_about(table, tmp_path, labels):
    path = table("filename,label,ok\na.jpg,dog,yes\na.jpg,cat,no\nb.jpg,cat,yes\n")
    assert refused(tmp_path) == (
        f"a column of 1 and 0 that may say which labels are absent\n  where: {path}:1\n"
        "  got: column 'ok', with a row for each image and label\n  expected: a column called 'present' for that\n"
        "  next: rename it to 'present'; or take the label of every row as present with --ignore-column 'ok'"
    )
    assert labels(load_dataset(tmp_path, options=ReadOptions(ignore_columns=("ok",))))["", "a.jpg"] == "cat dog"
    path.write_text(path.read_text().replace("ok", "answer"))
    assert labels(load_dataset(tmp_path))["", "a.jpg"] == "dog"


@pytest.mark.parametrize("header", ["ImageID,LabelName", "Image Index,Finding", "image_path,species", "img,anything at all"])
def test_columns_go_by_many_names(table, tmp_path, labels, header):
    table(header + "\na.jpg,dog\na.jpg,cat\nb.jpg,\n")
    assert labels(load_dataset(tmp_path)) == {("", "a.jpg"): "cat dog", ("", "b.jpg"): ""}


def test_splits_come_from_a_column_or_from_files(table, tmp_path, labels):
    path = table("filename,label,split\na.jpg,dog,train\na.jpg,cat,train\nb.jpg,cat,valid\na.jpg,cat,test\n")
    expected = {("train", "a.jpg"): "cat dog", ("val", "b.jpg"): "cat", ("test", "a.jpg"): "cat"}
    assert labels(load_dataset(tmp_path)) == expected
    path.unlink()
    table("filename,label\na.jpg,dog\na.jpg,cat\n", "train.csv")
    table("filename,label\nb.jpg,cat\n", "val.csv")  # in which every image has one row
    assert labels(load_dataset(tmp_path)) == {("train", "a.jpg"): "cat dog", ("val", "b.jpg"): "cat"}
    table("filename,tag\nb.jpg,cat\n", "val.csv")
    assert refused(tmp_path) == (
        f"two tables disagree about their columns\n  where: {tmp_path}/val.csv:1\n  got: filename, tag\n"
        f"  expected: a column 'label', as in {tmp_path}/train.csv"
    )


def test_images_of_one_name_are_those_of_their_own_split(tmp_path, write, add_images):
    add_images(tmp_path, "train/1.jpg", "val/1.jpg")
    write(tmp_path / "train.csv", "filename,label\n1.jpg,dog\n1.jpg,cat\n")
    write(tmp_path / "val.csv", "filename,label\n1.jpg,cat\n")
    assert [path.parent.name for path in load_dataset(tmp_path).paths] == ["train", "val"]
    (tmp_path / "train.csv").unlink()
    (tmp_path / "val.csv").unlink()
    write(tmp_path / "train.txt", "1.jpg dog cat\n")
    write(tmp_path / "val.txt", "1.jpg cat\n")
    assert [path.parent.name for path in load_dataset(tmp_path).paths] == ["train", "val"]


def test_groups_stay_with_the_images(table, tmp_path):
    table("filename,label,patient\na.jpg,dog,p1\na.jpg,cat,p1\nb.jpg,cat,p2\n")
    dataset = load_dataset(tmp_path, options=ReadOptions(group_column="patient"))
    assert dataset.group_N == ("p1", "p2")
    assert dataset.label_set.names == ("cat", "dog")


def test_a_confidence_of_zero_is_absent_and_no_row_is_unknown(table, tmp_path, labels):
    table("image,label,confidence\na.jpg,dog,1\na.jpg,cat,0\nb.jpg,cat,1\nc.jpg,cat,1\nc.jpg,cat,0\nd.jpg,dog,\n")
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {
        ("", "a.jpg"): "dog", ("", "b.jpg"): "cat ?dog", ("", "c.jpg"): "?cat ?dog", ("", "d.jpg"): "?cat ?dog",
    }  # fmt: skip
    assert "1 label is present in one row and absent in another, and so unknown" in dataset.interpretation.notes
    path = table("image,label,confidence\na.jpg,dog,1\na.jpg,cat,0\nb.jpg,cat,0.7\n")
    assert refused(tmp_path) == (
        f"a confidence that is neither present nor absent\n  where: {path}:4\n  got: '0.7' in column 'confidence'\n"
        "  expected: 1 (present), 0 (absent), -1 or nothing (unknown)\n"
        "  next: decide from which confidence on a label is present, and write 1 and 0"
    )


@pytest.mark.parametrize("name", ["confidence", "score", "Prob"])
def test_the_scores_of_a_model_are_no_labels(table, tmp_path, labels, name):
    path = table(f"image,label,{name}\na.jpg,dog,0.9\na.jpg,cat,0.05\nb.jpg,cat,0.7\n")
    assert refused(tmp_path) == (
        f"confidences that may be the scores of a model\n  where: {path}:2\n  got: '0.9' in column {name!r}\n"
        "  expected: 1 (present) or 0 (absent)\n"
        "  next: decide from which confidence on a label is present, and write 1 and 0; or take every row as present with --yes"
    )
    dataset = load_dataset(tmp_path, options=ReadOptions(accept_doubts=True))
    assert labels(dataset) == {("", "a.jpg"): "cat dog", ("", "b.jpg"): "cat"}


def test_a_label_that_only_some_annotators_gave_is_unknown(table, tmp_path, labels):
    table("image_id,class_name,rad_id\na.jpg,dog,R1\na.jpg,dog,R2\na.jpg,cat,R2\nb.jpg,cat,R1\nb.jpg,,R3\nc.jpg,cat,R1\n")
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {("", "a.jpg"): "?cat dog", ("", "b.jpg"): "?cat", ("", "c.jpg"): "cat"}
    assert "labels that only some annotators of an image gave are unknown: 2 in labels.csv" in dataset.interpretation.notes
    found = dict(dataset.interpretation.found)
    assert found["annotators"] == "column 'rad_id'; a label is present if all of an image's gave it"


def test_chosen_columns_are_those_or_an_error(table, tmp_path, labels):
    table("filename,label,other\na.jpg,dog,x\na.jpg,cat,y\nb.jpg,cat,x\n")
    assert load_dataset(tmp_path, options=ReadOptions(labels_column="other")).label_set.names == ("x", "y")
    assert load_dataset(tmp_path, options=ReadOptions(ignore_columns=("lab*",))).label_set.names == ("x", "y")
    for option in ("labels_column", "image_column", "split_column", "group_column"):
        assert refused(tmp_path, **{option: "none"}).startswith("the table has no such column\n")


def test_a_row_without_its_last_cell_is_asked_about(table, tmp_path):
    path = table("filename,label\na.jpg,dog\na.jpg,cat\nb.jpg\n")
    assert refused(tmp_path).startswith(f"a row is shorter than the header\n  where: {path}:4\n")


def test_fastais_flag_is_a_split(table, tmp_path, labels):
    table("fname,label,is_valid\na.jpg,dog,True\na.jpg,cat,True\nb.jpg,cat,False\n")
    assert labels(load_dataset(tmp_path)) == {("val", "a.jpg"): "cat dog", ("train", "b.jpg"): "cat"}


def test_tensorflows_boxes(table, tmp_path, labels):
    table(
        "filename,width,height,class,xmin,ymin,xmax,ymax\n"
        "a.jpg,500,375,dog,48,240,195,371\na.jpg,500,375,dog,8,12,352,498\na.jpg,500,375,person,8,12,352,498\nb.jpg,9,9,dog,1,1,5,5\n"
    )
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {("", "a.jpg"): "dog person", ("", "b.jpg"): "dog"}
    assert ("labels", "column 'class', one row for each box") in dataset.interpretation.found
    assert not any("repeat" in note for note in dataset.interpretation.notes)


def test_lists_and_class_columns_of_a_repeated_image_are_still_refused(table, tmp_path):
    for text in ("image,labels\na.jpg,cat|dog\na.jpg,dog\n", "image,cat,dog\na.jpg,1,0\na.jpg,0,1\n"):
        table(text)
        assert refused(tmp_path).startswith("an image is listed twice\n")


def test_a_row_without_an_image(table, tmp_path):
    path = table("image,label\na.jpg,cat\na.jpg,dog\n,\n,dog\n")
    assert refused(tmp_path) == f"no image name\n  where: {path}:5\n  got: an empty cell\n  expected: a file name"


def test_the_table_of_the_community(labels):
    if not COMMUNITY.is_dir():
        pytest.skip("no ../shared/cases/community beside this checkout")
    dataset = load_dataset(COMMUNITY / "long-csv")
    assert len(dataset) == 93
    assert labels(dataset)["", "2007_000579.jpg"] == "car person"
