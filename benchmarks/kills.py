"""A kill before every single file operation of every verb that writes, and what is found and done afterwards.

    python benchmarks/kills.py [--every N] [--verbs train thresholds ...]

Each verb runs once to count its file operations in the folders of the campaign: opening a file to write it, renaming, exchanging,
removing, making a folder, flushing. Then it runs once for each of them and is killed (SIGKILL) just before that operation.
Afterwards

- every file has its whole old or its whole new content, and so has every folder that is written as one (`best/`, `last/`);
- `train --resume`, or the same command again where the verb is another or had saved nothing to resume, ends well;
- its files are then those of a run that was never killed, bit for bit, and no temporary file is left.

The processes are forked from one that has imported everything. Files that differ between two undisturbed runs, such as times, are
not compared.
"""

import argparse
import contextlib
import hashlib
import importlib
import io
import os
import shutil
import signal
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from machine import write
from polytag import files

Tree = dict[str, str]
"""SHA-256 of every file by its name below the folder."""

TRAIN = ("--backbone", "test_resnet", "--weights", "random", "--image-size", "32", "--epochs", "2", "--cache", "none")


@dataclass(frozen=True, kw_only=True)
class Verb:
    """A command in a folder that has `data`, an image folder, `shards`, its images in tar files, and `run`, a finished run, where
    `needs_run`.

    again     the command that goes on after a kill
    changes   files that it has a reason to change: env.json says that a run was resumed
    needs_review   some decisions in the run's review
    """

    command: tuple[str, ...]
    again: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    needs_run: bool = True
    needs_review: bool = False


VERBS = {
    "train": Verb(
        command=("train", "data", *TRAIN, "--output", "run"),
        again=("train", "--resume", "run"),
        changes=("run/env.json",),
        needs_run=False,
    ),
    "thresholds": Verb(command=("thresholds", "run", "--goal", "f1")),
    "calibrate": Verb(command=("calibrate", "run")),
    "evaluate": Verb(command=("evaluate", "run/predictions-val.parquet", "--json", "metrics-again.json")),
    "predict": Verb(command=("predict", "run", "data/images", "--output", "scores.parquet")),
    "predict_many": Verb(command=("predict", "run", "shards", "--output", "scores/")),
    "convert": Verb(command=("data", "convert", "data", "other", "--to", "csv"), needs_run=False),
    "export_model": Verb(command=("export", "run", "exported", "--to", "onnx,openvino")),
    "export": Verb(command=("labels", "export", "run", "corrected", "--to", "csv"), needs_review=True),
}


def make_data(folder: Path, *, num_images: int = 40) -> None:
    """Squares and discs on noise, some with both."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    rows = ["file_name,split,square,disc"]
    y, x = np.mgrid[:36, :36]
    for number in range(num_images):
        pixels = rng.integers(0, 120, (36, 36, 3), dtype=np.uint8)
        square, disc = int(number % 4 in (0, 2)), int(number % 4 in (1, 2))
        if square:
            pixels[4:14, 4:14] = (250, 60, 60)
        if disc:
            pixels[(y - 25) ** 2 + (x - 25) ** 2 < 49] = (60, 60, 250)
        Image.fromarray(pixels).save(folder / f"images/{number}.png")
        rows.append(f"images/{number}.png,{'val' if number % 5 < 2 else 'train'},{square},{disc}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")


def make_shards(folder: Path, images: Path, *, num_shards: int = 3) -> None:
    """The images in tar files."""
    folder.mkdir()
    paths = sorted(images.iterdir())
    for number in range(num_shards):
        with tarfile.open(folder / f"{number}.tar", "w") as archive:
            for path in paths[number::num_shards]:
                archive.add(path, path.name)


def make_before(verb: Verb, folder: Path) -> None:
    """What the verb finds."""
    make_data(folder / "data")
    make_shards(folder / "shards", folder / "data" / "images")
    if verb.needs_run:
        status, _, text = run(("train", "data", *TRAIN, "--output", "run"), folder)
        assert status == 0, text
    if verb.needs_review:
        from polytag.inspector.review.store import open_review, review_file_of

        with open_review(review_file_of(folder / "run")) as store:
            for number in range(0, 10, 3):
                image = {"split": "val" if number % 5 < 2 else "train", "image_id": f"images/{number}.png"}
                store.decide(**image, class_name="disc", given=int(number % 4 in (1, 2)), label=1, reviewer="Ada", note="")


# ---- a command in a process of its own, killed at an operation ----


def run(command: Sequence[str], folder: Path, *, kill_before: int = 0) -> tuple[int, int, str]:
    """Exit status, the number of file operations, and what was printed; with `kill_before`, killed before that operation."""
    reader, writer = os.pipe()
    log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  closed below
    child = os.fork()
    if not child:
        os.close(reader)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        os.chdir(folder)
        status = _in_child(list(command), folder, kill_before, writer)
        os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as counts:
        ticks = len(counts.read())
    _, status = os.waitpid(child, 0)
    with log:
        log.seek(0)
        return os.waitstatus_to_exitcode(status), ticks, log.read()


def _in_child(command: list[str], folder: Path, kill_before: int, counter: int) -> int:
    """Run the command; every operation writes one byte into `counter`."""
    count, at = 0, str(folder)
    busy = False

    def tick() -> None:
        nonlocal count
        count += 1
        if count == kill_before:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(counter, b".")

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal busy
        if busy or event not in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"):
            return
        busy = True
        try:
            if event == "open":
                path, _, flags = arguments
                if not flags or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                    return
            else:
                path = arguments[0]
            with contextlib.suppress(TypeError, ValueError):
                if os.path.abspath(os.fsdecode(path)).startswith(at):
                    tick()
        finally:
            busy = False

    flush, exchange = os.fsync, files.exchange

    def counted_flush(handle: int) -> None:
        tick()
        flush(handle)

    def counted_exchange(first: Path, second: Path) -> bool:
        tick()
        return exchange(first, second)

    os.fsync, files.exchange = counted_flush, counted_exchange  # type: ignore[assignment]
    sys.addaudithook(audit)
    sys.argv = ["polytag", *command]
    from polytag.cli.main import main

    try:
        main()
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    return 0


def tree(folder: Path) -> Tree:
    """Every file below the folder but temporary ones and the lock of a run, which names the process that holds it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".part" not in str(path) and path.name != "lock"
    }


def leftovers(folder: Path) -> list[str]:
    """Temporary names below the folder."""
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.name.endswith(".part")]


# ---- the campaign ----


def reference_of(verb: Verb, before: Path, root: Path) -> tuple[Tree, int]:
    """The files that an undisturbed run leaves and a second one leaves too, and the number of its operations."""
    trees: list[Tree] = []
    ticks = 0
    for number in range(2):
        whole = root / f"whole-{number}" / "at"
        shutil.copytree(before, whole)
        status, ticks, text = run(verb.command, whole)
        assert status == 0, text
        trees.append(tree(whole))
    return {name: each for name, each in trees[0].items() if trees[1].get(name) == each and name not in verb.changes}, ticks


def neither_old_nor_new(verb: Verb, folder: Path, *, old: Tree, reference: Tree) -> list[str]:
    """Faults. A training writes its files many times; its readers are tested elsewhere."""
    if not verb.needs_run:
        return []
    found = tree(folder).items()
    return [
        f"{name} is neither old nor new"
        for name, each in found
        if name in reference and each not in (old.get(name), reference[name])
    ]


def go_on(verb: Verb, folder: Path, *, reference: Tree) -> tuple[bool, list[str]]:
    """Whether the run was resumed, and what is wrong after that or after the same command again."""
    wrong: list[str] = []
    status, text = 1, ""
    if verb.again:
        status, _, text = run(verb.again, folder)
    was_resumed = status == 0
    if status and (folder / "run").is_dir() and verb.again and "Traceback" in text:
        wrong.append("a traceback in the place of a resume")
    if status:
        if verb.again:
            shutil.rmtree(folder / "run", ignore_errors=True)
        status, _, text = run(verb.command, folder)
    after = tree(folder)
    differing = [name for name, each in sorted(reference.items()) if after.get(name) != each]
    if status and (differing or "exists already" not in text):  # nothing is overwritten, and nothing is missing
        wrong.append(f"again: exit {status}: {text.strip().splitlines()[0][:200] if text.strip() else ''}")
    wrong += [f"{name} differs" for name in differing]
    return was_resumed, wrong + [f"left: {Path(name).parent}/*.part" for name in leftovers(folder)]


def campaign(verb: Verb, root: Path, *, every: int) -> dict[str, object]:
    """Kill one verb before every `every`-th operation; what is wrong afterwards is listed with the number of the operation."""
    before = root / "before"
    make_before(verb, before)
    reference, ticks = reference_of(verb, before, root)
    old = tree(before)
    faults: dict[str, list[int]] = {}
    resumed = 0
    points = range(1, ticks + 1, every)
    for point in points:
        folder = root / "killed" / "at"
        shutil.rmtree(folder.parent, ignore_errors=True)
        shutil.copytree(before, folder)
        status, _, _ = run(verb.command, folder, kill_before=point)
        wrong = [] if status == -signal.SIGKILL else [f"ended with {status} before it was killed"]
        wrong += neither_old_nor_new(verb, folder, old=old, reference=reference)
        was_resumed, more = go_on(verb, folder, reference=reference)
        resumed += was_resumed
        wrong += more
        for each in wrong:
            faults.setdefault(each, []).append(point)
    return {
        "operations": ticks,
        "kills": len(points),
        "resumed": resumed if verb.again else None,
        "files_compared": len(reference),
        "faults": {fault: {"count": len(numbers), "operations": numbers[:8]} for fault, numbers in sorted(faults.items())},
    }


def results_of(verbs: Sequence[str], campaign_of: Callable[[Verb, Path], dict[str, object]]) -> dict[str, object]:
    """What a campaign in an empty folder finds for each verb, and its seconds."""
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    for module in ("polytag.cli.main", "polytag.report.page", "polytag.training.train"):
        importlib.import_module(module)  # once, before the forks
    results: dict[str, object] = {}
    for name in verbs:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            os.environ["POLYTAG_CACHE"] = f"{folder}/cache"
            result = campaign_of(VERBS[name], Path(folder).resolve())
        results[name] = {**result, "seconds": round(time.perf_counter() - began)}
        print(name, results[name], file=sys.stderr, flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="kill before every so-manieth operation")
    parser.add_argument("--verbs", nargs="+", choices=VERBS, default=list(VERBS))
    options = parser.parse_args()
    results = results_of(options.verbs, lambda verb, folder: campaign(verb, folder, every=options.every))
    write("kills", {"every": options.every, "verbs": results})


if __name__ == "__main__":
    main()
