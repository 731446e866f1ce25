"""Reads and adds the rows of a review: decisions about labels, in an SQLite table that is only ever appended to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from sqlite3 import Connection

from polytag.errors import ReviewConflict, UsageError
from polytag.inspector.words import LABEL_TEXT

LabelKey = tuple[str, str]
"""An image id and a class name, in one split."""

_COLUMNS = """d.number, d.split, d.image_id, d.class_name, d.label, d.given, d.reviewer, d.note, d.time, d.undoes, d.restores,
    CASE WHEN d.undoes IS NULL THEN d.reviewer ELSE coalesce(r.reviewer, '') END"""
ROWS = f"SELECT {_COLUMNS} FROM decisions d LEFT JOIN decisions r ON r.number = d.restores"


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


def read_rows(connection: Connection, query: str, values: Sequence[str | int]) -> Iterator[Decision]:
    """Yield the rows that a query on ROWS finds."""
    for number, split, image_id, class_name, label, given, reviewer, note, time, undoes, restores, author in connection.execute(
        query, values
    ):
        yield Decision(
            number=number, split=split, image_id=image_id, class_name=class_name, label=label, given=given, reviewer=reviewer,
            note=note, time=time, undoes=undoes, restores=restores, author=author,
        )  # fmt: skip


def current_rows(connection: Connection, split: str, *, image_id: str = "", class_name: str = "") -> dict[LabelKey, Decision]:
    """Return the last row of every label of a split, of one image or class where these are given."""
    query = (
        f"{ROWS} WHERE d.number IN (SELECT max(number) FROM decisions WHERE split = ?1 AND (?2 = '' OR image_id = ?2)"
        " AND (?3 = '' OR class_name = ?3) GROUP BY image_id, class_name) ORDER BY d.number"
    )
    return {(row.image_id, row.class_name): row for row in read_rows(connection, query, (split, image_id, class_name))}


def last_row(connection: Connection, split: str, image_id: str, class_name: str, below: int = 2**63 - 1) -> Decision | None:
    """Return the last row of a label, of those whose number is below another where that is given."""
    query = f"{ROWS} WHERE d.split = ? AND d.image_id = ? AND d.class_name = ? AND d.number < ? ORDER BY d.number DESC LIMIT 1"
    return next(read_rows(connection, query, (split, image_id, class_name, below)), None)


def row_to_undo(connection: Connection, *, reviewer: str, split: str, number: int) -> Decision:
    """Return the decision of this number, or for 0 the last one that is neither undone nor of a batch; raises UsageError."""
    found = last_decision(connection, reviewer=reviewer, split=split, number=number)
    if found is None:
        raise UsageError(
            "nothing to undo",
            got=f"decision {number}" if number else "no decision that is not undone",
            expected=f"a decision of {reviewer}" + (f" in split {split}" if split else ""),
        )
    return found


def last_decision(connection: Connection, *, reviewer: str, split: str, number: int = 0) -> Decision | None:
    """As `row_to_undo`; None where there is none."""
    query = (
        f"{ROWS} WHERE d.split = ?1 AND d.reviewer = ?2 AND d.undoes IS NULL AND (d.number = ?3 OR ?3 = 0"
        " AND NOT EXISTS (SELECT 1 FROM decisions u WHERE u.undoes = d.number)"
        " AND NOT EXISTS (SELECT 1 FROM batches b WHERE d.number BETWEEN b.first AND b.last)) ORDER BY d.number DESC LIMIT 1"
    )
    return next(read_rows(connection, query, (split, reviewer, number)), None)


def undo_row(connection: Connection, decision: Decision, *, reviewer: str) -> Decision:
    """Add the row that undoes a decision; the one before it holds again. Raises ReviewConflict where another row came since."""
    split, image_id, class_name = decision.split, decision.image_id, decision.class_name
    last = last_row(connection, split, image_id, class_name)
    if last is None or last.standing != decision.number:
        raise conflict_of(last, image_id=image_id, class_name=class_name)
    before = last_row(connection, split, image_id, class_name, below=decision.number)
    return add_row(
        connection, split=split, image_id=image_id, class_name=class_name,
        label=before.label if before else None, given=before.given if before else decision.given, reviewer=reviewer,
        note=before.note if before else "", undoes=decision.number, restores=before.standing if before else None,
    )  # fmt: skip


def now() -> str:
    """Return the time of a row: UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def add_row(connection: Connection, **values: str | int | None) -> Decision:
    """Add a row of these columns, and return it."""
    values["time"] = now()
    names = ", ".join(values)
    marks = ", ".join("?" * len(values))
    number = connection.execute(f"INSERT INTO decisions ({names}) VALUES ({marks})", tuple(values.values())).lastrowid
    return next(read_rows(connection, f"{ROWS} WHERE d.number = ?", (number or 0,)))


def conflict_of(last: Decision | None, *, image_id: str, class_name: str) -> ReviewConflict:
    """Return the error that says which row came first."""
    error = ReviewConflict(
        "another decision on this label came first",
        where=f"{image_id}, {class_name}",
        got=f"{LABEL_TEXT[last.label]}, by {last.reviewer}, {last.time}" if last else "no decision any more",
        expected="the row that was last seen",
        next_step="look at it, and decide again",
    )
    error.current = last
    return error
