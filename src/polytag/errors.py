"""Every exception polytag raises on purpose.

    PolytagError                 the root: catch this to catch them all
    ├── UsageError               an option, argument or name that cannot be used (exit status 2)
    ├── DataError                images and annotations
    │   ├── AnnotationError      a list, table or file of labels that does not say what it should
    │   ├── ImageError         one image that cannot be decoded; never stops a run
    │   └── FetchError           a download that did not arrive whole and true
    ├── CheckpointError          a model folder or a weights file that does not fit
    ├── PredictionsError         a table of scores that cannot be read or compared
    ├── RunError                 a run folder: in use, finished, changed underneath, or full disk
    ├── ReviewConflict           somebody else decided on this label first
    └── MissingExtraError        an optional library that is not installed

A user's mistake raises one of these, with what happened, where, what was found, what was expected and what to do next.
A mistake of ours is an ``assert``.
"""


class PolytagError(Exception):
    """What went wrong, told so that the reader can mend it.

    ``what`` is one line without a full stop. ``where`` is a path, ``path:line`` or an option; ``got`` and ``expected``
    are the two sides of the disagreement; ``next_step`` is a sentence or command for the reader. Empty parts are not shown.
    """

    exit_status = 1

    def __init__(self, what: str, *, where: str = "", got: str = "", expected: str = "", next_step: str = ""):
        self.what, self.where, self.got, self.expected, self.next_step = what, str(where), got, expected, next_step
        parts = {"where": self.where, "got": got, "expected": expected, "next": next_step}
        super().__init__("\n".join([what, *(f"  {name}: {text}" for name, text in parts.items() if text)]))

    def __reduce__(self):
        return _rebuild, (type(self), self.what, self.where, self.got, self.expected, self.next_step)


def _rebuild(kind: type[PolytagError], what: str, where: str, got: str, expected: str, next_step: str) -> PolytagError:
    """Exceptions cross process borders (data workers); keyword-only arguments need this to be unpickled."""
    return kind(what, where=where, got=got, expected=expected, next_step=next_step)


class UsageError(PolytagError):
    """An option, argument or name that cannot be used."""

    exit_status = 2


class DataError(PolytagError):
    """Images and annotations that do not make a data set."""


class AnnotationError(DataError):
    """A list, table or file of labels that does not say what it should; ``where`` is ``file:line`` where there are lines."""


class ImageError(DataError):
    """One image that cannot be decoded."""


class FetchError(DataError):
    """A download that did not arrive whole and true."""


class CheckpointError(PolytagError):
    """A model folder or a weights file that does not fit."""


class PredictionsError(PolytagError):
    """A table of scores that cannot be read or compared."""


class RunError(PolytagError):
    """A run folder that is in use, finished, changed underneath, or on a full disk."""


class ReviewConflict(PolytagError):
    """Somebody else, or the same person in another window, decided on this label first; nothing was written.

    ``current`` is the `polytag.inspector.review.store.Decision` that stands, or None where there is none any more.
    """

    current: object = None


class MissingExtraError(PolytagError):
    """An optional library that is not installed; ``next_step`` is the command that installs it."""
