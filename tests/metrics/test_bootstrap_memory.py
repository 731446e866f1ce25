"""Weights that are drawn again, block by block, in place of being held: the same bits."""

import numpy as np
import pytest

from polytag.metrics import bootstrap
from polytag.metrics.bootstrap import DrawnAgain, bootstrap_weights, replicate_ap, replicate_means, weights_of
from polytag.metrics.groups import Groups


def groups_in(group_N: np.ndarray) -> Groups:
    return Groups(column="patient", group_N=group_N, is_without_N=np.zeros(len(group_N), bool))


@pytest.mark.parametrize("is_grouped", [False, True])
@pytest.mark.parametrize("num_replicates", [7, 100, 333])
def test_they_are_those_that_are_held(monkeypatch: pytest.MonkeyPatch, num_replicates: int, is_grouped: bool):
    monkeypatch.setattr(bootstrap, "_MOST_HELD", 0)
    rng = np.random.default_rng(0)
    target_NC = rng.choice([1, 0, -1], (400, 3), p=[0.1, 0.85, 0.05]).astype(np.int8)
    target_NC[:, 2] = np.where(np.arange(400) < 4, 0, 1)  # so few negatives that replicates draw none
    score_NC = rng.normal(size=(400, 3)).round(1)
    groups = groups_in(np.arange(400) // 7) if is_grouped else None
    held_NB = weights_of(400, num_replicates=num_replicates, seed=5, groups=groups)
    again = bootstrap_weights(400, num_replicates=num_replicates, seed=5, groups=groups)
    assert isinstance(again, DrawnAgain)
    assert np.array_equal(np.concatenate([part_Nb for _, part_Nb in again.blocks()], axis=1), held_NB)
    ap_BC = replicate_ap(target_NC, again, score_NC=score_NC, groups=groups)
    np.testing.assert_array_equal(ap_BC, replicate_ap(target_NC, held_NB, score_NC=score_NC, groups=groups))
    assert np.isnan(ap_BC[:, 2]).any() or num_replicates < 100
    values = [rng.random(400), np.where(rng.random(400) < 0.3, np.nan, 1.5)]
    np.testing.assert_array_equal(replicate_means(values, again), replicate_means(values, held_NB))


def test_a_single_group_gives_no_replicate(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bootstrap, "_MOST_HELD", 0)
    weights = bootstrap_weights(10, num_replicates=100, seed=0, groups=groups_in(np.zeros(10, int)))
    assert replicate_ap(np.eye(10, dtype=np.int8), weights, score_NC=np.eye(10)).shape == (0, 10)
