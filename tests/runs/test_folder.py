"""A run folder may be a stranger's: nothing is written through its links, and what cannot be written is one clear error."""

import subprocess
import sys
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
    with pytest.raises(RunError, match="could not save lock"), locked(run):
        raise AssertionError
    assert not (tmp_path / "made").exists()


def test_a_folder_that_cannot_be_written_is_told(run: RunFolder):
    run.lock.parent.rmdir()
    run.path.chmod(0o555)
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom polytag.errors import RunError\nfrom polytag.runs.folder import *\n"
        "if os.geteuid() == 0:\n    os.setuid(65534)\n"  # root can write anywhere
        "try:\n    with locked(RunFolder(path=Path('.'))):\n        print('locked')\nexcept RunError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=run.path, capture_output=True, text=True, check=True)
    run.path.chmod(0o755)
    assert done.stdout == (
        "could not save lock\n  where: state/lock\n  got: Permission denied\n  expected: a folder that can be written\n"
    )
