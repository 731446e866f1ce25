"""The folder of a run: its name, its lock, and the small files that tell how the run was made and how it went."""

import contextlib
import csv
import io
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from polytag import files
from polytag.data.load import ReadOptions
from polytag.errors import RunError
from polytag.machine import processor
from polytag.runs.args import ARGS, read_run_args
from polytag.runs.recipe import Recipe

COLUMNS = (
    "epoch", "train_loss", "val_loss", "train_map", "val_map", "head_lr", "backbone_lr", "images_per_second", "seconds",
)  # fmt: skip
Row = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """Paths of a run; DESIGN's layout, written by train, read by everything else."""

    path: Path

    best = property(lambda self: self.path / "best")
    last = property(lambda self: self.path / "last")
    state = property(lambda self: self.path / "state" / "state.pt")
    args = property(lambda self: self.path / ARGS)
    results = property(lambda self: self.path / "results.csv")
    metrics = property(lambda self: self.path / "metrics.json")
    predictions = property(lambda self: self.path / "predictions-val.parquet")
    report = property(lambda self: self.path / "report.html")


def create_run_folder(wanted: Path) -> RunFolder:
    """Make a new folder; a name in use becomes `<name>-2`, `-3`, ... and two runs that start at once never share one."""
    for number in range(1, 10_000):
        path = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise RunError(
                "the run folder cannot be made",
                where=str(path),
                got=error.strerror or str(error),
                expected="a place that can be written",
                next_step="give --output another folder",
            ) from error
        (path / "state").mkdir()
        return RunFolder(path=path)
    raise RunError("ten thousand runs of this name", where=str(wanted), next_step="give --output another name")


def open_run_folder(path: Path) -> RunFolder:
    """The folder of a run that was begun before; raises RunError where it is none."""
    run = RunFolder(path=path)
    if not run.args.is_file():
        raise RunError(
            "no run here to resume",
            where=str(path),
            got="no args.yaml" if path.is_dir() else "no such folder",
            expected="a run folder that `polytag train` made",
        )
    return run


@contextlib.contextmanager
def locked(run: RunFolder) -> Generator[None]:
    """Hold the run for this process; raises RunError while another process trains in it. The lock dies with the process."""
    with open(run.path / "state" / "lock", "a+") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows: no lock, and `create_run_folder` already keeps new runs apart
            pass
        except OSError as error:
            raise RunError(
                "another process is training in this run folder",
                where=str(run.path),
                expected="one process a run",
                next_step="wait for it to end, or start a run of another name",
            ) from error
        yield


def write_args(run: RunFolder, *, recipe: Recipe, data: Path, options: ReadOptions) -> None:
    """args.yaml: everything a resume or a colleague needs to do the same again."""
    reading = asdict(options) | {"image_dirs": [os.path.abspath(folder) for folder in options.image_dirs]}
    values = {"data": str(data.resolve()), "reading": reading, "recipe": _plain(asdict(recipe))}
    files.write_text(run.args, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def read_args(run: RunFolder) -> tuple[Recipe, Path, ReadOptions]:
    """The recipe, data and reading options of a run; raises RunError where args.yaml has been changed beyond reading."""
    args = read_run_args(run.path)
    try:
        values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in args.recipe.items()}
        return Recipe(**values), args.data, args.options
    except TypeError as error:
        raise RunError(
            "args.yaml cannot be read", where=str(run.args), got=str(error), expected="the file that `polytag train` wrote"
        ) from error


def write_results(run: RunFolder, rows: Sequence[Row]) -> None:
    """results.csv, a row an epoch (0 is the probe before any fine-tuning); an undefined number is left empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(["" if math.isnan(row[name]) else f"{row[name]:.6g}" for name in COLUMNS])
    files.write_text(run.results, text.getvalue())


def write_environment(
    run: RunFolder,
    *,
    data_fingerprint: str,
    arithmetic: str,
    num_threads: int,
    num_processes: int,
    images: Mapping[str, str],
) -> None:
    """env.json: versions, hardware, threads, where images come from, data fingerprint and the commit of polytag's checkout."""
    names = ("polytag", "torch", "torchvision", "timm", "numpy", "pillow", "safetensors", "scikit-learn", "pyarrow")
    values = {
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in names},
        "system": platform.platform(),
        "processor": processor(),
        "num_threads": num_threads,
        "num_processes": num_processes,
        "arithmetic": arithmetic,
        "images": dict(images),
        "data_fingerprint": data_fingerprint,
        "commit": _commit(),
        "command": sys.argv,
    }
    files.write_text(run.path / "env.json", json.dumps(values, indent=2) + "\n")


def _plain(value: object) -> object:
    """YAML's safe subset has no tuples."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _version(name: str) -> str:
    """Of an installed package; "" for one that is not, such as polytag itself where it runs from its source tree."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _commit() -> str:
    """The commit of the source tree polytag runs from; "" where it is installed without one."""
    if not (Path(__file__).parents[3] / ".git").exists() or os.environ.get("GIT_DIR"):
        return ""
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=5, check=False
        )
    except OSError:
        return ""
    return answer.stdout.strip()
