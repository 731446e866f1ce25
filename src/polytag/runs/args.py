"""args.yaml: the recipe, the data and how they are read; all that a resume or a colleague needs to do the same again."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import yaml

from polytag import files
from polytag.contracts import Dataset
from polytag.data.load import load_dataset
from polytag.data.read_options import ReadOptions
from polytag.data.splits import with_validation_split
from polytag.errors import PolytagError, RunError
from polytag.parsing import MAX_YAML_BYTES, Malformed, parse_yaml, read_small_text
from polytag.plain import WrongValue, from_plain
from polytag.runs.folder import RunFolder
from polytag.runs.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class RunArgs:
    """The content of the file: the labelled images, how they are read, and every choice of the training."""

    data: Path
    options: ReadOptions
    recipe: Recipe


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """args.yaml: its keys, and the kinds of their values."""

    data: str
    reading: ReadOptions
    recipe: Recipe


def load_run_data(args: RunArgs) -> Dataset:
    """The labelled data of a run, split as in its training; raises DataError where they are gone."""
    dataset = load_dataset(args.data, options=args.options)
    return with_validation_split(dataset) if dataset.splits == ("",) else dataset


def read_run_args(run: RunFolder) -> RunArgs:
    """Read args.yaml; raises RunError for a folder that is not a run, and for a file that cannot be read.

    The folder may come from a stranger: every value is checked as on the command line, and what is no option is refused.
    """
    if not run.is_run:
        raise RunError(
            "no run here",
            where=str(run.path),
            got=f"no {run.args.name}" if run.path.is_dir() else "no such folder",
            expected="a run folder that `polytag train` made",
        )
    what, expected = f"{run.args.name} cannot be read", "the file that `polytag train` wrote"
    try:
        stored = from_plain(_Stored, parse_yaml(read_small_text(run.args, max_bytes=MAX_YAML_BYTES)))
    except OSError as error:
        raise RunError(what, where=str(run.args), got=error.strerror or str(error), expected=expected) from error
    except Malformed as error:
        raise RunError(what, where=error.place(run.args), got=error.problem, expected=expected) from error
    except WrongValue as error:
        raise RunError(what, where=str(run.args), got=error.got, expected=error.expected) from error
    except PolytagError as error:
        got = f"{error.what}: {error.got}" if error.got else error.what
        raise RunError(what, where=str(run.args), got=got, expected=error.expected or expected) from error
    return RunArgs(data=Path(stored.data), options=stored.reading, recipe=stored.recipe)


def write_args(run: RunFolder, *, recipe: Recipe, data: Path, options: ReadOptions) -> None:
    """Write args.yaml, with absolute paths of data, image folders and the table of columns."""
    options = replace(
        options,
        image_dirs=tuple(os.path.abspath(folder) for folder in options.image_dirs),
        columns_file=os.path.abspath(options.columns_file) if options.columns_file else "",
    )
    values = {"data": str(data.resolve()), "reading": asdict(options), "recipe": _plain(asdict(recipe))}
    files.write_text(run.args, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def _plain(value: object) -> object:
    """YAML's safe subset has no tuples."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
