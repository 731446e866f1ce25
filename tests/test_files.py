"""Writing survives kill -9 and a full disk."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from polytag import files
from polytag.errors import RunError


def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path: Path):
    path = tmp_path / "state.pt"
    files.write_bytes(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        with pytest.raises(RunError) as error:
            files.write_bytes(path, bytes(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert str(error.value) == (
        f"could not save state.pt: the file size limit is reached\n  where: {path}\n  expected: free space\n"
        "  next: free some space; earlier files are complete, and `polytag train --resume` continues a training run"
    )
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["state.pt"]


def test_a_folder_that_fails_half_way_leaves_the_old_one(tmp_path: Path):
    files.write_folder(tmp_path / "best", lambda folder: files.write_text(folder / "a", "old"))

    def broken(folder: Path) -> None:
        files.write_text(folder / "a", "new")
        raise OSError(28, os.strerror(28))

    with pytest.raises(RunError, match="the disk is full"):
        files.write_folder(tmp_path / "best", broken)
    assert (tmp_path / "best" / "a").read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["best"]


_WRITER = """
import sys
from pathlib import Path
from polytag import files
number = 0
while True:
    number += 1
    files.write_bytes(Path(sys.argv[1]), str(number).encode() * 200_000)
    print(number, flush=True)
"""


def test_kill_never_leaves_a_part(tmp_path: Path):
    path = tmp_path / "state"
    for attempt in range(6):
        process = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.01 * attempt)
        process.kill()
        process.wait()
        process.stdout.close()
        text = path.read_bytes().decode()
        number = text[: len(text) // 200_000]
        assert text == number * 200_000
