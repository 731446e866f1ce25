"""Images to label next are those of the largest gain, one after the other: unsure, of rare classes, and unlike what is chosen."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from polytag.inference.label_choice import ChosenImages, choose_images
from polytag.inference.probe import fit_probe
from polytag.metrics.ap import mean_average_precision


def choose(
    pool_ND: np.ndarray, logit_NC: np.ndarray, *, labelled_MD: np.ndarray, positives_C: np.ndarray, budget: int
) -> ChosenImages:
    """Without overwriting."""
    return choose_images(pool_ND.copy(), logit_NC, labelled_MD=labelled_MD.copy(), positives_C=positives_C, budget=budget)


def by_definition(pool_ND, logit_NC, labelled_MD, positives_C, budget) -> list[int]:
    """In float64, the inverse and every gain again for each image."""
    both = np.concatenate([pool_ND, labelled_MD]).astype(np.float64)
    both = (both - both.mean(0)) / np.maximum(both.std(0), 1e-6)
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    unit_ND, known_MD, chosen = both[: len(pool_ND)], both[len(pool_ND) :], []
    p_NC = 1 / (1 + np.exp(-logit_NC.astype(np.float64)))
    for _ in range(budget):
        known = np.concatenate([known_MD, unit_ND[chosen]])
        novelty_N = np.diag(unit_ND @ np.linalg.inv(np.eye(both.shape[1]) + 2.5 * known.T @ known) @ unit_ND.T)
        positives = positives_C + p_NC[chosen].sum(axis=0)
        information_NC = np.log(1 + 25 * p_NC * (1 - p_NC) * novelty_N[:, None])
        gain_N = (information_NC / np.sqrt(1 + positives)).sum(axis=1) * novelty_N ** (200 / max(50, len(labelled_MD)))
        gain_N[chosen] = -1
        chosen.append(int(gain_N.argmax()))
    return chosen


@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 90]))
def test_it_is_the_greedy_choice(seed: int, num_labelled: int):
    rng = np.random.default_rng(seed)
    pool_ND, labelled_MD = (rng.normal(size=(number, 16)).astype(np.float32) for number in (120, num_labelled))
    logit_NC, positives_C = rng.normal(0, 3, (120, 4)).astype(np.float32), rng.integers(0, 50, 4)
    found = choose(pool_ND, logit_NC, labelled_MD=labelled_MD, positives_C=positives_C, budget=30)
    assert found.row_K.tolist() == by_definition(pool_ND, logit_NC, labelled_MD, positives_C, 30)
    assert (np.diff(found.gain_K) <= 1e-6).all()


def far_apart(number: int) -> np.ndarray:
    return np.eye(number, dtype=np.float32)


def test_the_unsure_and_the_rare_come_first():
    logit_NC = np.array([[9, 9], [0, 9], [9, 0], [9, 9]], np.float32)  # nothing, the frequent and the rare class, nothing
    found = choose(far_apart(4), logit_NC, labelled_MD=np.zeros((0, 4), np.float32), positives_C=np.array([99, 0]), budget=2)
    assert found.row_K.tolist() == [2, 1]
    assert found.class_K.tolist() == [1, 0]


def test_of_copies_one_is_chosen_before_everything_else():
    pool_ND = np.repeat(far_apart(4), 3, axis=0)
    found = choose(pool_ND, np.zeros((12, 1), np.float32), labelled_MD=far_apart(4)[:1], positives_C=np.zeros(1), budget=12)
    assert sorted(found.row_K[:3].tolist()) == [3, 6, 9]
    assert found.novelty_K[:3].min() > 2 * found.novelty_K[3:].max()
    assert sorted(found.row_K.tolist()) == list(range(12))


def test_a_small_pool_and_flat_features():
    flat = np.ones((3, 5), np.float32)
    found = choose(flat, np.zeros((3, 2), np.float32), labelled_MD=flat[:0], positives_C=np.zeros(2), budget=10)
    assert found.row_K.tolist() == [0, 1, 2]
    assert np.isfinite(found.gain_K).all()
    assert len(choose(flat, np.zeros((3, 2), np.float32), labelled_MD=flat, positives_C=np.zeros(2), budget=0).row_K) == 0


def test_a_rare_class_is_learned_from_fewer_labels_than_by_chance():
    """The twin of benchmarks/labels_next.py: five seeds of 40 + 2 x 20 labels, of 1,500 images with a class of 2%."""
    gains = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        centre_KD = rng.normal(0, 1, (50, 24))
        kind_N = np.where(rng.random(2000) < 0.02, 0, rng.integers(1, 50, 2000))
        feature_ND = (centre_KD[kind_N] + rng.normal(0, 0.7, (2000, 24))).astype(np.float32)
        target_NC = np.stack([kind_N == 0, kind_N % 2 == 0, kind_N % 5 == 0], axis=1).astype(np.int8)
        pool, judge = np.arange(1500), np.arange(1500, 2000)
        found = []
        for is_random in (False, True):
            labelled = np.random.default_rng(seed).permutation(1500)[:40]
            for _ in range(2):
                probe = fit_probe(feature_ND[labelled], target_NC[labelled])
                left = np.setdiff1d(pool, labelled)
                logit_NC = feature_ND[left] @ probe.weight_CD.numpy().T + probe.bias_C.numpy()
                positives_C = (target_NC[labelled] == 1).sum(0)
                chosen = choose(
                    feature_ND[left], logit_NC, labelled_MD=feature_ND[labelled], positives_C=positives_C, budget=20
                ).row_K
                labelled = np.concatenate([labelled, rng.choice(left, 20, replace=False) if is_random else left[chosen]])
            probe = fit_probe(feature_ND[labelled], target_NC[labelled])
            logit_NC = feature_ND[judge] @ probe.weight_CD.numpy().T + probe.bias_C.numpy()
            found.append(mean_average_precision(target_NC[judge], logit_NC))
        gains.append(found[0] - found[1])
    assert np.mean(gains) > 0
