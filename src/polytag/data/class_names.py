"""Class names that are one name: surrounding spaces and the Unicode form are corrected, capitals and inner spaces only noticed."""

import unicodedata
from collections.abc import Sequence


def normal_name(name: str) -> str:
    """The name without surrounding spaces, in the Unicode form NFC, in which an accented letter is one character."""
    return unicodedata.normalize("NFC", name).strip()


def alike_names(names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Groups of two or more names that differ in capitals, spaces or the Unicode form only."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_letters(name), []).append(name)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def _letters(name: str) -> str:
    """What two spellings of one name share: canonical caseless matching of the Unicode standard, 3.13, without any space."""
    folded = unicodedata.normalize("NFD", name).casefold()
    return "".join(unicodedata.normalize("NFC", folded).split())
