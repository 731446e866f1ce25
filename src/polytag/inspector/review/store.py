"""Stores the decisions of reviewers in an SQLite file that is only ever appended to.

A label is a class of an image in a split. Its last row is its current state; an undo is a row too. A decision is acknowledged once
it is on the disk (write-ahead log, synchronous=FULL). It names the last row that the reviewer saw, and nothing is written where
another row came since. Any number of threads and processes may open the file, which `polytag.inspector.review.file` handles.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from sqlite3 import Connection

from polytag.contracts import ABSENT, PRESENT, UNKNOWN
from polytag.errors import ReviewConflict, UsageError
from polytag.inspector.review.file import ReviewFile
from polytag.inspector.review.text import note_text, require_storable, reviewer_name
from polytag.inspector.words import LABEL_TEXT
from polytag.runs.folder import RunFolder

LabelKey = tuple[str, str]
"""An image id and a class name, in one split."""

_COLUMNS = """d.number, d.split, d.image_id, d.class_name, d.label, d.given, d.reviewer, d.note, d.time, d.undoes, d.restores,
    CASE WHEN d.undoes IS NULL THEN d.reviewer ELSE coalesce(r.reviewer, '') END"""
_ROWS = f"SELECT {_COLUMNS} FROM decisions d LEFT JOIN decisions r ON r.number = d.restores"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A row of the review.

    number     1, 2 and so on, in the order of the decisions
    label      PRESENT, ABSENT or UNKNOWN from this row on; None where the row leaves nothing decided
    given      the label in the data at the time of the decision
    reviewer   the person who made the row
    time       UTC, ISO 8601, to the second
    undoes     number of the decision that this row undoes, or None
    restores   for an undo, the decision that holds again, or None where there was none before
    author     the reviewer whose decision holds: `reviewer`, or the author of the restored decision; "" where nothing is decided
    """

    number: int
    split: str
    image_id: str
    class_name: str
    label: int | None
    given: int
    reviewer: str
    note: str
    time: str
    undoes: int | None
    restores: int | None
    author: str

    @property
    def standing(self) -> int | None:
        """Return the number of the decision that holds after this row."""
        return self.number if self.undoes is None else self.restores


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Counts of decided labels of a split: changed from the given label, and confirmed."""

    num_changed: int
    num_confirmed: int

    @classmethod
    def of(cls, rows: Iterable[Decision]) -> "Progress":
        """Count the last rows of labels."""
        decided = [row for row in rows if row.label is not None]
        num_changed = sum(row.label != row.given for row in decided)
        return cls(num_changed=num_changed, num_confirmed=len(decided) - num_changed)

    @property
    def num_decided(self) -> int:
        return self.num_changed + self.num_confirmed


class ReviewStore:
    """The decisions of one review file. `ReviewStore.open` opens it. Every method is safe to call from any thread.

    Every method raises RunError, with the next step, where the file cannot be read or written.
    """

    def __init__(self, file: ReviewFile):
        self._file = file

    @classmethod
    def open(cls, path: Path) -> "ReviewStore":
        """Open an existing review, or a new one whose file the first decision creates.

        Raises RunError for a file that is not a review, or is one of another version of polytag.
        """
        store = cls(ReviewFile(path))
        store.current("")
        return store

    @property
    def path(self) -> Path:
        return self._file.path

    def close(self) -> None:
        """Close the file. A later call opens it again."""
        self._file.close()

    def decide(
        self,
        *,
        split: str,
        image_id: str,
        class_name: str,
        label: int,
        given: int,
        reviewer: str,
        note: str = "",
        based_on: int = 0,
    ) -> Decision:
        """Save a decision about a label. Once this returns, neither a kill nor a power cut loses it.

        `based_on` is the number of the last row of this label that the reviewer saw, 0 for none. Deciding the same label again
        changes the note. Raises ReviewConflict, with the current row, where another row came since; UsageError for a label other
        than 1, 0 or -1 and for names or notes that are empty, too long or contain control characters.
        """
        _require_label("label", label)
        _require_label("given label", given)
        reviewer, note = reviewer_name(reviewer), note_text(note)
        for what, text in (("image id", image_id), ("class name", class_name), ("split", split)):
            require_storable(what, text)
        with self._file.writing() as connection:
            last = _last(connection, split, image_id, class_name)
            if based_on != (last.number if last else 0):
                raise _conflict(last, image_id=image_id, class_name=class_name)
            return _add(
                connection, split=split, image_id=image_id, class_name=class_name, label=label, given=given,
                reviewer=reviewer, note=note, undoes=None, restores=None,
            )  # fmt: skip

    def undo(self, *, reviewer: str, split: str, number: int = 0) -> Decision:
        """Undo the last decision of a reviewer in this split that is not undone yet, or their decision of this number.

        The decision before it, of any reviewer, holds again. Raises ReviewConflict where another row about the label came since or
        the decision is undone already, UsageError where this reviewer has no decision to undo.
        """
        reviewer = reviewer_name(reviewer)
        require_storable("split", split)
        with self._file.writing() as connection:
            decision = _to_undo(connection, reviewer=reviewer, split=split, number=number)
            key = (split, decision.image_id, decision.class_name)
            last = _last(connection, *key)
            if last is None or last.standing != decision.number:
                raise _conflict(last, image_id=decision.image_id, class_name=decision.class_name)
            before = _last(connection, *key, below=decision.number)
            return _add(
                connection, split=split, image_id=decision.image_id, class_name=decision.class_name,
                label=before.label if before else None, given=before.given if before else decision.given, reviewer=reviewer,
                note=before.note if before else "", undoes=decision.number, restores=before.standing if before else None,
            )  # fmt: skip

    def current(self, split: str) -> Mapping[LabelKey, Decision]:
        """Return the last row of every label of a split that was ever decided. `label` is None where the decision was undone."""
        with self._file.reading() as connection:
            return {} if connection is None else _current(connection, split)

    def of_image(self, split: str, image_id: str) -> Mapping[str, Decision]:
        """As `current`, for one image, by class name."""
        with self._file.reading() as connection:
            rows = {} if connection is None else _current(connection, split, image_id=image_id)
        return {class_name: row for (_, class_name), row in rows.items()}

    def of_class(self, split: str, class_name: str) -> Mapping[str, Decision]:
        """As `current`, for one class, by image id."""
        with self._file.reading() as connection:
            rows = {} if connection is None else _current(connection, split, class_name=class_name)
        return {image_id: row for (image_id, _), row in rows.items()}

    def splits(self) -> tuple[str, ...]:
        """Return the reviewed splits in alphabetical order."""
        with self._file.reading() as connection:
            rows = (
                [] if connection is None else connection.execute("SELECT DISTINCT split FROM decisions ORDER BY split").fetchall()
            )
            return tuple(row[0] for row in rows)

    def history(self, split: str, *, image_id: str = "", class_name: str = "", limit: int = 100) -> tuple[Decision, ...]:
        """Return at most `limit` rows of a split, newest first, of one image or class where these are given."""
        query = (
            f"{_ROWS} WHERE d.split = ?1 AND (?2 = '' OR d.image_id = ?2) AND (?3 = '' OR d.class_name = ?3)"
            " ORDER BY d.number DESC LIMIT ?4"
        )
        with self._file.reading() as connection:
            return () if connection is None else tuple(_rows(connection, query, (split, image_id, class_name, limit)))

    def progress(self, split: str) -> Progress:
        """Return the number of decided labels of a split."""
        return Progress.of(self.current(split).values())


@contextmanager
def open_review(path: Path) -> Generator[ReviewStore]:
    """Open a review for the length of a `with` block."""
    with closing(ReviewStore.open(path)) as store:
        yield store


def review_file_of(path: Path) -> Path:
    """Return the review file of a run folder (RUN/review.sqlite) or of a predictions file (x-review.sqlite for x.parquet)."""
    return RunFolder(path=path).review if path.is_dir() else path.with_name(f"{path.stem}-review.sqlite")


def _require_label(what: str, label: int) -> None:
    if label not in (PRESENT, ABSENT, UNKNOWN):
        raise UsageError(f"unknown {what}", got=repr(label), expected="1 (present), 0 (absent) or -1 (unknown)")


# ---- rows ----


def _rows(connection: Connection, query: str, values: tuple[str | int, ...]) -> Iterator[Decision]:
    for number, split, image_id, class_name, label, given, reviewer, note, time, undoes, restores, author in connection.execute(
        query, values
    ):
        yield Decision(
            number=number, split=split, image_id=image_id, class_name=class_name, label=label, given=given, reviewer=reviewer,
            note=note, time=time, undoes=undoes, restores=restores, author=author,
        )  # fmt: skip


def _current(connection: Connection, split: str, *, image_id: str = "", class_name: str = "") -> dict[LabelKey, Decision]:
    query = (
        f"{_ROWS} WHERE d.number IN (SELECT max(number) FROM decisions WHERE split = ?1 AND (?2 = '' OR image_id = ?2)"
        " AND (?3 = '' OR class_name = ?3) GROUP BY image_id, class_name) ORDER BY d.number"
    )
    return {(row.image_id, row.class_name): row for row in _rows(connection, query, (split, image_id, class_name))}


def _last(connection: Connection, split: str, image_id: str, class_name: str, below: int = 2**63 - 1) -> Decision | None:
    query = f"{_ROWS} WHERE d.split = ? AND d.image_id = ? AND d.class_name = ? AND d.number < ? ORDER BY d.number DESC LIMIT 1"
    return next(_rows(connection, query, (split, image_id, class_name, below)), None)


def _to_undo(connection: Connection, *, reviewer: str, split: str, number: int) -> Decision:
    query = (
        f"{_ROWS} WHERE d.split = ?1 AND d.reviewer = ?2 AND d.undoes IS NULL AND (d.number = ?3 OR ?3 = 0 AND NOT EXISTS"
        " (SELECT 1 FROM decisions u WHERE u.undoes = d.number)) ORDER BY d.number DESC LIMIT 1"
    )
    found = next(_rows(connection, query, (split, reviewer, number)), None)
    if found is None:
        raise UsageError(
            "nothing to undo",
            got=f"decision {number}" if number else "no decision that is not undone",
            expected=f"a decision of {reviewer}" + (f" in split {split}" if split else ""),
        )
    return found


def _add(connection: Connection, **values: str | int | None) -> Decision:
    values["time"] = datetime.now(UTC).isoformat(timespec="seconds")
    names = ", ".join(values)
    marks = ", ".join("?" * len(values))
    number = connection.execute(f"INSERT INTO decisions ({names}) VALUES ({marks})", tuple(values.values())).lastrowid
    return next(_rows(connection, f"{_ROWS} WHERE d.number = ?", (number or 0,)))


def _conflict(last: Decision | None, *, image_id: str, class_name: str) -> ReviewConflict:
    error = ReviewConflict(
        "another decision on this label came first",
        where=f"{image_id}, {class_name}",
        got=f"{LABEL_TEXT[last.label]}, by {last.reviewer}, {last.time}" if last else "no decision any more",
        expected="the row that was last seen",
        next_step="look at it, and decide again",
    )
    error.current = last
    return error
