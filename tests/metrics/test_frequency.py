"""Head, medium and tail: by hand, the mean and interval of the group's classes alone, and positives of the training data."""

from pathlib import Path

import numpy as np
import pytest

from polytag import evaluate, evaluate_predictions
from polytag.contracts import Dataset, LabelSet, Predictions
from polytag.metrics.bootstrap import bootstrap_ap
from polytag.metrics.frequency import Frequency, training_frequency
from polytag.metrics.slices import slice_scores
from polytag.metrics.values import Metrics

NUM_POSITIVES = (19, 20, 100, 101, 3, 150)
MEMBERS = {"head": [3, 5], "medium": [1, 2], "tail": [0, 4]}


def table(num_positives: tuple[int, ...] = NUM_POSITIVES, *, num_images: int = 300) -> Predictions:
    rng = np.random.default_rng(0)
    target_NC = np.zeros((num_images, len(num_positives)), np.int8)
    for column, number in enumerate(num_positives):
        target_NC[rng.permutation(num_images)[:number], column] = 1
    return Predictions(
        ids=tuple(map(str, range(num_images))),
        logit_NC=rng.normal(size=target_NC.shape) + target_NC,
        target_NC=target_NC,
        label_set=LabelSet(names=tuple("abcdefgh"[: len(num_positives)])),
    )


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    return evaluate_predictions(table(), num_replicates=50)


def test_over_100_are_the_head_under_20_the_tail(metrics: Metrics):
    found = {name: np.flatnonzero(is_in_C).tolist() for name, is_in_C in metrics.frequency.groups.items()}
    assert found == MEMBERS


@pytest.mark.parametrize("name", MEMBERS)
def test_a_group_has_the_mean_and_the_interval_of_its_classes_alone(metrics: Metrics, name: str):
    predictions, columns = table(), MEMBERS[name]
    alone = bootstrap_ap(predictions.target_NC[:, columns], predictions.logit_NC[:, columns], num_replicates=50)
    mean = metrics.means[f"{name}_mAP"]
    assert (mean.value, mean.count) == (pytest.approx(metrics.ap_C[columns].mean()), 2)
    assert (mean.low, mean.high) == (pytest.approx(alone.mean_low), pytest.approx(alone.mean_high))


def test_a_single_group_is_not_shown_and_an_empty_one_is_undefined():
    metrics = evaluate_predictions(table((30, 40)), num_replicates=0)
    assert not set(metrics.shown_means) & set(metrics.frequency.meanings)
    assert "medium_mAP" not in str(metrics)
    assert metrics.to_json()["tail_mAP"] == {"value": None, "num_classes": 0}
    assert metrics.means["medium_mAP"].value == metrics.mean_ap.value


def test_positives_of_the_training_data_by_name():
    trained_on = Dataset(
        ids=tuple(map(str, range(200))),
        paths=tuple(Path(f"{row}.jpg") for row in range(200)),
        target_NC=np.array([[1, row < 50] for row in range(200)], np.int8),
        split_N=("train",) * 200,
        label_set=LabelSet(names=("b", "a")),
        source="test",
    )
    predictions = table((40, 40, 40))
    frequency = training_frequency(trained_on, predictions.label_set)
    assert frequency is not None
    assert frequency.num_positives_C.tolist() == [50, 200, 0]
    metrics = evaluate_predictions(predictions, num_replicates=0, frequency=frequency)
    assert [metrics.means[name].value for name in ("medium_mAP", "head_mAP", "tail_mAP")] == metrics.ap_C.tolist()
    assert "classes with over 100 positives in the training data" in frequency.meanings.values()
    values = metrics.to_json()
    assert (values["frequency_of"], values["per_class"]["b"]["frequency"]) == ("training data", 200)
    assert training_frequency(trained_on, LabelSet(names=("x", "y"))) is None


def test_slices_have_the_groups_of_all_images():
    predictions = table()
    for part in slice_scores(predictions, ["x", "y"] * 150, column="side", num_replicates=0).slices:
        assert part.metrics.frequency.num_positives_C.tolist() == list(NUM_POSITIVES)
        assert part.metrics.means["head_mAP"].value == pytest.approx(part.metrics.ap_C[MEMBERS["head"]].mean())
    assert not Frequency(num_positives_C=np.array([1]), is_of_training=False).groups["head"].any()


def test_a_group_without_a_class_is_not_shown_beside_two_that_have_one():
    target_NC = np.zeros((300, 2), np.int8)
    target_NC[:150, 0] = target_NC[:50, 1] = 1
    metrics = evaluate(target_NC, np.random.default_rng(0).normal(size=(300, 2)), scores="logit")
    assert metrics.means["tail_mAP"].count == 0
    assert {"head_mAP", "medium_mAP"} <= set(metrics.shown_means)
    assert "tail_mAP" not in metrics.shown_means
