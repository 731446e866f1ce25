"""Reads Pascal VOC's competition result files: `<comp>_cls_<split>_<class>.txt`, one line per image with its id and a confidence.

The VOC2012 development kit, section 5.1, defines the format. A confidence is any real number; only the order is meaningful.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polytag.data.formats.listing import child_names, read_text
from polytag.errors import PredictionsError
from polytag.predictions.raw_scores import RawScores

_RESULT = re.compile(r"(?P<comp>[^_]+)_cls_(?P<split>[^_]+)_(?P<name>.+)\.txt", re.DOTALL)
_DEEPER = ("Main", "VOC20??/Main", "VOC20??", "results/VOC20??/Main")


@dataclass(frozen=True, kw_only=True, eq=False)
class VocResults:
    """Result files of one competition and split, one file per class.

    confidence   by class and image
    """

    source: str
    split: str
    confidence: Mapping[str, Mapping[str, float]]

    @property
    def ids(self) -> tuple[str, ...]:
        """Every image that any file names, in order of first appearance."""
        return tuple(dict.fromkeys(name for scored in self.confidence.values() for name in scored))


def is_voc_result(path: Path) -> bool:
    """Whether a file has the name of a result file."""
    return _RESULT.fullmatch(path.name) is not None


def read_voc_results(path: Path) -> VocResults:
    """Read a folder of result files, or a result file and those of its competition and split in the same folder.

    Raises PredictionsError, with file and line, for invalid content, and if the folder holds several competitions.
    """
    folder, found = _files(path)
    groups = sorted({(match["comp"], match["split"]) for match in found.values()})
    if not path.is_dir() and (match := _RESULT.fullmatch(path.name)):
        groups = [(match["comp"], match["split"])]
    if len(groups) != 1:
        raise PredictionsError(
            "several sets of VOC result files in one folder" if groups else "no scores in the folder",
            where=str(folder),
            got=", ".join(f"{comp}_cls_{split}" for comp, split in groups) or ", ".join(child_names(folder)[:6]) or "nothing",
            expected="one" if groups else "VOC result files, such as comp1_cls_val_cat.txt, or the path of a file",
            next_step=f"give one of its files, such as {next(iter(found))}" if groups else "",
        )
    files = {match["name"]: name for name, match in found.items() if (match["comp"], match["split"]) == groups[0]}
    return VocResults(
        source=str(folder / "_cls_".join(groups[0])) + "_*.txt",
        split=groups[0][1],
        confidence={name: _read(Path(files[name])) for name in sorted(files)},
    )


def to_raw_scores(results: VocResults, *, ids: tuple[str, ...]) -> tuple[RawScores, dict[str, int]]:
    """A table over these images, and the number of images that the file of each class omits.

    Omitted images are ranked last, together, as in VOCevalcls.m, where they count as minus infinity: one below the lowest score of
    the class.
    """
    names = list(results.confidence)
    value_NC = np.full((len(ids), len(names)), np.nan)
    row_of = {name: row for row, name in enumerate(ids)}
    left_out: dict[str, int] = {}
    for column, scored in enumerate(results.confidence.values()):
        rows = [row_of[name] for name in scored if name in row_of]
        value_NC[rows, column] = [value for name, value in scored.items() if name in row_of]
        missing = np.isnan(value_NC[:, column])
        if missing.any():
            left_out[names[column]] = int(missing.sum())
            lowest = float(np.nanmin(value_NC[:, column], initial=0.0))
            value_NC[missing, column] = min(lowest - 1.0, np.nextafter(lowest, -np.inf))
    raw = RawScores(
        source=results.source,
        ids=ids,
        classes=names,
        value_NC=value_NC,
        target_NC=None,
        where=lambda row: results.source,
        scale="rank",
        is_default_scale=True,
    )
    return raw, left_out


def _files(path: Path) -> tuple[Path, dict[str, re.Match[str]]]:
    """The folder of the result files, and the files: path to the match of its name."""
    folder = path if path.is_dir() else path.parent
    for place in (folder, *(inside for pattern in _DEEPER for inside in sorted(folder.glob(pattern)))):
        found = {str(place / name): match for name in child_names(place) if (match := _RESULT.fullmatch(name))}
        if found:
            return place, found
    return folder, {}


def _read(path: Path) -> dict[str, float]:
    scored: dict[str, float] = {}
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        words = text.split()
        if not words:
            continue
        try:
            name, value = words[0], float(words[1])
        except (IndexError, ValueError):
            value, name = math.nan, ""
        if len(words) != 2 or not math.isfinite(value):
            raise PredictionsError(
                "a line of a VOC result file cannot be read",
                where=f"{path}:{line}",
                got=repr(text.strip()),
                expected="an image id and a finite confidence",
            )
        if name in scored:
            raise PredictionsError("an image id is scored twice", where=f"{path}:{line}", got=repr(name), expected="every id once")
        scored[name] = value
    if not scored:
        raise PredictionsError(
            "an empty VOC result file", where=str(path), got="no line", expected="one line per image: its id and a confidence"
        )
    return scored
