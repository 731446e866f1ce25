"""CVAT for images: tags, shapes, checkboxes, subsets; and what it says of files that are none."""

import tracemalloc
from pathlib import Path

import pytest

from polytag.data.formats.recognise import recognise
from polytag.data.formats.xml_elements import xml_elements
from polytag.data.load import load_dataset
from polytag.errors import DataError

LABELS = "<label><name>dog</name><type>any</type></label><label><name>cat</name></label><label><name>cow</name></label>"


def message(call, *args, kind=DataError, **named):
    with pytest.raises(kind) as error:
        call(*args, **named)
    return str(error.value)


def document(images: str, labels: str = LABELS) -> str:
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
        f"  <meta><task><id>1</id><name>t</name><labels>{labels}</labels></task></meta>\n{images}\n</annotations>\n"
    )


IMAGES = """<image id="0" name="a.jpg" width="4" height="4"><tag label="cat" source="manual"></tag><tag label="dog"/></image>
<image id="1" name="b.jpg" width="4" height="4"></image>
<image id="2" name="c.jpg"><box label="cat" xtl="1" ytl="1" xbr="2" ybr="2"><attribute name="wild">true</attribute></box>
  <skeleton label="dog"><points label="nose" points="1,2"/></skeleton></image>"""


def test_tags_and_shapes_are_labels_and_declared_classes_keep_their_order(tmp_path, write, add_images, labels):
    add_images(tmp_path, "images/a.jpg", "images/b.jpg", "images/c.jpg")
    path = write(tmp_path / "annotations.xml", document(IMAGES, LABELS + "<label><name>nose</name><parent>dog</parent></label>"))
    for data in (tmp_path, path):
        assert recognise(data) == "cvat"
        dataset = load_dataset(data)
        assert dataset.label_set.names == ("dog", "cat", "cow")
        assert list(labels(dataset).values()) == ["dog cat", "", "dog cat"]
        assert dataset.interpretation.notes == (
            "attributes are not read, such as 'wild'",
            "1 image without a tag or shape: all classes count as absent",
        )


def test_the_subset_of_an_image_is_its_split(tmp_path, write, add_images, labels):
    add_images(tmp_path, "images/Train/a.jpg", "images/Validation/a.jpg", "images/default/c.jpg")
    images = "".join(
        f'<image name="{name}" subset="{subset}" task_id="1"><tag label="cat"/></image>'
        for name, subset in (("a.jpg", "Train"), ("a.jpg", "Validation"), ("c.jpg", "default"))
    )
    write(tmp_path / "annotations.xml", document(images))
    assert labels(load_dataset(tmp_path)) == {
        ("train", "images/Train/a.jpg"): "cat",
        ("val", "images/Validation/a.jpg"): "cat",
        ("", "images/default/c.jpg"): "cat",
    }


def test_the_checkboxes_of_the_only_label_are_the_classes(tmp_path, write, add_images, labels):
    """Multi-label projects in CVAT often have one tag, with a checkbox for each class."""
    add_images(tmp_path, "a.jpg", "b.jpg")
    tag = '<tag label="photo"><attribute name="cat">{}</attribute><attribute name="dog">false</attribute></tag>'
    images = f'<image name="a.jpg">{tag.format("true")}</image><image name="b.jpg"/>'
    write(tmp_path / "annotations.xml", document(images, "<label><name>photo</name></label>"))
    dataset = load_dataset(tmp_path)
    assert dataset.label_set.names == ("cat", "dog")
    assert labels(dataset) == {("", "a.jpg"): "cat"}
    assert dataset.interpretation.notes == ("1 image left out, because they have no tag 'photo'",)
    assert ("labels", "the checkboxes of the only label 'photo'") in dataset.interpretation.found


def test_a_label_that_every_image_has_is_asked_about(tmp_path, write, add_images):
    """The classes are then in an attribute with a list of values, which is not read."""
    add_images(tmp_path, "a.jpg", "b.jpg")
    images = "".join(
        f'<image name="{name}.jpg"><tag label="photo"><attribute name="animal">{animal}</attribute></tag></image>'
        for name, animal in (("a", "cat"), ("b", "dog"))
    )
    path = write(tmp_path / "annotations.xml", document(images, "<label><name>photo</name></label>"))
    assert message(load_dataset, path) == (
        "every image has the only label, and what differs are attributes\n"
        f"  where: {path}: image 'a.jpg'\n  got: label 'photo' with 'animal'\n"
        "  expected: labels as tags, or as checkboxes of one tag\n"
        "  next: make each value a tag in CVAT, or write a CSV file with the columns image and labels"
    )


def test_files_with_the_names_of_splits(tmp_path, write, add_images, labels):
    """Datumaro writes a file for each subset."""
    add_images(tmp_path, "images/a.jpg", "images/b.jpg")
    for split, name in (("train", "a"), ("val", "b")):
        write(tmp_path / f"{split}.xml", document(f'<image name="{name}.jpg"><tag label="cat"/></image>'))
    assert labels(load_dataset(tmp_path)) == {("train", "images/a.jpg"): "cat", ("val", "images/b.jpg"): "cat"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (document('<track id="0" label="cat"></track>'),
         "CVAT's format for videos\n  where: {path}\n  got: <track>\n  expected: an <image> for each image\n"
         "  next: export the task as 'CVAT for images 1.1'"),
        (document('<image name="a.jpg"><tag label="cta"/></image>'),
         "a class that the annotations do not declare\n  where: {path}: image 'a.jpg'\n  got: 'cta' (did you mean 'cat'?)\n"
         "  expected: one of dog, cat, cow"),
        (document('<image name="a.jpg"><tag/></image>'),
         "a shape without a label\n  where: {path}: image 'a.jpg'\n  got: <tag>\n  expected: a label in every shape"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotations>&b;</annotations>',
         "XML that annotations do not need\n  where: {path}\n  got: <!DOCTYPE>\n  expected: elements and attributes only"),
        ("<annotations>\n<image></annotations>",
         "malformed XML\n  where: {path}:2\n  got: mismatched tag, at column 10\n  expected: XML"),
        ("<annotation><object><name>cat</name></object></annotation>",
         "not a file of CVAT\n  where: {path}:1\n  got: <annotation>\n  expected: <annotations>\n"
         "  next: give the folder of all files for the XML of VOC or LabelMe"),
    ],
)  # fmt: skip
def test_what_cannot_be_read(tmp_path, write, add_images, text, expected):
    add_images(tmp_path, "a.jpg")
    path = write(tmp_path / "annotations.xml", text)
    assert message(load_dataset, path) == expected.format(path=path)


def test_memory_does_not_hold_the_whole_file(tmp_path: Path):
    """Elements are dropped one by one, so a large file takes the memory of its labels."""
    path = tmp_path / "annotations.xml"
    path.write_text("<annotations>" + '<image name="a.jpg"><box label="cat" x="1"/></image>' * 8_000 + "</annotations>")
    tracemalloc.start()
    assert sum(element.tag == "image" for element in xml_elements(path)) == 8_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000, f"{peak:,} bytes for a file of {path.stat().st_size:,}"
