"""What a written format cannot hold, refused before anything is written: what polytag writes it reads back as it was."""

from collections.abc import Sequence, Set

from polytag.contracts import Dataset
from polytag.data.class_names import alike_names, normal_name
from polytag.data.formats.class_columns import is_blank_cell
from polytag.data.formats.listing import split_of
from polytag.errors import DataError

USUAL_SPLITS = frozenset({"train", "val", "test"})
_BYTE_ORDER_MARK = "\ufeff"


def require_split_names(dataset: Dataset) -> None:
    """Raises DataError for a split that every reader calls otherwise, such as "Validation", and may join with another."""
    for split in dataset.splits:
        read = "" if is_blank_cell(split) else split_of(split) or split.strip()
        if split not in (read, ""):
            raise DataError(
                "the name of a split is read back as another",
                where=dataset.source,
                got=repr(split),
                expected=repr(read) if read else "a name that is no word for nothing",
            )


def require_splits(dataset: Dataset, allowed: Sequence[Set[str]], *, what: str, expected: str) -> None:
    """Raises DataError unless all splits are in one of these sets. They become names of files, so others must not."""
    if not any(set(dataset.splits) <= each for each in allowed):
        raise DataError(
            what,
            where=dataset.source,
            got=", ".join(map(repr, dataset.splits)),
            expected=expected,
            next_step="convert to csv or parquet, which hold any split",
        )


def require_plain_classes(dataset: Dataset) -> None:
    """Raises DataError for class names that readers of other tools' files correct or ask about: two could become one."""
    next_step = "rename a class, or convert to csv or parquet, which hold any name"
    for name in dataset.label_set:
        plain = normal_name(name.lstrip(_BYTE_ORDER_MARK))
        if name != plain:
            raise DataError(
                "a class name that is read back as another",
                where=dataset.source,
                got=ascii(name),
                expected=f"{plain!a}, without surrounding spaces and in the Unicode form NFC",
                next_step=next_step,
            )
    if alike := alike_names(dataset.label_set.names):
        raise DataError(
            "class names that differ only in capitals or spaces",
            where=dataset.source,
            got=" and ".join(map(repr, alike[0])),
            expected="names that cannot be taken for each other",
            next_step=next_step,
        )
