"""CSV files without a header, as RetinaNet and Google's import read them."""

from pathlib import Path

import pytest

from polytag import load_dataset
from polytag.errors import AnnotationError


@pytest.fixture
def table(tmp_path, write, add_images):
    add_images(tmp_path, "a.jpg", "b.jpg", "c d.jpg")
    return lambda text: write(tmp_path / "annotations.csv", text)


def refused(data: Path) -> str:
    with pytest.raises(AnnotationError) as error:
        load_dataset(data)
    return str(error.value)


def test_retinanets_boxes(table, tmp_path, write, labels):
    path = table("a.jpg,837,346,981,456,cow\nb.jpg,215,312,279,391,cat\nb.jpg,22,5,89,84,bird\nb.jpg,1,1,9,9,cat\nc d.jpg,,,,,\n")
    write(tmp_path / "classes.csv", "cow,0\ncat,1\nbird,2\n")
    expected = {("", "a.jpg"): "cow", ("", "b.jpg"): "cat bird", ("", "c d.jpg"): ""}
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == expected == labels(load_dataset(path))
    assert dict(dataset.interpretation.found)["labels"] == "boxes of RetinaNet, in rows without a header"


def test_googles_import_files(table, tmp_path, labels):
    table(
        'TRAIN,gs://bucket/images/a.jpg,cat,dog\nVALIDATION,gs://bucket/images/b.jpg,"traffic, light"\nTEST,gs://bucket/c%20d.jpg\n'
    )
    assert labels(load_dataset(tmp_path)) == {
        ("train", "a.jpg"): "cat dog",
        ("val", "b.jpg"): "traffic, light",
        ("test", "c d.jpg"): "",
    }
    table("UNASSIGNED,gs://x/a.jpg,cat,0.1,0.1,,,0.3,0.3,,\n,gs://x/a.jpg,dog,0.1,0.1,,,0.3,0.3,,\n")
    assert labels(load_dataset(tmp_path)) == {("", "a.jpg"): "cat dog"}


@pytest.mark.parametrize(
    "text", ["a.jpg,cat,dog\nb.jpg,dog\n", "a.jpg;cat\na.jpg;dog\nb.jpg;dog\n", "a.jpg\tcat\tdog\r\nb.jpg\tdog\r\n"]
)
def test_an_image_and_its_labels(table, tmp_path, labels, text):
    table(text)
    assert labels(load_dataset(tmp_path)) == {("", "a.jpg"): "cat dog", ("", "b.jpg"): "dog"}


def test_what_is_refused(table, tmp_path):
    path = table("a.jpg,cat\n" * 60 + "nothing,cat\n")
    assert refused(tmp_path) == (
        f"a row without an image\n  where: {path}:61\n  got: nothing,cat\n"
        "  expected: rows like the first, with labels after the image\n"
        "  next: add a header such as file_name,labels if the columns are others"
    )
    table("a.jpg,cat,3\nb.jpg,dog,2\n")
    assert refused(tmp_path) == (
        f"numbers beside labels, in a table without a header\n  where: {path}:1\n  got: a.jpg,cat,3\n"
        "  expected: an image and its labels, or a box with its class\n"
        "  next: add a header that names the columns, such as file_name,labels"
    )
    table("a.jpg,1,0\nb.jpg,0,1\n")
    assert refused(tmp_path).startswith("no column of image names\n")
