"""Validates the names, notes and ids of a review, which are stored for ever and shown to other people."""

from polytag.errors import UsageError
from polytag.text import control_character, is_blank

MAX_LENGTH_OF_NAME, MAX_LENGTH_OF_NOTE, MAX_LENGTH_OF_ID, MAX_LENGTH_OF_TAG = 80, 2000, 4096, 40
"""Characters of a reviewer's name, of a note, of an image's id or a class name, and of a tag."""


def reviewer_name(name: str) -> str:
    """Return the stripped name; raises UsageError where it is empty, too long or contains control characters."""
    name = _shown_text("name of the reviewer", name.strip(), longest=MAX_LENGTH_OF_NAME)
    if is_blank(name):
        raise UsageError("the reviewer has no name", expected=f"1 to {MAX_LENGTH_OF_NAME} characters")
    return name


def note_text(note: str) -> str:
    """Return the stripped note; raises UsageError where it is too long or contains control characters other than line breaks."""
    return _shown_text("note", note.strip(), longest=MAX_LENGTH_OF_NOTE, lines=True)


def tag_text(tag: str) -> str:
    """Return the tag without spaces around it and without a leading "#"; raises UsageError for what is not one word."""
    tag = _shown_text("tag", tag.strip().removeprefix("#"), longest=MAX_LENGTH_OF_TAG)
    if is_blank(tag) or len(tag.split()) != 1:
        raise UsageError("a tag is one word", got=repr(tag), expected=f"1 to {MAX_LENGTH_OF_TAG} characters without a space")
    return tag


def _shown_text(what: str, text: str, *, longest: int, lines: bool = False) -> str:
    _require_length(what, text, longest=longest)
    control = control_character(text.translate({ord("\n"): None, ord("\t"): None}) if lines else text)
    if control:
        raise UsageError(f"the {what} holds a control character", got=control, expected="letters and signs")
    return text


def require_storable(what: str, text: str) -> None:
    """Raise UsageError for an id or a class name that is too long or cannot be encoded as UTF-8."""
    _require_length(what, text, longest=MAX_LENGTH_OF_ID)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"the {what} cannot be written as UTF-8", got=ascii(text[:80]), expected="whole characters") from error


def _require_length(what: str, text: str, *, longest: int) -> None:
    if len(text) > longest:
        raise UsageError(f"the {what} is too long", got=f"{len(text):,} characters", expected=f"{longest:,} at most")
