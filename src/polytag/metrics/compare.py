"""`polytag.compare`: which of two or more runs is better on the same images, by how much, and with what confidence.

Shapes: R runs, N images, C classes, B replicates. A difference is a later run minus an earlier one: positive if the later is
better. Everything is defined in docs/reference/metrics.md, section Comparing runs.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from polytag.contracts import LabelSet, Predictions
from polytag.errors import UsageError
from polytag.metrics.ap import average_precision, mean_over_defined
from polytag.metrics.bootstrap import bootstrap_weights, replicate_ap
from polytag.metrics.changes import Changes, changes_of
from polytag.metrics.comparison import Comparison, Difference, MeanDifference
from polytag.metrics.groups import Groups, paired_groups
from polytag.metrics.intervals import Estimates, Intervals, difference_intervals, estimates_of, mean_interval
from polytag.metrics.pairing import pair
from polytag.metrics.significance import SwapTest, holm, same_rankings, swap_test
from polytag.metrics.values import Mean

_Pair = tuple[int, int]

_WORK = 120_000_000  # labels times permutations that take about a second


def compare(
    first: Predictions,
    *others: Predictions,
    names: Sequence[str] = (),
    thresholds: Sequence[Mapping[str, float]] = (),
    intersect: bool = False,
    num_changed: int = 50,
    num_replicates: int = 1000,
    num_permutations: int | None = None,
    seed: int = 0,
    groups: Groups | None = None,
) -> Comparison:
    """Compare runs that scored the same images: each later run with the first, and the mAP of every pair.

    `names` of the runs default to "A", "B", ... `thresholds` of each run by class name, by default 0.5, decide which images are
    right. `intersect` compares on the images and classes that all runs have. `num_changed` limits the gained, and the lost, images
    listed for each class, those with the largest change of probability. `num_permutations` defaults to `default_permutations` of
    the table. Seeded: the same tables give the same numbers. `groups` of the images of the first run
    (`polytag.metrics.groups.groups_of`) are drawn and swapped in place of images.

    Intervals are those of the paired difference (`intervals.difference_intervals`); the bootstrap evaluates both runs on the same
    drawn images (Efron and Tibshirani 1993, chapter 13). p-values are those of the paired permutation test on ranks
    (`significance.swap_test`), corrected by Holm (1979). Raises UsageError for fewer than two runs, for names that are not distinct
    or not one for each run, for a threshold outside [0, 1], and where the paired images are of a single group; PredictionsError for
    tables that cannot be paired.
    """
    tables = (first, *others)
    names = tuple(names) or _default_names(len(tables))
    _check(names, thresholds, num_runs=len(tables))
    paired = pair(tables, names=names, intersect=intersect)
    tables, label_set, target_NC = paired.tables, paired.tables[0].label_set, paired.tables[0].target_NC
    if groups is not None:
        groups = paired_groups(groups, first.ids, tables[0].ids)
    threshold_RC = _thresholds(thresholds, label_set, num_runs=len(tables))
    if num_permutations is None:
        num_permutations = default_permutations(*target_NC.shape)

    ap_RC = np.array([average_precision(target_NC, table.logit_NC) for table in tables])
    weight_NB = bootstrap_weights(len(target_NC), num_replicates=num_replicates, seed=seed, groups=groups)
    replicate_RBC = [replicate_ap(target_NC, weight_NB, score_NC=table.logit_NC, groups=groups) for table in tables]
    estimates_R = [
        estimates_of(target_NC, table.logit_NC, ap_C=ap_C, groups=groups) for table, ap_C in zip(tables, ap_RC, strict=True)
    ]
    num_scored = int((~np.isnan(ap_RC[0])).sum())

    tests = {
        (i, j): swap_test(
            target_NC, tables[i].logit_NC, tables[j].logit_NC, num_permutations=num_permutations, seed=seed, groups=groups
        )
        for i, j in combinations(range(len(tables)), 2)
    }
    intervals = {
        (i, j): difference_intervals(
            replicate_RBC[j] - replicate_RBC[i],
            estimates_R[i],
            estimates_R[j],
            same_C=same_rankings(target_NC, tables[i].logit_NC, tables[j].logit_NC),
        )
        for i, j in tests
    }
    pairs = _mean_differences(ap_RC, tests, intervals, num_scored=num_scored)
    differences = tuple(
        _difference(
            mean,
            ap_C=ap_RC[mean.second] - ap_RC[0],
            test=tests[0, mean.second],
            interval=intervals[0, mean.second],
            changes=changes_of(
                tables[0],
                tables[mean.second],
                threshold_RC[0],
                threshold_RC[mean.second],
                num_listed=num_changed,
                groups=groups,
            ),
        )
        for mean in pairs
        if mean.first == 0
    )
    return Comparison(
        names=names,
        sources=tuple(table.source for table in tables),
        checkpoint_ids=tuple(table.checkpoint_id for table in tables),
        label_set=label_set,
        num_images=len(target_NC),
        support_C=(target_NC == 1).sum(axis=0),
        num_negative_C=(target_NC == 0).sum(axis=0),
        num_unknown_C=(target_NC < 0).sum(axis=0),
        threshold_RC=threshold_RC,
        ap_RC=ap_RC,
        mean_aps=_mean_aps(estimates_R, replicate_RBC, num_scored=num_scored),
        differences=differences,
        pairs=pairs,
        num_replicates=num_replicates,
        num_permutations=num_permutations,
        seed=seed,
        num_images_left_out=paired.num_images_left_out,
        classes_left_out=paired.classes_left_out,
        num_labels_left_out=paired.num_labels_left_out,
        groups=groups,
    )


def _mean_differences(
    ap_RC: np.ndarray, tests: Mapping[_Pair, SwapTest], intervals: Mapping[_Pair, Intervals], *, num_scored: int
) -> tuple[MeanDifference, ...]:
    """The difference in mAP of every pair, with p corrected for all pairs."""
    p_holm = holm(np.array([test.p_mean for test in tests.values()]))
    return tuple(
        MeanDifference(
            first=i,
            second=j,
            value=mean_over_defined(ap_RC[j] - ap_RC[i]),
            low=intervals[i, j].mean_low,
            high=intervals[i, j].mean_high,
            p=test.p_mean,
            p_holm=float(adjusted),
            count=num_scored,
        )
        for ((i, j), test), adjusted in zip(tests.items(), p_holm, strict=True)
    )


def _difference(
    mean: MeanDifference, *, ap_C: np.ndarray, test: SwapTest, interval: Intervals, changes: tuple[Changes, ...]
) -> Difference:
    """The difference of each class, with p corrected for all classes."""
    return Difference(
        mean=mean,
        ap_C=ap_C,
        low_C=interval.low_C,
        high_C=interval.high_C,
        p_C=test.p_C,
        p_holm_C=holm(test.p_C),
        changes=changes,
    )


def _mean_aps(estimates_R: Sequence[Estimates], replicate_RBC: Sequence[np.ndarray], *, num_scored: int) -> tuple[Mean, ...]:
    """The mAP of every run with its interval."""
    found: list[Mean] = []
    for estimates, ap_BC in zip(estimates_R, replicate_RBC, strict=True):
        low, high = mean_interval(ap_BC, estimates, weight_C=np.ones(len(estimates.ap_C)))
        found.append(Mean(value=mean_over_defined(estimates.ap_C), count=num_scored, low=low, high=high))
    return tuple(found)


def default_permutations(num_images: int, num_classes: int) -> int:
    """The number of permutations for a table of this size: 9,999 if they take about a second, down to 999 if they take longer.

    The smallest possible p is 1 / (1 + permutations), and Holm's correction multiplies it by the number of classes. So there are at
    least 50 for each class, up to 4,999 in all, if they take no more than half a minute.
    """
    a_second = _WORK // (num_images * num_classes)
    for_holm = min(50 * num_classes, 5_000, 30 * a_second)
    return min(9_999, max(999, for_holm // 100 * 100 - 1, a_second // 1000 * 1000 - 1))


def _default_names(num_runs: int) -> tuple[str, ...]:
    return tuple(chr(ord("A") + number) if number < 26 else f"run {number + 1}" for number in range(num_runs))


def _check(names: Sequence[str], thresholds: Sequence[Mapping[str, float]], *, num_runs: int) -> None:
    if num_runs < 2:
        raise UsageError("a single run cannot be compared", got="1 run", expected="two runs or more")
    if len(names) != num_runs or len(set(names)) != num_runs:
        raise UsageError("the names do not match the runs", got=", ".join(map(repr, names)), expected=f"{num_runs} distinct names")
    if thresholds and len(thresholds) != num_runs:
        raise UsageError(
            "the thresholds do not match the runs",
            got=f"those of {len(thresholds)} runs",
            expected=f"those of {num_runs} runs, or none",
        )
    for name, of_run in zip(names, thresholds, strict=False):
        for class_name, threshold in of_run.items():
            if not 0 <= threshold <= 1:
                raise UsageError(
                    "threshold out of range",
                    where=f"{name}, class {class_name!r}",
                    got=str(threshold),
                    expected="a probability from 0 to 1",
                )


def _thresholds(thresholds: Sequence[Mapping[str, float]], label_set: LabelSet, *, num_runs: int) -> np.ndarray:
    of_runs = thresholds or [{}] * num_runs
    return np.array([[of_run.get(name, 0.5) for name in label_set] for of_run in of_runs])
