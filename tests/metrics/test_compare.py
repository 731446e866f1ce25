"""Runs compared on the same images: differences, intervals, laws, undefined values, and the text."""

import json
import math
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from polytag import compare
from polytag.contracts import LabelSet, Predictions
from polytag.errors import PredictionsError, UsageError
from polytag.metrics.ap import average_precision
from polytag.metrics.bootstrap import weights_of
from polytag.metrics.compare import default_permutations
from polytag.metrics.comparison import Comparison, p_text, signed
from polytag.metrics.intervals import difference_intervals, estimates_of

CLASSES = ("cat", "dog", "elk", "yak")


def tables(seed: int = 0, *, num_runs: int = 2, num_images: int = 90, gain: float = 1.0) -> list[Predictions]:
    """Runs of which each later one separates better by `gain`; unknown labels, ties, and no yak anywhere."""
    rng = np.random.default_rng(seed)
    target_NC = (rng.random((num_images, len(CLASSES))) < 0.3).astype(np.int8)
    target_NC[rng.random(target_NC.shape) < 0.1] = -1
    target_NC[:, 3] = np.minimum(target_NC[:, 3], 0)
    hardness_NC = rng.normal(size=target_NC.shape)
    return [
        Predictions(
            ids=tuple(f"{row:03}" for row in range(num_images)),
            logit_NC=np.round(hardness_NC + rng.normal(size=target_NC.shape) + (1 + gain * run) * (target_NC == 1) - 1, 1),
            target_NC=target_NC,
            label_set=LabelSet(names=CLASSES),
            source=f"run {run}",
            checkpoint_id=f"{run:016}",
        )
        for run in range(num_runs)
    ]


def quick(*runs: Predictions, **options: object) -> Comparison:
    return compare(*runs, **({"num_replicates": 60, "num_permutations": 99} | options))


def numbers(comparison: Comparison) -> dict[str, object]:
    values = comparison.to_json()
    return {key: values[key] for key in ("differences", "pairs")}


def test_by_hand():
    """Both cats first: AP 1. A cat first and last of four: 1/2 + 1/2 * 2/4 = 3/4. The dog last of four: 1/4; first: 1."""
    target_NC = np.array([[1, 0], [0, 0], [0, 1], [1, 0]])
    one = Predictions(
        ids=("a", "b", "c", "d"),
        logit_NC=np.array([[4.0, 4], [3, 3], [2, 1], [1, 2]]),
        target_NC=target_NC,
        label_set=LabelSet(names=("cat", "dog")),
    )
    two = replace(one, logit_NC=np.array([[4.0, 1], [2, 2], [1, 4], [3, 3]]))
    comparison = quick(one, two)
    (difference,) = comparison.differences
    assert comparison.ap_RC.tolist() == [[0.75, 0.25], [1, 1]]
    assert difference.ap_C.tolist() == [0.25, 0.75]
    assert difference.mean.value == 0.5
    assert [mean.value for mean in comparison.mean_aps] == [0.5, 1]
    assert comparison.names == ("A", "B")
    assert comparison.num_images == 4


def test_the_interval_is_of_both_runs_on_the_same_drawn_images():
    """Another implementation of the replicates: draw the images, take scikit-learn's AP of each run, and their difference."""
    one, two = tables(1)
    (difference,) = quick(one, two, num_replicates=80, seed=5).differences
    weight_NB = weights_of(90, num_replicates=80, seed=5)
    drawn = np.full((80, 4), np.nan)
    for replicate, weight_N in enumerate(weight_NB.T):
        for column in range(3):
            known = one.target_NC[:, column] >= 0
            target_N, weight = one.target_NC[known, column], weight_N[known]
            ap = [average_precision_score(target_N, table.logit_NC[known, column], sample_weight=weight) for table in (one, two)]
            drawn[replicate, column] = ap[1] - ap[0]
    estimates = [
        estimates_of(one.target_NC, table.logit_NC, ap_C=average_precision(one.target_NC, table.logit_NC)) for table in (one, two)
    ]
    expected = difference_intervals(drawn, *estimates, same_C=np.zeros(4, bool))
    assert difference.low_C == pytest.approx(expected.low_C, abs=1e-6, nan_ok=True)
    assert difference.high_C == pytest.approx(expected.high_C, abs=1e-6, nan_ok=True)
    assert (difference.mean.low, difference.mean.high) == pytest.approx((expected.mean_low, expected.mean_high), abs=1e-6)


def test_a_class_without_a_positive_is_undefined_and_counted():
    comparison = quick(*tables())
    (difference,) = comparison.differences
    for values in (difference.ap_C, difference.low_C, difference.high_C, difference.p_C, difference.p_holm_C):
        assert np.isnan(values).tolist() == [False, False, False, True]
    assert (difference.mean.count, comparison.mean_aps[0].count) == (3, 3)
    assert difference.mean.value == pytest.approx(np.mean(difference.ap_C[:3]))
    assert (comparison.support_C + comparison.num_negative_C + comparison.num_unknown_C).tolist() == [90] * 4
    assert comparison.support_C[3] == 0
    text = json.dumps(comparison.to_json(), allow_nan=False)
    assert json.loads(text)["differences"][0]["per_class"]["yak"]["difference"] is None
    nothing = quick(*(replace(table, target_NC=np.minimum(table.target_NC, 0)) for table in tables()))
    assert math.isnan(nothing.differences[0].mean.value)
    assert math.isnan(nothing.pairs[0].p)
    assert str(nothing).splitlines()[1].split() == ["mAP", "(0", "classes)", "–", "–", "–", "–", *gains(nothing)]


@settings(max_examples=8)
@given(st.integers(0, 1000), st.randoms(use_true_random=False))
def test_laws(seed: int, random):
    one, two = tables(seed, num_images=40)
    there = quick(one, two)
    order = list(range(40))
    random.shuffle(order)
    shuffled = quick(one, two.take(order))
    assert numbers(shuffled) == numbers(there)
    stretched = quick(one, replace(two, logit_NC=2 * two.logit_NC))
    for name in ("ap_C", "low_C", "high_C", "p_C", "p_holm_C"):
        assert np.array_equal(getattr(stretched.differences[0], name), getattr(there.differences[0], name), equal_nan=True)
    (back,), (forth,) = quick(two, one).differences, there.differences
    assert np.array_equal(back.ap_C, -forth.ap_C, equal_nan=True)
    assert back.low_C == pytest.approx(-forth.high_C, nan_ok=True)
    assert (back.mean.value, back.mean.low) == (pytest.approx(-forth.mean.value), pytest.approx(-forth.mean.high))
    assert [(each.num_gained, each.num_lost) for each in back.changes] == [(e.num_lost, e.num_gained) for e in forth.changes]


def test_a_run_against_itself_has_no_difference():
    one, _ = tables()
    (difference,) = quick(one, one).differences
    for values in (difference.ap_C, difference.low_C, difference.high_C):
        assert values[:3].tolist() == [0, 0, 0]
    assert difference.p_C[:3].tolist() == difference.p_holm_C[:3].tolist() == [1, 1, 1]
    assert (difference.mean.value, difference.mean.p) == (0, 1)
    assert not difference.is_significant_C.any()
    assert not difference.mean.is_significant
    assert (difference.mean.low, difference.mean.high) == (0, 0)
    assert [each.num_gained + each.num_lost for each in difference.changes] == [0] * 4


def test_of_several_runs_each_is_compared_with_the_first_and_every_pair_in_map():
    runs = tables(num_runs=3, gain=0.6)
    comparison = quick(*runs, names=("base", "more", "most"))
    assert [(each.mean.first, each.mean.second) for each in comparison.differences] == [(0, 1), (0, 2)]
    assert [(pair.first, pair.second) for pair in comparison.pairs] == [(0, 1), (0, 2), (1, 2)]
    for pair in comparison.pairs:
        alone = quick(runs[pair.first], runs[pair.second]).pairs[0]
        assert (pair.value, pair.low, pair.high, pair.p) == (alone.value, alone.low, alone.high, alone.p)
        assert pair.p <= pair.p_holm <= 3 * pair.p
    assert alone.p == alone.p_holm


def test_a_better_run_is_found_and_marked():
    comparison = quick(*tables(gain=3.0), num_permutations=199)
    assert comparison.pairs[0].p == 1 / 200
    assert comparison.pairs[0].is_significant
    assert comparison.differences[0].is_significant_C.tolist() == [True, True, True, False]
    assert str(comparison).splitlines()[1].split()[-5:] == [
        "+" + f"{comparison.pairs[0].high:.3f}]",
        "▲",
        "0.005",
        *gains(comparison),
    ]
    back = quick(*reversed(tables(gain=3.0)), num_permutations=199)
    assert back.differences[0].is_significant_C.tolist() == [True, True, True, False]
    assert "▼" in str(back).splitlines()[1]


def gains(comparison: Comparison) -> list[str]:
    changes = comparison.differences[0].changes
    return [str(sum(each.num_gained for each in changes)), str(sum(each.num_lost for each in changes))]


def test_the_table():
    one, two = tables(2, gain=0.2)
    comparison = quick(one, replace(two, ids=("new", *two.ids[1:])), names=("base", "a very long name of a run"), intersect=True)
    (difference,) = comparison.differences
    lines = str(comparison).splitlines()
    assert lines[0].split("  ")[0] == "class"
    assert lines[0].split()[1:] == [
        "base",
        "a",
        "very",
        "lo…of",
        "a",
        "run",
        *["difference", "95%", "interval", "p", "(Holm)", "gained", "lost"],
    ]
    assert lines[2] == ""
    order = [line.split()[0] for line in lines[3:7]]
    assert order[-1] == "yak"
    ap_C = [difference.ap_C[CLASSES.index(name)] for name in order[:3]]
    assert ap_C == sorted(ap_C, reverse=True)
    column = CLASSES.index(order[0])
    low, high = difference.low_C[column], difference.high_C[column]
    assert lines[3].replace("▲ ", "").split() == [
        order[0],
        f"{comparison.ap_RC[0, column]:.4f}",
        f"{comparison.ap_RC[1, column]:.4f}",
        signed(difference.ap_C[column], digits=4),
        f"[{signed(low)},",
        f"{signed(high)}]",
        p_text(difference.p_holm_C[column]),
        str(difference.changes[column].num_gained),
        str(difference.changes[column].num_lost),
    ]
    assert lines[7:] == [
        "",
        "Paired by id on the same 89 images and on the 3 classes of 4 that have a positive and a negative.",
        "Left out: 1 image and 0 classes of base; 1 image and 0 classes of a very long name of a run.",
        "difference: a very long name of a run − base.",
        "▲ ▼: p, corrected by Holm, is at most 0.05. The 95% intervals are of the paired difference (60 replicates).",
        "p: two-sided paired permutation test, 99 permutations; Holm’s correction is for 3 classes; p of mAP has none.",
        "gained, lost: images that are right only in the later run, or only in base, at a probability of 0.5.",
    ]
    assert {len(line) for line in lines[:2]} == {len(lines[0])}


def test_the_table_of_several_runs_and_what_it_says_of_them():
    runs = tables(num_runs=3)
    other = replace(runs[2], target_NC=np.where(np.arange(90)[:, None] == 0, -1, runs[2].target_NC), scale="rank")
    known = int((runs[0].target_NC[0] >= 0).sum())
    lines = str(quick(*runs[:2], other, names=("x", "y", "z"), intersect=True, num_permutations=19)).splitlines()
    start = lines.index(next(line for line in lines if line.startswith("mAP of each pair")))
    assert [line.split("  ")[0] for line in lines[start + 1 : start + 4]] == ["y − x", "z − x", "z − y"]
    assert lines[start + 4 :] == [
        "",
        "Paired by id on the same 90 images and on the 3 classes of 4 that have a positive and a negative.",
        f"Left out: {known} labels on which the runs disagree.",
        "difference: the later run − x.",
        "▲ ▼: p, corrected by Holm, is at most 0.05. The 95% intervals are of the paired difference (60 replicates).",
        "p: two-sided paired permutation test, 19 permutations; Holm’s correction is for 3 classes, and for 3 pairs; "
        "p of mAP in the tables of classes has none.",
        "No p of a class can fall below 0.15 with 19 permutations: use more.",
        "gained, lost: images that are right only in the later run, or only in x, at a probability of 0.5.",
    ]


def test_ranks_are_compared_without_sides():
    one, two = (replace(table, scale="rank") for table in tables())
    comparison = quick(one, two)
    assert comparison.differences[0].changes == ()
    lines = str(comparison).splitlines()
    assert lines[0].split()[-2:] == ["p", "(Holm)"]
    assert lines[-1] == "The changed images are not known: a run has ranks instead of probabilities."
    assert "changed" not in comparison.to_json()["differences"][0]["per_class"]["cat"]


def test_wide_names_are_aligned():
    one, two = (replace(table, label_set=LabelSet(names=("狗", "café", "elk", "e\u0301lan"))) for table in tables())
    lines = {line.split()[0]: line for line in str(quick(one, two)).splitlines()[3:7]}
    assert lines["狗"].startswith("狗" + " " * 15 + "0.")
    assert lines["café"].startswith("café" + " " * 13 + "0.")
    assert lines["e\u0301lan"].startswith("e\u0301lan" + " " * 18 + "–")


def test_numbers_as_text():
    assert [signed(value) for value in (0.0124, -0.0126, 0.0, -0.0001, math.nan)] == ["+0.012", "−0.013", "0.000", "0.000", "–"]
    assert [p_text(p) for p in (0.5, 0.001, 0.00099, math.nan)] == ["0.500", "0.001", "<0.001", "–"]


def test_thresholds_by_class_name_of_each_run():
    one, two = tables()
    comparison = quick(one, two, thresholds=({"cat": 0.25, "dog": 0.75}, {}))
    assert comparison.threshold_RC.tolist() == [[0.25, 0.75, 0.5, 0.5], [0.5] * 4]
    assert str(comparison).splitlines()[-1].endswith("only in A, at each run's thresholds.")
    values = comparison.to_json()["differences"][0]["per_class"]["cat"]
    assert (values["threshold_minus"], values["threshold"]) == (0.25, 0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"names": ("a",)},
            "the names do not match the runs\n  got: 'a'\n  expected: 2 distinct names",
        ),
        (
            {"names": ("a", "a")},
            "the names do not match the runs\n  got: 'a', 'a'\n  expected: 2 distinct names",
        ),
        (
            {"thresholds": ({},)},
            "the thresholds do not match the runs\n  got: those of 1 runs\n  expected: those of 2 runs, or none",
        ),
        (
            {"thresholds": ({"cat": 0.5}, {"dog": 1.5})},
            "threshold out of range\n  where: B, class 'dog'\n  got: 1.5\n  expected: a probability from 0 to 1",
        ),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, object], message: str):
    with pytest.raises(UsageError) as error:
        quick(*tables(), **options)
    assert str(error.value) == message


def test_one_run_alone_and_other_images():
    one, two = tables()
    with pytest.raises(UsageError) as error:
        quick(one)
    assert str(error.value) == "a single run cannot be compared\n  got: 1 run\n  expected: two runs or more"
    with pytest.raises(PredictionsError, match="the runs have different images"):
        quick(one, two.take(range(80)))
    with pytest.raises(FrozenInstanceError):
        quick(one, two).seed = 3


def test_permutations_for_a_table():
    """As many as a second allows; 50 for each class up to 100 of them, so that Holm's correction has room, for half a minute."""
    assert default_permutations(800, 10) == 9_999
    assert default_permutations(2_000, 20) == 2_999
    assert default_permutations(5_823, 20) == 999
    assert default_permutations(5_000, 80) == 3_999
    assert default_permutations(20_000, 80) == 2_199
    assert default_permutations(100_000, 80) == default_permutations(50_000, 1_000) == 999
    assert default_permutations(1, 1) == 9_999


def test_the_same_tables_give_the_same_numbers_and_json_is_plain():
    one, two = tables()
    first, again, other = quick(one, two), quick(one, two), quick(one, two, seed=1)
    assert json.dumps(first.to_json(), allow_nan=False) == json.dumps(again.to_json(), allow_nan=False)
    assert first.to_json() != other.to_json()
    values = first.to_json()
    assert [run["name"] for run in values["runs"]] == ["A", "B"]
    assert values["runs"][1]["checkpoint_id"] == "0000000000000001"
    image = values["differences"][0]["per_class"]["cat"]["changed"]["images"][0]
    row = int(image["id"])
    assert image["target"] == one.target_NC[row, 0]
    assert (image["probability"], image["probability_minus"]) == (two.probability_NC[row, 0], one.probability_NC[row, 0])
    assert image["gained"] == ((image["probability"] > 0.5) == (image["target"] == 1))


@pytest.mark.slow
def test_thousands_of_images_in_seconds():
    """5,823 images, 20 classes, all of it; under two seconds on two idle cores, and no test machine is idle."""
    from time import perf_counter

    rng = np.random.default_rng(0)
    target_NC = (rng.random((5823, 20)) < 0.1).astype(np.int8)
    one, two = (
        Predictions(
            ids=tuple(map(str, range(5823))),
            logit_NC=2 * target_NC + rng.normal(size=target_NC.shape),
            target_NC=target_NC,
            label_set=LabelSet(names=tuple(f"class {number}" for number in range(20))),
        )
        for _ in range(2)
    )
    started = perf_counter()
    comparison = compare(one, two)
    assert perf_counter() - started < 10
    assert (comparison.num_replicates, comparison.num_permutations) == (1000, 999)
