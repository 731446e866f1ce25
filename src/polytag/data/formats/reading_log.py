"""What a reader took as what: collected while annotations are read, shown before they are used."""

from polytag.contracts import Interpretation
from polytag.errors import DataError


class ReadingLog:
    """Collects what was found, what is worth telling, and what looks like a misreading.

    With `accept_doubts`, a doubt is noted instead of raised, and the most probable reading is used.
    """

    def __init__(self, *, accept_doubts: bool = False):
        self._accept_doubts = accept_doubts
        self._found: dict[str, str] = {}
        self._notes: dict[str, None] = {}
        self.has_own_names = False
        """Whether polytag wrote the class names, which are then as they were meant."""

    def found(self, what: str, where: str) -> None:
        """Record where the images, labels, split or classes are: `found("images", "column 'file_name'")`; the first one counts."""
        self._found.setdefault(what, where)

    def note(self, sentence: str) -> None:
        """Record what was left out, corrected or assumed, in a sentence without a full stop; "" is nothing to tell."""
        if sentence:
            self._notes.setdefault(sentence)

    def doubt(self, error: DataError) -> None:
        """Raise the error, which names the option that decides it, unless doubts are accepted."""
        if not self._accept_doubts:
            raise error
        got = f": {error.got}" if error.got else ""
        self.note(f"accepted although {error.what}{got}")

    def interpretation(self, format: str) -> Interpretation:
        """All of it, as a value."""
        return Interpretation(format=format, found=tuple(self._found.items()), notes=tuple(self._notes))
