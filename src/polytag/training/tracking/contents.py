"""What a tracker is told of a run: its choices and data once, a row an epoch, and the final metrics with their intervals."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from polytag.metrics.values import Metrics
from polytag.parsing import parse_json, read_small_text
from polytag.plain import from_plain
from polytag.runs.args import read_run_args
from polytag.runs.folder import RunFolder
from polytag.runs.history import Row
from polytag.runs.recipe import Recipe

_MAX_NAME = 200  # characters; MLflow takes 250 of a whole name


Params = Mapping[str, str | int | float]


def name_of(run: RunFolder) -> str:
    """What a tracker calls a run: its folder; the run of a fold with the run of all folds."""
    path = run.path.resolve()
    return f"{path.parent.name}/{path.name}" if RunFolder(path=path.parent).assignment.is_file() else path.name


def params_of(run: RunFolder, recipe: Recipe) -> Params:
    """The folder, the data, and the fields of the recipe."""
    args = read_run_args(run)
    params: dict[str, str | int | float] = {"run_folder": str(run.path.resolve()), "data": args.dataset or str(args.data)}
    for name, value in asdict(recipe).items():
        params[name] = value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
    return params


def params_of_environment(run: RunFolder) -> Params:
    """The fingerprints of the data, and where the run computes, from env.json."""
    values = from_plain(dict, parse_json(read_small_text(run.environment)))
    names = ("data_fingerprint", "validation_fingerprint", "arithmetic", "num_threads", "num_processes", "commit")
    return {name: values[name] for name in names if isinstance(values.get(name), str | int)}


def numbers_of_epoch(row: Row) -> dict[str, float]:
    """The columns of results.csv that are defined."""
    return {name: value for name, value in row.items() if name != "epoch" and not math.isnan(value)}


def numbers_of_metrics(metrics: Metrics) -> dict[str, float]:
    """`result/mAP` and the other means, `AP/<class>`, each with `_low` and `_high` of its interval; what is defined of them."""
    values: dict[str, Any] = metrics.to_json()
    means = {name: value for name, value in values.items() if isinstance(value, Mapping) and "value" in value}
    numbers = {f"result/{name}": (value["value"], value.get("low"), value.get("high")) for name, value in means.items()}
    classes = values["per_class"]
    for tag, value in zip(tags_of(list(classes)), classes.values(), strict=True):
        numbers[f"AP/{tag}"] = (value["ap"], value["low"], value["high"])
    endings = ("", "_low", "_high")
    return {
        name + ending: float(number)
        for name, three in numbers.items()
        for ending, number in zip(endings, three, strict=True)
        if number is not None
    }


def tags_of(names: Sequence[str]) -> list[str]:
    """Class names in the letters that every tracker takes, each once."""
    found: list[str] = []
    for name in names:
        tag = re.sub(r"[^\w\- ]", "_", name).strip()[:_MAX_NAME] or "_"
        number, numbered = 2, tag
        while numbered in found:
            number, numbered = number + 1, f"{tag}_{number}"
        found.append(numbered)
    return found
