"""The names by which columns of tables have a role."""

import re
from collections.abc import Iterable, Sequence

IMAGE_COLUMNS = (
    "file_name", "filename", "file", "fname", "image", "image_path", "image_name", "image_file", "image_id", "img", "img_path",
    "picture", "picture_path", "path", "file_path", "filepath", "image_index", "img_name", "img_id",
)  # fmt: skip
ID_COLUMNS = ("id", *IMAGE_COLUMNS)
LABELS_COLUMNS = (
    "labels", "label", "tags", "tag", "classes", "class", "categories", "category", "target", "targets", "attribute_ids", "genres",
    "genre",
)  # fmt: skip
SPLIT_COLUMNS = ("split", "subset", "partition", "is_valid")

_FIFTYONE_LABELS = re.compile(r".+\.(classifications|detections|polylines)\.label")
PASSED_OVER = re.compile(r"|index|id|unnamed: \d+[\w.]*|level_\d+|__index_level_\d+__", re.IGNORECASE)
"""Columns that pandas and databases write in addition to the data."""


def first_of(there: Iterable[str], known: Sequence[str]) -> str:
    """The column whose name is first among the known names, in any letter case, with spaces, "-", "_" or nothing; "" for none."""
    by_name = {joined_name(name): name for name in reversed(list(there))}
    return next((by_name[joined_name(name)] for name in known if joined_name(name) in by_name), "")


def joined_name(name: str) -> str:
    """A column's name as it is compared."""
    return re.sub(r"[\s_\-]+", "", name.lower())


_RANK_OF_LABELS = {joined_name(name): rank for rank, name in enumerate(LABELS_COLUMNS)}


def id_column(there: Sequence[str]) -> str:
    """The column `id`, or the unnamed first column that pandas writes for its index; "" for neither."""
    return first_of(there, ("id",)) or next((name for name in there[:1] if PASSED_OVER.fullmatch(name)), "")


def ignoring(names: Iterable[str]) -> str:
    """The options that leave these columns out, for messages."""
    return " ".join(f"--ignore-column {name!r}" for name in names)


def rank_of_labels(name: str) -> int | None:
    """The place of a name among those of label lists; None for another name."""
    if _FIFTYONE_LABELS.fullmatch(name):
        return -1
    return _RANK_OF_LABELS.get(joined_name(name))
