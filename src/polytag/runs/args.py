"""args.yaml: the recipe, the data and how they are read; all that a resume or a colleague needs to do the same again."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import yaml

from polytag import files
from polytag.contracts import Dataset
from polytag.data.divide import Folds, with_folds
from polytag.data.groups import with_groups
from polytag.data.load import load_dataset, load_labels
from polytag.data.read_options import ReadOptions
from polytag.data.settings import with_settings
from polytag.data.split_files import absolute_entry, parse_entry
from polytag.data.splits import VAL_FRACTION, lacks_validation, with_validation_split
from polytag.errors import DataError, PolytagError, RunError, UsageError
from polytag.own_parts import PARTS, PartRecord
from polytag.parsing import MAX_YAML_BYTES, Malformed, parse_yaml, read_small_text
from polytag.plain import WrongValue, from_plain
from polytag.runs.folder import RunFolder, run_of
from polytag.runs.recipe import Recipe

SPLIT_SEED = 0
"""Of the parts and folds that training makes: always the same, so that runs with other seeds are compared on the same images."""


@dataclass(frozen=True, kw_only=True)
class RunArgs:
    """The content of the file: the labelled images, how they are read, and every choice of the training.

    data               None for a run that was given a Dataset, which is not in its folder
    dataset            what that Dataset called its source; "" for data that were read from `data`
    folds, fold        the number of folds, 0 without; and which of them the run validates on, 0 for the run of all folds
    data_fingerprint   of the data in their folds, which a resume of the run of all folds compares; else ""
    parts              records of the user's own parts, by their kind; never code
    features           the feature table in place of the images, which need not exist then; else ""
    class_features     a table of vectors of the class names in the space of `features`; else ""
    """

    data: Path | None
    options: ReadOptions
    recipe: Recipe
    dataset: str = ""
    folds: int = 0
    fold: int = 0
    data_fingerprint: str = ""
    parts: Mapping[str, PartRecord] = field(default_factory=dict)
    features: str = ""
    class_features: str = ""

    def __post_init__(self):
        if not 0 <= self.fold <= self.folds:
            raise UsageError("the fold is out of range", got=str(self.fold), expected=f"0 to {self.folds}, the number of folds")

    @property
    def has_all_folds(self) -> bool:
        """Whether the run is that of all folds, each of which has a run of its own."""
        return self.folds > 0 and self.fold == 0


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """args.yaml: its keys, and the kinds of their values. `relative` has the path from the run folder of each other path."""

    data: str | None
    reading: ReadOptions
    recipe: Recipe
    dataset: str = ""
    relative: Mapping[str, str] = field(default_factory=dict)
    folds: int = 0
    fold: int = 0
    data_fingerprint: str = ""
    parts: Mapping[str, PartRecord] = field(default_factory=dict)
    features: str = ""
    class_features: str = ""

    def __post_init__(self):
        if unknown := [kind for kind in self.parts if kind not in PARTS]:
            raise WrongValue("parts", unknown[0], expected="one of " + ", ".join(PARTS))
        if self.data is None and not self.dataset:
            raise WrongValue("data", self.data, expected="a path, or the name of a Dataset in dataset")


def load_run_data(args: RunArgs) -> Dataset:
    """The labelled data of a run, split as in its training, or in its folds; raises DataError where they are gone or a Dataset."""
    if args.folds:
        folds = load_folds(args)
        return folds.fold(args.fold) if args.fold else folds.dataset
    dataset = dataset_of(args)
    return with_validation_split(dataset, seed=SPLIT_SEED) if lacks_validation(dataset) else dataset


def load_folds(args: RunArgs, *, given: Dataset | None = None) -> Folds:
    """The labelled data of a run, or the Dataset that it was given, in its folds. Raises as `load_run_data`."""
    return with_folds(dataset_of(args, given=given), num_folds=args.folds, seed=SPLIT_SEED)


def dataset_of(args: RunArgs, *, given: Dataset | None = None) -> Dataset:
    """The labelled data of a run as they are read, or the Dataset that it was given. Raises as `load_run_data`."""
    if given is not None:
        return given
    if args.data is None:
        raise DataError(
            "the run was trained on a Dataset, which is not in its folder",
            where=args.dataset,
            expected="the same Dataset, or a run that `polytag train DATA` or `train(path)` made",
            next_step="to go on, give it again in Python: resume(run_folder, data=dataset), or resume_folds for a run of folds",
        )
    if not args.features:
        return load_dataset(args.data, options=args.options)
    dataset, column = load_labels(args.data, options=args.options), args.options.group_column
    return with_groups(dataset, column, file=args.options.columns_file) if column else dataset


def as_in_training(options: ReadOptions, path: Path) -> tuple[ReadOptions, str]:
    """The options with the classes, and the meaning of an absent label, of the run that a path is of, and a sentence on what that
    changed, "" for nothing. What the command line gives wins, and a run that chose classes over polytag.yaml: its model has them.

    Raises RunError for a run whose args.yaml cannot be read.
    """
    run = run_of(path)
    trained = read_run_args(run).options if run else ReadOptions()
    usual, shaping = ReadOptions(), trained.shaping
    chosen = {each.name: getattr(shaping, each.name) for each in fields(shaping) if each.name not in options.given}
    chosen = {name: value for name, value in chosen.items() if value != getattr(usual.shaping, name)}
    if chosen:
        given = (*options.given, *(each.name for each in fields(shaping)))
        options = replace(options, shaping=replace(options.shaping, **chosen), given=given)
    told = [name.replace("_", "-") for name in chosen]
    if trained.absent_means != usual.absent_means and "absent_means" not in options.given:
        options = replace(options, absent_means=trained.absent_means, given=(*options.given, "absent_means"))
        told.append(f"absent-means {trained.absent_means}")
    options_told = ", ".join(f"--{name}" for name in told)
    return options, f"labels are read as in the training of {run.path.name}: {options_told}" if run and told else ""


def how_split(args: RunArgs, *, is_made: bool) -> dict[str, object]:
    """For env.json: how the parts of the data came about, by the annotations or else by label with a seed."""
    if not is_made:
        return {"method": "annotations"}
    shares = {"folds": args.folds} if args.folds else {"val": VAL_FRACTION}
    return {"method": "labels", "seed": SPLIT_SEED, **shares, "group": args.options.group_column or None}


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
        return _located(stored, run=run)
    except OSError as error:
        raise RunError(what, where=str(run.args), got=error.strerror or str(error), expected=expected) from error
    except Malformed as error:
        raise RunError(what, where=error.place(run.args), got=error.problem, expected=expected) from error
    except WrongValue as error:
        raise RunError(what, where=str(run.args), got=error.got, expected=error.expected) from error
    except PolytagError as error:
        got = f"{error.what}: {error.got}" if error.got else error.what
        raise RunError(what, where=str(run.args), got=got, expected=error.expected or expected) from error


def _located(stored: _Stored, *, run: RunFolder) -> RunArgs:
    """The arguments with every path where it is now: as written, or else as far from the run folder as it was."""

    def now(path: str) -> str:
        if os.path.exists(path) or path not in stored.relative:
            return path
        moved = os.path.normpath(os.path.join(os.path.realpath(run.path), stored.relative[path]))
        return moved if os.path.exists(moved) else path

    def now_in_entry(entry: str) -> str:
        name, path = parse_entry(entry)
        return f"{name}={now(str(path))}" if name else now(str(path))

    return RunArgs(
        data=None if stored.data is None else Path(now(stored.data)),
        options=replace(
            stored.reading,
            image_dirs=tuple(now(folder) for folder in stored.reading.image_dirs),
            split_files=tuple(now_in_entry(entry) for entry in stored.reading.split_files),
            columns_file=now(stored.reading.columns_file),
        ),
        recipe=replace(stored.recipe, weights=now(stored.recipe.weights)),
        dataset=stored.dataset,
        folds=stored.folds,
        fold=stored.fold,
        data_fingerprint=stored.data_fingerprint,
        parts=stored.parts,
        features=now(stored.features),
        class_features=now(stored.class_features),
    )


def write_args(run: RunFolder, args: RunArgs) -> None:
    """Write args.yaml, with absolute paths of data, image folders, the table of columns and weights, and where they are from here.

    The options include what polytag.yaml beside the data says now. Of a Dataset only what it calls its source is written.
    """
    place = None if args.data is None else str(args.data.resolve())
    options = args.options if args.data is None else with_settings(args.options, args.data)[0]
    options = replace(
        options,
        image_dirs=tuple(os.path.abspath(folder) for folder in options.image_dirs),
        split_files=tuple(map(absolute_entry, options.split_files)),
        columns_file=os.path.abspath(options.columns_file) if options.columns_file else "",
    )
    recipe = args.recipe
    if os.path.isfile(recipe.weights):
        recipe = replace(recipe, weights=os.path.abspath(recipe.weights))
    split_files = (str(parse_entry(entry)[1]) for entry in options.split_files)
    features, class_features = (os.path.abspath(each) if each else "" for each in (args.features, args.class_features))
    paths = (place, *options.image_dirs, *split_files, options.columns_file, recipe.weights, features, class_features)
    values: dict[str, object] = {"data": place}
    if args.data is None:
        values["dataset"] = args.dataset
    values["relative"] = {path: _relative(path, run) for path in paths if path and os.path.isabs(path)}
    if args.folds:
        values |= {"folds": args.folds, "fold": args.fold, "data_fingerprint": args.data_fingerprint}
    if features:
        values["features"] = features
    if class_features:
        values["class_features"] = class_features
    if args.parts:
        values["parts"] = {kind: asdict(record) for kind, record in args.parts.items()}
    values |= {"reading": _plain(asdict(options)), "recipe": _plain(asdict(recipe))}
    files.write_text(run.args, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def _relative(path: str, run: RunFolder) -> str:
    """The path from the run folder; as it is on another drive of Windows."""
    try:
        return Path(os.path.relpath(path, os.path.realpath(run.path))).as_posix()
    except ValueError:
        return path


def _plain(value: object) -> object:
    """YAML's safe subset has no tuples."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
