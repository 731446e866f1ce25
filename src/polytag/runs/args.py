"""args.yaml: the recipe, the data and how they are read; all that a resume or a colleague needs to do the same again."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from polytag import files
from polytag.contracts import Dataset
from polytag.data.load import ReadOptions, load_dataset
from polytag.data.splits import with_validation_split
from polytag.errors import PolytagError, RunError
from polytag.runs.folder import RunFolder
from polytag.runs.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class RunArgs:
    """The content of the file.

    data, options   the labelled images, and how they are read
    recipe          the values of a Recipe, unchecked; lists where it has tuples
    """

    data: Path
    options: ReadOptions
    recipe: Mapping[str, Any]


def load_run_data(args: RunArgs) -> Dataset:
    """The labelled data of a run, split as in its training; raises DataError where they are gone."""
    dataset = load_dataset(args.data, options=args.options)
    return with_validation_split(dataset) if dataset.splits == ("",) else dataset


def read_run_args(run: RunFolder) -> RunArgs:
    """Read args.yaml; raises RunError for a folder that is not a run, and for a file that cannot be read."""
    if not run.is_run:
        raise RunError(
            "no run here",
            where=str(run.path),
            got=f"no {run.args.name}" if run.path.is_dir() else "no such folder",
            expected="a run folder that `polytag train` made",
        )
    try:
        values = yaml.safe_load(run.args.read_text())
        return RunArgs(data=Path(values["data"]), options=ReadOptions(**values["reading"]), recipe=dict(values["recipe"]))
    except (yaml.YAMLError, TypeError, KeyError, AttributeError, ValueError, PolytagError) as error:
        raise RunError(
            f"{run.args.name} cannot be read",
            where=str(run.args),
            got=str(error).splitlines()[0],
            expected="the file that `polytag train` wrote",
        ) from error


def write_args(run: RunFolder, *, recipe: Recipe, data: Path, options: ReadOptions) -> None:
    """Write args.yaml, with absolute paths of data and image folders."""
    options = replace(options, image_dirs=tuple(os.path.abspath(folder) for folder in options.image_dirs))
    values = {"data": str(data.resolve()), "reading": asdict(options), "recipe": _plain(asdict(recipe))}
    files.write_text(run.args, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def read_args(run: RunFolder) -> tuple[Recipe, Path, ReadOptions]:
    """The recipe, data and reading options of a run; raises RunError for a file that cannot be read."""
    args = read_run_args(run)
    try:
        values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in args.recipe.items()}
        return Recipe(**values), args.data, args.options
    except TypeError as error:
        raise RunError(
            "args.yaml cannot be read", where=str(run.args), got=str(error), expected="the file that `polytag train` wrote"
        ) from error


def _plain(value: object) -> object:
    """YAML's safe subset has no tuples."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
