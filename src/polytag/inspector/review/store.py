"""Stores the decisions of reviewers in an SQLite file that is only ever appended to.

A label is a class of an image in a split. Its last row is its current state; an undo is a row too. A decision is acknowledged once
it is on the disk (write-ahead log, synchronous=FULL). It names the last row that the reviewer saw, and nothing is written where
another row came since. Any number of threads and processes may open the file, which `polytag.inspector.review.file` handles.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from polytag.contracts import ABSENT, PRESENT, UNKNOWN
from polytag.errors import UsageError
from polytag.inspector.review.agreement import Votes
from polytag.inspector.review.batches import Batches
from polytag.inspector.review.file import ReviewFile
from polytag.inspector.review.rows import (
    ROWS,
    Decision,
    LabelKey,
    add_row,
    conflict_of,
    current_rows,
    last_row,
    read_rows,
    row_to_undo,
    undo_row,
)
from polytag.inspector.review.text import note_text, require_storable, reviewer_name
from polytag.runs.folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Counts of decided labels of a split: changed from the given label, and confirmed."""

    num_changed: int
    num_confirmed: int

    @property
    def num_decided(self) -> int:
        return self.num_changed + self.num_confirmed


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a reviewer says about a class of an image; `label`, `given` and `based_on` as of `ReviewStore.decide`."""

    class_name: str
    label: int
    given: int
    based_on: int = 0


class ReviewStore:
    """The decisions of one review file. `ReviewStore.open` opens it. Every method is safe to call from any thread.

    Every method raises RunError, with the next step, where the file cannot be read or written. `batches` are the decisions about
    many images at once, and the tags and notes of images.
    """

    def __init__(self, file: ReviewFile):
        self._file = file
        self.batches = Batches(file)

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
        answer = Answer(class_name=class_name, label=label, given=given, based_on=based_on)
        return self.decide_image(split=split, image_id=image_id, answers=(answer,), reviewer=reviewer, note=note)[0]

    def decide_image(
        self, *, split: str, image_id: str, answers: Sequence[Answer], reviewer: str, note: str = ""
    ) -> tuple[Decision, ...]:
        """Save decisions about several labels of an image, all of them or none; raises as `decide` does."""
        reviewer, note = reviewer_name(reviewer), note_text(note)
        for what, text in (("image id", image_id), ("split", split)):
            require_storable(what, text)
        for answer in answers:
            _require_label("label", answer.label)
            _require_label("given label", answer.given)
            require_storable("class name", answer.class_name)
        added: list[Decision] = []
        with self._file.writing() as connection:
            for answer in answers:
                last = last_row(connection, split, image_id, answer.class_name)
                if answer.based_on != (last.number if last else 0):
                    raise conflict_of(last, image_id=image_id, class_name=answer.class_name)
                decision = add_row(
                    connection, split=split, image_id=image_id, class_name=answer.class_name, label=answer.label,
                    given=answer.given, reviewer=reviewer, note=note, undoes=None, restores=None,
                )  # fmt: skip
                added.append(decision)
        return tuple(added)

    def undo(self, *, reviewer: str, split: str, number: int = 0) -> Decision:
        """Undo the last decision of a reviewer in this split that is not undone yet, or their decision of this number.

        Without a number it is one that was made on its own; `Batches.undo` undoes the others, all of a batch as one.
        The decision before it, of any reviewer, holds again. Raises ReviewConflict where another row about the label came since or
        the decision is undone already, UsageError where this reviewer has no decision to undo.
        """
        reviewer = reviewer_name(reviewer)
        require_storable("split", split)
        with self._file.writing() as connection:
            decision = row_to_undo(connection, reviewer=reviewer, split=split, number=number)
            return undo_row(connection, decision, reviewer=reviewer)

    def current(self, split: str) -> Mapping[LabelKey, Decision]:
        """Return the last row of every label of a split that was ever decided. `label` is None where the decision was undone."""
        with self._file.reading() as connection:
            return {} if connection is None else current_rows(connection, split)

    def of_image(self, split: str, image_id: str) -> Mapping[str, Decision]:
        """As `current`, for one image, by class name."""
        with self._file.reading() as connection:
            rows = {} if connection is None else current_rows(connection, split, image_id=image_id)
        return {class_name: row for (_, class_name), row in rows.items()}

    def of_class(self, split: str, class_name: str) -> Mapping[str, Decision]:
        """As `current`, for one class, by image id."""
        with self._file.reading() as connection:
            rows = {} if connection is None else current_rows(connection, split, class_name=class_name)
        return {image_id: row for (image_id, _), row in rows.items()}

    def of_keys(self, split: str, keys: Sequence[LabelKey]) -> Mapping[LabelKey, Decision]:
        """As `current`, for some labels alone."""
        with self._file.reading() as connection:
            found = [] if connection is None else [last_row(connection, split, *key) for key in keys]
        return {(row.image_id, row.class_name): row for row in found if row is not None}

    def labels(self, split: str) -> Mapping[LabelKey, int]:
        """Return the decided label of every label of a split that is decided now; of many, in a tenth of the time of `current`."""
        query = (
            "SELECT image_id, class_name, label FROM decisions WHERE label IS NOT NULL AND number IN"
            " (SELECT max(number) FROM decisions WHERE split = ? GROUP BY image_id, class_name)"
        )
        with self._file.reading() as connection:
            rows = [] if connection is None else connection.execute(query, (split,)).fetchall()
        return {(image_id, class_name): label for image_id, class_name, label in rows}

    def votes(self, split: str, *, image_id: str = "") -> Votes:
        """Return the last decision of each reviewer about every label of a split or an image, without those that are undone."""
        query = (
            "SELECT image_id, class_name, reviewer, label FROM decisions WHERE number IN (SELECT max(number) FROM decisions d"
            " WHERE split = ?1 AND (?2 = '' OR image_id = ?2) AND undoes IS NULL"
            " AND NOT EXISTS (SELECT 1 FROM decisions u WHERE u.undoes = d.number)"
            " GROUP BY image_id, class_name, reviewer) ORDER BY number"
        )
        with self._file.reading() as connection:
            rows = [] if connection is None else connection.execute(query, (split, image_id)).fetchall()
        found: dict[LabelKey, dict[str, int]] = {}
        for image_id, class_name, reviewer, label in rows:
            found.setdefault((image_id, class_name), {})[reviewer] = label
        return found

    def last_number(self) -> int:
        """Return the number of the last row of all; 0 for none."""
        with self._file.reading() as connection:
            return 0 if connection is None else connection.execute("SELECT coalesce(max(number), 0) FROM decisions").fetchone()[0]

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
            f"{ROWS} WHERE d.split = ?1 AND (?2 = '' OR d.image_id = ?2) AND (?3 = '' OR d.class_name = ?3)"
            " ORDER BY d.number DESC LIMIT ?4"
        )
        with self._file.reading() as connection:
            return () if connection is None else tuple(read_rows(connection, query, (split, image_id, class_name, limit)))

    def progress(self, split: str) -> Progress:
        """Return the number of decided labels of a split."""
        query = (
            "SELECT coalesce(sum(label != given), 0), count(*) FROM decisions WHERE label IS NOT NULL AND number IN"
            " (SELECT max(number) FROM decisions WHERE split = ? GROUP BY image_id, class_name)"
        )
        with self._file.reading() as connection:
            num_changed, num_decided = (0, 0) if connection is None else connection.execute(query, (split,)).fetchone()
        return Progress(num_changed=num_changed, num_confirmed=num_decided - num_changed)


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
