"""Which images to label next: those that the model is unsure about, of classes with few positives, far from what has labels.

Shapes: N images of the pool, M labelled images, D features, C classes, K chosen images.

The gain of an image is u d³. u is the sum over the classes of the entropy of its probability divided by sqrt(1 + positives of the
class), so that rare classes count more; d is its distance, 1 - cosine of standardised features, to the nearest image that is
labelled or already chosen. Images are chosen one after the other, each with the largest gain (k-center greedy, Sener and Savarese
2018, is the same with d alone); the expected positives of a chosen image count as positives.
"""

from dataclasses import dataclass

import numpy as np
import torch

from polytag.logits import sigmoid

_POWER = 3  # of the distance, chosen on voc-mini: benchmarks/labels_next.py
_BLOCK = 2048  # rows that are computed at once, so that a large pool needs no second table
_FARTHEST = 2.0


@dataclass(frozen=True, kw_only=True, eq=False)
class ChosenImages:
    """Images of the pool in the order of the choice, K of them.

    row_K        their rows
    gain_K       as they were chosen
    distance_K   to the nearest image that was labelled or chosen before
    class_K      the class that adds most to u
    """

    row_K: np.ndarray
    gain_K: np.ndarray
    distance_K: np.ndarray
    class_K: np.ndarray


def choose_images(
    pool_ND: np.ndarray, logit_NC: np.ndarray, *, labelled_MD: np.ndarray, positives_C: np.ndarray, budget: int
) -> ChosenImages:
    """Choose at most `budget` images of the pool; deterministic, ties in the order of the pool.

    `labelled_MD` are features of the labelled images, M >= 0, and `positives_C` the positives among them. Both arrays of features
    are overwritten: 100,000 images of 1,280 features are half a gigabyte.
    """
    assert len(pool_ND) == len(logit_NC)
    _standardise(pool_ND, labelled_MD)
    pool, distance_N = torch.from_numpy(pool_ND), _distances(pool_ND, labelled_MD)
    probability_NC = sigmoid(logit_NC).astype(np.float32)
    entropy_NC = _entropy(probability_NC)
    positives_C = positives_C.astype(np.float64)
    is_left_N = np.ones(len(pool_ND), bool)
    number = min(budget, len(pool_ND))
    row_K, class_K, gain_K, distance_K = np.zeros(number, np.int64), np.zeros(number, np.int64), np.zeros(number), np.zeros(number)
    for place in range(number):
        weight_C = 1 / np.sqrt(1 + positives_C)
        gain_N = np.where(is_left_N, (entropy_NC @ weight_C.astype(np.float32)) * distance_N**_POWER, -1.0)
        row = int(gain_N.argmax())
        row_K[place], class_K[place] = row, (entropy_NC[row] * weight_C).argmax()
        gain_K[place], distance_K[place] = gain_N[row], distance_N[row]
        is_left_N[row] = False
        positives_C += probability_NC[row]
        np.minimum(distance_N, np.clip(1 - (pool @ pool[row]).numpy(), 0, _FARTHEST), out=distance_N)
    return ChosenImages(row_K=row_K, gain_K=gain_K, distance_K=distance_K, class_K=class_K)


def _entropy(probability_NC: np.ndarray) -> np.ndarray:
    """Of each probability, in nats; computed in place of blocks, so that a large pool needs no second table in float64."""
    entropy_NC = np.empty_like(probability_NC)
    for start in range(0, len(probability_NC), _BLOCK):
        p = np.clip(probability_NC[start : start + _BLOCK].astype(np.float64), 1e-12, 1 - 1e-12)
        entropy_NC[start : start + _BLOCK] = -(p * np.log(p) + (1 - p) * np.log1p(-p))
    return entropy_NC


def _standardise(pool_ND: np.ndarray, labelled_MD: np.ndarray) -> None:
    """Every feature to mean 0 and deviation 1 over the pool and the labelled images, then every image to length 1; in place."""
    number = len(pool_ND) + len(labelled_MD)
    blocks = [block for array in (pool_ND, labelled_MD) for block in _blocks(array)]
    mean_D, square_D = np.zeros(pool_ND.shape[1]), np.zeros(pool_ND.shape[1])
    for block in blocks:
        mean_D += block.sum(axis=0, dtype=np.float64) / number
    for block in blocks:
        square_D += ((block - mean_D) ** 2).sum(axis=0) / number
    scale_D = np.maximum(np.sqrt(square_D), 1e-6).astype(np.float32)
    for block in blocks:
        block -= mean_D.astype(np.float32)
        block /= scale_D
        block /= np.maximum(np.linalg.norm(block, axis=1, keepdims=True), 1e-12)


def _blocks(array: np.ndarray) -> list[np.ndarray]:
    """Views of rows."""
    return [array[start : start + _BLOCK] for start in range(0, len(array), _BLOCK)]


def _distances(pool_ND: np.ndarray, labelled_MD: np.ndarray) -> np.ndarray:
    """float64, N: to the nearest labelled image; 2, the largest there is, without any."""
    distance_N = np.full(len(pool_ND), _FARTHEST)
    for start in range(0, len(pool_ND), _BLOCK):
        block = torch.from_numpy(pool_ND[start : start + _BLOCK])
        for labelled in _blocks(labelled_MD):
            nearest = (block @ torch.from_numpy(labelled).T).max(dim=1).values.numpy()
            distance_N[start : start + _BLOCK] = np.minimum(distance_N[start : start + _BLOCK], np.clip(1 - nearest, 0, _FARTHEST))
    return distance_N
