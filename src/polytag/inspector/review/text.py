"""What names, notes and ids of a review may be: they are stored for good, and shown to other people."""

import unicodedata

from polytag.errors import UsageError

LONGEST_NAME, LONGEST_NOTE, LONGEST_ID = 80, 2000, 4096
"""Characters of a reviewer's name, of a note, and of an image's id or a class name."""

_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # a name that reads otherwise than it is


def reviewer_name(name: str) -> str:
    """The name without the space around it; raises UsageError where it is empty, too long or holds control characters."""
    name = _shown_text("name of the reviewer", name.strip(), longest=LONGEST_NAME)
    if not name:
        raise UsageError("the reviewer has no name", expected=f"1 to {LONGEST_NAME} characters")
    return name


def note_text(note: str) -> str:
    """The note without the space around it; raises UsageError where it is too long or holds control characters but line breaks."""
    return _shown_text("note", note.strip(), longest=LONGEST_NOTE, lines=True)


def _shown_text(what: str, text: str, *, longest: int, lines: bool = False) -> str:
    _require_length(what, text, longest=longest)
    for letter in text:
        if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") or letter in _REORDERING:
            if lines and letter in "\n\t":
                continue
            raise UsageError(f"the {what} holds a control character", got=f"U+{ord(letter):04X}", expected="letters and signs")
    return text


def require_storable(what: str, text: str) -> None:
    """Data name images and classes as they like; SQLite holds whatever UTF-8 can."""
    _require_length(what, text, longest=LONGEST_ID)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"the {what} cannot be written as UTF-8", got=ascii(text[:80]), expected="whole characters") from error


def _require_length(what: str, text: str, *, longest: int) -> None:
    if len(text) > longest:
        raise UsageError(f"the {what} is too long", got=f"{len(text):,} characters", expected=f"{longest:,} at most")
