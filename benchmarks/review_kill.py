"""A hundred kill -9 in the middle of a review: what was acknowledged is there afterwards, and the database is whole.

A process decides as fast as it can and prints each decision once `ReviewStore.decide` has returned. It is killed at a random
moment, and the next one goes on with the same file. Every tenth begins with a new file, so that its making is killed too.
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
from polytag.inspector.review.store import ReviewStore, open_review

LONGEST_SECONDS = 0.5


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


def killed(path: Path, start: int, seconds: float) -> list[int]:
    """The decisions that a process acknowledged before it was killed, `seconds` after it began."""
    process = subprocess.Popen([sys.executable, __file__, "--decide", str(path), str(start)], stdout=subprocess.PIPE, text=True)
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
    options = parser.parse_args()
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
        },
    )


if __name__ == "__main__":
    main()
