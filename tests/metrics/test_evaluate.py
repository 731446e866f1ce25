"""Everything at once: each mean says what it counted, the laws hold for the whole, and the JSON has every documented key."""

import json
import math
from dataclasses import fields

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from polytag.contracts import LabelSet, Predictions
from polytag.errors import UsageError
from polytag.metrics.ap import average_precision
from polytag.metrics.bootstrap import bootstrap_ap
from polytag.metrics.evaluate import evaluate_predictions
from polytag.metrics.tail import tail_accuracy, tail_thresholds
from polytag.metrics.values import Metrics

PER_CLASS = (
    "ap_C", "ap_low_C", "ap_high_C", "ap_voc07_C", "ap_voc10_C", "precision_C", "recall_C", "f1_C", "accuracy_C", "support_C",
    "num_negative_C", "num_unknown_C", "threshold_C",
)  # fmt: skip
AVERAGES = (
    "mAP", "mAP_voc07", "mAP_voc10", "weighted_AP", "micro_AP", "samples_AP", "coverage", "ranking_loss", "ROC_AUC",
    "head_mAP", "medium_mAP", "tail_mAP", "CP", "CR", "CF1", "OP", "OR", "OF1",
    "top3_CP", "top3_CR", "top3_CF1", "top3_OP", "top3_OR", "top3_OF1", "macro_F1",
    "exact_match", "samples_jaccard", "samples_F1", "set_size", "samples_FNR", "Brier", "calibration_error", "accuracy",
)  # fmt: skip


def predictions(target_NC: np.ndarray, logit_NC: np.ndarray) -> Predictions:
    num_images, num_classes = np.shape(target_NC)
    return Predictions(
        ids=tuple(f"image {row}" for row in range(num_images)),
        logit_NC=np.asarray(logit_NC, np.float32),
        target_NC=np.asarray(target_NC),
        label_set=LabelSet(names=tuple("abcdefgh"[:num_classes])),
    )


def generated(num_images: int = 120, *, unknown: float = 0.1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Four ordinary classes, one that is always absent and one that is always unknown."""
    rng = np.random.default_rng(seed)
    target_NC = rng.choice([1, 0, -1], (num_images, 6), p=[0.3, 0.7 - unknown, unknown]).astype(np.int8)
    target_NC[:, 4:] = 0, -1
    return target_NC, np.round(rng.normal(2 * (target_NC == 1) - 1, 1.5), 1).astype(np.float32)


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    return evaluate_predictions(predictions(*generated()), num_replicates=200)


def test_the_parts_are_those_of_the_other_modules(metrics: Metrics):
    table = predictions(*generated())
    np.testing.assert_array_equal(metrics.ap_C, average_precision(table.target_NC, table.logit_NC))
    intervals = bootstrap_ap(table.target_NC, table.logit_NC, num_replicates=200, seed=0)
    np.testing.assert_array_equal(metrics.ap_low_C, intervals.low_C)
    np.testing.assert_array_equal(metrics.ap_high_C, intervals.high_C)
    assert (metrics.mean_ap.low, metrics.mean_ap.high) == (intervals.mean_low, intervals.mean_high)
    threshold_K = tail_thresholds(table.target_NC, table.probability_NC)
    expected = tail_accuracy(table.target_NC, table.probability_NC, threshold_K=threshold_K)
    for field in fields(expected):
        np.testing.assert_array_equal(getattr(metrics.tail, field.name), getattr(expected, field.name))
    assert len(metrics.tail.threshold_K) == 101


def test_every_label_is_counted_once(metrics: Metrics):
    assert (metrics.support_C + metrics.num_negative_C + metrics.num_unknown_C == metrics.num_images).all()
    assert (metrics.support_C[4:].tolist(), metrics.num_unknown_C[4:].tolist()) == ([0, 0], [0, 120])


def test_every_mean_says_what_it_counted(metrics: Metrics):
    target_NC, logit_NC = generated()
    assert tuple(metrics.means) == AVERAGES
    num_true, num_known = int((target_NC == 1).sum()), int((target_NC >= 0).sum())
    num_with_label = int((target_NC == 1).any(axis=1).sum())
    counted = {name: f"{mean.count} {mean.unit}" for name, mean in metrics.means.items()}
    predicted_known = int(((logit_NC > 0) & (target_NC >= 0)).sum())
    missed = int(((logit_NC <= 0) & (target_NC == 1)).sum())
    with_both = int(((target_NC == 1).any(axis=0) & (target_NC == 0).any(axis=0)).sum())
    num_known_images = int((target_NC >= 0).any(axis=1).sum())
    num_with_both = int(((target_NC == 1).any(axis=1) & (target_NC == 0).any(axis=1)).sum())
    assert {name: counted[name] for name in counted if not name.startswith("top3_")} == {
        "mAP": "4 classes", "mAP_voc07": "4 classes", "mAP_voc10": "4 classes", "weighted_AP": "4 classes",
        "micro_AP": f"{num_known} decisions", "samples_AP": f"{num_with_label} images",
        "CP": "5 classes", "CR": "4 classes", "CF1": "4 classes", "OP": f"{predicted_known} decisions",
        "OR": f"{num_true} decisions", "OF1": f"{predicted_known + missed} decisions",
        "macro_F1": "5 classes", "accuracy": "5 classes", "Brier": "5 classes", "calibration_error": "5 classes",
        "exact_match": f"{num_known_images} images", "samples_jaccard": f"{num_known_images} images",
        "samples_F1": f"{num_known_images} images", "set_size": f"{num_known_images} images",
        "samples_FNR": f"{num_with_label} images",
        "head_mAP": "0 classes", "medium_mAP": "4 classes", "tail_mAP": "0 classes",
        "ROC_AUC": f"{with_both} classes", "coverage": f"{num_with_label} images", "ranking_loss": f"{num_with_both} images",
    }  # fmt: skip
    assert counted["top3_OR"] == f"{num_true} decisions"


def test_means_are_those_of_the_classes_with_a_positive(metrics: Metrics):
    assert np.isnan(metrics.ap_C).tolist() == [False] * 4 + [True] * 2
    for name, value_C in (("mAP", metrics.ap_C), ("mAP_voc07", metrics.ap_voc07_C), ("mAP_voc10", metrics.ap_voc10_C)):
        assert metrics.means[name].value == pytest.approx(value_C[:4].mean(), abs=1e-15)
    weighted = (metrics.ap_C[:4] * metrics.support_C[:4]).sum() / metrics.support_C[:4].sum()
    assert metrics.means["weighted_AP"].value == pytest.approx(weighted, abs=1e-15)


def test_the_other_averages_are_scikit_learns_and_never_map():
    target_NC, logit_NC = generated(unknown=0.0)
    remaining = (target_NC == 1).any(axis=1)  # scikit-learn calls an image without a label 0, here it is not counted
    target_NC, logit_NC = target_NC[remaining, :4], logit_NC[remaining, :4]
    means = evaluate_predictions(predictions(target_NC, logit_NC), num_replicates=0).means
    for name, average in (("mAP", "macro"), ("weighted_AP", "weighted"), ("micro_AP", "micro"), ("samples_AP", "samples")):
        assert means[name].value == pytest.approx(average_precision_score(target_NC, logit_NC, average=average), abs=1e-9)
    assert len({round(means[name].value, 4) for name in ("mAP", "weighted_AP", "micro_AP", "samples_AP")}) == 4


# ---- laws ----


def test_permuting_images_changes_nothing():
    """Intervals aside: the bootstrap draws rows by their place, so they move within their own noise."""
    target_NC, logit_NC = generated()
    order = np.random.default_rng(1).permutation(len(target_NC))
    one = evaluate_predictions(predictions(target_NC, logit_NC), num_replicates=0)
    other = evaluate_predictions(predictions(target_NC[order], logit_NC[order]), num_replicates=0)
    for name in PER_CLASS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name in AVERAGES:
        assert one.means[name].value == pytest.approx(other.means[name].value, abs=1e-12, nan_ok=True)
        assert one.means[name].count == other.means[name].count
    np.testing.assert_array_equal(one.tail.per_class_CK, other.tail.per_class_CK)


def test_removing_an_unknown_image_of_a_class_changes_nothing_for_that_class():
    target_NC, logit_NC = generated()
    whole = evaluate_predictions(predictions(target_NC, logit_NC), num_replicates=0)
    for column in range(6):
        remaining = np.ones(len(target_NC), bool)
        remaining[np.flatnonzero(target_NC[:, column] < 0)[:1]] = False
        less = evaluate_predictions(predictions(target_NC[remaining], logit_NC[remaining]), num_replicates=0)
        for name in set(PER_CLASS) - {"num_unknown_C"}:
            np.testing.assert_array_equal(getattr(whole, name)[column], getattr(less, name)[column])
        assert whole.num_unknown_C[column] - less.num_unknown_C[column] == (~remaining).sum()


def test_a_class_of_all_unknown_changes_no_average():
    target_NC, logit_NC = generated()
    with_it = evaluate_predictions(predictions(target_NC, logit_NC), num_replicates=50)
    without = evaluate_predictions(predictions(target_NC[:, :5], logit_NC[:, :5]), num_replicates=50)
    assert [getattr(with_it, name)[5] for name in ("support_C", "num_negative_C", "num_unknown_C")] == [0, 0, 120]
    for name in ("ap_C", "ap_low_C", "ap_high_C", "ap_voc07_C", "ap_voc10_C", "precision_C", "recall_C", "f1_C", "accuracy_C"):
        assert math.isnan(getattr(with_it, name)[5])
    for name in AVERAGES:
        if not name.startswith("top3_"):  # its scores do compete for an image's three highest
            one, other = with_it.means[name], without.means[name]
            assert (one.count, one.unit) == (other.count, other.unit)
            assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high), abs=1e-15, nan_ok=True)
    np.testing.assert_array_equal(with_it.tail.mean_K, without.tail.mean_K)


def test_a_higher_threshold_predicts_less_and_leaves_rankings_alone():
    table = predictions(*generated())
    low, high = (evaluate_predictions(table, threshold=threshold, num_replicates=0) for threshold in (0.2, 0.8))
    np.testing.assert_array_equal(low.ap_C, high.ap_C)
    assert (low.recall_C[:4] > high.recall_C[:4]).all()
    assert (low.tail.threshold_K[0], high.tail.threshold_K[0]) == (0.2, 0.8)
    assert (low.threshold_C == 0.2).all()


def test_the_same_table_gives_the_same_intervals_and_zero_replicates_none():
    table = predictions(*generated())
    one, same = evaluate_predictions(table, num_replicates=60), evaluate_predictions(table, num_replicates=60)
    np.testing.assert_array_equal(one.ap_low_C, same.ap_low_C)
    assert one.mean_ap == same.mean_ap
    none = evaluate_predictions(table, num_replicates=0)
    assert np.isnan(none.ap_low_C).all()
    assert math.isnan(none.mean_ap.low)
    assert none.mean_ap.value == one.mean_ap.value


# ---- small tables ----


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.5, 2.0, math.nan])
def test_a_threshold_that_is_no_probability_is_refused(threshold: float):
    with pytest.raises(UsageError) as error:
        evaluate_predictions(predictions(*generated()), threshold=threshold)
    assert str(error.value) == f"threshold out of range\n  got: {threshold}\n  expected: a probability between 0 and 1"


def test_a_single_image():
    metrics = evaluate_predictions(predictions(np.array([[1, 0, -1]]), np.array([[2.0, -1.0, 1.0]])), num_replicates=20)
    np.testing.assert_array_equal(metrics.ap_C, [np.nan, np.nan, np.nan])  # of one image there is no ranking
    np.testing.assert_array_equal(metrics.precision_C, [1, np.nan, np.nan])
    np.testing.assert_array_equal(metrics.accuracy_C, [1, 1, np.nan])
    assert np.isnan([metrics.mean_ap.value, metrics.mean_ap.low, metrics.mean_ap.high]).all()
    assert metrics.means["samples_AP"].count == 1


def test_a_single_class():
    target_NC, logit_NC = generated()
    metrics = evaluate_predictions(predictions(target_NC[:, :1], logit_NC[:, :1]), num_replicates=50)
    assert metrics.mean_ap.value == metrics.means["weighted_AP"].value == metrics.means["micro_AP"].value == metrics.ap_C[0]
    assert (metrics.mean_ap.low, metrics.mean_ap.high) == (metrics.ap_low_C[0], metrics.ap_high_C[0])
    assert metrics.means["samples_AP"].value == 1  # a single class is always ranked first
    np.testing.assert_array_equal(metrics.tail.mean_K, metrics.tail.per_class_CK[0])


@pytest.mark.parametrize("num_images", [0, 3])
def test_nothing_known_is_nan_everywhere_and_still_json(num_images: int):
    metrics = evaluate_predictions(predictions(np.full((num_images, 2), -1), np.ones((num_images, 2))), num_replicates=10)
    assert all(math.isnan(mean.value) and mean.count == 0 for mean in metrics.means.values())
    values = json.loads(json.dumps(metrics.to_json(), allow_nan=False))
    assert values["mAP"] == {"value": None, "num_classes": 0, "bias": None, "chance": None, "num_few_positives": 0}
    assert values["per_class"]["a"]["ap"] is None
    assert set(values["tail_accuracy"]["mean"]) == {None}


# ---- JSON ----


def test_json_has_every_documented_key_and_no_nan(metrics: Metrics):
    values = json.loads(json.dumps(metrics.to_json(), allow_nan=False))
    assert set(values) == {"version", "num_images", "absent_means", "frequency_of", "per_class", "tail_accuracy", *AVERAGES}
    assert (values["version"], values["num_images"]) == (1, 120)
    assert set(values["mAP"]) == {"value", "low", "high", "num_classes", "bias", "chance", "num_few_positives"}
    assert set(values["samples_AP"]) == {"value", "low", "high", "num_images"}
    assert set(values["ROC_AUC"]) == {"value", "low", "high", "num_classes"}
    assert set(values["OF1"]) == {"value", "num_decisions"}
    assert list(values["per_class"]) == list("abcdef")
    for row in values["per_class"].values():
        assert set(row) == {
            "ap", "ap_voc07", "ap_voc10", "low", "high", "bias", "chance", "support", "num_unknown", "num_negative", "frequency",
            "precision", "recall", "f1", "accuracy", "threshold", "roc_auc", "roc_auc_interval", "brier", "calibration_error",
            "precision_interval", "recall_interval", "accuracy_interval",
        }  # fmt: skip
    tail = values["tail_accuracy"]
    assert set(tail) == {"threshold", "mean", "num_classes", "per_class", "low", "high", "count"}
    assert {len(tail[name]) for name in ("threshold", "mean", "num_classes")} == {101}
    assert {len(tail[name][label]) for name in ("per_class", "count") for label in "abcdef"} == {101}


def test_json_holds_the_very_numbers(metrics: Metrics):
    values = json.loads(json.dumps(metrics.to_json(), allow_nan=False))

    def number(value: object) -> float:
        return math.nan if value is None else float(str(value))

    row = values["per_class"]["b"]
    assert (row["ap"], row["low"], row["high"]) == (metrics.ap_C[1], metrics.ap_low_C[1], metrics.ap_high_C[1])
    assert (row["support"], row["num_unknown"]) == (metrics.support_C[1], metrics.num_unknown_C[1])
    assert values["per_class"]["e"]["ap"] is None
    assert values["per_class"]["f"]["accuracy"] is None
    assert values["mAP"] == {
        "value": metrics.mean_ap.value, "low": metrics.mean_ap.low, "high": metrics.mean_ap.high, "num_classes": 4,
        "bias": metrics.ap_bias_C[:4].mean(), "chance": metrics.ap_chance_C[:4].mean(), "num_few_positives": 0,
    }  # fmt: skip
    np.testing.assert_array_equal([number(value) for value in values["tail_accuracy"]["mean"]], metrics.tail.mean_K)
    np.testing.assert_array_equal(
        [number(value) for value in values["tail_accuracy"]["per_class"]["c"]], metrics.tail.per_class_CK[2]
    )
