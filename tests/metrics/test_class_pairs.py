"""Pairs of classes: counts against a count image by image, expected errors by hand, and tests that find what was planted only."""

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest, hypergeom

from polytag.metrics import class_pairs as module
from polytag.metrics.class_pairs import ClassPairs, bonds, class_pairs


def counted_by_hand(target_NC: np.ndarray, predicted_NC: np.ndarray) -> dict[str, np.ndarray]:
    """Every count of ClassPairs, one image and one pair after the other."""
    names = ("known", "present", "predicted", "found", "both_present", "both_predicted", "kept")
    num_classes = target_NC.shape[1]
    counts = {name: np.zeros((num_classes, num_classes), int) for name in names}
    for target_C, predicted_C in zip(target_NC.tolist(), predicted_NC.tolist(), strict=True):
        for a, b in itertools.product(range(num_classes), repeat=2):
            if target_C[a] == -1 or target_C[b] == -1:
                continue
            facts = {
                "known": True,
                "present": target_C[a] == 1,
                "predicted": predicted_C[a],
                "found": target_C[a] == 1 and predicted_C[a],
                "both_present": target_C[a] == 1 and target_C[b] == 1,
                "both_predicted": predicted_C[a] and predicted_C[b],
                "kept": target_C[a] == 1 and target_C[b] == 1 and predicted_C[a] and predicted_C[b],
            }
            for name, is_so in facts.items():
                counts[name][a, b] += is_so
    return counts


@pytest.mark.parametrize("share_unknown", [0.0, 0.02, 0.5, 1.0])
def test_counts_are_those_of_a_count_image_by_image(share_unknown: float, monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(1)
    target_NC = rng.integers(0, 2, (60, 6)).astype(np.int8)
    target_NC[rng.random(target_NC.shape) < share_unknown] = -1
    predicted_NC = rng.random(target_NC.shape) < 0.4
    expected = counted_by_hand(target_NC, predicted_NC)
    for block in (7, 1000):
        monkeypatch.setattr(module, "_BLOCK", block)
        pairs = class_pairs(target_NC, predicted_NC)
        for name, count_CC in expected.items():
            assert getattr(pairs, name + "_CC").tolist() == count_CC.tolist(), name
        assert (pairs.invented_CC + pairs.kept_CC == expected["both_predicted"]).all()
        assert (pairs.broken_CC + pairs.kept_CC == expected["both_present"]).all()


def test_what_own_errors_explain_by_hand():
    """20 images: a in 10, b in 10, both in 5. Recall 0.8 and 0.6, false positive rate 0.1 and 0.2."""
    pairs = ClassPairs(
        known_CC=np.full((2, 2), 20),
        present_CC=np.full((2, 2), 10),
        predicted_CC=np.array([[9, 9], [8, 8]]),
        found_CC=np.array([[8, 8], [6, 6]]),
        both_present_CC=np.array([[10, 5], [5, 10]]),
        both_predicted_CC=np.array([[9, 4], [4, 8]]),
        kept_CC=np.array([[8, 3], [3, 6]]),
    )
    assert pairs.expected_broken_CC[0, 1] == pytest.approx(5 * (1 - 0.8 * 0.6))
    assert pairs.expected_invented_CC[0, 1] == pytest.approx(5 * 0.8 * 0.2 + 5 * 0.1 * 0.6 + 5 * 0.1 * 0.2)
    assert pairs.expected_invented_CC[1, 0] == pytest.approx(pairs.expected_invented_CC[0, 1])
    assert (pairs.invented_CC[0, 1], pairs.broken_CC[0, 1]) == (1, 2)


def independent_errors(rng: np.random.Generator, *, num_images: int = 400, num_classes: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Labels with bonds, and a model that errs in each class separately."""
    scene_N = rng.integers(0, 3, num_images)
    share_SC = rng.uniform(0.02, 0.5, (3, num_classes))
    target_NC = (rng.random((num_images, num_classes)) < share_SC[scene_N]).astype(np.int8)
    recall_C, false_C = rng.uniform(0.3, 0.95, num_classes), rng.uniform(0.01, 0.2, num_classes)
    return target_NC, rng.random(target_NC.shape) < np.where(target_NC == 1, recall_C, false_C)


def test_without_a_bond_one_is_rarely_claimed():
    rng = np.random.default_rng(2)
    claims = 0
    for _ in range(200):
        found = bonds(class_pairs(*independent_errors(rng)))
        claims += bool(found.is_invented_CC.any() or found.is_broken_CC.any())
    assert claims <= 16, "of 200 runs without a bond at most 8% claim one; two questions, each at 5%"


def test_a_planted_bond_is_found_and_no_other():
    rng = np.random.default_rng(3)
    target_NC, predicted_NC = independent_errors(rng, num_images=1200)
    predicted_NC &= (target_NC == 1) | (rng.random(target_NC.shape) < 0.3)  # few false positives
    is_scene_N = (target_NC[:, 0] == 0) & (target_NC[:, 1] == 0) & (rng.random(len(target_NC)) < 0.05)
    predicted_NC[is_scene_N, 0] = predicted_NC[is_scene_N, 1] = True  # it sees the two where neither is
    both_N = (target_NC[:, 2] == 1) & (target_NC[:, 3] == 1)
    predicted_NC[both_N, 2], predicted_NC[both_N, 3] = True, False  # beside 2 it never finds 3
    found = bonds(class_pairs(target_NC, predicted_NC))
    assert list(zip(*np.nonzero(np.triu(found.is_invented_CC)), strict=True)) == [(0, 1)]
    assert list(zip(*np.nonzero(np.triu(found.is_broken_CC)), strict=True)) == [(2, 3)]


def test_p_values_are_scipys_corrected_by_hand():
    rng = np.random.default_rng(4)
    target_NC = (rng.random((150, 3)) < 0.5).astype(np.int8)
    predicted_NC = rng.random(target_NC.shape) < np.where(target_NC == 1, 0.6, 0.2)
    target_NC[rng.random(target_NC.shape) < 0.1] = -1
    pairs = class_pairs(target_NC, predicted_NC)
    places = [(0, 1), (0, 2), (1, 2)]

    def broken_p(a: int, b: int) -> float:
        trials = int(pairs.both_present_CC[a, b])
        share = float(pairs.expected_broken_CC[a, b]) / trials
        assert share**trials <= 0.05, "each of them could be significant"
        return binomtest(int(pairs.broken_CC[a, b]), trials, share, alternative="greater").pvalue

    def labelled_p(a: int, b: int) -> float:
        num, first, second, known = (
            int(each)
            for each in (pairs.both_present_CC[a, b], pairs.present_CC[a, b], pairs.present_CC[b, a], pairs.known_CC[a, b])
        )
        return float(hypergeom.sf(num - 1, known, first, second)) if num * known > first * second else 1.0

    found = bonds(pairs)
    for table_CC, p_of in ((found.broken_CC, broken_p), (found.labelled_CC, labelled_p)):
        p = np.array([p_of(a, b) for a, b in places])
        order = np.argsort(p)
        corrected = np.minimum(1, np.maximum.accumulate(p[order] * [3, 2, 1]))
        assert [table_CC[places[each]] for each in order] == pytest.approx(corrected.tolist(), rel=1e-6)
        assert np.array_equal(table_CC, table_CC.T, equal_nan=True)


def test_nothing_is_tested_where_nothing_can_be_found():
    for target_NC in (
        np.zeros((30, 3), np.int8),
        np.full((30, 3), -1, np.int8),
        np.zeros((0, 3), np.int8),
        np.ones((2, 3), np.int8),
    ):
        found = bonds(class_pairs(target_NC, np.zeros(target_NC.shape, bool)))
        assert not (found.is_invented_CC | found.is_broken_CC | found.is_labelled_CC).any()
