"""The probe where absent labels may be wrong: hand-made examples, and a trained head beside the solved one."""

import numpy as np
import pytest
from torch import Tensor

from polytag.inference.partial_labels import fit_doubting_probe, train_probe, without_doubtful
from polytag.inference.probe import fit_probe
from polytag.metrics.ap import mean_average_precision
from polytag.training.losses import LargeLossRejection, binary_cross_entropy


@pytest.fixture(scope="module")
def scenes() -> tuple[np.ndarray, np.ndarray]:
    """400 x 40 features of images that show one or two of 8 classes, and their labels."""
    rng = np.random.default_rng(0)
    truth_NC = np.zeros((400, 8), np.int8)
    for row in truth_NC:
        row[rng.choice(8, rng.integers(1, 3), replace=False)] = 1
    feature_ND = truth_NC @ rng.normal(size=(8, 40)) + rng.normal(size=(400, 40)) * 2.2
    return feature_ND.astype(np.float32), truth_NC


class Bce:
    """Notes what it is told of the epochs."""

    def __init__(self):
        self.told: list[float] = []

    def begin_epoch(self, progress: float) -> None:
        self.told.append(progress)

    def __call__(self, logit_NC: Tensor, target_NC: Tensor) -> Tensor:
        return binary_cross_entropy(logit_NC, target_NC)


def test_doubtful_is_above_the_mean_over_positives():
    probability_N = np.array([0.9, 0.5, 0.71, 0.69, 0.99])  # the positives' mean is 0.7
    logit_NC = np.log(probability_N / (1 - probability_N))[:, None]
    target_NC = np.array([[1], [1], [0], [0], [-1]], np.int8)
    assert without_doubtful(logit_NC, target_NC).T.tolist() == [[1, 1, -1, 0, -1]]
    assert without_doubtful(logit_NC, np.zeros((5, 1), np.int8)).T.tolist() == [[0] * 5]


def test_the_doubtful_are_mostly_positives_that_were_never_labelled(scenes):
    feature_ND, truth_NC = scenes
    missing_NC = np.where(np.random.default_rng(5).random(truth_NC.shape) < 0.3, 0, truth_NC).astype(np.int8)
    doubtful_NC = without_doubtful(fit_probe(feature_ND, missing_NC).held_out_logit_NC, missing_NC) != missing_NC
    assert truth_NC[doubtful_NC].mean() > 0.4
    assert truth_NC[missing_NC == 0].mean() < 0.1


def test_a_doubting_probe_is_that_of_the_labels_without_the_doubtful(scenes):
    """Two rounds by hand; the strength is chosen by the labels as given."""
    feature_ND, truth_NC = scenes
    missing_NC = np.where(np.random.default_rng(5).random(truth_NC.shape) < 0.3, 0, truth_NC).astype(np.int8)
    probe = fit_probe(feature_ND, missing_NC)
    for _ in range(2):
        believed_NC = without_doubtful(probe.held_out_logit_NC, missing_NC)
        probe = fit_probe(feature_ND, believed_NC, judged_NC=missing_NC)
    ours = fit_doubting_probe(feature_ND, missing_NC)
    assert (ours.weight_CD == probe.weight_CD).all()
    assert fit_probe(feature_ND, believed_NC).fold_map != probe.fold_map


def test_a_trained_probe_is_nearly_the_solved_one(scenes):
    feature_ND, truth_NC = scenes
    loss = Bce()
    trained, solved = train_probe(feature_ND, truth_NC, loss=loss), fit_probe(feature_ND, truth_NC)
    logit_NC = [feature_ND @ probe.weight_CD.numpy().T + probe.bias_C.numpy() for probe in (trained, solved)]
    assert np.corrcoef(logit_NC[0].ravel(), logit_NC[1].ravel())[0, 1] > 0.95
    held_out = mean_average_precision(truth_NC, trained.held_out_logit_NC)
    assert held_out == pytest.approx(mean_average_precision(truth_NC, solved.held_out_logit_NC), abs=0.05)
    assert held_out < mean_average_precision(truth_NC, logit_NC[0]), "no fold has learned its own images"
    epochs = [28, 28, 28, 28, 22]  # of 10 steps in each of four folds, then of 13, for at least 280 steps
    assert loss.told == pytest.approx([epoch / (number - 1) for number in epochs for epoch in range(number)])


def test_a_trained_probe_is_deterministic_and_leaves_unknown_labels_out(scenes):
    feature_ND, truth_NC = scenes
    hidden = np.where(np.random.default_rng(1).random(truth_NC.shape) < 0.3, -1, truth_NC).astype(np.int8)
    first, second = (train_probe(feature_ND, hidden, loss=LargeLossRejection()) for _ in range(2))
    assert (first.weight_CD == second.weight_CD).all()
    all_unknown = hidden.copy()
    all_unknown[:, 3] = -1
    probe = train_probe(feature_ND, all_unknown, loss=LargeLossRejection())
    assert (probe.weight_CD[3] == 0).all()
    assert probe.bias_C[3] == 0
