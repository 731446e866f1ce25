"""The exceptions of polytag.

    PolytagError                 the root: catch this to catch them all
    ├── UsageError               an invalid option, argument or name (exit status 2)
    ├── DataError                images and annotations
    │   ├── AnnotationError      an invalid list, table or file of labels
    │   ├── ImageError           an image that cannot be decoded; never stops a run
    │   └── FetchError           an incomplete or corrupt download
    ├── CheckpointError          a model folder or a weights file that does not match
    │   └── HubError             what the model hub does not give or take
    ├── PredictionsError         a table of scores that cannot be read or compared
    ├── RunError                 a run folder that is in use, finished or modified, or a full disk
    ├── ReviewConflict           another decision on the same label came first
    └── MissingExtraError        an optional library that is not installed

A mistake of the user raises one of these, with what happened, where, what was found, what was expected and what to do next.
A mistake in polytag itself fails an ``assert``.
"""


class PolytagError(Exception):
    """The root of all errors: describes a mistake so that the user can correct it.

    ``what`` is one line without a full stop. ``where`` is a path, ``path:line`` or an option; ``got`` and ``expected``
    are the actual and the expected value; ``next_step`` is a sentence or command for the user. Empty parts are not shown.
    """

    exit_status = 1

    def __init__(self, what: str, *, where: str = "", got: str = "", expected: str = "", next_step: str = ""):
        self.what, self.where, self.next_step = what, str(where), next_step
        self.got, self.expected = _shortened(got), _shortened(expected)
        parts = {"where": self.where, "got": self.got, "expected": self.expected, "next": next_step}
        super().__init__("\n".join([what, *(f"  {name}: {text}" for name, text in parts.items() if text)]))

    def __reduce__(self):
        return _rebuild, (type(self), self.what, self.where, self.got, self.expected, self.next_step)


_MAX_CHARACTERS = 2_000


def _shortened(text: str) -> str:
    """A value from a file may be of any length."""
    return text if len(text) <= _MAX_CHARACTERS else text[:_MAX_CHARACTERS] + "..."


def _rebuild(kind: type[PolytagError], what: str, where: str, got: str, expected: str, next_step: str) -> PolytagError:
    """Unpickles an exception from another process, which keyword-only arguments require."""
    return kind(what, where=where, got=got, expected=expected, next_step=next_step)


class UsageError(PolytagError):
    """An invalid option, argument or name."""

    exit_status = 2


class DataError(PolytagError):
    """Images and annotations that are not a valid data set."""


class AnnotationError(DataError):
    """An invalid list, table or file of labels; ``where`` is ``file:line`` for files with lines."""


class ImageError(DataError):
    """An image that cannot be decoded."""


class FetchError(DataError):
    """An incomplete or corrupt download."""


class CheckpointError(PolytagError):
    """A model folder or a weights file that does not match."""


class HubError(CheckpointError):
    """A repository of the model hub that cannot be read or written."""


class ExportError(PolytagError):
    """An export that does not answer as its checkpoint does, or a folder that is no export."""


class PredictionsError(PolytagError):
    """A table of scores that cannot be read or compared."""


class RunError(PolytagError):
    """A run folder that is in use, finished, modified, or on a full disk."""


class ReviewConflict(PolytagError):
    """Another reviewer, or another window, decided on this label first; nothing was written.

    ``current`` is the `polytag.inspector.review.rows.Decision` in force, or None if there is none.
    """

    current: object = None


class MissingExtraError(PolytagError):
    """An optional library that is not installed; ``next_step`` is the command that installs it."""
