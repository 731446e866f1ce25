"""The wheel in an environment that holds what it asks for and nothing else: the core works, and an extra is asked for by name.

The wheel is built from the sdist, with the build tools of this environment. The core's libraries are those of this environment too,
reached by links: all that the wheel's own metadata ask for, and what that asks for. So nothing is downloaded, and a library that is
imported without being declared is not there.
"""

import importlib.metadata
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from polytag import __all__ as public_names
from polytag import __version__

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
NEEDS = "polytag: this needs the extra {0!r}, which is not installed\n  next: pip install 'polytag[{0}]'\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist alone."""
    folder = tmp_path_factory.mktemp("dist")
    (sdist,) = _built("sdist", ROOT, folder)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (wheel,) = _built("wheel", folder / sdist.name.removesuffix(".tar.gz"), folder / "wheel")
    return wheel


def _built(kind: str, source: Path, folder: Path) -> list[Path]:
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": ""})
    return [path for path in folder.iterdir() if path.is_file()]


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        return Parser().parsestr(archive.read(f"polytag-{__version__}.dist-info/METADATA").decode())


@pytest.fixture(scope="module")
def python(wheel: Path, metadata: Message, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel and the core's libraries."""
    folder = tmp_path_factory.mktemp("core") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", str(folder)], check=True)
    python = folder / "bin" / "python"
    asked = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], check=True, capture_output=True, text=True
    )
    site = Path(asked.stdout.strip())
    for name in _closure(metadata.get_all("Requires-Dist", [])):
        for top in _top_levels(importlib.metadata.distribution(name)):
            if not (site / top.name).exists():
                (site / top.name).symlink_to(top)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return python


def _closure(requirements: list[str], *, extra: str = "") -> set[str]:
    """The names of all that these requirements ask for, through every level, in this environment's versions."""
    found: set[str] = set()
    waiting = [(Requirement(text), extra) for text in requirements]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement, of_extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": of_extra}):
            continue
        installed = importlib.metadata.distribution(requirement.name)
        assert requirement.specifier.contains(installed.version, prereleases=True), (
            f"{requirement}, and there is {installed.version}"
        )
        found.add(installed.name)
        for each in {"", *requirement.extras}:
            if (installed.name, each) not in seen:
                seen.add((installed.name, each))
                waiting += [(Requirement(text), each) for text in installed.requires or []]
    return found


def _top_levels(installed: importlib.metadata.Distribution) -> set[Path]:
    """The folders and files of a distribution that lie directly in site-packages."""
    names = {file.parts[0] for file in installed.files or [] if file.parts[0] not in ("..", "__pycache__")}
    assert names, f"{installed.name} does not say what it consists of"
    return {Path(str(installed.locate_file(name))) for name in names}


@pytest.fixture(scope="module")
def run(python: Path, tmp_path_factory: pytest.TempPathFactory):
    """Run this environment's Python, in a folder of its own and without anything of this one."""
    folder = tmp_path_factory.mktemp("run")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def run(*arguments: object, status: int = 0) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [python, *map(str, arguments)],
            cwd=folder,
            env={**kept, "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, done.stderr or done.stdout
        return done

    return run


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Two programs' probabilities of 40 images and two classes, and the truth."""
    folder = tmp_path_factory.mktemp("scores")
    good, poor, truth = ["id,cat,dog"], ["id,cat,dog"], ["file_name,labels"]
    for row in range(40):
        cat, dog = row % 2, row // 2 % 2
        noise = row * 7 % 20 / 50
        good.append(f"{row:02}.jpg,{0.3 + 0.4 * cat + noise / 2:.3f},{0.2 + 0.3 * dog + noise:.3f}")
        poor.append(f"{row:02}.jpg,{0.3 + 0.1 * cat + noise:.3f},{0.2 + 0.1 * dog + noise:.3f}")
        truth.append(f"{row:02}.jpg,{'|'.join(name for name, there in (('cat', cat), ('dog', dog)) if there)}")
    for name, lines in (("good", good), ("poor", poor), ("truth", truth)):
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return folder / "good.csv", folder / "poor.csv", folder / "truth.csv"


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    source = ROOT / "src"
    there_are = {path for path in (source / "polytag").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {name for name in names if not name.startswith("polytag-")} == {
        path.relative_to(source).as_posix() for path in there_are
    }
    assert "polytag/py.typed" in names
    assert f"polytag-{__version__}.dist-info/licenses/LICENSE" in names


def test_the_metadata_say_what_it_is_and_where_it_lives(metadata: Message):
    assert (metadata["Name"], metadata["Version"], metadata["License-Expression"]) == ("polytag", __version__, "Apache-2.0")
    extras = {
        "all", "excel", "executorch", "export", "hub", "mlflow", "open-clip", "openvino", "ray", "remote", "runtime",
        "tensorboard", "train", "video", "wandb", "web",
    }  # fmt: skip
    assert set(metadata.get_all("Provides-Extra", [])) == extras
    assert "Repository, https://github.com/polytag/polytag" in metadata.get_all("Project-URL", [])


def test_the_core_is_installed_and_no_extra(run):
    listed = run(
        "-c", "import importlib.metadata as m; print(*sorted({d.name for d in m.distributions()}), sep='\\n')"
    ).stdout.split()
    assert {"polytag", "numpy", "pyarrow", "altair"} <= set(listed)
    assert not {"torch", "torchvision", "timm", "safetensors", "scikit-learn", "fastapi", "uvicorn", "pytest"} & set(listed)
    assert "No module named 'torch'" in run("-c", "import torch", status=1).stderr
    assert "site-packages" in run("-c", "import polytag; print(polytag.__file__)").stdout


def test_the_command_answers(run):
    script = (
        "from importlib.metadata import entry_points; (it,) = entry_points(group='console_scripts', name='polytag'); it.load()()"
    )
    assert run("-c", script, "--version").stdout == f"polytag {__version__}\n"
    assert " evaluate " in run("-c", script, "--help").stdout


def test_a_data_set_is_checked(run, colours: Path):
    assert "72 images, 3 classes" in run("-m", "polytag", "data", "check", colours).stdout


def test_scores_are_judged_and_reported(run, tables: tuple[Path, Path, Path], tmp_path: Path):
    good, _, truth = tables
    report = tmp_path / "report.html"
    done = run("-m", "polytag", "evaluate", good, "--truth", truth, "--scores", "probability", "--report", report)
    assert re.search(r"^mAP +0\.9\d+ .* 2 classes", done.stdout, re.MULTILINE)
    assert "<svg" in report.read_text()


def test_runs_are_compared(run, tables: tuple[Path, Path, Path]):
    good, poor, truth = tables
    done = run("-m", "polytag", "compare", good, poor, "--truth", truth, "--scores", "probability")
    assert re.search("^mAP .*", done.stdout, re.MULTILINE)


def test_thresholds_are_chosen(run, tables: tuple[Path, Path, Path], tmp_path: Path):
    good, _, truth = tables
    chosen = tmp_path / "thresholds.json"
    options = ("--truth", truth, "--scores", "probability", "--goal", "precision=0.9", "--json", chosen)
    run("-m", "polytag", "thresholds", good, *options)
    assert '"cat"' in chosen.read_text()


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [(("train", "data"), "train"), (("demo",), "train"), (("inspect", "scores.csv"), "web")],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_an_extra_that_is_missing_is_asked_for_by_name(run, arguments: tuple[str, ...], extra: str):
    done = run("-m", "polytag", *arguments, status=1)
    assert (done.stdout, done.stderr) == ("", NEEDS.format(extra))


def test_every_public_name_is_there_or_asks_for_its_extra(run):
    script = (
        "import polytag\nfor name in polytag.__all__:\n    try:\n        getattr(polytag, name)\n"
        "    except polytag.PolytagError as error:\n        print(name, type(error).__name__, error.next_step)\n"
    )
    asking = dict(line.split(" ", 1) for line in run("-c", script).stdout.splitlines())
    assert set(asking.values()) == {"MissingExtraError pip install 'polytag[train]'"}  # export_model too, first of all
    assert {"train", "resume", "Predictor", "export_model"} <= set(asking)
    core = {
        "predict",
        "evaluate",
        "compare",
        "evaluate_predictions",
        "read_predictions",
        "load_dataset",
        "check",
        "convert",
        "fetch",
        "write_report",
    }
    assert core <= set(public_names) - set(asking)
