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
from polytag.metrics.bootstrap import intervals_of, replicate_ap, weights_of
from polytag.metrics.changes import changes_of
from polytag.metrics.comparison import Comparison, Difference, MeanDifference
from polytag.metrics.pairing import pair
from polytag.metrics.significance import holm, swap_test
from polytag.metrics.values import Mean

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
) -> Comparison:
    """Compare runs that scored the same images; each later one with the first, and in mAP every pair.

    `names` of the runs; "A", "B", ... where none are given. `thresholds` of each run by class name, 0.5 where none is given,
    decide which images are right. `intersect` compares on the images and classes that all have. The `num_changed` images of
    each class that changed sides with the largest change of probability are listed. `num_permutations` is
    `default_permutations` of the table where it is not given. Seeded: the same tables give the same numbers.

    The interval is the percentile bootstrap of the paired difference (Efron and Tibshirani 1993, chapter 13: both runs on the same
    drawn images); the p-value that of the paired permutation test on ranks (`significance.swap_test`), corrected by Holm (1979).
    Raises UsageError for fewer than two runs, names that are not one for each or not distinct, or a threshold outside [0, 1];
    PredictionsError for tables that cannot be paired.
    """
    tables = (first, *others)
    names = tuple(names) or tuple(chr(ord("A") + number) if number < 26 else f"run {number + 1}" for number in range(len(tables)))
    _check(names, thresholds, num_runs=len(tables))
    paired = pair(tables, names=names, intersect=intersect)
    tables, label_set, target_NC = paired.tables, paired.tables[0].label_set, paired.tables[0].target_NC
    threshold_RC = _thresholds(thresholds, label_set, num_runs=len(tables))
    if num_permutations is None:
        num_permutations = default_permutations(*target_NC.shape)

    ap_RC = np.array([average_precision(target_NC, table.logit_NC) for table in tables])
    weight_NB = weights_of(len(target_NC), num_replicates=num_replicates, seed=seed)
    replicate_RBC = [replicate_ap(target_NC, weight_NB, score_NC=table.logit_NC) for table in tables]
    num_scored = int((target_NC == 1).any(axis=0).sum())

    tests = {
        (i, j): swap_test(target_NC, tables[i].logit_NC, tables[j].logit_NC, num_permutations=num_permutations, seed=seed)
        for i, j in combinations(range(len(tables)), 2)
    }
    intervals = {(i, j): intervals_of(replicate_RBC[j] - replicate_RBC[i]) for i, j in tests}
    p_holm = holm(np.array([test.p_mean for test in tests.values()]))
    pairs = tuple(
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
    differences = tuple(
        Difference(
            mean=mean,
            ap_C=ap_RC[mean.second] - ap_RC[0],
            low_C=intervals[0, mean.second].low_C,
            high_C=intervals[0, mean.second].high_C,
            p_C=tests[0, mean.second].p_C,
            p_holm_C=holm(tests[0, mean.second].p_C),
            changes=changes_of(tables[0], tables[mean.second], threshold_RC[0], threshold_RC[mean.second], num_listed=num_changed),
        )
        for mean in pairs
        if mean.first == 0
    )
    means = [intervals_of(ap_BC) for ap_BC in replicate_RBC]
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
        mean_aps=tuple(
            Mean(value=mean_over_defined(ap_C), count=num_scored, low=interval.mean_low, high=interval.mean_high)
            for ap_C, interval in zip(ap_RC, means, strict=True)
        ),
        differences=differences,
        pairs=pairs,
        num_replicates=num_replicates,
        num_permutations=num_permutations,
        seed=seed,
        num_images_left_out=paired.num_images_left_out,
        classes_left_out=paired.classes_left_out,
        num_labels_left_out=paired.num_labels_left_out,
    )


def default_permutations(num_images: int, num_classes: int) -> int:
    """How many permutations a table of this size gets: 9,999 where that takes about a second, down to 999 where it takes more.

    The smallest possible p is 1 / (1 + permutations), and Holm's correction multiplies it by the number of classes: 50 for each
    class, up to 4,999 in all, leave it room, where they take no more than half a minute.
    """
    a_second = _WORK // (num_images * num_classes)
    for_holm = min(50 * num_classes, 5_000, 30 * a_second)
    return min(9_999, max(999, for_holm // 100 * 100 - 1, a_second // 1000 * 1000 - 1))


def _check(names: Sequence[str], thresholds: Sequence[Mapping[str, float]], *, num_runs: int) -> None:
    if num_runs < 2:
        raise UsageError("one run alone cannot be compared", got="1 run", expected="two runs or more")
    if len(names) != num_runs or len(set(names)) != num_runs:
        raise UsageError("names of runs that do not fit", got=", ".join(map(repr, names)), expected=f"{num_runs} distinct names")
    if thresholds and len(thresholds) != num_runs:
        raise UsageError(
            "thresholds that do not fit", got=f"those of {len(thresholds)} runs", expected=f"those of {num_runs} runs, or none"
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
