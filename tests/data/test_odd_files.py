"""What is no file (a pipe, a device) in the place of an image or of annotations is an error at once, and never a wait."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

COCO = '{"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 1, "name": "cat"}], "annotations": []}'
LAYOUTS = {
    "csv": {"labels.csv": "file_name,cat\na.png,1\n"},
    "parquet": {"labels.parquet": ""},
    "imagefolder": {"metadata.jsonl": '{"file_name": "a.png", "labels": ["cat"]}\n'},
    "coco": {"instances_train.json": COCO},
    "voc": {"Annotations/a.xml": "<annotation><object><name>cat</name></object></annotation>"},
    "yolo": {"data.yaml": "train: images\nnames: [cat]\n", "labels/a.txt": "0 0.5 0.5 0.1 0.1\n"},
    "folder": {},
}


def layout(folder: Path, name: str) -> list[Path]:
    """A small data set; returns its files."""
    images = folder / {"voc": "JPEGImages", "yolo": "images", "folder": "cat"}.get(name, "")
    images.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(images / "a.png")
    for path, text in LAYOUTS[name].items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return [folder / path for path in LAYOUTS[name]]


CHECK_EACH = """
import sys
from typer.testing import CliRunner
from polytag.cli.main import app
from polytag.errors import PolytagError
for folder in sys.argv[1:]:
    print(folder, flush=True)
    error = CliRunner().invoke(app, ["data", "check", folder]).exception
    assert isinstance(error, PolytagError) and error.exit_status == 1, repr(error)
print("all")
"""


@pytest.mark.slow
@pytest.mark.parametrize("odd", ["pipe", "device"])
def test_annotations_that_are_no_file_end_in_an_error(tmp_path: Path, odd: str):
    """In a process of its own, which a wait would not stop; the last folder that it prints is the one."""
    folders: list[Path] = []
    for name, files in LAYOUTS.items():
        for number in range(len(files)):
            folders.append(tmp_path / f"{name}-{number}")
            path = layout(folders[-1], name)[number]
            path.unlink()
            if odd == "pipe":
                os.mkfifo(path)
            else:
                path.symlink_to("/dev/zero")
    done = subprocess.run([sys.executable, "-c", CHECK_EACH, *folders], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == [*map(str, folders), "all"], done.stderr


def test_a_pipe_as_the_data_themselves(tmp_path: Path):
    os.mkfifo(tmp_path / "labels.csv")
    done = subprocess.run(
        [sys.executable, "-m", "polytag", "data", "check", tmp_path / "labels.csv"], capture_output=True, text=True, timeout=60
    )
    assert "the data are neither a folder nor a file" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl", "npz", "pt"])
def test_scores_that_are_no_file_end_in_an_error(tmp_path: Path, suffix: str):
    path = tmp_path / f"scores.{suffix}"
    os.mkfifo(path)
    done = subprocess.run([sys.executable, "-m", "polytag", "evaluate", path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "got: a device or a pipe" in done.stderr
