"""Companions of errors and recall by size: counts image by image, p-values by SciPy, by hand, and nothing within noise."""

import numpy as np
import pytest
from scipy.stats import fisher_exact

from polytag.metrics.class_errors import companions, more_misses, recall_by_size


def planted(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    target_NC = rng.integers(-1, 2, (300, 5)).astype(np.int8)
    predicted_NC = rng.random(target_NC.shape) < 0.4
    return target_NC, predicted_NC


@pytest.mark.parametrize("seed", range(3))
def test_companions_are_counted_image_by_image(seed: int):
    target_NC, predicted_NC = planted(np.random.default_rng(seed))
    possible = [row for row in range(300) if target_NC[row, 0] == 0]
    errors = [row for row in possible if predicted_NC[row, 0]]
    found = companions(
        (target_NC[:, 0] == 0) & predicted_NC[:, 0],
        is_possible_N=target_NC[:, 0] == 0,
        has_NC=target_NC == 1,
        is_known_NC=target_NC >= 0,
        own=0,
    )
    p_of: dict[int, float] = {}
    for other in range(1, 5):
        of_errors = [row for row in errors if target_NC[row, other] >= 0]
        of_others = [row for row in possible if target_NC[row, other] >= 0 and row not in errors]
        num, num_others = (sum(target_NC[row, other] == 1 for row in rows) for rows in (of_errors, of_others))
        assert (found.num_C[other], found.errors_C[other]) == (num, len(of_errors))
        share = (num + num_others) / (len(of_errors) + len(of_others))
        assert found.expected_C[other] == pytest.approx(share * len(of_errors))
        table = [[num, len(of_errors) - num], [num_others, len(of_others) - num_others]]
        p_of[other] = fisher_exact(table, alternative="greater").pvalue
    for rank, other in enumerate(sorted(p_of, key=p_of.__getitem__)):
        lower = [p_of[each] * (4 - place) for place, each in enumerate(sorted(p_of, key=p_of.__getitem__)[: rank + 1])]
        assert found.p_C[other] == pytest.approx(min(1.0, max(lower)), rel=1e-6)
    assert np.isnan(found.p_C[0])


def test_a_companion_that_was_planted_is_found_and_noise_is_not():
    rng = np.random.default_rng(5)
    claims = 0
    for _ in range(100):
        target_NC, predicted_NC = planted(rng)
        is_possible_N = target_NC[:, 0] == 0
        is_error_N = is_possible_N & predicted_NC[:, 0]
        facts = {"is_possible_N": is_possible_N, "has_NC": target_NC == 1, "is_known_NC": target_NC >= 0, "own": 0}
        claims += bool(companions(is_error_N, **facts).is_more_C.any())
        is_error_N |= is_possible_N & (target_NC[:, 2] == 1)
        found = companions(is_error_N, **facts)
        assert found.is_more_C[2]
        claims += int(found.is_more_C.sum()) - 1
        assert found.most_first[0] == 2
    assert claims <= 16, "of 200 tests without another companion 5% claim one"


def test_no_error_has_no_companion():
    target_NC = np.zeros((4, 3), np.int8)
    nothing_N = np.zeros(4, bool)
    found = companions(nothing_N, is_possible_N=nothing_N, has_NC=target_NC == 1, is_known_NC=target_NC >= 0, own=1)
    assert not found.is_more_C.any()
    assert found.most_first == []


def test_recall_by_size_by_hand():
    area_P = np.array([0.001, 0.0399, 0.04, 0.2, 0.25, 1.0, np.nan, 0.01])
    is_found_P = np.array([False, False, True, False, True, True, True, True])
    found = recall_by_size(area_P, is_found_P)
    assert (found.num_S.tolist(), found.found_S.tolist()) == ([3, 2, 2], [1, 1, 2])
    assert found.recall_S == pytest.approx([1 / 3, 1 / 2, 1])
    assert (found.low_S <= found.recall_S).all()
    assert (found.high_S >= found.recall_S).all()
    nobody = recall_by_size(np.array([np.nan]), np.array([True]))
    assert np.isnan(nobody.recall_S).all()
    assert np.isnan(nobody.p_S).all()


def test_more_misses_is_fishers_test():
    num_S, found_S = np.array([30, 50, 40]), np.array([10, 40, 36])
    p = np.array(
        [
            fisher_exact([[n - f, f], [(num_S - found_S).sum() - (n - f), found_S.sum() - f]], alternative="greater").pvalue
            for n, f in zip(num_S.tolist(), found_S.tolist(), strict=True)
        ]
    )
    assert more_misses(num_S, found_S) == pytest.approx(p.tolist(), rel=1e-6)
    assert more_misses(num_S, found_S)[0] < 0.001
    assert np.isnan(more_misses(np.array([0, 5]), np.array([0, 2]))).all()
