"""The best of several values, chosen on the images that it is a value of, is too high; how much is known."""

import numpy as np
import pytest

from polytag.contracts import LabelSet, Predictions
from polytag.metrics.ap import mean_average_precision
from polytag.metrics.groups import groups_of
from polytag.metrics.optimism import NUM_REPLICATES, optimism_of_best, replicate_map

NAMES = LabelSet(names=("a", "b", "c", "d"))


def scored(target_NC: np.ndarray, score_NC: np.ndarray) -> Predictions:
    ids = tuple(map(str, range(len(target_NC))))
    return Predictions(ids=ids, logit_NC=score_NC.astype(np.float32), target_NC=target_NC, label_set=NAMES)


def epochs(rng: np.random.Generator, *, signal: float, num: int, shared: float) -> list[Predictions]:
    """Epochs that are truly alike, whose scores share a part of their noise."""
    target_NC = (rng.random((200, 4)) < 0.2).astype(np.int8)
    common = np.sqrt(shared) * rng.normal(size=target_NC.shape)
    own = [np.sqrt(1 - shared) * rng.normal(size=target_NC.shape) for _ in range(num)]
    return [scored(target_NC, signal * target_NC + common + each) for each in own]


@pytest.mark.parametrize("signal", [0.0, 1.5], ids=["planted noise: labels that no image shows", "labels that the scores follow"])
def test_without_its_optimism_the_best_of_alike_epochs_gains_nothing(signal: float):
    rng = np.random.default_rng(0)
    excess, left = [], []
    for _ in range(40):
        found = epochs(rng, signal=signal, num=8, shared=0.7)
        value_E = np.array([mean_average_precision(each.target_NC, each.logit_NC) for each in found])
        optimism = optimism_of_best(value_E, np.stack([replicate_map(each) for each in found]))
        excess.append(value_E.max() - value_E.mean())  # all are truly alike: their mean is what the best is worth
        left.append(excess[-1] - optimism)
    error = np.std(left) / np.sqrt(len(left))
    assert np.mean(excess) > 5 * error, "choosing the best does flatter"
    assert abs(np.mean(left)) < max(3 * error, 0.2 * np.mean(excess))


def test_a_best_without_a_rival_is_as_good_as_it_looks():
    target_NC = epochs(np.random.default_rng(1), signal=0, num=1, shared=0)[0].target_NC
    noise = np.random.default_rng(2).normal(size=target_NC.shape)
    found = [scored(target_NC, signal * target_NC + noise) for signal in (0.5, 4.0, 1.0)]
    value_E = np.array([mean_average_precision(each.target_NC, each.logit_NC) for each in found])
    assert optimism_of_best(value_E, np.stack([replicate_map(each) for each in found])) == 0


def test_it_is_no_matter_of_order_or_level():
    rng = np.random.default_rng(3)
    value_E, replicate_EB = rng.normal(size=5), rng.normal(size=(5, NUM_REPLICATES))
    optimism = optimism_of_best(value_E, replicate_EB)
    assert optimism > 0
    assert optimism_of_best(value_E[::-1], replicate_EB[::-1]) == pytest.approx(optimism)
    assert optimism_of_best(value_E + 1, replicate_EB + 1) == pytest.approx(optimism)
    assert optimism_of_best(value_E[:1], replicate_EB[:1]) == 0
    assert optimism_of_best(np.append(value_E, np.nan), np.vstack([replicate_EB, replicate_EB[:1]])) == 0


def test_replicates_are_the_same_for_every_epoch_and_draw_groups_together():
    first, second = epochs(np.random.default_rng(4), signal=1.0, num=2, shared=1.0)
    assert np.array_equal(replicate_map(first), replicate_map(second))
    whole = groups_of([f"p{row // 20}" for row in range(len(first))])
    assert replicate_map(first, groups=whole).std() > 0
    assert not np.array_equal(replicate_map(first, groups=whole), replicate_map(first))
