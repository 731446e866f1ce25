"""The command as a user types it, and one finished run that the tests of all verbs look at."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from polytag.cli.main import app

QUICK = ("--backbone", "test_resnet", "--weights", "random", "--image-size", "32", "--batch-size", "8", "--device", "cpu")


def invoke(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result


@pytest.fixture(scope="session")
def polytag() -> Callable[..., Result]:
    """Run a command line in this process; a PolytagError comes out as it was raised. Asserts the exit status."""
    return invoke


@pytest.fixture(scope="session")
def shell() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run a command line in a process of its own, for its exit status and what stands on stderr."""

    def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "polytag", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    return run


@pytest.fixture
def scattered(colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """A table of bare file names whose images are in two other folders, as arguments relative to the working folder."""
    for folder in ("tables", "one", "two"):
        (tmp_path / folder).mkdir()
    for row, image in enumerate(sorted((colours.parent / "images").iterdir())):
        shutil.copy(image, tmp_path / ("one", "two")[row % 2] / image.name)
    (tmp_path / "tables" / "labels.csv").write_text(colours.read_text().replace("images/", ""))
    monkeypatch.chdir(tmp_path)
    return ("tables/labels.csv", "--image-dir", "one", "--image-dir", "two")


@pytest.fixture(scope="session")
def quick() -> tuple[str, ...]:
    """Options of a training that takes a second."""
    return QUICK


@pytest.fixture(scope="session")
def command(colours: Path) -> tuple[str, ...]:
    """A training of two epochs that learns a little; only --output is left to say."""
    return ("train", str(colours), *QUICK, "--epochs", "2", "--head-lr", "0.03", "--seed", "3")


@pytest.fixture(scope="session")
def trained(command: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The finished run of that command, and what it printed; read-only by agreement."""
    folder = tmp_path_factory.mktemp("runs") / "colours"
    return folder, invoke(*command, "--output", folder)


@pytest.fixture(scope="session")
def run(trained: tuple[Path, Result]) -> Path:
    """The folder of that run."""
    return trained[0]
