"""KITTI's object labels, as the benchmark, datumaro and FiftyOne lay them out."""

import pytest

from polytag.data.formats.boxes import boxes_reader
from polytag.data.formats.kitti import split_line
from polytag.data.formats.recognise import recognise
from polytag.data.load import load_dataset
from polytag.data.read_options import ReadOptions
from polytag.errors import DataError

BOX = "0.00 0 -0.20 1 2 6 7 1.89 0.48 1.20 1.84 1.47 8.41 0.01"
NOTHING = "DontCare -1 -1 -10 503.89 169.71 590.61 190.13 -1 -1 -1 -1000 -1000 -1000 -10\n"


def kitti(tmp_path, write, add_images, *, labels="training/label_2", images="training/image_2"):
    write(tmp_path / labels / "a.txt", f"Pedestrian {BOX}\n{NOTHING}traffic light {BOX}\n")
    write(tmp_path / labels / "b.txt", f"Car {BOX} 0.97\n")
    write(tmp_path / labels / "c.txt", "")
    add_images(tmp_path / images, "a.png", "b.png", "c.png")


@pytest.mark.parametrize(
    ("labels_folder", "images"),
    [("training/label_2", "training/image_2"), ("labels", "data"), ("label_2", "image_2"), ("val/label_2", "val/image_2")],
)
def test_classes_are_the_first_words_and_dont_care_is_none(tmp_path, write, add_images, labels, labels_folder, images):
    kitti(tmp_path, write, add_images, labels=labels_folder, images=images)
    assert recognise(tmp_path) == "kitti"
    split = "val" if images.startswith("val") else ""
    dataset = load_dataset(tmp_path)
    expected = ["Pedestrian traffic light", "Car", ""]
    assert labels(dataset) == {(split, f"{images}/{n}.png"): text for n, text in zip("abc", expected, strict=True)}
    assert dataset.label_set.names == ("Car", "Pedestrian", "traffic light")


def test_images_without_labels_are_left_out_and_said(tmp_path, write, add_images):
    kitti(tmp_path, write, add_images)
    add_images(tmp_path, "training/image_2/d.png", "testing/image_2/e.png")
    write(tmp_path / "ImageSets/train.txt", "a\n")
    dataset = load_dataset(tmp_path)
    assert len(dataset) == 3
    assert dataset.interpretation.notes == (
        "left out, without label files: testing/image_2",
        f"the lists in ImageSets are not read; --split-file {tmp_path}/ImageSets/train.txt reads one",
        "images without a label file are left out: d.png",
        "train is the only split, and kitti has to name one: the images have no split",
    )


def test_boxes_are_shown(tmp_path, write, add_images):
    kitti(tmp_path, write, add_images)
    dataset = load_dataset(tmp_path)
    read = boxes_reader(tmp_path, dataset=dataset, options=ReadOptions())
    assert read is not None
    assert [(box.class_name, box.top, box.bottom) for box in read(0).boxes] == [
        ("Pedestrian", 0.25, 0.875),
        ("traffic light", 0.25, 0.875),
    ]
    assert read(2).boxes == ()


def test_images_alone_are_refused_with_a_way_out(tmp_path, add_images):
    add_images(tmp_path, "train/image_2/a.jpg", "val/image_2/b.jpg")
    with pytest.raises(DataError) as error:
        load_dataset(tmp_path)
    assert str(error.value) == (
        f"no KITTI label files\n  where: {tmp_path}\n  got: images only in train/image_2, val/image_2\n"
        "  expected: label_2/NAME.txt beside image_2/NAME.png\n"
        "  next: KITTI files hold boxes only: export labels of whole images as another format, such as VOC, COCO or CSV"
    )


@pytest.mark.parametrize("line", ["Car 0 0", "Car", f"Car {BOX} 1 2", f"traffic light {BOX} 0.9"])
def test_a_line_that_cannot_be_read(tmp_path, write, add_images, line):
    kitti(tmp_path, write, add_images)
    path = write(tmp_path / "training/label_2/b.txt", f"\n{line}\n")
    with pytest.raises(DataError) as error:
        load_dataset(tmp_path)
    assert str(error.value) == (
        f"a line of a KITTI label file cannot be read\n  where: {path}:2\n  got: {line!r}\n"
        "  expected: a class and 14 numbers, or 15 with a score"
    )


def test_a_line_of_a_million_numbers_costs_no_square():
    assert split_line("Car " + "1 " * 1_000_000) is None
