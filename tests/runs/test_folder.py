"""A run folder may be a stranger's: nothing is written through its links, and what cannot be written is one clear error."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from polytag.errors import RunError
from polytag.runs.folder import RunFolder, create_run_folder, locked, open_run_folder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = create_run_folder(tmp_path / "run")
    run.args.write_text("")
    return run


@pytest.mark.parametrize("name", ["best", "last", "state", "plots", "grids"])
def test_a_folder_that_is_a_link_out_of_the_run_is_refused(run: RunFolder, tmp_path: Path, name: str):
    home = tmp_path / "home"
    home.mkdir()
    if name == "state":
        run.lock.parent.rmdir()
    (run.path / name).symlink_to("../home")
    with pytest.raises(RunError) as error:
        open_run_folder(run.path)
    assert str(error.value) == (
        f"a folder of the run is a link to another place\n  where: {run.path / name}\n  got: a link to {home}\n"
        "  expected: a folder in the run: nothing is written outside it\n"
        "  next: remove the link, and put the folder itself there if you trust its content"
    )
    assert list(home.iterdir()) == []


def test_links_of_the_user_to_the_run_and_links_inside_it_are_followed(run: RunFolder, tmp_path: Path):
    (run.path / "epochs").mkdir()
    (run.path / "best").symlink_to("epochs")
    (tmp_path / "latest").symlink_to("run")
    assert open_run_folder(tmp_path / "latest").path == tmp_path / "latest"


def test_the_lock_is_no_link_to_a_file_of_the_user(run: RunFolder, tmp_path: Path):
    run.lock.symlink_to(tmp_path / "made")
    with pytest.raises(RunError, match="could not save lock"), locked(run, doing="training"):
        raise AssertionError
    assert not (tmp_path / "made").exists()


def test_a_folder_that_cannot_be_written_is_told(run: RunFolder):
    run.lock.parent.rmdir()
    run.path.chmod(0o555)
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom polytag.errors import RunError\nfrom polytag.runs.folder import *\n"
        "if os.geteuid() == 0:\n    os.setuid(65534)\n"  # root can write anywhere
        "try:\n    with locked(RunFolder(path=Path('.')), doing='training'):\n        print('locked')\n"
        "except RunError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=run.path, capture_output=True, text=True, check=True)
    run.path.chmod(0o755)
    assert done.stdout == (
        "could not save lock\n  where: state/lock\n  got: Permission denied\n  expected: a folder that can be written\n"
    )


HOLDING = """
import sys
import threading
import time
from pathlib import Path
from polytag.runs.folder import RunFolder, locked
with locked(RunFolder(path=Path(sys.argv[1])), doing="training"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_lock_says_who_holds_it_and_is_waited_for(run: RunFolder):
    command = [sys.executable, "-c", HOLDING, str(run.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        began = time.monotonic()
        with pytest.raises(RunError) as error, locked(run, doing="saving thresholds", wait_seconds=0.3):
            raise AssertionError
        assert 0.3 <= time.monotonic() - began < 5
        assert error.value.got == f"training, process {other.pid}"
        threading.Timer(0.3, other.kill).start()  # the lock dies with the process
        with locked(run, doing="saving thresholds", wait_seconds=30):
            assert run.lock.read_text() == f"saving thresholds, process {os.getpid()}"
    assert run.lock.read_text() == ""


def test_a_file_system_without_locks_has_none(run: RunFolder, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(run, doing="training"), locked(run, doing="training"):
        pass


def test_nothing_is_noted_in_a_lock_that_is_another_name_of_a_file(run: RunFolder, tmp_path: Path):
    (tmp_path / "mine").write_text("mine")
    os.link(tmp_path / "mine", run.lock)
    with locked(run, doing="training"):
        pass
    assert (tmp_path / "mine").read_text() == "mine"
