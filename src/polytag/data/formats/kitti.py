"""KITTI's object labels: one text file per image, one line per object that starts with its class.

Layouts: KITTI's `training/label_2` beside `image_2`, datumaro's splits (`train/label_2`), and FiftyOne's `labels` beside `data`.
Format: the readme of the object development kit, https://www.cvlibs.net/datasets/kitti/eval_object.php.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from polytag.contracts import Dataset
from polytag.data.formats.listing import child_names, is_image, more, other_folders_note, read_text, split_folders, split_of
from polytag.data.formats.records import ReadingContext, Record, dataset_of
from polytag.errors import AnnotationError, DataError
from polytag.files import open_regular

_FOLDERS = (("label_2", "image_2"), ("label_02", "image_02"), ("labels", "data"), ("labels", "images"))
_NUM_NUMBERS = 14  # truncation, occlusion, angle, a box (4), a size (3), a place (3), a rotation; a detector's score may follow
_NOT_LABELLED = "DontCare"  # a region that nobody labelled
_NUM_PEEKED = 20
_HEAD_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A folder of label files and one of images, of a split."""

    split: str
    labels: Path
    images: Path


def is_kitti(data: Path) -> bool:
    """Whether a folder has KITTI's image_2, or label files whose lines are KITTI's."""
    return any(place.images.name.startswith("image_") or _are_labels(place.labels) for place in _places(data))


def read_kitti(data: Path, *, context: ReadingContext) -> Dataset:
    """Read the classes of the objects; those of an image with an empty file are ABSENT, and an image without a file is left out.

    `DontCare` is no class. Raises AnnotationError for a line that cannot be read, DataError where no label file is there.
    """
    places = _places(data)
    labelled = [place for place in places if _text_files(place.labels)]
    if not labelled:
        raise DataError(
            "no KITTI label files",
            where=str(data),
            got="images only in " + ", ".join(str(place.images.relative_to(data)) for place in places) if places else "none",
            expected="label_2/NAME.txt beside image_2/NAME.png",
            next_step="KITTI files hold boxes only: export labels of whole images as another format, such as VOC, COCO or CSV",
        )
    context.log.found(
        "labels", "the first word of the lines in " + ", ".join(str(place.labels.relative_to(data)) for place in labelled)
    )
    if left := [place for place in places if place not in labelled]:
        context.log.note("left out, without label files: " + ", ".join(str(place.images.relative_to(data)) for place in left))
    if all(place.split for place in places):
        context.log.note(other_folders_note(data, holds=lambda folder: _pair_in(folder) is not None))
    if lists := [name for name in child_names(data / "ImageSets") if name.endswith(".txt") and split_of(name[:-4])]:
        context.log.note(f"the lists in ImageSets are not read; --split-file {data / 'ImageSets' / lists[0]} reads one")
    records = [record for place in labelled for record in _records(place, context=context)]
    return dataset_of(records, source=f"kitti {data}", context=context, id_root=data)


def kitti_label_file(image: Path) -> Path | None:
    """The label file of an image."""
    folders = [image.parent.with_name(labels) for labels, images in _FOLDERS if image.parent.name == images]
    return next((path for folder in folders if (path := folder / f"{image.stem}.txt").is_file()), None)


def split_line(line: str) -> tuple[str, list[float]] | None:
    """The class and the 14 or 15 numbers of a line; None for another line. A class may be of several words, without a score."""
    words = line.split()
    numbers: list[float] = []
    for word in reversed(words[1:][-_NUM_NUMBERS - 2 :]):  # one more than any line has
        try:
            numbers.insert(0, float(word))
        except ValueError:
            break
    num_class_words = len(words) - len(numbers)
    is_scored = len(numbers) == _NUM_NUMBERS + 1 and num_class_words == 1
    return (" ".join(words[:num_class_words]), numbers) if len(numbers) == _NUM_NUMBERS or is_scored else None


def _places(data: Path) -> list[_Place]:
    found: list[_Place] = []
    for split, folder in (("", data), *split_folders(data)):
        if pair := _pair_in(folder):
            found.append(_Place(split=split, labels=folder / pair[0], images=folder / pair[1]))
    return found


def _pair_in(folder: Path) -> tuple[str, str] | None:
    """The names of the folders of labels and of images."""
    names = child_names(folder)
    return next((pair for pair in _FOLDERS if pair[1] in names and (pair[0] in names or pair[1].startswith("image_"))), None)


def _text_files(folder: Path) -> list[Path]:
    return [folder / name for name in child_names(folder) if name.lower().endswith(".txt")]


def _are_labels(folder: Path) -> bool:
    """Whether the first line in the first text files of a folder is KITTI's."""
    for path in _text_files(folder)[:_NUM_PEEKED]:
        try:
            with open_regular(path) as file:
                head = file.read(_HEAD_BYTES).decode(errors="replace")
        except OSError:
            return False
        if line := next((line for line in head.splitlines() if line.strip()), ""):
            return split_line(line) is not None
    return False


def _records(place: _Place, *, context: ReadingContext) -> Iterator[Record]:
    for path in _text_files(place.labels):
        image = context.index.require(path.stem, [str(place.images)], where=str(path))
        yield Record(image=image.name, path=image, split=place.split, where=str(path), present=_classes_in(path))
    stems = {path.stem for path in _text_files(place.labels)}
    if left := [name for name in child_names(place.images) if is_image(name) and name.rpartition(".")[0] not in stems]:
        context.log.note(f"images without a label file are left out: {left[0]}" + more(len(left) - 1))


def _classes_in(path: Path) -> Sequence[str]:
    found: dict[str, None] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        parts = split_line(line)
        if parts is None:
            raise AnnotationError(
                "a line of a KITTI label file cannot be read",
                where=f"{path}:{number}",
                got=repr(line.strip()[:200]),
                expected="a class and 14 numbers, or 15 with a score",
            )
        if parts[0] != _NOT_LABELLED:
            found.setdefault(parts[0])
    return list(found)
