"""Damaged files through every reader: each ends in a value or in an error of polytag, within 2 s of processor time and 1 GB.

    python benchmarks/fuzz.py --images 10000 --files 10000

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
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from fuzz_seeds import Kind, Reader, image_seeds, seed_folders
from machine import write
from polytag.errors import PolytagError

LIMIT_S, LIMIT_BYTES = 2.0, 1_000_000_000
HANGS_AFTER_S = 60.0
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
        content = change(content, others, rng)
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
TEXT_CHANGES = (_insert_token, _insert_token, _change_value, _change_value, _change_value, _lines, _encoding, _mix)


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


def _read_all(numbers: range, root: Path, images: bool, answers: Connection) -> None:
    """In a process of its own: reads one damaged file after the other and sends (number, kind, outcome, seconds, bytes)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**9, 10**9))
    scratch = Path(tempfile.mkdtemp(dir=root))
    cases = list(_cases(root, images))
    contents = [content for _, content, _, _ in cases]
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        for _, content, _, place in cases:  # first use imports and fills caches
            _read_one(content, place, scratch)
        for number in numbers:
            rng = random.Random(number)
            name, content, is_text, place = cases[number % len(cases)]
            damaged = mutated(content, contents, rng, is_text=is_text)
            answers.send((number, name, "began", 0.0, 0))
            before = _peak_bytes()
            began = time.process_time()
            outcome = _read_one(damaged, place, scratch)
            seconds = time.process_time() - began
            answers.send((number, name, outcome, seconds, _peak_bytes() - before))
    answers.close()


def _cases(root: Path, images: bool) -> Iterator[tuple[str, bytes, bool, Callable[[bytes, Path], object]]]:
    """(name, valid content, whether it is text, how a content is read in a scratch folder)."""
    if images:
        for name, content in image_seeds().items():

            def read_picture(damaged: bytes, scratch: Path, name: str = name) -> None:
                (scratch / name).write_bytes(damaged)
                read_image_file(scratch / name)

            yield name, content, False, read_picture
        return
    for name, folder, damaged_file, reader in seed_folders_again(root):

        def read_folder(
            damaged: bytes, scratch: Path, folder: Path = folder, file: str = damaged_file, reader: Reader = reader
        ) -> None:
            copy = scratch / folder.name
            if not copy.is_dir():
                shutil.copytree(folder, copy)
            original = (copy / file).read_bytes()
            try:
                (copy / file).write_bytes(damaged)
                reader(copy)
            finally:
                (copy / file).write_bytes(original)

        content = (folder / damaged_file).read_bytes()
        yield name, content, not damaged_file.endswith((".parquet", ".npz", ".safetensors")), read_folder


_made: dict[Path, list[Kind]] = {}


def seed_folders_again(root: Path) -> list[Kind]:
    """`seed_folders`, made once: a process that takes the place of a crashed one finds them."""
    if root not in _made:
        _made[root] = seed_folders(root / "seeds")
    return _made[root]


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


def campaign(count: int, root: Path, *, images: bool, first: int = 0) -> dict[str, object]:
    """Read `count` damaged files; what went wrong is listed with the numbers that make it again."""
    outcomes: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    faults: dict[str, list[int]] = {}
    slowest, largest = (0.0, ""), (0, "")
    fork = multiprocessing.get_context("fork")
    if not images:
        seed_folders_again(root)
    number = first
    while number < first + count:
        receiver, sender = fork.Pipe(duplex=False)
        process = fork.Process(target=_read_all, args=(range(number, first + count), root, images, sender))
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
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--print", action="store_true", help="print the result, and write no file")
    parser.add_argument("--only", type=int, help="read this one alone and print its traceback")
    parser.add_argument("--text", action="store_true", help="with --only: of the files, not of the images")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if options.only is not None:
            cases = list(_cases(root, not options.text))
            name, content, is_text, read = cases[options.only % len(cases)]
            damaged = mutated(content, [c for _, c, _, _ in cases], random.Random(options.only), is_text=is_text)
            print(name, damaged[:300], _read_one(damaged, read, Path(tempfile.mkdtemp(dir=root))))
            return
        result: dict[str, object] = {
            "limits": {"processor_seconds": LIMIT_S, "bytes": LIMIT_BYTES},
            "images": campaign(options.images, root, images=True, first=options.first),
            "annotations_predictions_runs": campaign(options.files, root, images=False, first=options.first),
        }
    if options.print:
        print(json.dumps(result))
    else:
        write("fuzz", result)


if __name__ == "__main__":
    main()
