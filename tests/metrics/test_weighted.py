"""Metrics of weighted images: against scikit-learn, by laws of weights, and bad weights."""

import json
import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from polytag.contracts import LabelSet, Predictions
from polytag.errors import UsageError
from polytag.metrics.auc_intervals import influences
from polytag.metrics.bootstrap import replicate_ap, weights_of
from polytag.metrics.evaluate import evaluate_predictions
from polytag.metrics.groups import groups_of
from polytag.metrics.intervals import estimates_of
from polytag.metrics.weighted import WeightedMetrics, areas_of, weighted_metrics


def table(target_NC: np.ndarray, logit_NC: np.ndarray, **more: str) -> Predictions:
    names = tuple(f"c{column}" for column in range(target_NC.shape[1]))
    ids = tuple(map(str, range(len(target_NC))))
    return Predictions(ids=ids, logit_NC=logit_NC, target_NC=target_NC, label_set=LabelSet(names=names), **more)


def random_table(seed: int, *, num_images: int = 80) -> Predictions:
    """Scores with many ties, one label in five unknown."""
    rng = np.random.default_rng(seed)
    target_NC = rng.choice([1, 0, 0, 0, -1], (num_images, 4))
    return table(target_NC, rng.integers(-4, 4, (num_images, 4)) + (target_NC == 1) * rng.integers(0, 3))


def numbers(found: WeightedMetrics) -> np.ndarray:
    means = [mean.value for mean in found.means.values()]
    return np.concatenate([found.ap_C, found.roc_auc_C, found.share_C, found.effective_positives_C, means])


@pytest.mark.parametrize("seed", range(10))
def test_scikit_learn_gives_the_same(seed: int):
    predictions = random_table(seed)
    weight_N = np.random.default_rng(seed).lognormal(sigma=2, size=len(predictions)) * (np.arange(len(predictions)) % 7 > 0)
    found = weighted_metrics(predictions, weight_N.tolist(), num_replicates=0)
    for column in range(4):
        known_N = predictions.target_NC[:, column] >= 0
        one = [each[known_N] for each in (predictions.target_NC[:, column], predictions.logit_NC[:, column])]
        assert found.ap_C[column] == pytest.approx(average_precision_score(*one, sample_weight=weight_N[known_N]), abs=1e-12)
        assert found.roc_auc_C[column] == pytest.approx(roc_auc_score(*one, sample_weight=weight_N[known_N]), abs=1e-12)
        assert found.share_C[column] == pytest.approx(np.average(one[0], weights=weight_N[known_N]), abs=1e-12)
    known_NC = predictions.target_NC >= 0
    weight_NC = np.repeat(weight_N[:, None], 4, axis=1)
    labels = predictions.target_NC[known_NC], predictions.logit_NC[known_NC]
    micro = average_precision_score(*labels, sample_weight=weight_NC[known_NC])
    assert found.means["micro_AP"].value == pytest.approx(micro, abs=1e-12)
    assert found.means["mAP"].value == pytest.approx(found.ap_C.mean(), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_equal_weights_give_the_numbers_without_weights(seed: int):
    predictions = random_table(seed)
    found, plain = weighted_metrics(predictions, [3.0] * 80, num_replicates=0), evaluate_predictions(predictions, num_replicates=0)
    np.testing.assert_allclose(found.ap_C, plain.ap_C, atol=1e-12)
    np.testing.assert_allclose(found.roc_auc_C, plain.roc_auc_C, atol=1e-12)
    np.testing.assert_allclose(found.effective_positives_C, plain.support_C, rtol=1e-12)
    for name, mean in found.means.items():
        assert (mean.value, mean.count) == (pytest.approx(plain.means[name].value, abs=1e-12), plain.means[name].count)


@pytest.mark.parametrize("grouped", [False, True])
def test_equal_weights_give_the_intervals_without_weights(grouped: bool):
    predictions = random_table(7)
    groups = groups_of((np.arange(80) // 3).tolist()) if grouped else None
    found = weighted_metrics(predictions, [3.0] * 80, groups=groups, num_replicates=100, seed=5)
    plain = evaluate_predictions(predictions, groups=groups, num_replicates=100, seed=5)
    np.testing.assert_allclose(found.ap_interval_C2.T, [plain.ap_low_C, plain.ap_high_C], atol=1e-12)
    np.testing.assert_allclose(found.roc_auc_interval_C2, plain.roc_auc_interval_C2, atol=1e-12)
    for name in ("mAP", "ROC_AUC"):
        ends = [(each.means[name].low, each.means[name].high) for each in (found, plain)]
        assert ends[0] == pytest.approx(ends[1], abs=1e-12)


def test_each_weighted_replicate_is_that_of_the_drawn_images():
    predictions = random_table(3)
    target_NC, logit_NC = predictions.target_NC, predictions.logit_NC
    weight_N = np.random.default_rng(0).lognormal(sigma=2, size=80)
    drawn_NB = weights_of(80, num_replicates=20, seed=1)
    found_BC = replicate_ap(target_NC, drawn_NB, score_NC=logit_NC, image_weight_N=weight_N)
    every = [
        [areas_of(target_N, logit_N, weight_N * drawn_N)[0] for target_N, logit_N in zip(target_NC.T, logit_NC.T, strict=True)]
        for drawn_N in drawn_NB.T
    ]
    np.testing.assert_allclose(found_BC, every, atol=1e-12)


def slow_estimates(target_N: np.ndarray, score_N: np.ndarray, weight_N: np.ndarray, group_N: np.ndarray) -> list[float]:
    """The AP that leaves each positive's group out, the same with 1/2 for one without others above it, and the trials, in loops."""
    known = [row for row in range(len(target_N)) if target_N[row] >= 0]
    positives = [row for row in known if target_N[row] == 1]
    precisions: dict[float, list[float]] = {0.5: [], 1.0: []}
    for row in positives:
        others = [other for other in known if score_N[other] >= score_N[row] and group_N[other] != group_N[row]]
        total = sum(weight_N[other] for other in others)
        for alone, found in precisions.items():
            precision = sum(weight_N[other] * target_N[other] for other in others) / total if others else alone
            excess = sum(weight_N[other] ** 2 * (precision - target_N[other]) for other in others)
            found.append(min(1, max(0, precision - (excess / total**2 if others else 0))))

    def number(rows: list[int]) -> tuple[float, int]:
        """Kish's effective number of groups, and their number."""
        of_group = [[weight_N[row] for row in rows if group_N[row] == group] for group in {group_N[row] for row in rows}]
        means = [sum(weights) / len(weights) for weights in of_group]
        return sum(means) ** 2 / sum(mean**2 for mean in means), len(means)

    (effective, num), (effective_known, num_known) = number(positives), number(known)
    ends = [np.average(precisions[alone], weights=weight_N[positives]) for alone in (1.0, 0.5)]
    return [*ends, min(effective, num * effective_known / num_known)]


@pytest.mark.parametrize("grouped", [False, True])
def test_the_estimates_of_weighted_images_are_those_of_loops(grouped: bool):
    target_NC, score_NC = random_table(9).target_NC, random_table(9).logit_NC.copy()
    score_NC[np.flatnonzero(target_NC[:, 0] == 1)[0], 0] = 99  # no other is above it
    group_N = np.arange(80) // (3 if grouped else 1)
    weight_N = np.random.default_rng(1).lognormal(size=80)
    groups = groups_of(group_N.tolist()) if grouped else None
    found = estimates_of(target_NC, score_NC, ap_C=np.ones(4), groups=groups, weight_N=weight_N)
    assert found.lowest_C[0] < found.left_out_C[0]
    for column in range(4):
        expected = slow_estimates(target_NC[:, column], score_NC[:, column], weight_N, group_N)
        ends = [found.left_out_C[column], found.lowest_C[column], found.trials_C[column]]
        assert ends == pytest.approx(expected, abs=1e-12)


def test_the_intervals_of_unequal_weights_are_wider_and_hold_their_values():
    rng = np.random.default_rng(0)
    target_NC = (rng.random((300, 6)) < 0.1).astype(int)
    predictions = table(target_NC, rng.normal(size=(300, 6)) + np.array([0, 1, 2, 3, 4, 30]) * target_NC)
    width_CK = []
    for sigma in (0, 1, 2):
        found = weighted_metrics(predictions, rng.lognormal(sigma=sigma, size=300).tolist(), num_replicates=200)
        for value_C, interval_C2 in ((found.ap_C, found.ap_interval_C2), (found.roc_auc_C, found.roc_auc_interval_C2)):
            assert ((interval_C2[:, 0] < interval_C2[:, 1]) & (interval_C2[:, 0] <= value_C) & (value_C <= interval_C2[:, 1])).all()
        for name in ("mAP", "ROC_AUC"):
            assert found.means[name].low < found.means[name].value < found.means[name].high
        width_CK.append(np.diff(found.ap_interval_C2)[1:, 0])
    assert (width_CK[0] < width_CK[1]).all()
    assert (width_CK[1] < width_CK[2]).all()


def test_the_share_of_a_score_is_weighted_in_the_influences_of_images():
    """ROC AUC of weights that are numbers of images has the influences of those images, added."""
    rng = np.random.default_rng(4)
    target_N, score_N, times_N = rng.integers(0, 2, 40), rng.integers(0, 9, 40).astype(float), rng.integers(1, 4, 40)
    rows = np.repeat(np.arange(40), times_N)
    added_N = np.bincount(rows, weights=influences(target_N[rows], score_N[rows]))
    np.testing.assert_allclose(influences(target_N, score_N, weight_N=times_N.astype(float)), added_N, atol=1e-15)


@pytest.mark.parametrize("seed", range(5))
def test_a_weight_is_a_number_of_images_and_only_ratios_matter(seed: int):
    predictions = random_table(seed)
    times_N = np.random.default_rng(seed).integers(0, 4, len(predictions))
    found = weighted_metrics(predictions, times_N.tolist(), threshold=0.6, num_replicates=0)
    rows = np.repeat(np.arange(len(predictions)), times_N)
    plain = evaluate_predictions(table(predictions.target_NC[rows], predictions.logit_NC[rows]), threshold=0.6, num_replicates=0)
    np.testing.assert_allclose(found.ap_C, plain.ap_C, atol=1e-12)
    np.testing.assert_allclose(found.roc_auc_C, plain.roc_auc_C, atol=1e-12)
    np.testing.assert_allclose([mean.value for mean in found.means.values()], [plain.means[name].value for name in found.means])
    for scale in (1e-300, 0.1, 1e307):
        scaled = weighted_metrics(predictions, (scale * times_N).tolist(), threshold=0.6, num_replicates=0)
        np.testing.assert_allclose(numbers(scaled), numbers(found), rtol=1e-12)
    kept = np.flatnonzero(times_N)
    without = weighted_metrics(predictions.take(kept), times_N[kept].tolist(), threshold=0.6, num_replicates=0)
    np.testing.assert_allclose(numbers(without), numbers(found), rtol=1e-12)
    assert found.num_images == len(kept)


def test_what_rests_on_weights_of_0_is_undefined():
    """c0 has no positive left, c1 no negative."""
    predictions = table(np.array([[1, 1], [0, 1], [0, 0]]), np.array([[2.0, 1], [1, 2], [0, 3]]))
    found = weighted_metrics(predictions, ["0", "1", "0"], column="w", threshold=[1, 1])
    assert np.isnan([found.ap_C, found.roc_auc_C]).all()
    assert found.effective_positives_C.tolist() == [0, 1]
    assert [(math.isnan(mean.value), mean.count) for mean in found.means.values()] == [
        (True, 0),
        (True, 0),
        (False, 2),
        (True, 0),
        (False, 1),
    ]
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    cell = content["per_class"]["c0"]
    assert cell == {"ap": None, "low": None, "high": None, "roc_auc": None, "roc_auc_interval": [None, None]} | {
        "share": 0,
        "effective_positives": 0,
    }
    assert content["mAP"] == {"value": None, "num_classes": 0}


def test_ranks_have_no_decisions():
    rng = np.random.default_rng(0)
    found = weighted_metrics(table(rng.integers(0, 2, (20, 2)), rng.normal(size=(20, 2)), scale="rank"), [1.0] * 20)
    assert [(math.isnan(found.means[name].value), found.means[name].count) for name in ("OP", "OR")] == [(True, 0)] * 2
    assert not math.isnan(found.means["mAP"].value)


@pytest.mark.parametrize(
    ("value", "got"),
    [("-1", "'-1'"), ("many", "'many'"), ("nan", "'nan'"), ("1e999", "'1e999'"), (None, "None"), ("", "''"), (-math.inf, "-inf")],
)
def test_bad_weights(value: str | float | None, got: str):
    with pytest.raises(UsageError) as error:
        weighted_metrics(random_table(0), ["1"] * 40 + [value] * 2 + ["2"] * 38, column="w")
    assert str(error.value) == (
        f"2 images of 80 have no usable weight\n  where: --weight w\n  got: {got} for image '40'\n"
        "  expected: a finite number of 0 or more for every image"
    )


def test_weights_that_are_all_0_or_thresholds_out_of_range():
    with pytest.raises(UsageError, match="every weight is 0"):
        weighted_metrics(random_table(0), [0.0] * 80)
    with pytest.raises(UsageError, match="threshold out of range"):
        weighted_metrics(random_table(0), [1.0] * 80, threshold=1.5)
