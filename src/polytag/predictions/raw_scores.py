"""Converts the scores of another program to Predictions, and checks them: finite numbers, unique ids, and a declared scale.

Shapes: N images, C classes. The scale is never guessed from the values: the file declares it, or the caller does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from polytag.contracts import ABSENT, PRESENT, SCALES, UNKNOWN, LabelSet, Predictions, require_class_name
from polytag.errors import PredictionsError, UsageError
from polytag.logits import ROUNDING, logits_of
from polytag.predictions.joining import nearest


@dataclass(frozen=True, kw_only=True, eq=False)
class RawScores:
    """Scores of a file, before any check.

    value_NC       float32, float64 or, of a file of integers, these
    target_NC      1, 0, -1; None if the file has no labels
    scale          the scale that the file declares: one of SCALES, or "" for none
    is_default_scale   whether the scale is only the default of the format, which the caller may override
    where          the position of a row, for errors
    """

    source: str
    ids: Sequence[str]
    classes: Sequence[str]
    value_NC: np.ndarray
    target_NC: np.ndarray | None
    where: Callable[[int], str]
    scale: str = ""
    is_default_scale: bool = False
    image_paths: tuple[str, ...] = ()


def to_predictions(raw: RawScores, *, scale: str) -> Predictions:
    """Checked Predictions; `scale` is the one that the caller declares, "" for none.

    Raises UsageError if neither the file nor the caller declares the scale, or if they differ; PredictionsError for a NaN or
    infinite score, a probability outside [0, 1], a duplicate id and a file without an image.
    """
    scale = _scale(raw, scale)
    if not len(raw.ids):
        raise PredictionsError("no scored image in the file", where=raw.source, expected="one row per image")
    _require_unique_ids(raw)
    for name in raw.classes:
        require_class_name(name, where=raw.source)
    _require(raw, np.isfinite(raw.value_NC), what="a score is not a finite number", expected="a finite number for every class")
    value_NC, probability_NC = raw.value_NC, None
    if scale == "probability":
        _require(
            raw,
            (value_NC >= 0) & (value_NC <= 1),
            what="a probability outside 0 to 1",
            expected="numbers from 0 to 1",
            next_step="these are within the rounding of float32: clip them to 0 and 1"
            if ((value_NC >= -ROUNDING) & (value_NC <= 1 + ROUNDING)).all()
            else "if these are scores before the sigmoid, give --scores logit",
        )
        probability_NC = np.asarray(value_NC, np.float64)
        value_NC = logits_of(probability_NC)
    target_NC = np.full(value_NC.shape, UNKNOWN, np.int8) if raw.target_NC is None else raw.target_NC
    return Predictions(
        ids=tuple(raw.ids),
        logit_NC=value_NC,
        target_NC=target_NC,
        label_set=LabelSet(names=tuple(raw.classes)),
        image_paths=raw.image_paths,
        source=raw.source,
        scale=scale,
        given_probability_NC=probability_NC,
    )


def targets_of_lists(lists: Sequence[Sequence[str] | None], *, classes: Sequence[str], where: Callable[[int], str]) -> np.ndarray:
    """int8 N x C: listed labels are PRESENT, others ABSENT; a null list is all UNKNOWN. PredictionsError for unknown names."""
    target_NC = np.full((len(lists), len(classes)), ABSENT, np.int8)
    column = {name: number for number, name in enumerate(classes)}
    for row, labels in enumerate(lists):
        if labels is None:
            target_NC[row] = UNKNOWN
            continue
        for name in labels:
            if name not in column:
                raise PredictionsError(
                    "a label is not a class of the scores",
                    where=where(row),
                    got=repr(name) + nearest(name, classes),
                    expected="one of " + ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else ""),
                    next_step="use the spelling of the scores; if another text separates the labels, give it with --separator",
                )
            target_NC[row, column[name]] = PRESENT
    return target_NC


def _scale(raw: RawScores, declared: str) -> str:
    if declared and declared not in SCALES:
        raise UsageError("unknown scale of scores", where="--scores", got=repr(declared), expected="one of " + ", ".join(SCALES))
    if not declared and not raw.scale:
        finite = raw.value_NC[np.isfinite(raw.value_NC)]
        raise UsageError(
            "the file does not declare the scale of its scores",
            where=raw.source,
            got=f"numbers from {finite.min():.6g} to {finite.max():.6g}" if len(finite) else "no number",
            expected="--scores probability (0 to 1), --scores logit (before the sigmoid) "
            "or --scores rank (only the order is meaningful)",
            next_step="ask the author of the file; polytag does not guess the scale from the values",
        )
    if declared and raw.scale and not raw.is_default_scale and declared != raw.scale:
        raise UsageError(
            "the file declares another scale",
            where=raw.source,
            got=f"--scores {declared}",
            expected=raw.scale,
            next_step="leave --scores out",
        )
    return declared or raw.scale


def _require(raw: RawScores, good_NC: np.ndarray, *, what: str, expected: str, next_step: str = "") -> None:
    if good_NC.all():
        return
    row, column = (int(index) for index in np.argwhere(~good_NC)[0])
    num_bad = int((~good_NC).sum())
    more = f", and {num_bad - 1:,} more" if num_bad > 1 else ""
    raise PredictionsError(
        what,
        where=raw.where(row),
        got=f"{raw.value_NC[row, column]!s} for image {raw.ids[row]!r}, class {raw.classes[column]!r}{more}",
        expected=expected,
        next_step=next_step,
    )


def _require_unique_ids(raw: RawScores) -> None:
    if len(set(raw.ids)) == len(raw.ids):
        return
    seen: dict[str, int] = {}
    for row, name in enumerate(raw.ids):
        first = seen.setdefault(name, row)
        if first != row:
            num_twice = len(raw.ids) - len(set(raw.ids))
            more = f"; {num_twice:,} rows repeat an id" if num_twice > 1 else ""
            raise PredictionsError(
                "an image id is scored twice",
                where=raw.where(row),
                got=f"{name!r}, first at {raw.where(first)}{more}",
                expected="every id once",
            )
