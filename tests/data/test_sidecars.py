"""A file for each image: labelme's JSON, LabelMe's XML, and texts of tags."""

import json
from pathlib import Path

import pytest

from polytag.data.formats.recognise import recognise
from polytag.data.load import load_dataset
from polytag.data.read_options import ReadOptions
from polytag.errors import DataError


def message(call, *args, kind=DataError, **named):
    with pytest.raises(kind) as error:
        call(*args, **named)
    return str(error.value)


def labelme(image, *shapes, **flags):
    return json.dumps(
        {
            "version": "5.5.0",
            "flags": flags,
            "shapes": [{"label": label, "points": [[0, 0], [1, 1]], "shape_type": "rectangle", "flags": {}} for label in shapes],
            "imagePath": image,
            "imageData": None,
        }
    )


def label_me(image, *objects):
    found = "".join(f"<object><name>{name}</name><deleted>{deleted}</deleted></object>" for name, deleted in objects)
    return f"<annotation><filename>{image}</filename><folder>train</folder><source><sourceImage/></source>{found}</annotation>"


# ---- labelme ----


def test_shapes_of_labelme(tmp_path, write, add_images, labels):
    """The name inside the file leads to the image, also where the file was made on Windows; else its own name does."""
    add_images(tmp_path, "a.jpg", "b.jpg", "c.jpg", "no-file.jpg")
    write(tmp_path / "a.json", labelme("..\\photos\\a.jpg", "cat", "cat", "dog"))
    write(tmp_path / "b.json", labelme("renamed.jpg"))
    write(tmp_path / "c.json", labelme("c.jpg", "dog"))
    write(tmp_path / "_info.json", '{"name": "of another program"}')
    assert recognise(tmp_path) == "labelme"
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {("", "a.jpg"): "cat dog", ("", "b.jpg"): "", ("", "c.jpg"): "dog"}
    assert dataset.interpretation.notes == ("1 image without a label: all classes count as absent",)


def test_flags_of_labelme_keep_their_order_and_a_missing_one_is_unknown(tmp_path, write, add_images, labels):
    add_images(tmp_path, "images/train/a.jpg", "images/val/b.jpg", "images/val/c.jpg")
    write(tmp_path / "labels/train/a.json", labelme("../../images/train/a.jpg", dog=True, cat=False))
    write(tmp_path / "labels/val/b.json", labelme("b.jpg", dog=False))
    write(tmp_path / "labels/val/c.json", labelme("c.jpg"))
    dataset = load_dataset(tmp_path)
    assert dataset.label_set.names == ("dog", "cat")
    assert labels(dataset) == {("train", "images/train/a.jpg"): "dog", ("val", "images/val/b.jpg"): "?cat"}
    assert dataset.interpretation.notes == ("1 image left out, because their files have no flags",)


def test_flags_beside_shapes_are_asked_about(tmp_path, write, add_images, labels):
    """ "blurred" is no class of the shapes."""
    add_images(tmp_path, "a.jpg")
    write(tmp_path / "a.json", labelme("a.jpg", "cat", blurred=True))
    assert message(load_dataset, tmp_path) == (
        f"labels in several fields\n  where: {tmp_path}\n  got: 'flags' (of images), 'shapes' (with labels)\n"
        "  expected: one of them\n"
        "  next: choose one with the option labels_column, such as --labels-column 'flags'"
    )
    for field, expected in (("flags", "blurred"), ("shapes", "cat")):
        assert list(labels(load_dataset(tmp_path, options=ReadOptions(labels_column=field))).values()) == [expected]


def test_the_xml_of_labelme_is_no_voc(tmp_path, write, add_images, labels):
    """Deleted objects stay in the file."""
    add_images(tmp_path, "Images/train/a.jpg", "Images/val/b.jpg")
    write(tmp_path / "Annotations/train/a.xml", label_me("a.jpg", ("cat", 0), ("dog", 1)))
    write(tmp_path / "Annotations/val/b.xml", label_me("b.jpg", ("dog", 0)))
    assert recognise(tmp_path) == "labelme"
    assert labels(load_dataset(tmp_path)) == {("train", "Images/train/a.jpg"): "cat", ("val", "Images/val/b.jpg"): "dog"}


def test_files_of_labelme_without_a_label(tmp_path, write, add_images):
    add_images(tmp_path, "a.jpg")
    path = write(tmp_path / "a.json", labelme("a.jpg", cat=False))
    assert message(load_dataset, tmp_path) == (
        f"files without any label\n  where: {path}\n  got: neither a flag that is true nor a shape, in 1 files\n"
        "  expected: at least one\n"
        "  next: LabelMe's XML holds only polygons and boxes: export labels of whole images in another format"
    )
    assert message(load_dataset, path).endswith("got: labelme's file of one image\n  expected: the JSON of a tool in "
                                                "docs/reference/formats.md\n  next: give the folder of all files")  # fmt: skip


# ---- tags ----


def test_tags_beside_images(tmp_path, write, add_images, labels):
    add_images(tmp_path, "10_mychar/a.jpg", "10_mychar/b.png", "10_mychar/c.jpg", "1_reg/d.jpg", "1_reg/e.jpg")
    write(tmp_path / "10_mychar/a.txt", "1girl, long hair, saber \\(fate\\)\n")
    write(tmp_path / "10_mychar/b.caption", "1girl,\r\nsolo")
    write(tmp_path / "10_mychar/c.txt", "\n")
    write(tmp_path / "1_reg/d.jpg.txt", "solo")
    assert recognise(tmp_path) == "tags"
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {
        ("", "10_mychar/a.jpg"): "1girl long hair saber (fate)",
        ("", "10_mychar/b.png"): "1girl solo",
        ("", "10_mychar/c.jpg"): "",
        ("", "1_reg/d.jpg"): "solo",
    }
    assert dataset.interpretation.notes == (
        "1 image left out, because no text is beside them",
        "folders such as '10_name' are kohya's numbers of repeats: they are no labels",
    )


def test_tags_in_folders_of_splits(tmp_path, write, add_images, labels):
    for split, tags in (("train", "cat\ndog"), ("val", "dog")):
        add_images(tmp_path, f"{split}/a.jpg")
        write(tmp_path / f"{split}/a.txt", tags)
    assert labels(load_dataset(tmp_path)) == {("train", "train/a.jpg"): "cat dog", ("val", "val/a.jpg"): "dog"}


def test_tags_with_spaces_only_are_asked_about(tmp_path, write, add_images, labels):
    """danbooru separates by spaces, and a label may have some."""
    add_images(tmp_path, "a.jpg", "b.jpg")
    write(tmp_path / "a.txt", "1girl long_hair")
    write(tmp_path / "b.txt", "solo")
    assert message(load_dataset, tmp_path) == (
        "tags with spaces, and neither a comma nor a line break in any file\n"
        f"  where: {tmp_path}/a.txt:1\n  got: '1girl long_hair'\n  expected: cat, dog\n"
        "  next: give the option separator: --separator ' ', or --separator none for one tag per file"
    )
    for separator, expected in ((" ", ("1girl", "long_hair", "solo")), ("none", ("1girl long_hair", "solo"))):
        assert load_dataset(tmp_path, options=ReadOptions(separator=separator)).label_set.names == expected


def test_captions_are_no_tags(tmp_path, write, add_images):
    texts = ("A cat sits on a mat.", "Two dogs, running through the snow at night.", "a boat")
    for number, text in enumerate(texts):
        add_images(tmp_path, f"{number}.jpg")
        write(tmp_path / f"{number}.txt", text)
    assert message(load_dataset, tmp_path) == (
        f"texts that look like captions, not tags\n  where: {tmp_path}/0.txt:1\n  got: 'A cat sits on a mat.'\n"
        "  expected: such as 'cat, dog'\n"
        "  next: write tags, or a table with the columns image and labels; with --yes a text between commas is a label"
    )
    assert len(load_dataset(tmp_path, options=ReadOptions(accept_doubts=True)).label_set) == 4


@pytest.mark.parametrize(
    "text", ["0 0.5 0.5 0.1 0.1\n3 0.25 0.25 0.1 0.1\n", "Car 0.00 0 -1.57 614.24 181.78 727.31 284.77 1.57 1.73 4.15 1 1 1 1"]
)
def test_boxes_are_never_tags(tmp_path, write, add_images, text):
    add_images(tmp_path, "a.jpg", "b.jpg")
    write(tmp_path / "a.txt", text)
    write(tmp_path / "b.txt", "")
    with pytest.raises(DataError):
        load_dataset(tmp_path)
    path = tmp_path / "a.txt"
    assert message(load_dataset, tmp_path, options=ReadOptions(format="tags")).startswith(
        f"a file of boxes among tags\n  where: {path}:1\n"
    )


def test_tags_are_not_taken_for_lists_of_images_nor_labels_of_yolo_for_tags(tmp_path, write, add_images):
    add_images(tmp_path / "yolo", "a.jpg")
    write(tmp_path / "yolo/a.txt", "0 0.5 0.5 0.1 0.1")
    write(tmp_path / "yolo/classes.txt", "cat")
    assert recognise(tmp_path / "yolo") == "yolo"
    add_images(tmp_path / "folders", "cat/a.jpg", "cat/b.jpg", "cat/c.jpg")
    write(tmp_path / "folders/cat/a.txt", "photo by Ann")  # of most images there is none
    assert recognise(tmp_path / "folders") == "folder"


COMMUNITY = ("labelme-flags", "labelme-shapes", "kohya", "sidecar-flat")


@pytest.mark.parametrize("layout", COMMUNITY)
def test_the_files_of_the_tools_themselves(shared: Path, layout):
    folder = shared / "cases/community" / layout
    if not folder.is_dir():
        pytest.skip("the files of other tools are not beside this checkout (../shared/cases/community)")
    truth = {row["id"]: set(row["labels"]) for row in json.loads((folder.parent / "truth.json").read_text())["rows"]}
    dataset = load_dataset(folder)
    found = {
        path.stem: {name for name, target in zip(dataset.label_set, target_C, strict=True) if target == 1}
        for path, target_C in zip(dataset.paths, dataset.target_NC.tolist(), strict=True)
    }
    assert found == truth
    assert not (dataset.target_NC == -1).any()
