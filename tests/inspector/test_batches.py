"""Batches of the review: all or nothing, undone as one, under kill -9, and in files that an earlier polytag wrote."""

import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytag.errors import UsageError
from polytag.inspector.review.batches import Batch, BatchConflict, LabelDecision
from polytag.inspector.review.store import ReviewStore, open_review

SPLIT = "train"


@pytest.fixture
def store(tmp_path: Path) -> Generator[ReviewStore]:
    with open_review(tmp_path / "review.sqlite") as store:
        yield store


def labels(ids: str, label: int = 1, *, based_on: int = 0, class_name: str = "cat") -> list[LabelDecision]:
    return [LabelDecision(image_id=name, class_name=class_name, label=label, given=0, based_on=based_on) for name in ids]


def decide(store: ReviewStore, ids: str, label: int = 1, *, reviewer: str = "Ada", based_on: int = 0, **more: bool) -> Batch:
    return store.batches.decide(labels(ids, label, based_on=based_on), split=SPLIT, reviewer=reviewer, **more)


def alone(store: ReviewStore, image: str, label: int, *, reviewer: str = "Ada", based_on: int = 0) -> int:
    row = store.decide(split=SPLIT, image_id=image, class_name="cat", label=label, given=0, reviewer=reviewer, based_on=based_on)
    return row.number


def now(store: ReviewStore) -> dict[str, int | None]:
    return {name: row.label for (name, _), row in store.current(SPLIT).items() if row.label is not None}


def test_a_batch_is_rows_and_is_undone_as_one(store: ReviewStore):
    alone(store, "a", 0)
    batch = decide(store, "abc", based_on=1)
    assert (batch.number, batch.num_labels, batch.num_left_out, batch.undoes) == (1, 3, 0, None)
    assert (batch.first_row, batch.last_row) == (2, 4)
    assert now(store) == {"a": 1, "b": 1, "c": 1} == {name: label for (name, _), label in store.labels(SPLIT).items()}
    assert store.last_number() == 4
    undone = store.batches.undo_last(reviewer="Ada", split=SPLIT)
    assert isinstance(undone, Batch)
    assert (undone.undoes, undone.num_labels) == (1, 3)
    assert now(store) == {"a": 0}
    assert store.current(SPLIT)["a", "cat"].restores == 1
    assert store.current(SPLIT)["a", "cat"].author == "Ada"
    assert store.batches.undo_last(reviewer="Ada", split=SPLIT).undoes == 1
    assert now(store) == {}
    with pytest.raises(UsageError, match="nothing to undo"):
        store.batches.undo_last(reviewer="Ada", split=SPLIT)


def test_nothing_is_written_where_one_label_was_decided_since(store: ReviewStore):
    alone(store, "b", 0, reviewer="Ben")
    with pytest.raises(BatchConflict, match=r"^1 of 3 labels were decided since") as caught:
        decide(store, "abc")
    assert caught.value.num_conflicts == 1
    assert store.last_number() == 1
    batch = decide(store, "abc", leave_out_conflicts=True)
    assert (batch.num_labels, batch.num_left_out) == (2, 1)
    assert now(store) == {"a": 1, "b": 0, "c": 1}


def test_an_undo_of_a_batch_meets_what_others_decided_since(store: ReviewStore):
    batch = decide(store, "abc")
    alone(store, "c", 0, reviewer="Ben", based_on=3)
    with pytest.raises(BatchConflict, match="1 of 3"):
        store.batches.undo(reviewer="Ada", split=SPLIT, number=batch.number)
    assert now(store) == {"a": 1, "b": 1, "c": 0}
    undone = store.batches.undo(reviewer="Ada", split=SPLIT, number=batch.number, leave_out_conflicts=True)
    assert (undone.num_labels, undone.num_left_out) == (2, 1)
    assert now(store) == {"c": 0}
    with pytest.raises(UsageError, match="nothing to undo"):
        store.batches.undo(reviewer="Ada", split=SPLIT, number=batch.number)
    with pytest.raises(UsageError, match="nothing to undo"):
        store.batches.undo(reviewer="Ben", split=SPLIT, number=batch.number)


def test_a_decision_of_a_batch_that_was_undone_alone_stays_so(store: ReviewStore):
    batch = decide(store, "ab")
    store.undo(reviewer="Ada", split=SPLIT, number=1)
    assert now(store) == {"b": 1}
    assert store.batches.undo(reviewer="Ada", split=SPLIT, number=batch.number).num_labels == 1
    assert now(store) == {}


def test_the_last_thing_is_undone_first_whatever_it_was(store: ReviewStore):
    alone(store, "x", 1)
    store.batches.mark("ab", kind="tag", text="blurred", split=SPLIT, reviewer="Ada")
    decide(store, "ab")
    alone(store, "y", 1)
    decide(store, "c", reviewer="Ben")
    undo = lambda: store.batches.undo_last(reviewer="Ada", split=SPLIT)  # noqa: E731
    assert undo().image_id == "y"
    assert undo().num_labels == 2
    assert undo().num_marks == 2
    assert store.batches.tags(SPLIT) == {}
    assert undo().image_id == "x"
    assert now(store) == {"c": 1}


def test_tags_and_notes(store: ReviewStore):
    batches = store.batches
    batches.mark("abc", kind="tag", text=" #blurred ", split=SPLIT, reviewer="Ada")
    batches.mark("bc", kind="tag", text="night", split=SPLIT, reviewer="Ben")
    batches.mark("c", kind="tag", text="blurred", is_on=False, split=SPLIT, reviewer="Ben")
    batches.mark("a", kind="note", text="ask Ben", split=SPLIT, reviewer="Ada")
    assert batches.tags(SPLIT) == {"blurred": 2, "night": 2}
    assert batches.tags("val") == {}
    assert batches.tagged(SPLIT, "blurred") == {"a", "b"}
    assert batches.tags_of(SPLIT, "abcd") == {"a": ("blurred",), "b": ("blurred", "night"), "c": ("night",)}
    assert batches.notes_of(SPLIT, "ab") == {"a": "ask Ben"}
    cleared = batches.mark("a", kind="note", text="", split=SPLIT, reviewer="Ada")
    assert batches.notes_of(SPLIT, "ab") == {}
    batches.undo(reviewer="Ada", split=SPLIT, number=cleared.number)
    assert batches.notes_of(SPLIT, "ab") == {"a": "ask Ben"}
    batches.undo(reviewer="Ben", split=SPLIT, number=3)
    assert batches.tagged(SPLIT, "blurred") == {"a", "b", "c"}
    assert now(store) == {}, "a tag decides no label"


@pytest.mark.parametrize("tag", ["", "  ", "#", "two words", "line\nbreak", "x" * 41, "bell\a"])
def test_tags_that_are_none(store: ReviewStore, tag: str):
    with pytest.raises(UsageError, match="tag"):
        store.batches.mark("a", kind="tag", text=tag, split=SPLIT, reviewer="Ada")
    assert not store.path.exists()


def test_what_cannot_be_a_batch(store: ReviewStore):
    with pytest.raises(UsageError, match="twice"):
        decide(store, "aa")
    with pytest.raises(UsageError, match="unknown label"):
        decide(store, "a", 2)
    assert not store.path.exists()


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["decide", "batch", "undo"]), st.sampled_from("abc"), st.sampled_from([1, 0, -1])), max_size=14
)


@settings(max_examples=40)
@given(actions=ACTIONS)
def test_any_order_of_batches_and_undoing_is_a_stack(actions: list[tuple[str, str, int]], tmp_path_factory: pytest.TempPathFactory):
    past: list[dict[str, int | None]] = [{}]
    with open_review(tmp_path_factory.mktemp("stack") / "review.sqlite") as store:
        for action, image, label in actions:
            if action == "undo" and len(past) > 1:
                past.pop()
                store.batches.undo_last(reviewer="Ada", split=SPLIT)
            elif action == "decide":
                alone(store, image, label, based_on=last(store, image))
                past.append({**past[-1], image: label})
            elif action == "batch":
                decide(store, "abc", label, based_on=store.last_number())
                past.append(dict.fromkeys("abc", label))
            assert now(store) == past[-1]


def last(store: ReviewStore, image: str) -> int:
    row = store.current(SPLIT).get((image, "cat"))
    return row.number if row else 0


# ---- files of earlier versions ----

OLD = """
CREATE TABLE decisions (
    number INTEGER PRIMARY KEY AUTOINCREMENT, split TEXT NOT NULL, image_id TEXT NOT NULL, class_name TEXT NOT NULL,
    label INTEGER CHECK (label IN (1, 0, -1)), given INTEGER NOT NULL CHECK (given IN (1, 0, -1)), reviewer TEXT NOT NULL,
    note TEXT NOT NULL, time TEXT NOT NULL, undoes INTEGER UNIQUE REFERENCES decisions (number),
    restores INTEGER REFERENCES decisions (number)
);
CREATE INDEX of_label ON decisions (split, image_id, class_name, number);
PRAGMA application_id = 1886352481;
PRAGMA user_version = 1;
INSERT INTO decisions VALUES (1, 'train', 'a', 'cat', 1, 0, 'Ada', 'sure', '2026-11-01T10:00:00+00:00', NULL, NULL);
INSERT INTO decisions VALUES (2, 'train', 'b', 'cat', 0, 1, 'Ada', '', '2026-11-01T10:00:01+00:00', NULL, NULL);
"""


def test_a_file_without_batches_is_read_as_it_is_and_goes_on(tmp_path: Path):
    path = tmp_path / "review.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(OLD)
    before = path.read_bytes()
    with open_review(path) as store:
        assert now(store) == {"a": 1, "b": 0}
        assert store.batches.tags(SPLIT) == {} == store.batches.tags_of(SPLIT, "a")
        assert store.batches.tagged(SPLIT, "x") == frozenset()
        assert path.read_bytes() == before, "reading changes nothing"
        store.batches.mark("a", kind="tag", text="old", split=SPLIT, reviewer="Ada")
        decide(store, "bc", based_on=2)
        assert now(store) == {"a": 1, "b": 1, "c": 1}
        assert store.batches.tagged(SPLIT, "old") == {"a"}
        store.batches.undo_last(reviewer="Ada", split=SPLIT)
        store.batches.undo_last(reviewer="Ada", split=SPLIT)
        assert store.batches.undo_last(reviewer="Ada", split=SPLIT).undoes == 2
        assert now(store) == {"a": 1}
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == 1, "an earlier polytag opens the file still"


# ---- kill -9 ----

BATCHING = """
import sys
from pathlib import Path
from polytag.inspector.review.batches import LabelDecision
from polytag.inspector.review.store import ReviewStore
store = ReviewStore.open(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2]), 10_000_000):
    ids = [f"{number}-{row}" for row in range(500)]
    decisions = [LabelDecision(image_id=name, class_name="cat", label=number % 3 - 1, given=1) for name in ids]
    store.batches.decide(decisions, split="train", reviewer="Ada")
    store.batches.mark(ids[:100], kind="tag", text=f"t{number}", split="train", reviewer="Ada")
    if number % 2:
        store.batches.undo_last(reviewer="Ada", split="train")
        store.batches.undo_last(reviewer="Ada", split="train")
    print(number, flush=True)
"""


def test_kill_9_loses_no_acknowledged_batch_and_leaves_none_in_part(tmp_path: Path):
    """benchmarks/review_kill.py does this a hundred times."""
    path, rng, acknowledged = tmp_path / "review.sqlite", random.Random(0), set[int]()
    for kill in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", BATCHING, str(path), str(1000 * kill)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("\n")
        process.stdin.flush()
        for _ in range(rng.randint(2, 6)):  # however long each takes here
            acknowledged.add(int(process.stdout.readline()))
        time.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        output, _ = process.communicate()
        acknowledged |= {int(line) for line in output.splitlines()}
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    with open_review(path) as store:
        found: dict[int, list[int | None]] = {}
        for (name, _), row in store.current(SPLIT).items():
            found.setdefault(int(name.partition("-")[0]), []).append(row.label)
        tags = store.batches.tags(SPLIT)
    assert acknowledged <= found.keys()
    assert len(found.keys() - acknowledged) <= 5
    assert len(acknowledged) > 5
    for number, decided in found.items():
        assert len(decided) == 500, "a batch is there whole"
        assert len(set(decided)) == 1, "and undone whole"
        if number in acknowledged:
            assert decided[0] == (None if number % 2 else number % 3 - 1)
            assert tags.get(f"t{number}", 0) == (0 if number % 2 else 100)
    assert set(tags.values()) <= {100}
