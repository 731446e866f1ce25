"""A text file of tags beside each image: `1.txt` for `1.jpg` (kohya's folders, LoRA), or `1.jpg.txt` (danbooru, Hydrus)."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from polytag.contracts import Dataset
from polytag.data.formats.json_outline import file_head
from polytag.data.formats.listing import child_names, left_out_note, read_text, scan, walk_images
from polytag.data.formats.reading_log import ReadingLog
from polytag.data.formats.records import ReadingContext, Record, dataset_of, with_folder_splits
from polytag.errors import AnnotationError, DataError
from polytag.text import counted

_ENDINGS = (".txt", ".tags", ".caption")
_REPEATS = re.compile(r"\d+_.*", re.DOTALL)  # kohya's folders: how often the images are repeated, and a word for them
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?", re.IGNORECASE)
_MIN_NUMBERS = 4  # in one line: a box of YOLO, KITTI and others
_CAPTION_WORDS = 6
_MAX_PLACES, _MAX_PROBES = 8, 24


@dataclass(frozen=True, kw_only=True)
class _Tagged:
    """An image, its file of tags, and the text of it."""

    path: Path
    file: Path
    text: str


def is_tags(data: Path) -> bool:
    """Whether most images of the first folders have a text beside them, and none of those that are looked at holds boxes."""
    num_images = num_probes = 0
    found: list[Path] = []
    for number, (inside, names, _) in enumerate(walk_images(data)):
        if names:
            num_images += len(names)
            others = set(scan(str(data / inside)))
            found += [file for name in names if (file := _file_of(name, data / inside, others))]
        if num_images > 1000 or number > 1000 or (num_images and number >= _MAX_PLACES):
            break
    if not found or 2 * len(found) < num_images:
        return False
    texts = [file_head(path) for path in found[:_MAX_PROBES]]
    num_probes = sum(bool(text.strip()) for text in texts)
    return num_probes > 0 and not any(_has_boxes(text) for text in texts)


def read_tags(data: Path, *, separator: str, context: ReadingContext) -> Dataset:
    """Read the tags of every image in the folder and below, separated by commas, by lines or as the user says.

    An empty file is an image of which every class is absent; an image without a file is not annotated and left out.
    Raises AnnotationError, with the file, for boxes in place of tags, and where the texts look like captions or the separator is
    unclear; DataError where there is no file.
    """
    tagged, num_untagged = _tagged(data, context.log)
    if not tagged:
        raise DataError(
            "no text beside an image",
            where=str(data),
            got=", ".join(child_names(data)[:8]),
            expected="1.txt or 1.jpg.txt beside 1.jpg, with the tags of the image",
        )
    for each in tagged:
        if _has_boxes(each.text):
            raise AnnotationError(
                "a file of boxes among tags",
                where=f"{each.file}:1",
                got=repr(each.text.strip().split("\n")[0][:80]),
                expected="tags",
                next_step="read boxes with the option format (--format yolo), which needs classes.txt or a yaml",
            )
    pattern = _separator(tagged, separator, context.log)
    labels_N = [_split(each.text, pattern) for each in tagged]
    _doubt_captions(tagged, labels_N, context.log)
    context.log.found("images", "every image with a text beside it")
    context.log.found("labels", "the text beside each image")
    if num_untagged:
        context.log.note(f"{counted(num_untagged, 'images')} left out, because no text is beside them")
    if any(_REPEATS.fullmatch(part) for each in tagged for part in each.path.relative_to(data).parts[:-1]):
        context.log.note("folders such as '10_name' are kohya's numbers of repeats: they are no labels")
    records = (
        Record(
            image=each.path.name, where=str(each.file), present=labels, path=each.path, id=each.path.relative_to(data).as_posix()
        )
        for each, labels in zip(tagged, labels_N, strict=True)
    )
    return with_folder_splits(dataset_of(records, source=f"tags {data}", context=context), context)


def _tagged(data: Path, log: ReadingLog) -> tuple[list[_Tagged], int]:
    found: list[_Tagged] = []
    num_untagged = 0
    left_out: list[str] = []
    for inside, names, out in walk_images(data):
        left_out += out
        place = data / inside
        others = set(scan(str(place))) if names else set[str]()
        for name in sorted(names):
            if file := _file_of(name, place, others):
                found.append(_Tagged(path=place / name, file=file, text=read_text(file).strip()))
            else:
                num_untagged += 1
    log.note(left_out_note(left_out))
    return found, num_untagged


def _file_of(image: str, place: Path, names: set[str]) -> Path | None:
    stem = os.path.splitext(image)[0]
    candidates = [stem + ending for ending in _ENDINGS] + [image + ending for ending in _ENDINGS]
    return next((place / name for name in candidates if name in names), None)


def _has_boxes(text: str) -> bool:
    """Whether a line has the numbers of a box."""
    lines = [line.split() for line in text.split("\n") if line.strip()][:50]
    return any(sum(bool(_NUMBER.fullmatch(word)) for word in words) >= _MIN_NUMBERS for words in lines)


def _separator(tagged: Sequence[_Tagged], separator: str, log: ReadingLog) -> re.Pattern[str] | None:
    """What divides the tags of a file; None: a file is one tag."""
    if separator == "none":
        return None
    if separator != "auto":
        return re.compile(re.escape(separator))
    if any("," in each.text or "\n" in each.text for each in tagged):
        return re.compile("[,\n]")
    spaced = next((each for each in tagged if len(each.text.split()) > 1), None)
    if spaced:
        log.doubt(
            AnnotationError(
                "tags with spaces, and neither a comma nor a line break in any file",
                where=f"{spaced.file}:1",
                got=repr(spaced.text[:80]),
                expected="cat, dog",
                next_step="give the option separator: --separator ' ', or --separator none for one tag per file",
            )
        )
    return None


def _split(text: str, separator: re.Pattern[str] | None) -> list[str]:
    tags = separator.split(text) if separator else [text]
    tags = [tag.strip().replace("\\(", "(").replace("\\)", ")") for tag in tags]  # prompts escape brackets
    return list(dict.fromkeys(tag for tag in tags if tag))


def _doubt_captions(tagged: Sequence[_Tagged], labels_N: Sequence[Sequence[str]], log: ReadingLog) -> None:
    """Doubt that texts are tags where most of those with text hold a sentence, and hardly any two hold the same."""
    long = [(each, label) for each, labels in zip(tagged, labels_N, strict=True) for label in labels if _is_sentence(label)]
    counts = Counter(label for _, label in long)
    files = {each.file for each, label in long if counts[label] <= max(2, len(tagged) // 50)}
    if 4 * len(files) > sum(bool(labels) for labels in labels_N):
        each, label = long[0]
        log.doubt(
            AnnotationError(
                "texts that look like captions, not tags",
                where=f"{each.file}:1",
                got=repr(label[:80]),
                expected="such as 'cat, dog'",
                next_step="write tags, or a table with the columns image and labels; with --yes a text between commas is a label",
            )
        )


def _is_sentence(label: str) -> bool:
    num_words = len(label.split())
    return num_words >= _CAPTION_WORDS or (num_words >= 3 and label.endswith((".", "!", "?")))
