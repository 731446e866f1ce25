"""args.yaml as it lies in a run folder, for whoever needs the data of a run and not its recipe's meaning: no torch is imported."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from polytag.data.load import ReadOptions
from polytag.errors import PolytagError, RunError

ARGS = "args.yaml"


@dataclass(frozen=True, kw_only=True)
class RunArgs:
    """What the file says.

    data, options   the labelled images, and how they are read
    recipe          the values of a Recipe, unchecked; lists where it has tuples
    """

    data: Path
    options: ReadOptions
    recipe: Mapping[str, Any]


def read_run_args(run: Path) -> RunArgs:
    """Raises RunError for a folder that is no run's, and where args.yaml has been changed beyond reading."""
    path = run / ARGS
    if not path.is_file():
        raise RunError(
            "no run here",
            where=str(run),
            got=f"no {ARGS}" if run.is_dir() else "no such folder",
            expected="a run folder that `polytag train` made",
        )
    try:
        values = yaml.safe_load(path.read_text())
        return RunArgs(data=Path(values["data"]), options=ReadOptions(**values["reading"]), recipe=dict(values["recipe"]))
    except (yaml.YAMLError, TypeError, KeyError, AttributeError, ValueError, PolytagError) as error:
        raise RunError(
            f"{ARGS} cannot be read",
            where=str(path),
            got=str(error).splitlines()[0],
            expected="the file that `polytag train` wrote",
        ) from error
