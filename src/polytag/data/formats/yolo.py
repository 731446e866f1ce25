"""YOLO label folders: one text file per image, one line per object that starts with the class number.

Layouts: Ultralytics (`data.yaml`; `images/` mirrored by `labels/`), Roboflow's (`train/images`, `train/labels`), LabelImg's
(`classes.txt`), and Darknet's and CVAT's (`obj.names`, `train.txt`). Format: https://docs.ultralytics.com/datasets/detect.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from polytag.contracts import PRESENT, Dataset, LabelSet
from polytag.data.formats.file_index import FileIndex
from polytag.data.formats.listing import child_names, more, read_text, relative_id, require_classes
from polytag.data.formats.reading_log import ReadingLog
from polytag.data.formats.records import ReadingContext
from polytag.data.formats.yolo_layout import Layout, find_layout
from polytag.errors import AnnotationError, DataError


def read_yolo(data: Path, *, context: ReadingContext) -> Dataset:
    """Read a YOLO folder, or the yaml in it; classes in the order of their numbers.

    An image whose label file is empty or missing has no objects: all its classes are unsaid, so ABSENT by default. Boxes,
    polygons and key points are dropped. A test split without any label file is left out. Raises AnnotationError for a line that
    cannot be read or has an unknown class number, and where the label files of another split, or all objects, are missing.
    """
    root = data.parent if data.is_file() else data
    layout = find_layout(data, log=context.log)
    context.log.found("labels", "the class numbers of label files")
    require_classes(layout.names, where=layout.source)
    label_files = _label_files(layout, data=data, log=context.log)
    rows = [(split, path, file) for split, found in label_files.items() for path, file in found.items()]
    target_NC = np.full((len(rows), len(layout.names)), context.unsaid, dtype=np.int8)
    for target_C, (_, _, file) in zip(target_NC, rows, strict=True):
        if file:
            target_C[list(_classes_in(file, names=layout.names))] = PRESENT
    if len(rows) and not (target_NC == PRESENT).any():
        context.log.doubt(
            AnnotationError(
                "no label file names an object",
                where=str(data),
                got=f"{len(rows)} images, all without objects",
                expected="a line for each object",
                next_step="YOLO files hold boxes only: export labels of whole images as another format, such as VOC, COCO or CSV; "
                "or accept images that show nothing with --yes",
            )
        )
    return Dataset(
        ids=tuple(relative_id(path, root) for _, path, _ in rows),
        paths=tuple(path for _, path, _ in rows),
        target_NC=target_NC,
        split_N=tuple(split for split, _, _ in rows),
        label_set=LabelSet(names=layout.names),
        source=f"yolo {layout.source}",
    )


def _label_files(layout: Layout, *, data: Path, log: ReadingLog) -> Mapping[str, Mapping[Path, Path | None]]:
    """The label file of each image of each split; raises AnnotationError where a whole split has none."""
    index = FileIndex()
    found: dict[str, dict[Path, Path | None]] = {}
    for split, images in layout.images.items():
        files = found.setdefault(split, {})
        for path, where in images:
            if path in files:
                raise AnnotationError("an image is listed twice", where=where, got=repr(str(path)), expected="every image once")
            files[path] = label_file(path, index.exists)
    if not any(any(files.values()) for files in found.values()):
        raise DataError(
            "no YOLO label file was found",
            where=str(data),
            got=f"{sum(map(len, found.values()))} images, none with labels",
            expected="labels/NAME.txt for images/NAME.jpg, or NAME.txt next to NAME.jpg",
        )
    for split in [split for split, files in found.items() if files and not any(files.values())]:
        if split == "test":
            log.note(f"left out, because no image of it has a label file: split 'test', images: {len(found.pop(split)):,}")
            continue
        log.doubt(
            AnnotationError(
                f"no image of split {split!r} has a label file",
                where=str(data),
                got=f"{len(found[split])} images, such as {next(iter(found[split]))}",
                expected="labels/NAME.txt for images/NAME.jpg, or NAME.txt next to NAME.jpg",
                next_step="put the label files there; or accept images that show nothing with --yes",
            )
        )
    _note_unpaired([(path, file) for files in found.values() for path, file in files.items()], log=log)
    return found


def _note_unpaired(pairs: Sequence[tuple[Path, Path | None]], *, log: ReadingLog) -> None:
    """Say how many images have no label file, and how many label files have no image."""
    if without := [path for path, file in pairs if file is None]:
        log.note(f"images without a label file show nothing: {without[0].name}" + more(len(without) - 1))
    used = {str(file) for _, file in pairs if file}
    folders = sorted({os.path.dirname(file) for file in used})
    files = [
        os.path.join(folder, name)
        for folder in folders
        if "labels" in folder.lower().split(os.sep)
        for name in child_names(Path(folder))
        if name.lower().endswith(".txt") and not name.startswith("classes")
    ]
    if lost := [file for file in files if file not in used]:
        log.note(f"label files without a listed image are left out: {os.path.basename(lost[0])}" + more(len(lost) - 1))


# ---- labels ----


def label_file(image: Path, exists: Callable[[Path], bool]) -> Path | None:
    """The label file of an image, or None where none of its places exists.

    The last "images" in the path, in any letter case, becomes "labels", "Labels" or "LABELS" (as Ultralytics and Darknet do); else
    the file is next to the image.
    """
    parts = list(image.parts)
    at = next((at for at in range(len(parts) - 2, -1, -1) if parts[at].lower() in ("images", "jpegimages")), -1)
    names = ("labels", "Labels", "LABELS") if at >= 0 else ()
    places = [*(Path(*parts[:at], name, *parts[at + 1 :]) for name in names), image]
    return next((file for path in places for end in (".txt", ".TXT") if exists(file := path.with_suffix(end))), None)


def _classes_in(path: Path, *, names: Sequence[str]) -> set[int]:
    classes: set[int] = set()
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        words = text.split()
        if not words:
            continue
        try:
            number, *rest = (float(word) for word in words)
        except ValueError:
            number, rest = float("nan"), []
        if len(rest) < 4 or not number.is_integer():
            raise AnnotationError(
                "a line of a YOLO label file cannot be read",
                where=f"{path}:{line}",
                got=repr(text.strip()),
                expected="a class number and a box (x y width height) or a polygon, in numbers",
            )
        if not 0 <= number < len(names):
            raise AnnotationError(
                "an unknown class number",
                where=f"{path}:{line}",
                got=words[0],
                expected=f"0 to {len(names) - 1}, for {len(names)} class names",
            )
        classes.add(int(number))
    return classes
