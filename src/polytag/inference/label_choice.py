"""Which images to label next: those whose labels would tell a linear model the most, of classes with few positives first.

Shapes: N images of the pool, M labelled images, D features, C classes, K chosen images.

The gain of an image is r^(200 / M) times the sum over the classes of log(1 + p (1 - p) v) / sqrt(1 + positives of the class). r is
the novelty of the image, the share of the variance of its logits that the labelled and the chosen images leave open: x' H⁻¹ x with
H = I + s Σ x x', x standardised and of length 1. v is that variance, r times what it is before any label, and the logarithm twice
the information that the label has about the weights of the class (BALD, Houlsby and others 2011, by Laplace's approximation). Few
labels leave the probabilities p worth little, so novelty counts the more the smaller M is. Images are chosen one after the other,
each with the largest gain, and the expected positives of a chosen image count as positives. The numbers were chosen on voc-mini:
benchmarks/labels_next.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from polytag.logits import sigmoid

_PRIOR = 25.0  # variance of a logit before any label
_WEIGHT = 0.1 * _PRIOR  # s: the variance of a label that is known is taken as 0.1
_FEW, _FEWEST = 200, 50  # the power of r is 4 at most
_BLOCK = 2048  # rows that are computed at once, so that a large pool needs no second table
_MOST_LIKELY = 256  # images whose gain is computed again at once


@dataclass(frozen=True, kw_only=True, eq=False)
class ChosenImages:
    """Images of the pool in the order of the choice, K of them.

    row_K      their rows
    gain_K     as they were chosen
    novelty_K  r as they were chosen, 0 to 1
    class_K    the class that adds most to the gain
    """

    row_K: np.ndarray
    gain_K: np.ndarray
    novelty_K: np.ndarray
    class_K: np.ndarray


def choose_images(
    pool_ND: np.ndarray, logit_NC: np.ndarray, *, labelled_MD: np.ndarray, positives_C: np.ndarray, budget: int
) -> ChosenImages:
    """Choose at most `budget` images of the pool; deterministic at a thread count, ties in the order of the pool.

    `labelled_MD` are features of the labelled images, M >= 0, and `positives_C` the positives among them. Both arrays of features
    are overwritten: 100,000 images of 1,280 features are half a gigabyte.
    """
    assert len(pool_ND) == len(logit_NC)
    _standardise(pool_ND, labelled_MD)
    novelty = _Novelty.of(pool_ND, labelled_MD)
    doubt_NC = sigmoid(logit_NC).astype(np.float32)
    doubt_NC *= _PRIOR * (1 - doubt_NC)
    power = _FEW / max(len(labelled_MD), _FEWEST)
    positives_C = positives_C.astype(np.float64)

    def information(rows: np.ndarray | slice) -> np.ndarray:
        return np.log1p(doubt_NC[rows] * novelty.of_N[rows, None]) / np.sqrt(1 + positives_C)

    def gains(rows: np.ndarray | slice) -> np.ndarray:
        return information(rows).sum(axis=1) * novelty.of_N[rows] ** power

    bound_N = np.zeros(len(pool_ND))
    for start in range(0, len(pool_ND), _BLOCK):
        bound_N[start : start + _BLOCK] = gains(slice(start, start + _BLOCK))
    number = min(budget, len(pool_ND))
    row_K, class_K, gain_K, novelty_K = np.zeros(number, np.int64), np.zeros(number, np.int64), np.zeros(number), np.zeros(number)
    for place in range(number):
        row = _largest(bound_N, gains)
        row_K[place], class_K[place] = row, information(slice(row, row + 1)).argmax()
        gain_K[place], novelty_K[place] = bound_N[row], novelty.of_N[row]
        bound_N[row] = -1.0
        positives_C += sigmoid(logit_NC[row])
        novelty.close(row)
    return ChosenImages(row_K=row_K, gain_K=gain_K, novelty_K=novelty_K, class_K=class_K)


def _largest(bound_N: np.ndarray, gains: Callable[[np.ndarray], np.ndarray]) -> int:
    """The row of the largest gain, by bounds that only ever fall: those that may be the largest are computed again, in place."""
    is_fresh_N = bound_N < 0  # those that are chosen
    while not is_fresh_N[row := int(bound_N.argmax())]:
        number = min(_MOST_LIKELY, len(bound_N))
        likely = np.argpartition(bound_N, -number)[-number:]
        likely = np.union1d(likely[~is_fresh_N[likely]], row)
        bound_N[likely] = gains(likely)
        is_fresh_N[likely] = True
    return row


@dataclass(eq=False)
class _Novelty:
    """What labelled and chosen images leave open.

    pool        unit vectors, N x D
    inverse_DD  H⁻¹
    of_N        r of every image of the pool, float64
    """

    pool: torch.Tensor
    inverse_DD: torch.Tensor
    of_N: np.ndarray

    @classmethod
    def of(cls, pool_ND: np.ndarray, labelled_MD: np.ndarray) -> "_Novelty":
        sum_DD = np.eye(pool_ND.shape[1])
        for block in _blocks(labelled_MD):
            sum_DD += _WEIGHT * (block.T @ block)
        inverse_DD = torch.from_numpy(np.linalg.inv(sum_DD).astype(np.float32))
        novelty_N = np.zeros(len(pool_ND))
        for start in range(0, len(pool_ND), _BLOCK):
            block = torch.from_numpy(pool_ND[start : start + _BLOCK])
            novelty_N[start : start + _BLOCK] = ((block @ inverse_DD) * block).sum(dim=1).clip(0, 1).numpy()
        return cls(pool=torch.from_numpy(pool_ND), inverse_DD=inverse_DD, of_N=novelty_N)

    def close(self, row: int) -> None:
        """Let the image of a row count as labelled."""
        direction_D = self.inverse_DD @ self.pool[row]
        share = _WEIGHT / (1 + _WEIGHT * self.of_N[row])
        self.of_N -= share * (self.pool @ direction_D).numpy().astype(np.float64) ** 2
        self.of_N.clip(0, 1, out=self.of_N)
        self.inverse_DD.addr_(direction_D, direction_D, alpha=-share)


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
