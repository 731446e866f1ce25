"""Slices: every metric on subsets of the images, by the values of a column or by its quantiles.

Shapes: N images, C classes, S slices. A slice in which a class has no positive, or no negative, counts fewer classes, so the
mAPs of two slices may be over different classes. Each slice also has the mAP over the shared classes: those with both in every
slice that has a class with both.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from polytag.contracts import Predictions
from polytag.errors import UsageError
from polytag.metrics.ap import mean_over_defined
from polytag.metrics.bootstrap import bootstrap_ap
from polytag.metrics.evaluate import evaluate_predictions
from polytag.metrics.frequency import Frequency
from polytag.metrics.groups import Groups, Value, is_missing
from polytag.metrics.intervals import FEW_POSITIVES
from polytag.metrics.values import Mean, Metrics
from polytag.text import counted, interval_text, json_number

NUM_BINS = 4
MAX_NUMBERS = 8
"""A column of numbers with more distinct values than this is cut at its quantiles."""
MAX_SLICES = 50


@dataclass(frozen=True, kw_only=True, eq=False)
class Slice:
    """The images of one value, or of one bin, and every metric on them.

    value       the text or number; for a bin its edges, "0.25 to <0.5", or, for integers, the first and the last: "120 to 299"
    shared_map  mAP over the shared classes, with its interval; NaN if the slice has no mAP
    """

    value: str
    num_images: int
    metrics: Metrics
    shared_map: Mean


@dataclass(frozen=True, kw_only=True, eq=False)
class Slices:
    """S slices of one column.

    edges           of the bins, S + 1 values; only the last bin includes its upper edge; () if every value is a slice
    shared_classes  the classes with a positive and a negative in every slice that has a mAP
    num_without     images without a value, which are in no slice
    """

    column: str
    slices: tuple[Slice, ...]
    edges: tuple[float, ...]
    shared_classes: tuple[str, ...]
    num_without: int

    @property
    def worst(self) -> "WorstSlice | None":
        """The slice with the lowest mAP over the same classes as the others; None if no two have one."""
        return _worst_of(self)

    @property
    def is_comparable(self) -> bool:
        """Whether the mAPs of the slices, where defined, are over the same classes."""
        return all(part.metrics.mean_ap.count in (0, len(self.shared_classes)) for part in self.slices)


@dataclass(frozen=True, kw_only=True)
class WorstSlice:
    """The slice with the lowest mAP.

    value, mean       the slice, and its mAP with interval: over all classes or, where slices have different ones, the shared ones
    num_images        of the slice
    num_few           of these classes, those that have fewer than 10 positives in the slice
    num_overlapping   other slices whose interval reaches into this one's
    num_others        other slices that have a mAP
    """

    value: str
    mean: Mean
    num_images: int
    num_few: int
    num_overlapping: int
    num_others: int

    def sentence(self, column: str) -> str:
        """What a reader may conclude."""
        mean = self.mean
        interval = f" [{interval_text(mean.low, mean.high, dash=', ')}]" if not math.isnan(mean.low) else ""
        few = f" ({self.num_few} with fewer than {FEW_POSITIVES} positives)" if self.num_few else ""
        text = f"Worst: {column} {self.value}, mAP {mean.value:.3f}{interval} over {counted(mean.count, 'classes')}{few}"
        text += f" in {counted(self.num_images, 'images')}."
        if self.num_overlapping:
            others = (
                "that of the other slice"
                if self.num_others == 1
                else f"those of {self.num_overlapping} of {self.num_others} others"
            )
            text += f" Its interval overlaps {others}: that it is the worst may be chance."
        return text


def slice_scores(
    predictions: Predictions,
    value_N: Sequence[Value],
    *,
    column: str,
    num_bins: int = NUM_BINS,
    threshold: float | Sequence[float] = 0.5,
    num_replicates: int = 1000,
    seed: int = 0,
    groups: Groups | None = None,
    frequency: Frequency | None = None,
) -> Slices:
    """Evaluate the images of each value separately; `value_N` has a text, a number or None (in no slice) for each image.

    Each text is a slice, and so is each of up to 8 distinct numbers. More numbers are cut at their quantiles (NumPy's, linear) into
    `num_bins` bins, or fewer if values repeat so often that edges coincide. The other arguments are those of
    `evaluate_predictions`; `frequency` is by default that of all images. Raises UsageError if no image has a value, or if texts
    would make more than 50 slices.
    """
    assert len(value_N) == len(predictions)
    frequency = frequency or Frequency(num_positives_C=(predictions.target_NC == 1).sum(axis=0), is_of_training=False)
    label_N, labels, edges = _labels(value_N, column=column, num_bins=num_bins)
    rows_S = [np.flatnonzero(label_N == number) for number in range(len(labels))]
    targets_S = [predictions.target_NC[rows] for rows in rows_S]
    has_ap_SC = np.array([(target_nC == 1).any(axis=0) & (target_nC == 0).any(axis=0) for target_nC in targets_S])
    has_map_S = has_ap_SC.any(axis=1)
    shared_C = has_ap_SC[has_map_S].all(axis=0) & has_map_S.any()
    slices: list[Slice] = []
    for label, rows in zip(labels, rows_S, strict=True):
        part = predictions.take(rows)
        of_part = groups.take(rows) if groups else None
        metrics = evaluate_predictions(
            part, threshold=threshold, num_replicates=num_replicates, seed=seed, groups=of_part, frequency=frequency
        )
        shared = Mean(value=math.nan, count=0)
        if shared_C.any() and metrics.mean_ap.count:
            target_NC, logit_NC = part.target_NC[:, shared_C], part.logit_NC[:, shared_C]
            intervals = bootstrap_ap(target_NC, logit_NC, num_replicates=num_replicates, seed=seed, groups=of_part)
            shared = Mean(
                value=mean_over_defined(metrics.ap_C[shared_C]),
                count=int(shared_C.sum()),
                low=intervals.mean_low,
                high=intervals.mean_high,
            )
        slices.append(Slice(value=label, num_images=len(rows), metrics=metrics, shared_map=shared))
    return Slices(
        column=column,
        slices=tuple(slices),
        edges=edges,
        shared_classes=tuple(predictions.label_set.names[column] for column in np.flatnonzero(shared_C)),
        num_without=int((label_N < 0).sum()),
    )


def slices_to_json(slices: Slices) -> dict[str, object]:
    """Plain values for JSON, NaN as None: the value of "slices" for one column."""
    values: dict[str, object] = {}
    for part in slices.slices:
        shared = part.shared_map
        interval = {} if math.isnan(shared.low) else {"low": shared.low, "high": shared.high}
        value = json_number(shared.value)
        values[part.value] = {
            **part.metrics.to_json(),
            "mAP_shared_classes": {"value": value, "num_classes": shared.count, **interval},
        }
    return {
        "edges": list(slices.edges),
        "num_without": slices.num_without,
        "shared_classes": list(slices.shared_classes),
        "worst": None if slices.worst is None else slices.worst.value,
        "values": values,
    }


def caveats(slices: Slices) -> list[str]:
    """Sentences that a reader needs to interpret a table of slices."""
    sentences: list[str] = []
    if slices.edges:
        sentences.append(f"{slices.column} is cut at its quantiles: {', '.join(map(_text, slices.edges[1:-1]))}.")
    if not slices.is_comparable:
        num_shared = len(slices.shared_classes)
        sentences.append(
            "The mAPs of the slices are over different classes and are not comparable: a class without a positive, or without a "
            + (
                f"negative, in a slice is not counted there. The mAP over the shared classes ({num_shared}) is comparable."
                if num_shared
                else "negative, in a slice is not counted there, and no class has both in every slice."
            )
        )
    if slices.worst is not None:
        sentences.append(slices.worst.sentence(slices.column))
    if len(slices.slices) == 1:
        sentences.append(f"All images have the same value of {slices.column}.")
    if slices.num_without:
        sentences.append(f"{slices.num_without:,} images have no value of {slices.column} and are in no slice.")
    return sentences


def _worst_of(slices: Slices) -> WorstSlice | None:
    means = [part.metrics.mean_ap if slices.is_comparable else part.shared_map for part in slices.slices]
    found = [number for number, mean in enumerate(means) if not math.isnan(mean.value)]
    if len(found) < 2:
        return None
    number = min(found, key=lambda each: means[each].value)
    part, mean = slices.slices[number], means[number]
    counted_C = np.isin(part.metrics.label_set.names, slices.shared_classes)
    others = [means[each] for each in found if each != number]
    return WorstSlice(
        value=part.value,
        mean=mean,
        num_images=part.num_images,
        num_few=int((part.metrics.is_few_C & counted_C).sum()),
        num_overlapping=sum(other.low <= mean.high for other in others),
        num_others=len(others),
    )


def _labels(value_N: Sequence[Value], *, column: str, num_bins: int) -> tuple[np.ndarray, list[str], tuple[float, ...]]:
    """N slice numbers (-1 for no slice), the names of the slices, and the edges of the bins."""
    distinct = {value for value in value_N if not is_missing(value)}
    if not distinct:
        raise UsageError("no image has a value in the column", where=f"--slice {column}", expected="a value for some images")
    numbers = not any(isinstance(value, str) for value in distinct)
    if numbers and len(distinct) > MAX_NUMBERS:
        number_N = np.array([math.nan if is_missing(value) else float(value) for value in value_N])  # pyright: ignore[reportArgumentType]  no text here
        edges = np.unique(np.quantile(number_N[~np.isnan(number_N)], np.linspace(0, 1, num_bins + 1)))
        label_N = np.clip(np.searchsorted(edges, number_N, side="right") - 1, 0, len(edges) - 2)
        label_N[np.isnan(number_N)] = -1
        names = [_bin_name(number_N[label_N == bin], edges, bin=bin) for bin in range(len(edges) - 1)]
        return label_N, names, tuple(edges.tolist())
    if len(distinct) > MAX_SLICES:
        raise UsageError(
            "a column has too many values to slice by",
            where=f"--slice {column}",
            got=f"{len(distinct):,} distinct values, such as {', '.join(sorted(map(str, distinct))[:3])}",
            expected=f"numbers, or at most {MAX_SLICES} distinct texts",
        )
    key: Any = float if numbers else str
    ordered = sorted(distinct, key=key)
    position = {value: number for number, value in enumerate(ordered)}
    label_N = np.array([-1 if is_missing(value) else position[value] for value in value_N])
    return label_N, [_text(value) for value in ordered], ()


def _bin_name(inside: np.ndarray, edges: np.ndarray, *, bin: int) -> str:
    """For integers the first and the last in the bin; else the edges."""
    low, high = float(inside.min()), float(inside.max())
    if all(value.is_integer() for value in inside.tolist()):
        return _text(low) if low == high else f"{_text(low)} to {_text(high)}"
    return f"{_text(float(edges[bin]))} to {'' if bin == len(edges) - 2 else '<'}{_text(float(edges[bin + 1]))}"


def _text(value: Value) -> str:
    """A number with up to six digits, an integer with all of its digits."""
    if isinstance(value, str) or value is None:
        return str(value)
    return f"{int(value)}" if float(value).is_integer() else f"{value:.6g}"
