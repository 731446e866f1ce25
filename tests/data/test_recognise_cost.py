"""Recognising a format costs the same however many images a folder has: a bounded number of files opened and folders scanned."""

import os
from collections import Counter
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest

from polytag.data.formats.recognise import recognise
from polytag.errors import DataError

_XML = "<annotation><filename>a.jpg</filename><object><name>cat</name></object></annotation>"
_LAYOUTS = {  # the folder of the images, and the file of annotations of each (with its content), if any
    "voc": ("JPEGImages", ("Annotations", ".xml", _XML)),
    "yolo": ("images/train", ("labels/train", ".txt", "0 0.5 0.5 0.1 0.1\n")),
    "folder": ("cat", None),
    "csv": ("images", None),
    "tags": ("", ("", ".txt", "cat, dog")),
    "labelme": ("", ("", ".json", '{"flags": {}, "shapes": [{"label": "cat"}], "imagePath": "a.jpg", "imageData": null}')),
    "nothing": ("", None),
}
_TEXTS = {"csv": ("labels.csv", "image,labels\na.jpg,cat\n"), "yolo": ("data.yaml", "train: images/train\nnames: [cat]\n")}


@pytest.mark.parametrize("folders", [False, True])
@pytest.mark.parametrize("layout", _LAYOUTS)
def test_files_opened_and_folders_scanned_do_not_grow(layout: str, folders: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    counts = [_counted(_made(tmp_path / str(number), layout, number, folders), layout, monkeypatch) for number in (120, 360)]
    assert counts[1]["open"] <= 200
    assert counts[1]["scandir"] <= 60 + (4 * 60 if folders else 0)
    assert folders or counts[0] == counts[1]


def _made(data: Path, layout: str, number: int, folders: bool) -> Path:
    images, labels = _LAYOUTS[layout]
    for place, ending, content in ((images, ".jpg", ""), *([labels] if labels else [])):
        for image in range(number):
            path = data / place / (f"f{image % 60}" if folders else "") / f"{image:04}{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    if layout in _TEXTS:
        (data / _TEXTS[layout][0]).write_text(_TEXTS[layout][1])
    return data


def _counted(data: Path, layout: str, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    counts: Counter[str] = Counter()
    with monkeypatch.context() as patch:
        for name in ("open", "scandir"):
            original = getattr(os, name)

            def call(*args: object, original: Any = original, name: str = name, **options: object) -> object:
                counts[name] += 1
                return original(*args, **options)

            patch.setattr(os, name, call)
        with suppress(DataError) if layout == "nothing" else nullcontext():
            assert recognise(data) == (layout if layout != "nothing" else "folder")
    return counts
