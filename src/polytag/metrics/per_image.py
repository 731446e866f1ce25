"""Metrics of the ranking of the classes within each image, for all images in a few passes over blocks of rows.

Tsoumakas, Katakis, Vlahavas (2010), "Mining multi-label data", section 7.2; scikit-learn's `coverage_error`,
`label_ranking_loss` and `label_ranking_average_precision_score`. Unknown labels are in no ranking. An image without a known
positive is NaN (scikit-learn counts it as 0, 0 and 1); so is, for the loss, an image without a known negative.

Shapes: N images, C classes.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from polytag.machine import num_cores

_BLOCK = 500_000  # decisions at a time: about 20 MB per thread


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageRankings:
    """Ranking metrics of N images; NaN where undefined.

    ap_N             average precision of the image's labels, 0 to 1: the label-ranking average precision
    coverage_N       the rank of its lowest true label, 1 to C; in a tie, the lowest rank of the tie
    ranking_loss_N   share of its (true, absent) pairs in the wrong order, 0 to 1; a tie counts as wrong
    """

    ap_N: np.ndarray
    coverage_N: np.ndarray
    ranking_loss_N: np.ndarray


def image_rankings(target_NC: np.ndarray, score_NC: np.ndarray) -> ImageRankings:
    """Ranking metrics of every image; targets in {1, 0, -1}, any finite scores."""
    num_images, num_classes = target_NC.shape
    num_rows = max(1, _BLOCK // max(1, num_classes))
    starts = range(0, num_images, num_rows)
    value_N3 = np.full((num_images, 3), np.nan)

    def evaluate(start: int) -> None:
        rows = slice(start, start + num_rows)
        value_N3[rows] = _block_rankings(target_NC[rows], score_NC[rows])

    with ThreadPoolExecutor(num_cores()) as pool:
        list(pool.map(evaluate, starts))
    return ImageRankings(ap_N=value_N3[:, 0], coverage_N=value_N3[:, 1], ranking_loss_N=value_N3[:, 2])


def _block_rankings(target_NC: np.ndarray, score_NC: np.ndarray) -> np.ndarray:
    order_NC = np.argsort(-score_NC, axis=1)  # the order within a tie does not matter: each tie is read at its end
    target_NC = np.take_along_axis(target_NC, order_NC, axis=1)
    score_NC = np.take_along_axis(score_NC, order_NC, axis=1)
    positive_NC = target_NC == 1
    num_true_NC = np.cumsum(positive_NC, axis=1, dtype=np.int32)
    num_known_NC = np.cumsum(target_NC >= 0, axis=1, dtype=np.int32)
    num_positives_N, num_known_N = num_true_NC[:, -1], num_known_NC[:, -1]

    last_NC = np.full(score_NC.shape, score_NC.shape[1] - 1, np.int32)  # where each score's tie ends
    is_end_NC = score_NC[:, :-1] != score_NC[:, 1:]
    place_C = np.arange(score_NC.shape[1] - 1, dtype=np.int32)
    last_NC[:, :-1] = np.where(is_end_NC, place_C, score_NC.shape[1] - 1)
    last_NC = np.minimum.accumulate(last_NC[:, ::-1], axis=1)[:, ::-1]
    num_true_NC = np.take_along_axis(num_true_NC, last_NC, axis=1)
    num_known_NC = np.take_along_axis(num_known_NC, last_NC, axis=1)

    with np.errstate(invalid="ignore", divide="ignore"):  # an unknown label at the top of a ranking is 0 / 0, and not counted
        precision_NC = np.where(positive_NC, num_true_NC / num_known_NC, 0.0)
        ap_N = precision_NC.sum(axis=1) / num_positives_N
        wrong_N = np.where(positive_NC, num_known_NC - num_true_NC, 0).sum(axis=1)
        loss_N = wrong_N / (num_positives_N * (num_known_N - num_positives_N).astype(np.int64))
    coverage_N = np.where(num_positives_N > 0, np.where(positive_NC, num_known_NC, 0).max(axis=1), np.nan)
    loss_N[(num_positives_N == 0) | (num_positives_N == num_known_N)] = np.nan
    return np.stack([ap_N, coverage_N, loss_N], axis=1)
