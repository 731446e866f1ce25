"""Boxes: worked examples a format, turned images, and annotations that are missing or broken."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polytag.contracts import Dataset, LabelSet
from polytag.data.classes import ClassShaping
from polytag.data.formats.boxes import Box, Boxes, boxes_reader
from polytag.data.images.read import read_frame, read_image
from polytag.data.load import load_dataset
from polytag.data.read_options import ReadOptions
from polytag.demo.scenes import write_scenes

ORIENTATIONS = range(1, 9)


def write_xml(path: Path, *objects: str, size: str = "<size><width>40</width><height>20</height><depth>3</depth></size>"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<annotation>{size}{''.join(objects)}</annotation>")


def xml_object(name: str, box: tuple[float, float, float, float], *, difficult: int = 0) -> str:
    corners = "".join(f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{corners}</bndbox></object>"


def read_rows(data: Path) -> dict[str, Boxes]:
    """All boxes of a data set, by the image's id."""
    dataset = load_dataset(data)
    read = boxes_reader(data, dataset=dataset, options=ReadOptions())
    assert read is not None
    return {name: read(row) for row, name in enumerate(dataset.ids)}


def image(path: Path, *, size: tuple[int, int] = (40, 20), orientation: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[274] = orientation
    Image.new("RGB", size).save(path, exif=exif)


# ---- VOC ----


def test_voc_counts_from_one_and_includes_the_last_pixel(tmp_path: Path):
    image(tmp_path / "JPEGImages/a.jpg")
    image(tmp_path / "JPEGImages/b.jpg")
    objects = xml_object("cat", (1, 1, 40, 20)), xml_object("dog", (11, 6, 20, 10), difficult=1)
    write_xml(tmp_path / "Annotations/a.xml", *objects)
    write_xml(tmp_path / "Annotations/b.xml")
    found = read_rows(tmp_path)
    assert found["a"].boxes == (
        Box(class_name="cat", left=0, top=0, right=1, bottom=1),
        Box(class_name="dog", left=0.25, top=0.25, right=0.5, bottom=0.5, is_doubtful=True),
    )
    assert found["b"] == Boxes()


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>", "<size><width>x</width></size>"])
def test_voc_without_a_size_takes_the_images_own(tmp_path: Path, size: str):
    image(tmp_path / "JPEGImages/a.jpg")
    write_xml(tmp_path / "Annotations/a.xml", xml_object("cat", (11, 6, 20, 10)), size=size)
    assert read_rows(tmp_path)["a"].boxes == (Box(class_name="cat", left=0.25, top=0.25, right=0.5, bottom=0.5),)


def test_voc_broken_and_missing_annotations_are_told_and_raise_nothing(tmp_path: Path):
    for name in "abc":
        image(tmp_path / f"JPEGImages/{name}.jpg")
        write_xml(tmp_path / f"Annotations/{name}.xml", xml_object("cat", (1, 1, 4, 4)))
    options = ReadOptions()
    dataset = load_dataset(tmp_path)
    read = boxes_reader(tmp_path, dataset=dataset, options=options)
    assert read is not None
    (tmp_path / "Annotations/a.xml").write_text("<annotation><object>")
    (tmp_path / "Annotations/b.xml").unlink()
    broken = "<object><name>cat</name></object><object><bndbox><xmin>nan</xmin></bndbox></object>"
    write_xml(tmp_path / "Annotations/c.xml", xml_object("cat", (11, 6, 20, 10)), broken, xml_object("cat", (50, 1, 90, 5)))
    assert read(0) == Boxes(note="the annotation file of this image cannot be read")
    assert read(1) == Boxes(note="no annotation file of this image")
    assert read(2).note == "3 objects have no box that can be shown"
    assert len(read(2).boxes) == 1


def test_voc_split_folders_may_hold_the_same_name(tmp_path: Path):
    for split, right in (("train", 20), ("valid", 40)):
        image(tmp_path / split / "a.jpg")
        write_xml(tmp_path / split / "a.xml", xml_object("cat", (1, 1, right, 20)))
    dataset = load_dataset(tmp_path)
    read = boxes_reader(tmp_path, dataset=dataset, options=ReadOptions())
    assert read is not None
    assert {split: read(row).boxes[0].right for row, split in enumerate(dataset.split_N)} == {"train": 0.5, "val": 1.0}


def test_generated_scenes_have_the_boxes_of_their_labels(tmp_path: Path):
    data = write_scenes(tmp_path / "scenes", num_train=6, num_val=3, size_px=48)
    dataset = load_dataset(data)
    read = boxes_reader(data, dataset=dataset, options=ReadOptions())
    assert read is not None
    for row in range(len(dataset)):
        boxes = read(row).boxes
        present = {name for name, target in zip(dataset.label_set, dataset.target_NC[row], strict=True) if target == 1}
        assert {box.class_name for box in boxes if not box.is_doubtful} == present


def test_real_photographs_have_the_boxes_of_their_labels(real_voc: Path):
    data = real_voc / "VOC2012"
    dataset = load_dataset(data)
    read = boxes_reader(data, dataset=dataset, options=ReadOptions())
    assert read is not None
    for row in range(0, len(dataset), 40):
        found = read(row)
        present = {name for name, target in zip(dataset.label_set, dataset.target_NC[row], strict=True) if target == 1}
        assert {box.class_name for box in found.boxes if not box.is_doubtful} == present
        assert not found.note


# ---- images that EXIF turns ----


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_boxes_fall_on_what_was_drawn(tmp_path: Path, orientation: int, suffix: str):
    """A white spot in the stored pixels; annotated in either frame, its box lies on the spot of the upright image."""
    stored = np.zeros((20, 40, 3), np.uint8)
    stored[4:8, 10:20] = 255
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"JPEGImages/a.{suffix}"
    path.parent.mkdir()
    Image.fromarray(stored).save(path, exif=exif)
    assert read_frame(path) == ((40, 20), orientation)
    upright = np.asarray(read_image(path))[..., 0]
    height, width = upright.shape
    rows, columns = np.flatnonzero(upright.any(axis=1)), np.flatnonzero(upright.any(axis=0))
    expected = (columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height)

    in_upright = (columns[0] + 1, rows[0] + 1, columns[-1] + 1, rows[-1] + 1)
    drawn = {(width, height): in_upright}
    if orientation >= 5:  # the frames differ in size, so the annotation's tells which one is meant
        drawn[40, 20] = (11, 5, 20, 8)
    for (declared_width, declared_height), box in drawn.items():
        size = f"<size><width>{declared_width}</width><height>{declared_height}</height></size>"
        write_xml(tmp_path / "Annotations/a.xml", xml_object("spot", box), size=size)
        (found,) = read_rows(tmp_path)["a"].boxes
        assert (found.left, found.top, found.right, found.bottom) == pytest.approx(expected)


# ---- COCO ----


def write_coco(path: Path, *, annotations: list[dict[str, object]], width: object = 40, height: object = 20) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": 7, "file_name": "a.jpg", "width": width, "height": height}, {"id": 8, "file_name": "b.jpg"}]
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
    }
    path.write_text(json.dumps(content))


def test_coco_boxes_are_corner_and_size_from_zero(tmp_path: Path):
    for split in ("train", "val"):
        for name in ("a", "b"):
            image(tmp_path / split / f"{name}.jpg")
        right = 20 if split == "train" else 40
        annotations = [
            {"image_id": 7, "category_id": 3, "bbox": [0, 5, right, 10], "iscrowd": 0},
            {"image_id": 7, "category_id": 5, "bbox": [-5, 0, 15, 5], "iscrowd": 1},
            {"image_id": 8, "category_id": 5, "bbox": [10, 5, 10, 5]},
        ]
        write_coco(tmp_path / f"annotations/instances_{split}.json", annotations=annotations)
    found = read_rows(tmp_path)
    assert found["train/a.jpg"].boxes == (
        Box(class_name="cat", left=0, top=0.25, right=0.5, bottom=0.75),
        Box(class_name="dog", left=0, top=0, right=0.25, bottom=0.25, is_doubtful=True),
    )
    assert found["val/a.jpg"].boxes[0].right == 1
    assert found["val/b.jpg"].boxes == (Box(class_name="dog", left=0.25, top=0.25, right=0.5, bottom=0.5),)  # by the image's size


def test_coco_broken_boxes_are_told(tmp_path: Path):
    for name in ("a", "b"):
        image(tmp_path / f"{name}.jpg")
    annotations: list[dict[str, object]] = [
        {"image_id": 7, "category_id": 3, "bbox": bbox}
        for bbox in ([1, 2], "text", [1, 2, float("nan"), 3], [1, 2, 0, 0], [0, 0, 40, 20], [10**400, 0, 1, 1])
    ]
    annotations += [{"image_id": 8, "category_id": 3}]  # speaks of the image as a whole
    write_coco(tmp_path / "_annotations.coco.json", annotations=annotations)
    found = read_rows(tmp_path)
    assert [box.right for box in found["a.jpg"].boxes] == [1]
    assert found["a.jpg"].note == "5 objects have no box that can be shown"
    assert found["b.jpg"] == Boxes()


def test_coco_file_that_broke_after_it_was_read_gives_notes(tmp_path: Path):
    for name in ("a", "b"):
        image(tmp_path / f"{name}.jpg")
    file = tmp_path / "_annotations.coco.json"
    write_coco(file, annotations=[{"image_id": 7, "category_id": 3, "bbox": [0, 0, 1, 1]}])
    dataset = load_dataset(tmp_path)
    read = boxes_reader(tmp_path, dataset=dataset, options=ReadOptions())
    assert read is not None
    file.write_text("{")
    assert read(0) == Boxes(note="no annotation of this image")


# ---- YOLO ----


def test_yolo_boxes_are_centre_and_size_and_polygons_their_hull(tmp_path: Path):
    for name in ("a", "b", "c"):
        image(tmp_path / f"images/train/{name}.jpg")
    (tmp_path / "data.yaml").write_text("train: images/train\nnames: [cat, dog]\n")
    labels = tmp_path / "labels/train"
    labels.mkdir(parents=True)
    (labels / "a.txt").write_text("0 0.5 0.5 1 0.5\n1 0.1 0.2 0.3 0.2 0.2 0.6\n\n")
    dataset = load_dataset(tmp_path)
    read = boxes_reader(tmp_path, dataset=dataset, options=ReadOptions())
    assert read is not None
    (labels / "b.txt").write_text("0 0.5 0.5 1\nx\n7 0.5 0.5 1 1\n0 5 5 1 1\n1 0.5 0.5 0.5 0.5 0.9\n")
    found = {Path(name).stem: read(row) for row, name in enumerate(dataset.ids)}
    assert found["a"].boxes == (
        Box(class_name="cat", left=0, top=0.25, right=1, bottom=0.75),
        Box(class_name="dog", left=0.1, top=0.2, right=0.3, bottom=0.6),
    )
    assert [box.class_name for box in found["b"].boxes] == ["dog"]
    assert found["b"].note == "4 objects have no box that can be shown"
    assert found["c"] == Boxes(note="no label file of this image")
    (labels / "a.txt").write_bytes(b"\xff\xfe0")
    assert read(dataset.ids.index("images/train/a.jpg")) == Boxes(note="the label file of this image cannot be read")


# ---- classes that options rename, merge and leave out ----


def test_boxes_have_the_names_that_the_classes_have(tmp_path: Path):
    """A YOLO file numbers the classes of the annotations, of which the data set has others, in another order."""
    (voc, yolo, kitti), names = (tmp_path / each for each in ("voc", "yolo", "kitti")), ("cat", "dog", "cow")
    for place in (voc / "JPEGImages", yolo / "images", kitti / "image_2"):
        image(place / "a.png")
    write_xml(voc / "Annotations/a.xml", *(xml_object(name, (1, 1, 9, 9)) for name in names))
    for path, lines in (
        (yolo / "classes.txt", names),
        (yolo / "labels/a.txt", (f"{number} 0.5 0.5 1 1" for number in range(3))),
        (kitti / "label_2/a.txt", (f"{name} 0 0 0 1 2 6 7 1 1 1 1 1 1 0" for name in names)),
    ):
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(lines))
    options = ReadOptions(shaping=ClassShaping(rename={"dog": "hound"}, merge={"pet": ["hound", "cat"]}, classes=("cow", "pet")))
    for data in (voc, yolo, kitti):
        dataset = load_dataset(data, options=options)
        read = boxes_reader(data, dataset=dataset, options=options)
        assert read is not None
        assert (dataset.label_set.names, [box.class_name for box in read(0).boxes]) == (("cow", "pet"), ["pet", "pet", "cow"])


# ---- without boxes ----


def test_formats_without_boxes_have_no_reader(colours: Path):
    dataset = load_dataset(colours)
    assert boxes_reader(colours, dataset=dataset, options=ReadOptions()) is None


def test_lists_without_xml_and_folders_that_are_gone_have_no_reader(tmp_path: Path):
    image(tmp_path / "JPEGImages/a.jpg")
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "ImageSets/Main/cat_train.txt").write_text("a 1\n")
    dataset = load_dataset(tmp_path)
    assert boxes_reader(tmp_path, dataset=dataset, options=ReadOptions()) is None
    gone = Dataset(
        ids=("a",),
        paths=(Path("a.jpg"),),
        target_NC=np.zeros((1, 1), np.int8),
        split_N=("",),
        label_set=LabelSet(names=("cat",)),
        source="",
    )
    assert boxes_reader(tmp_path / "gone", dataset=gone, options=ReadOptions()) is None
