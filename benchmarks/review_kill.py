"""A hundred kill -9 in the middle of a review: what was acknowledged is there afterwards, and the database is whole.

A process decides as fast as it can and prints each decision once `ReviewStore.decide` has returned. It is killed at a random
moment, and the next one goes on with the same file. Every tenth begins with a new file, so that its making is killed too.

Then the same with batches: 500 labels and 100 tags each, every second one undone. Whether they are whole is counted, and a batch of
200,000 labels is timed.
"""

import argparse
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import write
from polytag.inspector.review.batches import LabelDecision
from polytag.inspector.review.store import ReviewStore, open_review

LONGEST_SECONDS = 0.5
BATCH = 500  # labels


def decide_until_killed(path: Path, start: int) -> None:
    store = ReviewStore.open(path)
    print("ready", flush=True)
    number = start
    while True:
        store.decide(
            split="train", image_id=str(number), class_name="cat", label=number % 3 - 1, given=1, reviewer="Ada", note="kill me"
        )
        print(number, flush=True)
        number += 1


def labels_of(number: int, count: int = BATCH) -> list[LabelDecision]:
    return [LabelDecision(image_id=f"{number}-{row}", class_name="cat", label=number % 3 - 1, given=1) for row in range(count)]


def batch_until_killed(path: Path, start: int) -> None:
    store = ReviewStore.open(path)
    print("ready", flush=True)
    number = start
    while True:
        decisions = labels_of(number)
        store.batches.decide(decisions, split="train", reviewer="Ada")
        store.batches.mark(
            [each.image_id for each in decisions[:100]], kind="tag", text=f"t{number}", split="train", reviewer="Ada"
        )
        if number % 2:
            store.batches.undo_last(split="train", reviewer="Ada")
            store.batches.undo_last(split="train", reviewer="Ada")
        print(number, flush=True)
        number += 1


def batches_killed(folder: Path, kills: int) -> dict[str, int]:
    """What is left of batches after kills: all of each or none, and every acknowledged one."""
    rng = random.Random(1)
    counts = dict.fromkeys(("acknowledged", "lost", "in_part", "there_unacknowledged", "times_the_database_was_damaged"), 0)
    told, path = set[int](), folder / "batches.sqlite"
    for kill in range(kills):
        if kill % 10 == 0:
            path, told = folder / f"batches-{kill}.sqlite", set[int]()
        now = killed(path, max(told, default=-1) + 2, rng.uniform(0, LONGEST_SECONDS), how="--batch")
        told |= set(now)
        counts["acknowledged"] += len(now)
        counts["times_the_database_was_damaged"] += bool(damage(path))
        with open_review(path) as store:
            found: dict[int, list[int | None]] = {}
            for (name, _), row in store.current("train").items():
                found.setdefault(int(name.partition("-")[0]), []).append(row.label)
            tags = store.batches.tags("train")
        counts["in_part"] += sum(len(labels) != BATCH or len(set(labels)) != 1 for labels in found.values())
        counts["in_part"] += sum(number != 100 for number in tags.values())
        expected = {number: None if number % 2 else number % 3 - 1 for number in now}
        is_there = {n: n in found and set(found[n]) == {expected[n]} and (f"t{n}" in tags) == (n % 2 == 0) for n in expected}
        counts["lost"] += sum(not each for each in is_there.values())
        counts["there_unacknowledged"] += len(found.keys() - told)
        told |= found.keys()
    return counts


def seconds_a_large_batch(folder: Path, number: int = 200_000) -> dict[str, float]:
    with open_review(folder / "large.sqlite") as store:
        decisions = labels_of(0, number)
        started = time.perf_counter()
        store.batches.decide(decisions, split="train", reviewer="Ada")
        decided = time.perf_counter()
        store.batches.undo_last(split="train", reviewer="Ada")
        return {"decide": round(decided - started, 2), "undo": round(time.perf_counter() - decided, 2)}


def killed(path: Path, start: int, seconds: float, *, how: str = "--decide") -> list[int]:
    """The decisions that a process acknowledged before it was killed, `seconds` after it began."""
    process = subprocess.Popen([sys.executable, __file__, how, str(path), str(start)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    output, _ = process.communicate()
    lines = output.split("\n")[:-1]  # a line that was cut short acknowledged nothing
    return [int(line) for line in lines]


def damage(path: Path) -> str:
    """What SQLite finds wrong with a file; "" where it finds nothing."""
    if not path.exists():
        return ""
    connection = sqlite3.connect(path)
    answer = connection.execute("PRAGMA integrity_check").fetchone()[0]
    connection.close()
    return "" if answer == "ok" else str(answer)


def seconds_a_decision(folder: Path, number: int = 200) -> list[float]:
    found: list[float] = []
    with open_review(folder / "speed.sqlite") as store:
        for row in range(number):
            started = time.perf_counter()
            store.decide(split="train", image_id=str(row), class_name="cat", label=1, given=0, reviewer="Ada")
            found.append(time.perf_counter() - started)
    return found[1:]  # the first one makes the file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--decide", nargs=2, metavar=("FILE", "START"), help=argparse.SUPPRESS)
    parser.add_argument("--batch", nargs=2, metavar=("FILE", "START"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.batch:
        batch_until_killed(Path(options.batch[0]), int(options.batch[1]))
    if options.decide:
        decide_until_killed(Path(options.decide[0]), int(options.decide[1]))
    rng = random.Random(0)
    acknowledged, unacknowledged, lost, wrong, damaged, early = 0, 0, 0, 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for kill in range(options.kills):
            if kill % 10 == 0:
                path, told = Path(folder) / f"{kill}.sqlite", set[int]()
            start = max(told, default=-1) + 2  # the decision in hand may be there, though nobody was told
            seconds = rng.uniform(0, 0.02 if kill % 10 == 0 else LONGEST_SECONDS)
            now = killed(path, start, seconds)
            early += not now
            acknowledged += len(now)
            told |= set(now)
            damaged += bool(damage(path))
            with open_review(path) as store:
                there = {int(name): row for (name, _), row in store.current("train").items()}
            lost += len(told - there.keys())
            wrong += sum(row.label != name % 3 - 1 for name, row in there.items())
            unacknowledged = unacknowledged + len(there.keys() - told)
            told |= there.keys()
        times = sorted(seconds_a_decision(Path(folder)))
        batches = batches_killed(Path(folder), options.kills)
        large = seconds_a_large_batch(Path(folder))
    write(
        "review_kill",
        {
            "what": "kill -9 of a process that decides as fast as it can; SQLite, write-ahead log, synchronous=FULL",
            "sqlite": sqlite3.sqlite_version,
            "kills": options.kills,
            "kills_before_the_first_acknowledgement": early,
            "decisions_acknowledged": acknowledged,
            "acknowledged_decisions_lost": lost,
            "decisions_with_a_wrong_label": wrong,
            "decisions_there_that_were_not_acknowledged": unacknowledged,
            "times_the_database_was_damaged": damaged,
            "milliseconds_a_decision": {
                "n": len(times),
                "median": round(1000 * statistics.median(times), 2),
                "p99": round(1000 * times[int(0.99 * len(times))], 2),
            },
            "batches_of_500_labels_and_100_tags": batches,
            "seconds_a_batch_of_200000_labels": large,
        },
    )


if __name__ == "__main__":
    main()
