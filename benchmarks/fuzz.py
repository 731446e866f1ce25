"""Damaged files through every reader: each ends in a value or in an error of polytag, within 2 s of processor time and 1 GB.

    python benchmarks/fuzz.py --images 10000 --files 10000     kinds of our own making
    python benchmarks/fuzz.py --layouts 100                    every layout of ../shared/cases/community, a hundred times

A file of each kind is valid to begin with; then bits, bytes, lengths, lines and tokens of it are changed, cut, repeated and mixed.
The readers run in a process of their own, which a crash ends: the campaign counts it and goes on after it. The same number always
makes the same file; `--only NUMBER` reads one again and prints its traceback.
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import random
import resource
import shutil
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from fuzz_seeds import Reader, image_seeds, seed_folders
from machine import SHARED, write
from polytag.data.load import load_dataset
from polytag.data.read_options import ReadOptions
from polytag.errors import MissingExtraError, PolytagError

LIMIT_S, LIMIT_BYTES = 2.0, 1_000_000_000
HANGS_AFTER_S = 300.0  # on a machine that others use too
MOST_FILES = 40  # of a layout
MOST_BYTES = 20_000_000
BINARY = (".parquet", ".arrow", ".tar", ".xlsx", ".npz", ".safetensors", ".jpg", ".png")
TOKENS = (
    "NaN", "Infinity", "-inf", "1e999", "9" * 5000, "-1", "0", "true", "null", "[]", "{}", '""', "[" * 20_000, "{" * 9_000,
    "\0", "\x1b]52;c;QQ==\x07", "\ufeff", "\u202e", ",", ";", "\t", '"', "'", "\r", "\n", "|", ":", "&a [*a, *a]", "2024-99-99",
    "!!python/object/apply:os.system [id]", "<!DOCTYPE x [<!ENTITY a 'b'>]>", "&a;", "../../etc/passwd", "/dev/zero", "hf-hub:x/y",
    "a" * 100_000, "pretrained", "=cmd()", "\ud7ff", "0x10", "1_000", "1" * 400 + ".5",
)  # fmt: skip


# ---- mutations ----


def mutated(content: bytes, others: list[bytes], rng: random.Random, *, is_text: bool) -> bytes:
    """One to five changes."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        change = rng.choice(TEXT_CHANGES + BYTE_CHANGES[:3] if is_text else BYTE_CHANGES)
        content = change(content, others, rng)[:MOST_BYTES]  # a line of a megabyte, two thousand times
    return content


def _flip_bits(content: bytes, _: list[bytes], rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _flip in range(rng.choice((1, 1, 4, 32)) if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(content: bytes, _: list[bytes], rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _drop(content: bytes, _: list[bytes], rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    return content[:start] + content[start + rng.choice((1, 4, 64, 1000)) :]


def _repeat(content: bytes, _: list[bytes], rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    stop = min(len(content), start + rng.choice((1, 8, 200, 5000)))
    return content[:stop] + content[start:stop] * rng.choice((1, 10, 300)) + content[stop:]


def _mix(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    other = rng.choice(others)
    return content[: rng.randrange(len(content) + 1)] + other[rng.randrange(len(other) + 1) :]


def _extreme_number(content: bytes, _: list[bytes], rng: random.Random) -> bytes:
    """A length, a size, an offset: 16 or 32 bits set to what hurts."""
    value = rng.choice((0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 100_000, rng.randrange(2**32)))
    packed = struct.pack(rng.choice("<>") + "I", value)[: rng.choice((2, 4))]
    place = rng.randrange(max(1, min(len(content), rng.choice((64, 512, len(content) + 1)))))
    return content[:place] + packed + content[place + len(packed) :]


def _wrong_kind(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """A value of JSON, or of a line of it, becomes one of another kind or size; of another text a word does."""
    lines = content.splitlines(keepends=True)
    for text in (content, lines[place := rng.randrange(len(lines))] if lines else b""):
        try:
            whole = json.loads(text)
        except (ValueError, RecursionError):
            continue
        changed = json.dumps(_with_wrong_value(whole, rng)).replace('"HUGE"', "9" * 400).replace('"DEEP"', "[" * 400 + "]" * 400)
        return changed.encode() if text is content else b"".join((*lines[:place], changed.encode(), b"\n", *lines[place + 1 :]))
    return _change_value(content, others, rng)


def _with_wrong_value(value: object, rng: random.Random) -> object:
    if rng.random() < 0.85 and value and isinstance(value, dict | list):
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = rng.choice(keys)
        value[key] = _with_wrong_value(value[key], rng)  # pyright: ignore
        return value
    return rng.choice(
        (None, True, 0, -1, 0.5, 1e308, "HUGE", "DEEP", "", "0", "x" * 5000, [], {}, [value], {"a": value}, [None, [0]])
    )


def _insert_token(content: bytes, _: list[bytes], rng: random.Random) -> bytes:
    place = rng.randrange(len(content) + 1)
    return content[:place] + rng.choice(TOKENS).encode() + content[place + rng.choice((0, 0, 1, 5)) :]


def _change_value(content: bytes, _: list[bytes], rng: random.Random) -> bytes:
    """A number or a word becomes a token."""
    starts = [i for i in range(1, len(content)) if content[i : i + 1].isalnum() and not content[i - 1 : i].isalnum()]
    if not starts:
        return content
    start = stop = rng.choice(starts)
    while stop < len(content) and (content[stop : stop + 1].isalnum() or content[stop : stop + 1] in b"._-"):
        stop += 1
    return content[:start] + rng.choice(TOKENS).encode() + content[stop:]


def _lines(content: bytes, _: list[bytes], rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True) or [b""]
    place = rng.randrange(len(lines))
    match rng.randrange(4):
        case 0:
            del lines[place]
        case 1:
            lines.insert(place, lines[rng.randrange(len(lines))])
        case 2:
            lines[place:place] = [lines[place]] * rng.choice((3, 2000))
        case _:
            rng.shuffle(lines)
    return b"".join(lines)


def _encoding(content: bytes, _: list[bytes], rng: random.Random) -> bytes:
    text = content.decode("utf-8", "replace")
    return text.encode(rng.choice(("utf-16", "utf-8-sig", "utf-32", "utf-16-be")), "replace")


BYTE_CHANGES = (_flip_bits, _cut, _drop, _repeat, _mix, _extreme_number, _extreme_number)
TEXT_CHANGES = (
    _wrong_kind,
    _wrong_kind,
    _insert_token,
    _insert_token,
    _change_value,
    _change_value,
    _change_value,
    _lines,
    _encoding,
    _mix,
)


# ---- what is read ----


def read_image_file(path: Path) -> None:
    from polytag.data.images.read import read_frame, read_image, read_size

    error: PolytagError | None = None
    for reader in (read_image, read_size, read_frame):
        try:
            reader(path)
        except PolytagError as found:
            error = found
    if error:
        raise error


# ---- the campaign ----

Place = Callable[[bytes, Path], object]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A kind of file: valid contents, whether each is text, and how one is read in a scratch folder."""

    name: str
    files: Sequence[tuple[bytes, bool, Place]]

    def damaged(self, number: int, others: list[bytes]) -> tuple[bytes, Place]:
        """The damaged content of a number, the same every time."""
        rng = random.Random(number)
        content, is_text, place = rng.choice(self.files) if len(self.files) > 1 else self.files[0]
        return mutated(content, others, rng, is_text=is_text), place


def _read_all(numbers: range, cases: Sequence[Case], root: Path, answers: Connection) -> None:
    """In a process of its own: reads one damaged file after the other and sends (number, kind, outcome, seconds, bytes)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**9, 10**9))
    scratch = Path(tempfile.mkdtemp(dir=root))
    contents = [content for case in cases for content, _, _ in case.files]
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        for number in numbers:
            case = cases[number % len(cases)]
            answers.send((number, case.name, "began", 0.0, 0))
            if number - numbers.start < len(cases):  # first use imports and fills caches
                content, _, place = case.files[0]
                _read_one(content, place, scratch)
            damaged, place = case.damaged(number, contents)
            before = _peak_bytes()
            began = time.process_time()
            outcome = _read_one(damaged, place, scratch)
            seconds = time.process_time() - began
            answers.send((number, case.name, outcome, seconds, _peak_bytes() - before))
    answers.close()


def image_cases() -> list[Case]:
    cases: list[Case] = []
    for name, content in image_seeds().items():

        def read_picture(damaged: bytes, scratch: Path, name: str = name) -> None:
            (scratch / name).write_bytes(damaged)
            read_image_file(scratch / name)

        cases.append(Case(name=name, files=[(content, False, read_picture)]))
    return cases


def file_cases(root: Path) -> list[Case]:
    """Annotations, predictions and runs of our own making."""
    return [Case(name=kind, files=[_file_in(folder, file, reader)]) for kind, folder, file, reader in seed_folders(root / "seeds")]


def layout_cases() -> list[Case]:
    """Each layout of the community, with every file that is no image; and images, where nothing else could hold the labels."""
    cases: list[Case] = []
    for folder in sorted(path for path in (SHARED / "cases/community").iterdir() if path.is_dir()):
        files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        labels = [file for file in files if file.suffix.lower() not in (".jpg", ".png")] or files
        rarest = sorted(labels, key=lambda file: sum(other.parent == file.parent for other in labels))
        cases.append(Case(name=folder.name, files=[_file_in(folder, str(file), read_layout) for file in rarest[:MOST_FILES]]))
    return cases


def read_layout(folder: Path) -> object:
    """Read it; where it is refused, again with every doubt accepted. Raises what is no error with a message that helps."""
    try:
        return load_dataset(folder)
    except PolytagError as error:
        if not (error.where or isinstance(error, MissingExtraError)):
            raise AssertionError("an error without a place") from error
        return load_dataset(folder, options=ReadOptions(accept_doubts=True))


def _file_in(folder: Path, file: str, reader: Reader) -> tuple[bytes, bool, Place]:
    def read(damaged: bytes, scratch: Path) -> None:
        copy = scratch / folder.name
        if not copy.is_dir():
            shutil.copytree(folder, copy)
        original = (copy / file).read_bytes()
        try:
            (copy / file).write_bytes(damaged)
            reader(copy)
        finally:
            (copy / file).write_bytes(original)

    return (folder / file).read_bytes(), not file.endswith(BINARY), read


def _read_one(content: bytes, read: Callable[[bytes, Path], object], scratch: Path) -> str:
    try:
        read(content, scratch)
    except PolytagError:
        return "refused"
    except BaseException as error:
        if "--only" in sys.argv:
            traceback.print_exc(file=sys.__stderr__)
        place = traceback.extract_tb(error.__traceback__)[-1]
        ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "/polytag/" in frame.filename]
        where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else f"{Path(place.filename).name}:{place.lineno}"
        return f"traceback {type(error).__name__} at {where}"
    return "read"


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def campaign(count: int, cases: Sequence[Case], root: Path, *, first: int = 0) -> dict[str, object]:
    """Read `count` damaged files; what went wrong is listed with the numbers that make it again."""
    outcomes: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    faults: dict[str, list[int]] = {}
    slowest, largest = (0.0, ""), (0, "")
    fork = multiprocessing.get_context("fork")
    number = first
    while number < first + count:
        receiver, sender = fork.Pipe(duplex=False)
        process = fork.Process(target=_read_all, args=(range(number, first + count), cases, root, sender))
        process.start()
        sender.close()
        name = ""
        while True:
            try:
                if not receiver.poll(HANGS_AFTER_S):
                    process.kill()
                    outcome, seconds, grown = "hang", HANGS_AFTER_S, 0
                else:
                    number, name, outcome, seconds, grown = receiver.recv()
            except EOFError:
                process.join()
                if process.exitcode == 0:
                    number = first + count
                    break
                outcome, seconds, grown = f"crash {process.exitcode}", 0.0, 0
            if outcome == "began":
                continue
            kinds[name] += 1
            outcomes[outcome if outcome in ("read", "refused") else "fault"] += 1
            slowest, largest = max(slowest, (seconds, f"{name} {number}")), max(largest, (grown, f"{name} {number}"))
            wrong = [outcome] if outcome not in ("read", "refused") else []
            wrong += ["over 2 s"] if seconds > LIMIT_S else []
            wrong += ["over 1 GB"] if grown > LIMIT_BYTES else []
            for fault in wrong:
                faults.setdefault(f"{name}: {fault}", []).append(number)
                print(f"{name}: {fault}: {number}", file=sys.stderr, flush=True)
            if outcome == "hang" or outcome.startswith("crash"):
                number += 1
                break
        process.join()
    return {
        "files": sum(kinds.values()),
        "kinds": dict(sorted(kinds.items())),
        "read": outcomes["read"],
        "refused": outcomes["refused"],
        "faults": {fault: {"count": len(numbers), "numbers": numbers[:5]} for fault, numbers in sorted(faults.items())},
        "slowest_s": round(slowest[0], 2),
        "slowest": slowest[1],
        "largest_growth_MB": round(largest[0] / 1e6),
        "largest": largest[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--layouts", type=int, default=0, help="damages to each layout of the community, and nothing else")
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--print", action="store_true", help="print the result, and write no file")
    parser.add_argument("--only", type=int, help="read this one alone and print its traceback")
    parser.add_argument("--text", action="store_true", help="with --only: of the files, not of the images")
    options = parser.parse_args()
    limits: dict[str, object] = {"processor_seconds": LIMIT_S, "bytes": LIMIT_BYTES}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if options.only is not None:
            cases = layout_cases() if options.layouts else file_cases(root) if options.text else image_cases()
            case = cases[options.only % len(cases)]
            damaged, read = case.damaged(options.only, [content for case in cases for content, _, _ in case.files])
            print(case.name, damaged[:300], _read_one(damaged, read, Path(tempfile.mkdtemp(dir=root))))
            return
        if options.layouts:
            cases = layout_cases()
            name, result = "fuzz_layouts", {"layouts": campaign(options.layouts * len(cases), cases, root, first=options.first)}
        else:
            images = campaign(options.images, image_cases(), root, first=options.first)
            files = campaign(options.files, file_cases(root), root, first=options.first) if options.files else {}
            name, result = "fuzz", {"images": images, "annotations_predictions_runs": files}
    result = {"limits": limits, **result}
    if options.print:
        print(json.dumps(result))
    else:
        write(name, result)


if __name__ == "__main__":
    main()
