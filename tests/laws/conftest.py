"""The same small data set as four tools write it, for the guide "from your labelling tool to a model"."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest

Rows = list[tuple[Path, list[str], str]]


@pytest.fixture(scope="session")
def write_tool_exports(colours: Path) -> Callable[[Path], None]:
    """Write the small data set of colours into a folder as `label-studio`, `cvat`, `roboflow` and `kaggle`."""
    with colours.open(newline="") as file:
        listed = list(csv.DictReader(file))
    rows = [(Path(row["file_name"]), row["labels"].split("|") if row["labels"] else [], row["split"]) for row in listed]
    classes = sorted({label for _, labels, _ in rows for label in labels})

    def write(folder: Path) -> None:
        for write_export in (_label_studio, _cvat, _roboflow, _kaggle):
            name = write_export.__name__.strip("_").replace("_", "-")
            write_export(colours.parent, folder / name, rows, classes)

    return write


def _label_studio(images: Path, folder: Path, rows: Rows, classes: list[str]) -> None:
    """The JSON export, with the images as uploaded: eight hexadecimal digits before each name."""
    tasks: list[dict[str, object]] = []
    (folder / "images").mkdir(parents=True)
    for number, (name, labels, _) in enumerate(rows, start=1):
        upload = f"{number:08x}-{name.name}"
        shutil.copy(images / name, folder / "images" / upload)
        choice = {"value": {"choices": labels}, "from_name": "colour", "to_name": "image", "type": "choices", "origin": "manual"}
        annotation = {"id": number, "completed_by": 1, "result": [choice] if labels else [], "was_cancelled": False}
        tasks.append(
            {"id": number, "annotations": [annotation], "data": {"image": f"/data/upload/1/{upload}"}, "file_upload": upload}
        )
    (folder / "project-1-at-2026-11-29.json").write_text(json.dumps(tasks))


def _cvat(images: Path, folder: Path, rows: Rows, classes: list[str]) -> None:
    """CVAT for images 1.1, with tags, and the images of the task."""
    (folder / "images").mkdir(parents=True)
    declared = "".join(f"<label><name>{name}</name><type>tag</type></label>" for name in classes)
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "<version>1.1</version>"]
    lines.append(f"<meta><task><name>colours</name><size>{len(rows)}</size><labels>{declared}</labels></task></meta>")
    for number, (name, labels, split) in enumerate(rows):
        shutil.copy(images / name, folder / "images" / name.name)
        tags = "".join(f"<tag label={quoteattr(label)} source='manual'></tag>" for label in labels)
        subset = {"train": "Train", "val": "Validation"}[split]
        lines.append(f'<image id="{number}" name="{name.name}" subset="{subset}" width="16" height="16">{tags}</image>')
    (folder / "annotations.xml").write_text("\n".join([*lines, "</annotations>"]))


def _roboflow(images: Path, folder: Path, rows: Rows, classes: list[str]) -> None:
    """The multi-label classification export: `_classes.csv` in the folder of each split, with spaces after the commas."""
    for split, named in (("train", "train"), ("val", "valid")):
        (folder / named).mkdir(parents=True)
        lines = [", ".join(["filename", *classes])]
        for name, labels, of_row in rows:
            if of_row == split:
                export = f"{name.stem}_png.rf.0a1b2c3d4e5f.png"
                shutil.copy(images / name, folder / named / export)
                lines.append(", ".join([export, *("1" if label in labels else "0" for label in classes)]))
        (folder / named / "_classes.csv").write_text("\n".join(lines) + "\n")


def _kaggle(images: Path, folder: Path, rows: Rows, classes: list[str]) -> None:
    """A competition: `train.csv` with ids and labels divided by spaces, images in `train`, and a sample submission."""
    (folder / "train").mkdir(parents=True)
    for name, _, _ in rows:
        shutil.copy(images / name, folder / "train" / name.name)
    lines = ["image_name,tags", *(f"{name.stem},{' '.join(labels)}" for name, labels, _ in rows)]
    (folder / "train.csv").write_text("\n".join(lines) + "\n")
    (folder / "sample_submission.csv").write_text("image_name,tags\n000,red\n")
