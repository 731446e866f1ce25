"""Recognising a format, the options, and what is refused before any format is read."""

from dataclasses import asdict, fields
from pathlib import Path

import pytest
import yaml

from polytag.data.classes import ClassShaping
from polytag.data.formats.column_names import IMAGE_COLUMNS, LABELS_COLUMNS, SPLIT_COLUMNS
from polytag.data.formats.listing import IMAGE_SUFFIXES
from polytag.data.formats.recognise import recognise
from polytag.data.load import load_dataset
from polytag.data.read_options import FORMATS, ReadOptions
from polytag.errors import DataError, UsageError
from polytag.plain import from_plain

LOOKED_FOR = (
    "VOC's ImageSets/Main or XML files, COCO's annotations/*.json, YOLO's data.yaml or classes.txt, "
    "metadata.csv or .jsonl, a .csv, .parquet or .xlsx file, an annotation tool's export, or a folder of images per label"
)


def message(call, *args, kind=DataError, **named):
    with pytest.raises(kind) as error:
        call(*args, **named)
    return str(error.value)


@pytest.mark.parametrize("call", [recognise, load_dataset])
def test_a_missing_folder(tmp_path, call):
    assert message(call, tmp_path / "none") == (
        f"the data folder does not exist\n  where: {tmp_path}/none\n"
        "  expected: a folder of images and annotations, or an annotation file"
    )


def test_an_empty_folder(tmp_path):
    assert message(recognise, str(tmp_path)) == (
        f"the data folder is empty\n  where: {tmp_path}\n  expected: {LOOKED_FOR}\n"
        "  next: docs/reference/formats.md shows every layout"
    )


def test_a_folder_of_something_else(tmp_path, write):
    for number in range(10):
        write(tmp_path / f"{number}.txt", "")
    assert message(recognise, tmp_path) == (
        f"no annotations were recognised\n  where: {tmp_path}\n"
        "  got: 0.txt, 1.txt, 2.txt, 3.txt, 4.txt, 5.txt, 6.txt, 7.txt and 2 more\n"
        f"  expected: {LOOKED_FOR}\n  next: docs/reference/formats.md shows every layout"
    )


def test_a_file_of_something_else(tmp_path, write):
    path = write(tmp_path / "data.txt", "")
    assert message(load_dataset, path) == (
        f"no annotations were recognised\n  where: {path}\n  got: a file ending in '.txt'\n"
        "  expected: a file ending in .json, .xml, .yaml, .yml, .jsonl, .csv, .tsv, .parquet, .pq, .xlsx, .xlsm\n"
        "  next: docs/reference/formats.md shows every layout"
    )


def test_two_formats_in_one_folder(tmp_path, write, add_images):
    """Ultralytics' COCO has both. The option chooses."""
    write(tmp_path / "classes.txt", "cat\n")
    write(tmp_path / "labels/a.txt", "0 0.5 0.5 1 1\n")
    write(tmp_path / "data.csv", "image,labels\nimages/a.jpg,dog\n")
    add_images(tmp_path, "images/a.jpg")
    assert message(load_dataset, tmp_path) == (
        f"several annotation formats in one folder\n  where: {tmp_path}\n  got: yolo, csv\n  expected: one of them\n"
        "  next: choose one with the option format, such as --format yolo"
    )
    assert load_dataset(tmp_path, options=ReadOptions(format="yolo")).label_set.names == ("cat",)
    assert load_dataset(tmp_path, options=ReadOptions(format="csv")).label_set.names == ("dog",)


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_a_chosen_format_that_is_not_there(tmp_path, format):
    assert message(load_dataset, tmp_path, options=ReadOptions(format=format)) == (
        f"no {format} file\n  where: {tmp_path}\n  got: none\n  expected: a file ending in .{format}"
    )


@pytest.mark.parametrize("format", ["voc", "folder"])
def test_a_file_for_a_format_of_folders(tmp_path, write, format):
    path = write(tmp_path / "data.csv", "image,labels\n")
    assert message(load_dataset, path, options=ReadOptions(format=format)) == (
        f"the {format} format is a folder\n  where: {path}\n  got: a file\n  expected: a folder"
    )


@pytest.mark.parametrize(
    ("option", "value", "name"),
    [
        ("format", "pascal", "format"),
        ("difficult", "maybe", "treatment of difficult objects"),
        ("crowd", "maybe", "treatment of crowd regions"),
        ("small", "maybe", "treatment of small boxes"),
    ],
)
def test_an_unknown_option(option, value, name):
    allowed = ("auto", *FORMATS) if option == "format" else ("ignore", "positive", "negative")
    assert message(ReadOptions, kind=UsageError, **{option: value}) == (
        f"unknown {name}\n  got: '{value}'\n  expected: one of {', '.join(allowed)}"
    )


@pytest.mark.parametrize("area", [-1.0, float("nan")])
def test_a_box_area_that_is_none(area):
    assert message(ReadOptions, kind=UsageError, min_box_area_px=area) == (
        f"a box area below zero\n  got: {area}\n  expected: square pixels, 0 or more"
    )


def test_an_empty_separator():
    assert message(ReadOptions, kind=UsageError, separator="") == (
        "an empty separator\n  got: ''\n  expected: auto, none, or the characters between two labels"
    )


def test_options_survive_yaml():
    """A run writes them to args.yaml and reads them back."""
    options = ReadOptions(format="csv", class_columns=("cat", "dog"), separator="|")
    assert from_plain(ReadOptions, yaml.safe_load(yaml.safe_dump(asdict(options)))) == options


def test_a_relative_path_gives_absolute_images(tmp_path, write, add_images, monkeypatch):
    write(tmp_path / "data.csv", "image,labels\na.jpg,cat\n")
    add_images(tmp_path, "a.jpg")
    monkeypatch.chdir(tmp_path)
    for data in (".", "data.csv"):
        dataset = load_dataset(data)
        assert dataset.paths == (tmp_path / "a.jpg",)
        assert dataset.ids == ("a.jpg",)


def test_the_usual_names_of_splits_become_three(tmp_path, write, add_images):
    names = [
        "train",
        "Training",
        "TRAIN2017",
        "val",
        "valid",
        "Validation",
        "dev",
        "val_2014",
        "test",
        "testing",
        "test2",
        "fold 1",
        "",
    ]
    add_images(tmp_path, *(f"{number}.jpg" for number in range(len(names))))
    write(tmp_path / "data.csv", "image,labels,split\n" + "".join(f"{n}.jpg,cat,{name}\n" for n, name in enumerate(names)))
    assert load_dataset(tmp_path).split_N == ("train",) * 3 + ("val",) * 5 + ("test",) * 2 + ("test2", "fold 1", "")


def test_importing_the_readers_imports_neither_pyarrow_nor_torch():
    import subprocess
    import sys

    code = (
        "import sys, polytag.data.load, polytag.data.convert, polytag.data.splits; print({'torch', 'pyarrow'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_the_reference_names_every_format_option_and_column():
    """docs/reference/formats.md cannot drift from the code: all of these in code marks, and no option that is not there."""
    text = (Path(__file__).parents[2] / "docs/reference/formats.md").read_text(encoding="utf-8")
    options = [field.name for field in fields(ReadOptions)]
    suffixes = [suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES]
    missing = [
        name for name in (*FORMATS, *options, *IMAGE_COLUMNS, *LABELS_COLUMNS, *SPLIT_COLUMNS, *suffixes) if f"`{name}`" not in text
    ]
    assert not missing, f"formats.md does not mention {', '.join(missing)}: describe them there"
    classes = {field.name for field in fields(ClassShaping)}
    listed = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `") and "| default" not in line]
    listed = [name for name in listed if name not in classes]
    assert [name for name in listed if name in options or "_" in name] == options, "the table of options is that of ReadOptions"


_KITTI = "Car 0.00 0 1.85 387.63 181.54 423.81 203.12 1.67 1.87 3.69 -16.53 2.39 58.49 1.57\n"
_COCO = (
    '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "category_id": 1}], '
    '"categories": [{"id": 1, "name": "car"}]}'
)


@pytest.mark.parametrize(
    ("image", "file", "text"),
    [
        ("{}/a.jpg", "{}/a.xml", "<annotation><object><name>car</name></object></annotation>"),
        ("{}/a.jpg", "{}/_annotations.coco.json", _COCO),
        ("{}/a.jpg", "{}/metadata.csv", "file_name,labels\na.jpg,car\n"),
        ("{}/images/a.jpg", "{}/labels/a.txt", "0 .5 .5 .2 .2\n"),
        ("images/{}/a.jpg", "labels/{}/a.txt", "0 .5 .5 .2 .2\n"),
        ("{}/image_2/a.jpg", "{}/label_2/a.txt", _KITTI),
    ],
)
def test_a_folder_beside_the_splits_is_told(tmp_path, write, add_images, image, file, text):
    """Nobody should miss the images of a third split because its name is unusual."""
    if text.startswith("0"):
        write(tmp_path / "classes.txt", "car\n")
    for folder in ("train", "valid", "holdout"):
        write(tmp_path / file.format(folder), text)
        add_images(tmp_path, image.format(folder))
    dataset = load_dataset(tmp_path)
    assert dataset.split_N == ("train", "val")
    assert dataset.interpretation.notes == ("left out, because their names are no splits: holdout/",)
