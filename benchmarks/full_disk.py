"""Every verb that writes, on a disk that becomes full while it runs, and what is found and done afterwards.

    python benchmarks/full_disk.py [--points N] [--verbs train thresholds ...]

Each verb runs on a file system in memory on which a filler leaves so many bytes free, from none to what an undisturbed run needs.
Linux only; without root's rights, where the system permits its own mounts (`unshare`). Then

- a command that failed says so in one error, without a traceback;
- every file has its whole old or its whole new content, and no temporary file is left;
- once the filler is removed, `train --resume`, or the same command again, ends well, with the files of an undisturbed run, bit for
  bit.

The cache folder lies on another disk. Files that differ between two undisturbed runs, such as times, are not compared.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from kills import VERBS, Verb, go_on, leftovers, make_before, neither_old_nor_new, reference_of, results_of, run, tree
from machine import write

DISK_BYTES = 64 * 2**20


def free_bytes(disk: Path) -> int:
    status = os.statvfs(disk)
    return status.f_bavail * status.f_frsize


def campaign(verb: Verb, disk: Path, elsewhere: Path, *, num_points: int) -> dict[str, object]:
    """Run one verb with less and less room; what is wrong is listed with the bytes that were free."""
    before, folder, filler = elsewhere / "before", disk / "full" / "at", disk / "filler"
    make_before(verb, before)
    reference, _ = reference_of(verb, before, disk)  # as deep as `folder`: relative paths are in some files
    for number in range(2):
        shutil.rmtree(disk / f"whole-{number}")
    old = tree(before)
    shutil.copytree(before, folder)
    at_first = free_bytes(disk)
    assert run(verb.command, folder)[0] == 0
    needed = 2 * (at_first - free_bytes(disk)) + 2**15  # with what is written before it replaces the old
    failed = 0
    faults: dict[str, list[int]] = {}
    for point in range(num_points):
        shutil.rmtree(folder)
        shutil.copytree(before, folder)
        room = needed * point // num_points
        with open(filler, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, free_bytes(disk) - room)
        status, _, text = run(verb.command, folder)
        failed += status != 0
        wrong = [] if status >= 0 else [f"ended by the signal {-status}"]
        if "Traceback" in text or (status and text.count("next:") + text.count("where:") == 0):
            wrong.append("no clear error: " + " | ".join(text.strip().splitlines()[-2:])[:300])
        wrong += neither_old_nor_new(verb, folder, old=old, reference=reference)
        wrong += [f"left at once: {Path(name).parent}/*.part" for name in leftovers(folder)]
        filler.unlink()
        if status:
            wrong += go_on(verb, folder, reference=reference)[1]
        else:
            after = tree(folder)
            wrong += [
                f"{name} differs although the command ended well" for name, each in reference.items() if after.get(name) != each
            ]
        for each in wrong:
            faults.setdefault(each, []).append(room)
    return {
        "bytes_needed_at_most": needed,
        "runs": num_points,
        "failed": failed,
        "files_compared": len(reference),
        "faults": {fault: {"count": len(rooms), "free_bytes": rooms[:8]} for fault, rooms in sorted(faults.items())},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=10, help="amounts of room for each verb")
    parser.add_argument("--verbs", nargs="+", choices=VERBS, default=list(VERBS))
    parser.add_argument("--disk", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.disk:  # once more, where a mount is ours alone and ends with us
        with tempfile.TemporaryDirectory() as disk:
            sys.exit(subprocess.run(["unshare", "-rm", sys.executable, *sys.argv, "--disk", disk]).returncode)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "polytag", options.disk], check=True)
    disk = Path(options.disk).resolve()

    def of_verb(verb: Verb, elsewhere: Path) -> dict[str, object]:
        result = campaign(verb, disk, elsewhere, num_points=options.points)
        shutil.rmtree(disk / "full")
        return result

    results = results_of(options.verbs, of_verb)
    write("full_disk", {"points": options.points, "verbs": results})


if __name__ == "__main__":
    main()
