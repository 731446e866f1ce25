"""Options for the classes of DATA, one per field of `ClassShaping`, and what they mean."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytag.errors import UsageError

if TYPE_CHECKING:
    from polytag.data.classes import ClassShaping


def _option(flag: str, help: str, *, metavar: str) -> Any:
    return typer.Option(flag, help=help, metavar=metavar, show_default=False, rich_help_panel="Choosing the classes")


SHAPING_OPTIONS: dict[str, Any] = {  # field of ClassShaping: the option
    "classes": Annotated[
        list[str] | None,
        _option("--classes", "Keep these, in this order; or a .txt file, a name in a line.", metavar="A,B|FILE.txt"),
    ],
    "rename": Annotated[list[str] | None, _option("--rename", "Another name for a class; repeatable.", metavar="OLD=NEW")],
    "merge": Annotated[
        list[str] | None, _option("--merge", "One class of several: present if any of them is; repeatable.", metavar="NEW=A,B")
    ],
    "drop": Annotated[
        list[str] | None, _option("--drop", "Leave out classes: names or patterns (*, ?); repeatable.", metavar="A,B")
    ],
    "min_support": Annotated[
        int | None, _option("--min-support", "Leave out classes with fewer positives in the training images.", metavar="N")
    ],
    "hierarchy": Annotated[
        Path | None,
        _option(
            "--hierarchy", "Parents and children, as a table or a tree: a present child makes its parent present.", metavar="FILE"
        ),
    ],
}


def shaping_of(values: Mapping[str, Any]) -> "ClassShaping":
    """What the given options mean; raises UsageError for text that fits no option, AnnotationError for an unreadable file."""
    from polytag.data.class_files import read_class_list, read_hierarchy
    from polytag.data.classes import ClassShaping
    from polytag.data.settings import LIST_SUFFIX

    given: dict[str, Any] = {}
    if texts := values.get("classes"):
        is_file = len(texts) == 1 and texts[0].endswith(LIST_SUFFIX)
        given["classes"] = read_class_list(Path(texts[0])) if is_file else _names(texts, flag="--classes")
    if texts := values.get("drop"):
        given["drop"] = _names(texts, flag="--drop")
    if texts := values.get("rename"):
        given["rename"] = _pairs(texts, flag="--rename", expected="OLD=NEW, such as --rename Cat=cat")
    if texts := values.get("merge"):
        pairs = _pairs(texts, flag="--merge", expected="NEW=A,B, such as --merge pet=cat,dog")
        given["merge"] = {new: _names([names], flag="--merge") for new, names in pairs.items()}
    if values.get("min_support") is not None:
        given["min_support"] = values["min_support"]
    if values.get("hierarchy") is not None:
        given["hierarchy"] = read_hierarchy(values["hierarchy"])
    return ClassShaping(**given)


def _names(texts: Sequence[str], *, flag: str) -> tuple[str, ...]:
    """Names between commas; one that has a comma is in double quotes, as in CSV."""
    try:
        rows = list(csv.reader(texts, skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise UsageError("names that cannot be read", where=flag, got=f"{', '.join(texts)}: {error}", expected="A,B") from error
    names = tuple(name.strip() for row in rows for name in row if name.strip())
    if not names:
        raise UsageError("no class is named", where=flag, got=repr(", ".join(texts)), expected="A,B")
    return names


def _pairs(texts: Sequence[str], *, flag: str, expected: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        first, sign, second = text.partition("=")
        if not (sign and first.strip() and second.strip()):
            raise UsageError("not a pair of names", where=flag, got=repr(text), expected=expected)
        if first.strip() in pairs:
            raise UsageError("a class is named twice", where=flag, got=repr(first.strip()), expected="every class once")
        pairs[first.strip()] = second.strip()
    return pairs
