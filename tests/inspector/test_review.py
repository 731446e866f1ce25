"""The review on the disk: nothing acknowledged is lost, nobody overwrites anybody, and what goes wrong is told in words."""

import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytag.contracts import ABSENT, PRESENT, UNKNOWN
from polytag.errors import ReviewConflict, RunError, UsageError
from polytag.inspector.review import file as review_file
from polytag.inspector.review.file import ReviewFile
from polytag.inspector.review.store import Decision, Progress, ReviewStore, open_review, review_file_of
from polytag.inspector.review.text import MAX_LENGTH_OF_ID, MAX_LENGTH_OF_NAME, MAX_LENGTH_OF_NOTE

KEY = {"split": "train", "image_id": "a.jpg", "class_name": "cat"}
FIRST = {**KEY, "label": ABSENT, "given": PRESENT, "reviewer": "Ada"}


@pytest.fixture
def store(tmp_path: Path) -> Generator[ReviewStore]:
    with open_review(tmp_path / "review.sqlite") as store:
        yield store


def only(store: ReviewStore, split: str = "train") -> Decision:
    (decision,) = store.current(split).values()
    return decision


def test_a_decision_and_what_becomes_of_it(store: ReviewStore):
    first = store.decide(**FIRST, note=" no cat,\n a dog ")
    assert (first.number, first.label, first.given, first.reviewer, first.author) == (1, ABSENT, PRESENT, "Ada", "Ada")
    assert (first.note, first.undoes, first.standing) == ("no cat,\n a dog", None, 1)
    assert first.time.endswith("+00:00")
    assert store.current("train") == {("a.jpg", "cat"): first}
    assert store.current("val") == {}
    second = store.decide(**{**FIRST, "label": UNKNOWN}, note="too dark", based_on=1)
    assert only(store) == second
    assert store.of_image("train", "a.jpg") == {"cat": second}
    assert store.of_image("train", "b.jpg") == {}
    assert store.of_class("train", "cat") == {"a.jpg": second}
    assert store.of_class("train", "dog") == store.of_class("val", "cat") == {}
    assert store.history("train") == (second, first)
    assert store.history("train", limit=1) == (second,)
    assert store.history("train", image_id="b.jpg") == store.history("train", class_name="dog") == ()


def test_a_note_alone(store: ReviewStore):
    store.decide(**FIRST)
    store.decide(**FIRST, note="sure", based_on=1)
    assert (only(store).label, only(store).note) == (ABSENT, "sure")
    assert store.progress("train") == Progress(num_changed=1, num_confirmed=0)


def test_progress_counts_labels_and_not_rows(store: ReviewStore):
    assert store.progress("train").num_decided == 0
    store.decide(**FIRST)
    store.decide(**{**FIRST, "label": PRESENT}, based_on=1)
    store.decide(**{**FIRST, "class_name": "dog"})
    store.decide(**{**FIRST, "image_id": "b.jpg"})
    store.undo(reviewer="Ada", split="train")
    assert store.progress("train") == Progress(num_changed=1, num_confirmed=1)
    assert store.splits() == ("train",)


def test_what_was_not_seen_is_not_overwritten(store: ReviewStore):
    first = store.decide(**FIRST)
    with pytest.raises(ReviewConflict) as caught:
        store.decide(**{**FIRST, "label": PRESENT, "reviewer": "Ben"})
    assert caught.value.current == first
    assert str(caught.value) == (
        f"another decision on this label came first\n  where: a.jpg, cat\n  got: absent, by Ada, {first.time}\n"
        "  expected: the row that was last seen\n  next: look at it, and decide again"
    )
    assert store.history("train") == (first,)
    assert store.decide(**{**FIRST, "label": PRESENT, "reviewer": "Ben"}, based_on=1).number == 2
    with pytest.raises(ReviewConflict) as caught:
        store.decide(**{**FIRST, "image_id": "b.jpg"}, based_on=1)
    assert caught.value.current is None


def test_undo_goes_back_step_by_step(store: ReviewStore):
    store.decide(**FIRST)
    store.decide(**{**FIRST, "label": UNKNOWN}, note="dark", based_on=1)
    store.decide(**{**FIRST, "image_id": "b.jpg"})
    b_gone = store.undo(reviewer="Ada", split="train")
    assert (b_gone.image_id, b_gone.label, b_gone.undoes, b_gone.restores, b_gone.author) == ("b.jpg", None, 3, None, "")
    a_back = store.undo(reviewer="Ada", split="train")
    assert (a_back.label, a_back.note, a_back.undoes, a_back.restores, a_back.author) == (ABSENT, "", 2, 1, "Ada")
    a_gone = store.undo(reviewer="Ada", split="train")
    assert (a_gone.label, a_gone.undoes, a_gone.standing) == (None, 1, None)
    with pytest.raises(UsageError, match="nothing to undo"):
        store.undo(reviewer="Ada", split="train")
    again = store.decide(**FIRST, based_on=a_gone.number)
    assert only_label(store, "a.jpg") == ABSENT
    assert store.undo(reviewer="Ada", split="train").undoes == again.number


def only_label(store: ReviewStore, image_id: str) -> int | None:
    return store.current("train")[image_id, "cat"].label


def test_undo_gives_back_what_another_decided_and_says_whose_it_is(store: ReviewStore):
    store.decide(**FIRST)
    store.decide(**{**FIRST, "label": PRESENT, "reviewer": "Ben"}, based_on=1)
    with pytest.raises(ReviewConflict) as caught:
        store.undo(reviewer="Ada", split="train")
    assert caught.value.current == only(store)
    undone = store.undo(reviewer="Ben", split="train")
    assert (undone.reviewer, undone.author, undone.label) == ("Ben", "Ada", ABSENT)
    assert store.undo(reviewer="Ada", split="train").label is None


def test_undo_is_of_one_reviewer_one_split_and_if_said_one_decision(store: ReviewStore):
    store.decide(**FIRST)
    store.decide(**{**FIRST, "image_id": "b.jpg"})
    with pytest.raises(UsageError) as caught:
        store.undo(reviewer="Ben", split="train")
    assert str(caught.value) == (
        "nothing to undo\n  got: no decision that is not undone\n  expected: a decision of Ben in split train"
    )
    with pytest.raises(UsageError):
        store.undo(reviewer="Ada", split="val")
    assert store.undo(reviewer="Ada", split="train", number=1).undoes == 1
    with pytest.raises(ReviewConflict):
        store.undo(reviewer="Ada", split="train", number=1)
    assert store.undo(reviewer="Ada", split="train").undoes == 2


@settings(max_examples=40)
@given(data=st.data())
def test_any_order_of_deciding_and_undoing_is_a_stack(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory):
    """One reviewer against a model of what undo means: each label has a stack of labels, and undo pops the newest decision."""
    with open_review(tmp_path_factory.mktemp("stack") / "review.sqlite") as store:
        order: list[str] = []
        stacks: dict[str, list[int]] = {"a": [], "b": []}
        for step in data.draw(st.lists(st.one_of(st.just("undo"), st.tuples(st.sampled_from("ab"), st.sampled_from([1, 0, -1]))))):
            if step == "undo":
                if order:
                    store.undo(reviewer="Ada", split="")
                    stacks[order.pop()].pop()
            else:
                image, label = step
                last = store.current("").get((image, "cat"))
                store.decide(
                    split="", image_id=image, class_name="cat", label=label, given=0, reviewer="Ada",
                    based_on=last.number if last else 0,
                )  # fmt: skip
                order.append(image)
                stacks[image].append(label)
            now = {image: row.label for (image, _), row in store.current("").items() if row.label is not None}
            assert now == {image: stack[-1] for image, stack in stacks.items() if stack}


# ---- names and notes


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "the reviewer has no name\n  expected: 1 to 80 characters"),
        (" \t ", "the reviewer has no name\n  expected: 1 to 80 characters"),
        ("A" * 81, "the name of the reviewer is too long\n  got: 81 characters\n  expected: 80 at most"),
        ("A\0da", "the name of the reviewer holds a control character\n  got: U+0000\n  expected: letters and signs"),
        ("A\nda", "the name of the reviewer holds a control character\n  got: U+000A\n  expected: letters and signs"),
        ("\u202eadA", "the name of the reviewer holds a control character\n  got: U+202E\n  expected: letters and signs"),
        ("A\ud800", "the name of the reviewer holds a control character\n  got: U+D800\n  expected: letters and signs"),
    ],
)
def test_names_that_are_none(store: ReviewStore, name: str, message: str):
    with pytest.raises(UsageError) as caught:
        store.decide(**{**FIRST, "reviewer": name})
    assert str(caught.value) == message
    assert not store.path.exists()


def test_names_and_ids_of_all_languages(store: ReviewStore):
    name = "Zoë 李 محمد 👩‍🔬" + "x" * 60
    found = store.decide(**{**FIRST, "reviewer": f" {name} ", "image_id": "é\n.jpg", "note": "\t1.\n2."})
    assert (found.reviewer, found.image_id, found.note) == (name, "é\n.jpg", "1.\n2.")
    assert len(name) <= MAX_LENGTH_OF_NAME


@pytest.mark.parametrize(
    "change",
    [
        {"note": "x" * (MAX_LENGTH_OF_NOTE + 1)},
        {"note": "\x1b[2J"},
        {"image_id": "\ud800"},
        {"class_name": "x" * (MAX_LENGTH_OF_ID + 1)},
    ],
    ids=["long note", "escape", "half a character", "long class"],
)
def test_what_cannot_be_kept(store: ReviewStore, change: dict[str, str]):
    with pytest.raises(UsageError):
        store.decide(**{**FIRST, **change})


@pytest.mark.parametrize("change", [{"label": 2}, {"given": -2}])
def test_labels_that_are_none(store: ReviewStore, change: dict[str, int]):
    with pytest.raises(UsageError, match=r"expected: 1 \(present\), 0 \(absent\) or -1 \(unknown\)"):
        store.decide(**{**FIRST, **change})


# ---- the file


def test_no_file_before_the_first_decision(tmp_path: Path):
    path = tmp_path / "review.sqlite"
    with open_review(path) as store:
        assert (store.current("train"), store.history("train"), store.splits()) == ({}, (), ())
        with pytest.raises(UsageError):
            store.decide(**{**FIRST, "reviewer": ""})
        assert not any(tmp_path.iterdir())
        store.decide(**FIRST)
        with sqlite3.connect(path) as other:
            assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        other.close()
    assert [each.name for each in tmp_path.iterdir()] == ["review.sqlite"]


def test_an_acknowledged_decision_is_written_through(store: ReviewStore):
    store.decide(**FIRST)
    with store._file.writing() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_two_windows_see_each_other(tmp_path: Path):
    with open_review(tmp_path / "review.sqlite") as one, open_review(tmp_path / "review.sqlite") as two:
        assert two.current("train") == {}
        one.decide(**FIRST)
        assert only(two).number == 1
        two.decide(**FIRST, based_on=1)
        assert only(one).number == 2


def test_a_file_that_was_taken_away_takes_no_decision_with_it(store: ReviewStore, tmp_path: Path):
    store.decide(**FIRST)
    shutil.move(tmp_path / "review.sqlite", tmp_path / "elsewhere.sqlite")
    for name in ("-wal", "-shm"):
        (tmp_path / f"review.sqlite{name}").unlink(missing_ok=True)
    assert store.current("train") == {}
    with pytest.raises(ReviewConflict) as caught:
        store.decide(**FIRST, based_on=1)
    assert caught.value.current is None
    store.decide(**FIRST)
    with open_review(tmp_path / "review.sqlite") as again:
        assert only(again).number == 1


def test_a_file_that_a_kill_left_empty_is_begun_anew(tmp_path: Path):
    (tmp_path / "review.sqlite").touch()
    with open_review(tmp_path / "review.sqlite") as store:
        assert store.current("train") == {}
        assert store.decide(**FIRST).number == 1


@pytest.mark.parametrize("name", ["review.sqlite", "review.sqlite-wal", "review.sqlite-shm", "review.sqlite-journal"])
def test_nothing_is_written_through_a_link_out_of_the_folder(tmp_path: Path, name: str):
    run, home = tmp_path / "run", tmp_path / "home"
    run.mkdir()
    home.mkdir()
    for target, content in (("there", b""), ("gone", None)):
        if content is not None:
            (home / target).write_bytes(content)
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(home / target)
        with closing(ReviewStore(ReviewFile(run / "review.sqlite"))) as store, suppress(RunError):
            store.decide(**FIRST)
    assert [(path.name, path.stat().st_size) for path in home.iterdir()] == [("there", 0)]
    if name == "review.sqlite":
        with pytest.raises(RunError, match=f"the review is a link to another place\n.*\n  got: a link to {home}/gone"):
            store.decide(**FIRST)


@pytest.mark.parametrize("size", [20, 5000])
def test_a_file_that_is_no_database(tmp_path: Path, size: int):
    path = tmp_path / "review.sqlite"
    path.write_bytes(b"not a database, but " * (size // 20))
    with pytest.raises(RunError) as caught:
        ReviewStore.open(path)
    assert str(caught.value) == (
        f"not a review, or a damaged one\n  where: {path}\n  got: file is not a database\n"
        "  expected: a review file of the inspector\n"
        "  next: move it away, and start a new review or use a copy; `sqlite3 FILE .recover` may save what it holds"
    )


def test_a_database_of_something_else_is_left_as_it_is(tmp_path: Path):
    path = tmp_path / "review.sqlite"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE recipes (name)")
    other.close()
    content = path.read_bytes()
    with pytest.raises(RunError) as caught:
        ReviewStore.open(path)
    assert str(caught.value) == (
        f"not a review\n  where: {path}\n  got: an SQLite database of another program\n"
        "  expected: a review file of the inspector\n"
        "  next: move it away; the first decision creates a new one"
    )
    assert path.read_bytes() == content


def test_a_review_of_another_version(store: ReviewStore):
    store.decide(**FIRST)
    store.close()
    other = sqlite3.connect(store.path)
    other.execute("PRAGMA user_version = 7")
    other.close()
    with pytest.raises(RunError) as caught:
        ReviewStore.open(store.path)
    assert str(caught.value) == (
        f"the review is of another version of polytag\n  where: {store.path}\n  got: version 7\n  expected: version 1\n"
        "  next: use the polytag that wrote it, or move the file away and start a new review"
    )


def test_a_folder_that_cannot_be_written(tmp_path: Path):
    path = tmp_path / "gone" / "review.sqlite"
    with open_review(path) as store:
        with pytest.raises(RunError) as caught:
            store.decide(**FIRST)
        assert str(caught.value) == (
            f"could not save to review.sqlite\n  where: {path}\n  got: unable to open database file\n"
            "  expected: a writable folder, for the review and the two files that SQLite adds to it\n"
            "  next: make the folder writable, or copy the run to a writable folder"
        )
        path.parent.mkdir()
        assert store.decide(**FIRST).number == 1


def test_a_database_that_may_not_be_written(store: ReviewStore):
    store.decide(**FIRST)
    with store._file.writing() as connection:
        connection.execute("PRAGMA query_only = ON")  # the answer of a read-only file, which the tests' root may write
    with pytest.raises(RunError, match="next: make the folder writable"):
        store.decide(**FIRST, based_on=1)


def test_another_program_that_holds_the_file(store: ReviewStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(review_file, "_WRITE_SECONDS", 0.05)
    store.decide(**FIRST)
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(RunError, match=r"could not save to review\.sqlite: another program has locked it"):
        store.decide(**FIRST, based_on=1)
    other.execute("ROLLBACK")
    other.close()
    assert store.decide(**FIRST, based_on=1).number == 2


LOCKING = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


def test_reads_do_not_wait_for_decisions_that_wait_for_another_program(store: ReviewStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(review_file, "_WRITE_SECONDS", 2.0)
    store.decide(**FIRST)
    outcomes: list[tuple[float, str]] = []

    def decide() -> None:
        began = time.monotonic()
        try:
            store.decide(**FIRST, based_on=1)
            outcomes.append((time.monotonic() - began, "saved"))
        except RunError as error:
            outcomes.append((time.monotonic() - began, error.got))

    command = [sys.executable, "-c", LOCKING, str(store.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        writers = [threading.Thread(target=decide) for _ in range(20)]
        for thread in writers:
            thread.start()
        num_reads = 0  # while no decision has given up waiting
        while not any(got.startswith("locked") for _, got in tuple(outcomes)):
            assert len(store.current(FIRST["split"])) == 1
            num_reads += 1
            time.sleep(0.01)
        for thread in writers:
            thread.join()
        other.kill()
    assert num_reads > 3
    at_once = [seconds for seconds, got in outcomes if got == "8 decisions that wait for it"]
    waited = [seconds for seconds, got in outcomes if got == "locked for 2 seconds"]
    assert (len(at_once), len(waited)) == (12, 8)
    assert max(at_once) < min(waited)
    assert min(waited) > 1.5
    assert max(waited) < 8  # one deadline, not one for each in the queue, which are 16 seconds
    assert store.decide(**FIRST, based_on=1).number == 2


def test_a_first_decision_in_the_middle_of_a_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The read has found no mark of a review, and then a table: it is a review all the same, before or after its first decision."""
    path = tmp_path / "review.sqlite"
    path.touch()
    deciding: list[threading.Thread] = []

    def decide() -> None:
        with open_review(path) as other:
            other.decide(**FIRST)

    class Slow(sqlite3.Connection):
        def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
            if "sqlite_master" in sql and not deciding:
                deciding.append(threading.Thread(target=decide))
                deciding[0].start()
                deciding[0].join(1)  # it is done by then, or waits for this read
            return super().execute(sql, *values)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *values, **options: connect(*values, factory=Slow, **options))
    with open_review(path) as store:
        deciding[0].join()
        assert only(store).number == 1


def test_a_full_database_keeps_what_it_has(store: ReviewStore):
    store.decide(**FIRST)
    with store._file.writing() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLite then says what it says of a full disk
    with pytest.raises(RunError) as caught:  # noqa: PT012 - it is full after some of them
        for number in range(100):
            store.decide(**{**FIRST, "image_id": f"{number}.jpg"}, note="x" * 2000)
    assert str(caught.value) == (
        f"could not save to review.sqlite: the disk is full\n  where: {store.path}\n  expected: free space\n"
        "  next: free some space; every acknowledged decision is safe"
    )
    assert len(store.current("train")) == number + 1
    assert store.decide(**{**FIRST, "image_id": "more.jpg"}).number == number + 2


FILLING = """
import json, resource, sys
from pathlib import Path
from polytag.errors import RunError
from polytag.inspector.review.store import ReviewStore
store = ReviewStore.open(Path(sys.argv[1]))
decide = lambda number: store.decide(
    split="", image_id=str(number), class_name="cat", label=0, given=1, reviewer="Ada", note="x" * 1000)
for number in range(5):
    decide(number)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
acknowledged = 5
try:
    while acknowledged < 1000:
        decide(acknowledged)
        acknowledged += 1
except RunError as error:
    message = error.what
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
decide(acknowledged)
print(json.dumps([message, acknowledged + 1]))
"""


def test_a_disk_that_refuses_to_let_the_file_grow(tmp_path: Path):
    """The system itself refuses to write on, as on a full disk; afterwards the same process goes on."""
    path = tmp_path / "review.sqlite"
    done = subprocess.run([sys.executable, "-c", FILLING, str(path)], capture_output=True, text=True, check=True, timeout=60)
    message, acknowledged = json.loads(done.stdout)
    assert message == "could not save to review.sqlite: the disk returned an error"
    assert 5 < acknowledged < 1000
    with open_review(path) as store:
        assert {name for name, _ in store.current("")} == {str(number) for number in range(acknowledged)}
    assert integrity(path) == "ok"


def test_where_the_file_lies(tmp_path: Path):
    assert review_file_of(tmp_path) == tmp_path / "review.sqlite"
    assert review_file_of(tmp_path / "x.parquet") == tmp_path / "x-review.sqlite"


# ---- many at once, and kill -9

DECIDING = """
import sys
from pathlib import Path
from polytag.errors import ReviewConflict
from polytag.inspector.review.store import ReviewStore
store = ReviewStore.open(Path(sys.argv[1]))
start, reviewer = int(sys.argv[2]), sys.argv[3]
print("ready", flush=True)
sys.stdin.readline()
for number in range(start, 10_000_000 if sys.argv[4] == "on" else start + int(sys.argv[4])):
    try:
        store.decide(split="train", image_id=str(number), class_name="cat", label=number % 3 - 1, given=1, reviewer=reviewer)
        print(number, flush=True)
    except ReviewConflict as conflict:
        print("conflict", conflict.current.reviewer, flush=True)
print("done", flush=True)
"""


def deciding(path: Path, start: int, reviewer: str, number: int | str = "on") -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", DECIDING, str(path), str(start), reviewer, str(number)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def integrity(path: Path) -> str:
    connection = sqlite3.connect(path)
    answer = connection.execute("PRAGMA integrity_check").fetchone()[0]
    connection.close()
    return answer


def test_kill_9_loses_no_acknowledged_decision(tmp_path: Path):
    """benchmarks/review_kill.py does this a hundred times."""
    path, rng, acknowledged = tmp_path / "review.sqlite", random.Random(0), set[int]()
    for number in range(10):
        process = deciding(path, 10_000 * number, "Ada")  # the one in hand may be there, unacknowledged, even twice in a row
        go(process)
        time.sleep(rng.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        output, _ = process.communicate()
        acknowledged |= {int(line) for line in output.splitlines()}
        assert integrity(path) == "ok" if path.exists() else not acknowledged
    with open_review(path) as store:
        found = store.current("train")
    there = {int(name) for name, _ in found}
    assert acknowledged <= there
    assert len(there - acknowledged) <= 10
    assert all(row.label == int(name) % 3 - 1 for (name, _), row in found.items())
    assert len(acknowledged) > 20


def test_two_processes_that_decide_on_the_same_labels(tmp_path: Path):
    path, number = tmp_path / "review.sqlite", 60
    processes = [deciding(path, 0, name, number) for name in ("Ada", "Ben")]
    for process in processes:
        go(process)
    outputs = [process.communicate(timeout=60)[0].split("\n")[:number] for process in processes]
    with open_review(path) as store:
        found = store.current("train")
        assert len(store.history("train", limit=1000)) == number
    for label in range(number):
        answers = {"Ada": outputs[0][label], "Ben": outputs[1][label]}
        winner = found[str(label), "cat"].reviewer
        loser = "Ben" if winner == "Ada" else "Ada"
        assert (answers[winner], answers[loser]) == (str(label), f"conflict {winner}")


@pytest.mark.parametrize("num_stores", [1, 2])
def test_threads_that_decide_on_the_same_labels(tmp_path: Path, num_stores: int):
    """Over one store, as a server has it, or a store each: of those who saw the same, exactly one decides."""
    stores = [ReviewStore.open(tmp_path / "review.sqlite") for _ in range(num_stores)]
    barrier, won, lost = threading.Barrier(4), [], []

    def review(name: str, store: ReviewStore) -> None:
        for number in range(15):
            barrier.wait(timeout=30)
            try:
                store.decide(**{**FIRST, "image_id": str(number), "reviewer": name})
                won.append(number)
            except ReviewConflict as conflict:
                lost.append((name, conflict.current))

    threads = [threading.Thread(target=review, args=(f"reviewer {i}", stores[i % num_stores])) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(won) == list(range(15))
    assert len(lost) == 45
    assert all(isinstance(current, Decision) and current.reviewer != name for name, current in lost)
    for store in stores:
        store.close()
