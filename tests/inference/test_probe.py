"""The probe against scikit-learn's logistic regression, and its policy for unknown, absent and constant."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from polytag.inference.partial_labels import train_probe
from polytag.inference.probe import STRENGTHS, fit_probe
from polytag.training.losses import LargeLossRejection


@pytest.fixture(scope="module")
def table() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    feature_ND = rng.normal(2.0, 3.0, (300, 24)).astype(np.float32)
    weight_DC = rng.normal(size=(24, 5))
    target_NC = (feature_ND @ weight_DC + rng.normal(size=(300, 5)) * 12 > 8).astype(np.int8)
    target_NC[rng.random(target_NC.shape) < 0.15] = -1
    return feature_ND, target_NC


def logits(probe, feature_ND):
    return feature_ND @ probe.weight_CD.numpy().T + probe.bias_C.numpy()


def test_it_is_scikit_learns_solution_at_the_chosen_strength(table):
    feature_ND, target_NC = table
    probe = fit_probe(feature_ND, target_NC)
    standard = (feature_ND - feature_ND.mean(0)) / feature_ND.std(0)
    for column in range(5):
        known = target_NC[:, column] >= 0
        oracle = LogisticRegression(C=1 / (probe.strength * known.sum()), max_iter=2000, tol=1e-8)
        oracle.fit(standard[known], target_NC[known, column])
        np.testing.assert_allclose(logits(probe, feature_ND)[:, column], oracle.decision_function(standard), rtol=1e-3, atol=2e-3)


def test_the_strength_is_within_one_standard_error_of_the_best(table):
    probe = fit_probe(*table)
    assert set(probe.fold_map) == set(STRENGTHS)
    assert probe.fold_map[probe.strength] > max(probe.fold_map.values()) - 0.05


def test_labels_of_unknown_images_do_not_matter(table):
    feature_ND, target_NC = table
    unknown = target_NC.copy()
    unknown[:100, 2] = -1
    probe = fit_probe(feature_ND, unknown)
    alone = fit_probe(feature_ND, unknown)
    assert (logits(probe, feature_ND) == logits(alone, feature_ND)).all()
    known = unknown[:, 2] >= 0
    assert np.corrcoef(logits(probe, feature_ND)[known, 2], unknown[known, 2])[0, 1] > 0.4


def test_classes_that_cannot_be_learned_stay_finite_and_say_their_share(table):
    feature_ND, target_NC = table
    target_NC = target_NC.copy()
    target_NC[:, 0], target_NC[:, 1], target_NC[:, 3] = 0, 1, -1
    logit_NC = logits(fit_probe(feature_ND, target_NC), feature_ND)
    assert np.isfinite(logit_NC).all()
    np.testing.assert_allclose(logit_NC[:, 0], np.log(0.5 / 300.5), atol=1e-3)
    np.testing.assert_allclose(logit_NC[:, 1], np.log(300.5 / 0.5), atol=1e-3)
    np.testing.assert_allclose(logit_NC[:, 3], 0, atol=1e-3)


def test_a_constant_feature_and_a_tiny_table_do_no_harm():
    feature_ND = np.array([[1.0, 0], [1, 1], [1, 2], [1, 3]], np.float32)
    probe = fit_probe(feature_ND, np.array([[0], [0], [1], [1]], np.int8))
    assert np.isfinite(logits(probe, feature_ND)).all()
    assert (np.diff(logits(probe, feature_ND)[:, 0]) > 0).all()


def nearly_dead(feature_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The features with two more, as they are where a head is fitted, and as other images have them: one is constant but for
    rounding, one is tiny in one image and zero in the others; elsewhere both are as large as any."""
    num_images = len(feature_ND)
    constant_N1 = np.where(np.arange(num_images) % 2, np.float32(0.1), np.nextafter(np.float32(0.1), np.float32(1)))[:, None]
    tiny_N1 = np.where(np.arange(num_images) == 7, 1e-4, 0)[:, None]
    elsewhere = np.random.default_rng(1).normal(0, 3, (num_images, 2))
    return (
        np.concatenate([feature_ND, constant_N1, tiny_N1], axis=1).astype(np.float32),
        np.concatenate([feature_ND, elsewhere], axis=1).astype(np.float32),
    )


@pytest.mark.parametrize("num_constant", [0, 3], ids=["most vary", "most are constant, as maxima of few images may be"])
def test_a_feature_that_hardly_varies_decides_nothing_on_other_images(table, num_constant: int):
    feature_ND, target_NC = table
    constant_ND = np.zeros((len(feature_ND), num_constant * feature_ND.shape[1]), np.float32)
    fitted_ND, elsewhere_ND = (np.concatenate([each, constant_ND], axis=1) for each in nearly_dead(feature_ND))
    without = logits(fit_probe(feature_ND, target_NC), feature_ND)
    found = logits(fit_probe(fitted_ND, target_NC), elsewhere_ND)
    assert np.abs(found - without).max() < 0.01 * without.std()
    rejecting = train_probe(fitted_ND, target_NC, loss=LargeLossRejection())
    without = logits(train_probe(feature_ND, target_NC, loss=LargeLossRejection()), feature_ND)
    assert np.abs(logits(rejecting, elsewhere_ND) - without).max() < 0.1 * without.std()
