"""Decisions about many labels as one batch, and tags and notes of images: each batch in one transaction, undone as one.

The rows of a batch are rows of the review like any others, with consecutive numbers. A tag or a note is a row of its own table; of
the rows whose batch is not undone, the last one about an image and a tag holds.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from sqlite3 import Connection
from typing import Literal

from polytag.contracts import ABSENT, PRESENT, UNKNOWN
from polytag.errors import ReviewConflict, UsageError
from polytag.inspector.review.file import ReviewFile
from polytag.inspector.review.rows import Decision, last_decision, now, undo_row
from polytag.inspector.review.text import note_text, require_storable, reviewer_name, tag_text

MarkKind = Literal["tag", "note"]

_LABEL = "split = :split AND image_id = d.image_id AND class_name = d.class_name"
_TO_UNDO = """FROM decisions d WHERE d.number BETWEEN :first AND :last AND d.undoes IS NULL
    AND NOT EXISTS (SELECT 1 FROM decisions WHERE undoes = d.number)"""
_STANDS = f"""EXISTS (SELECT 1 FROM decisions l WHERE l.number = (SELECT max(number) FROM decisions WHERE {_LABEL})
    AND (l.number = d.number OR l.restores = d.number))"""
_UNDO = f"""INSERT INTO decisions (split, image_id, class_name, label, given, reviewer, note, time, undoes, restores)
    SELECT d.split, d.image_id, d.class_name, b.label, coalesce(b.given, d.given), :reviewer, coalesce(b.note, ''), :time, d.number,
        CASE WHEN b.undoes IS NULL THEN b.number ELSE b.restores END
    FROM (SELECT d.*, (SELECT max(number) FROM decisions WHERE {_LABEL} AND number < d.number) AS before {_TO_UNDO} AND {_STANDS}) d
    LEFT JOIN decisions b ON b.number = d.before ORDER BY d.number"""
_HOLD = """SELECT image_id, text, is_on, max(number) FROM marks WHERE split = ? AND kind = ?
    AND batch NOT IN (SELECT undoes FROM batches WHERE undoes IS NOT NULL)"""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelDecision:
    """A decision about a label; `label`, `given` and `based_on` as of `ReviewStore.decide`."""

    image_id: str
    class_name: str
    label: int
    given: int
    based_on: int = 0


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one batch wrote.

    number             1, 2 and so on
    undoes             number of the batch that this one undoes, or None
    num_labels         rows about labels
    num_marks          tags and notes that were set, removed or undone
    num_left_out       labels that another row came before, and that were to be left out
    first_row, last_row   numbers of its first and last row about labels; the last is below the first where it has none
    """

    number: int
    undoes: int | None
    num_labels: int
    num_marks: int
    num_left_out: int
    first_row: int
    last_row: int


class BatchConflict(ReviewConflict):
    """Other rows about some labels of a batch came first; nothing was written."""

    def __init__(self, what: str, *, num_conflicts: int = 0, **more: str):
        super().__init__(what, **more)
        self.num_conflicts = num_conflicts


class Batches:
    """The batches, tags and notes of one review file; raises RunError as `ReviewStore` does."""

    def __init__(self, file: ReviewFile):
        self._file = file

    def decide(
        self, decisions: Sequence[LabelDecision], *, split: str, reviewer: str, note: str = "", leave_out_conflicts: bool = False
    ) -> Batch:
        """Save all decisions, or none. Once this returns, neither a kill nor a power cut loses one.

        Raises BatchConflict where another row about some label came since, unless these are to be left out; UsageError for a label
        twice, and as `ReviewStore.decide` does.
        """
        reviewer, note = reviewer_name(reviewer), note_text(note)
        _require_decisions(decisions, split=split)
        with self._file.writing() as connection:
            last_of = "SELECT coalesce(max(number), 0) FROM decisions WHERE split = ? AND image_id = ? AND class_name = ?"
            standing = [
                each
                for each in decisions
                if connection.execute(last_of, (split, each.image_id, each.class_name)).fetchone()[0] <= each.based_on
            ]
            num_conflicts = len(decisions) - len(standing)
            if num_conflicts and not leave_out_conflicts:
                raise _batch_conflict(num_conflicts, num_labels=len(decisions))
            time = now()
            batch = _add_batch(connection, split=split, reviewer=reviewer, time=time, num_rows=len(standing))
            connection.executemany(
                "INSERT INTO decisions (split, image_id, class_name, label, given, reviewer, note, time)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                ((split, each.image_id, each.class_name, each.label, each.given, reviewer, note, time) for each in standing),
            )
            return _batch(connection, batch, num_left_out=num_conflicts)

    def mark(self, image_ids: Sequence[str], *, kind: MarkKind, text: str, split: str, reviewer: str, is_on: bool = True) -> Batch:
        """Set or remove a tag, or set the note of each image ("" removes it); raises UsageError for a tag that is not a word."""
        reviewer = reviewer_name(reviewer)
        text = tag_text(text) if kind == "tag" else note_text(text)
        is_on = is_on and bool(text)
        require_storable("split", split)
        for image_id in image_ids:
            require_storable("image id", image_id)
        with self._file.writing() as connection:
            batch = _add_batch(connection, split=split, reviewer=reviewer, time=now(), num_rows=0)
            connection.executemany(
                "INSERT INTO marks (batch, split, image_id, kind, text, is_on) VALUES (?, ?, ?, ?, ?, ?)",
                ((batch, split, image_id, kind, text, int(is_on)) for image_id in image_ids),
            )
            return _batch(connection, batch)

    # ---- undo ----

    def undo(self, *, reviewer: str, split: str, number: int, leave_out_conflicts: bool = False) -> Batch:
        """Undo a batch of a reviewer as one: what held before it holds again. Decisions of it that are undone already stay so.

        Raises BatchConflict where another row about some label came since, unless these are to be left out; UsageError where this
        reviewer has no such batch, or it is undone.
        """
        reviewer = reviewer_name(reviewer)
        require_storable("split", split)
        with self._file.writing() as connection:
            query = "SELECT 1 FROM batches WHERE number = ? AND split = ? AND reviewer = ? AND undoes IS NULL"
            is_there = connection.execute(query, (number, split, reviewer)).fetchone()
            if not is_there or connection.execute("SELECT 1 FROM batches WHERE undoes = ?", (number,)).fetchone():
                raise UsageError("nothing to undo", got=f"batch {number}", expected=f"a batch of {reviewer} that is not undone")
            return _undo_batch(connection, number, split=split, reviewer=reviewer, leave_out_conflicts=leave_out_conflicts)

    def undo_last(self, *, reviewer: str, split: str) -> "Decision | Batch":
        """Undo the last thing that a reviewer did in this split: a decision on its own, or a batch; raises as `undo` does."""
        reviewer = reviewer_name(reviewer)
        require_storable("split", split)
        with self._file.writing() as connection:
            decision = last_decision(connection, reviewer=reviewer, split=split)
            batch = connection.execute(
                "SELECT number, first FROM batches b WHERE split = ? AND reviewer = ? AND undoes IS NULL"
                " AND NOT EXISTS (SELECT 1 FROM batches WHERE undoes = b.number) ORDER BY number DESC LIMIT 1",
                (split, reviewer),
            ).fetchone()
            if batch and (decision is None or batch[1] > decision.number):
                return _undo_batch(connection, batch[0], split=split, reviewer=reviewer, leave_out_conflicts=False)
            if decision is None:
                expected = f"a decision of {reviewer}" + (f" in split {split}" if split else "")
                raise UsageError("nothing to undo", got="no decision that is not undone", expected=expected)
            return undo_row(connection, decision, reviewer=reviewer)

    # ---- tags and notes ----

    def tags(self, split: str) -> Mapping[str, int]:
        """Return the number of images of every tag, in alphabetical order."""
        query = f"SELECT text, count(*) FROM ({_HOLD} GROUP BY image_id, text) WHERE is_on GROUP BY text ORDER BY text"
        return dict(self._read(query, (split, "tag")))

    def tagged(self, split: str, tag: str) -> frozenset[str]:
        """Return the ids of the images that have a tag."""
        query = f"SELECT image_id FROM ({_HOLD} AND text = ? GROUP BY image_id) WHERE is_on"
        return frozenset(row[0] for row in self._read(query, (split, "tag", tag)))

    def tags_of(self, split: str, image_ids: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
        """Return the tags of these images that have any, in alphabetical order."""
        query = f"SELECT text FROM ({_HOLD} AND image_id = ? GROUP BY text) WHERE is_on ORDER BY text"
        return {name: tuple(row[0] for row in rows) for name, rows in self._read_each(query, (split, "tag"), image_ids)}

    def notes_of(self, split: str, image_ids: Iterable[str]) -> Mapping[str, str]:
        """Return the notes of these images that have one."""
        query = f"SELECT text FROM ({_HOLD} AND image_id = ? GROUP BY image_id) WHERE is_on"
        return {name: rows[0][0] for name, rows in self._read_each(query, (split, "note"), image_ids)}

    def _read(self, query: str, values: tuple[str, ...]) -> list[tuple]:
        with self._file.reading() as connection:
            return [] if connection is None or not _has_marks(connection) else connection.execute(query, values).fetchall()

    def _read_each(self, query: str, values: tuple[str, ...], image_ids: Iterable[str]) -> list[tuple[str, list[tuple]]]:
        with self._file.reading() as connection:
            if connection is None or not _has_marks(connection):
                return []
            found = [(name, connection.execute(query, (*values, name)).fetchall()) for name in image_ids]
        return [(name, rows) for name, rows in found if rows]


def _has_marks(connection: Connection) -> bool:
    """Whether the file has the table, and a row in it."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'marks'").fetchone():
        return False
    return connection.execute("SELECT 1 FROM marks LIMIT 1").fetchone() is not None


def _require_decisions(decisions: Sequence[LabelDecision], *, split: str) -> None:
    require_storable("split", split)
    for each in decisions:
        require_storable("image id", each.image_id)
        require_storable("class name", each.class_name)
        for what, label in (("label", each.label), ("given label", each.given)):
            if label not in (PRESENT, ABSENT, UNKNOWN):
                raise UsageError(f"unknown {what}", got=repr(label), expected="1 (present), 0 (absent) or -1 (unknown)")
    if len({(each.image_id, each.class_name) for each in decisions}) < len(decisions):
        raise UsageError("a label is decided twice in one batch", expected="one decision about each label")


def _add_batch(connection: Connection, *, split: str, reviewer: str, time: str, num_rows: int, undoes: int | None = None) -> int:
    """Add a batch whose rows about labels are the next ones of the file; returns its number."""
    found = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'decisions'").fetchone()
    first = (found[0] if found else 0) + 1
    values = (split, reviewer, time, first, first + num_rows - 1, undoes)
    query = "INSERT INTO batches (split, reviewer, time, first, last, undoes) VALUES (?, ?, ?, ?, ?, ?)"
    return connection.execute(query, values).lastrowid or 0


def _undo_batch(connection: Connection, number: int, *, split: str, reviewer: str, leave_out_conflicts: bool) -> Batch:
    first, last = connection.execute("SELECT first, last FROM batches WHERE number = ?", (number,)).fetchone()
    values = {"split": split, "first": first, "last": last, "reviewer": reviewer, "time": now()}
    num_all = connection.execute(f"SELECT count(*) {_TO_UNDO}", values).fetchone()[0]
    num_standing = connection.execute(f"SELECT count(*) {_TO_UNDO} AND {_STANDS}", values).fetchone()[0]
    if num_standing < num_all and not leave_out_conflicts:
        raise _batch_conflict(num_all - num_standing, num_labels=num_all)
    batch = _add_batch(connection, split=split, reviewer=reviewer, time=values["time"], num_rows=num_standing, undoes=number)
    connection.execute(_UNDO, values)
    return _batch(connection, batch, num_left_out=num_all - num_standing)


def _batch(connection: Connection, number: int, *, num_left_out: int = 0) -> Batch:
    first, last, undoes = connection.execute("SELECT first, last, undoes FROM batches WHERE number = ?", (number,)).fetchone()
    num_marks = connection.execute("SELECT count(*) FROM marks WHERE batch = ?", (undoes or number,)).fetchone()[0]
    return Batch(
        number=number, undoes=undoes, num_labels=last - first + 1, num_marks=num_marks, num_left_out=num_left_out,
        first_row=first, last_row=last,
    )  # fmt: skip


def _batch_conflict(num_conflicts: int, *, num_labels: int) -> BatchConflict:
    return BatchConflict(
        f"{num_conflicts:,} of {num_labels:,} labels were decided since",
        num_conflicts=num_conflicts,
        got="another row about each of them",
        expected="the rows that were last seen",
        next_step="leave these out, or look at them and decide again",
    )
