"""Bootstrap over images or groups of images, of the AP of every class at once, from a single sort.

A replicate draws N images with replacement, which gives every image a weight; or G groups of G, which gives a weight to all
images of a group. The order of the images by score is the same in every replicate, so weights are summed along the sorted order
between the thresholds that matter. Weights are small integers: five replicates share a float64, ten bits each, and are summed
together, exactly.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from polytag.machine import num_cores
from polytag.metrics.ap import average_precision, rank
from polytag.metrics.groups import Groups
from polytag.metrics.intervals import Intervals, estimates_of, intervals_of

_BLOCK_BYTES = 6_400_000  # weights of the replicates of a block: they stay in the processor's cache
_MANY = 50  # images, of which a replicate draws none with probability exp(-50)
_LANES, _LANE_BITS = 5, 10  # replicates in a float64, whose integers have 53 bits
_MOST_HELD = 200_000_000  # weights, of a byte each; more are drawn again, block by block, whenever they are needed
_HEAVIEST = 31  # an image is drawn more often with probability under 1e-35


def bootstrap_ap(
    target_NC: np.ndarray, score_NC: np.ndarray, *, num_replicates: int = 1000, seed: int = 0, groups: Groups | None = None
) -> Intervals:
    """95% intervals of AP and mAP over resampled images, or groups of images; NaN without a positive or a replicate.

    Seeded: the same table gives the same interval.
    """
    weight_NB = weights_of(len(target_NC), num_replicates=num_replicates, seed=seed, groups=groups)
    ap_BC = replicate_ap(target_NC, weight_NB, score_NC=score_NC, groups=groups)
    return intervals_of(ap_BC, estimates_of(target_NC, score_NC, ap_C=average_precision(target_NC, score_NC), groups=groups))


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnAgain:
    """The weights of `weights_of` for tables whose weights would fill the memory: drawn anew, block by block, in each pass."""

    num_images: int
    num_replicates: int
    seed: int
    groups: Groups | None

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """The replicates of a block, and their weights, uint8 N x b, one block after the other."""
        num = self.num_images if self.groups is None else self.groups.num_groups
        rng = np.random.default_rng(self.seed)
        for block in _blocks(self.num_images, self.num_replicates):
            drawn = np.stack([_draw(rng, num) for _ in range(len(range(*block.indices(self.num_replicates))))], axis=1)
            yield block, drawn if self.groups is None else drawn[self.groups.group_N]


Weights = np.ndarray | DrawnAgain
"""How many times each replicate drew each image: uint8 N x B, or what draws them."""


def bootstrap_weights(num_images: int, *, num_replicates: int, seed: int, groups: Groups | None = None) -> Weights:
    """As `weights_of`, in bounded memory."""
    if num_images * num_replicates <= _MOST_HELD or (groups is not None and groups.num_groups < 2):
        return weights_of(num_images, num_replicates=num_replicates, seed=seed, groups=groups)
    return DrawnAgain(num_images=num_images, num_replicates=num_replicates, seed=seed, groups=groups)


def weights_of(num_images: int, *, num_replicates: int, seed: int, groups: Groups | None = None) -> np.ndarray:
    """uint8 N x B: how many times each replicate drew each image, or its group. A single group gives no replicate: B is 0."""
    if groups is not None:
        if groups.num_groups < 2:
            return np.zeros((num_images, 0), np.uint8)
        return weights_of(groups.num_groups, num_replicates=num_replicates, seed=seed)[groups.group_N]
    rng = np.random.default_rng(seed)
    weight_NB = np.zeros((num_images, num_replicates), np.uint8)
    # a column is strided in memory: 64 are written together, since they share cache lines
    for start in range(0, num_replicates, 64):
        part = weight_NB[:, start : start + 64]
        part[:] = np.stack([_draw(rng, num_images) for _ in range(part.shape[1])], axis=1)
    return weight_NB


def _draw(rng: np.random.Generator, num: int) -> np.ndarray:
    """uint8: how many times each was drawn. One that is drawn 256 times has probability under 1e-500."""
    return np.bincount(rng.integers(0, num, num), minlength=num).astype(np.uint8)


def replicate_ap(
    target_NC: np.ndarray,
    weight_NB: Weights,
    *,
    score_NC: np.ndarray,
    groups: Groups | None = None,
    image_weight_N: np.ndarray | None = None,
) -> np.ndarray:
    """AP of every replicate and class, B x C; NaN where a replicate has no positive or no negative of a class.

    With `image_weight_N`, above 0 for images with a known label, each image drawn counts by its weight.
    """
    num_replicates, num_classes = _num_replicates(weight_NB), target_NC.shape[1]
    ap_BC = np.full((num_replicates, num_classes), np.nan)
    if not num_replicates:
        return ap_BC
    heaviest = _HEAVIEST if isinstance(weight_NB, DrawnAgain) else max(1, int(weight_NB.max(initial=1)))
    longest = max(1, (2**_LANE_BITS - 1) // heaviest)  # the sum of this many weights fits into a lane
    ones_N = np.ones(len(target_NC))  # shared by all classes: a table each would take more than the scores
    with ThreadPoolExecutor(num_cores()) as pool:

        def sort(column: int) -> _Order | None:
            target_N, score_N = target_NC[:, column], score_NC[:, column]
            return _order(target_N, score_N, longest=longest, groups=groups, weight_N=image_weight_N, ones_N=ones_N)

        classes = list(pool.map(sort, range(num_classes)))
        for block, part_Nb in _parts(weight_NB):
            assert isinstance(weight_NB, np.ndarray) or part_Nb.max() <= heaviest
            drawn = _pack(part_Nb) if image_weight_N is None else part_Nb.astype(np.float64)

            def one(column: int, *, block: slice = block, drawn: np.ndarray = drawn, part_Nb: np.ndarray = part_Nb) -> None:
                if (order := classes[column]) is not None:
                    ap_BC[block, column] = _weighted_ap(order, drawn, num_replicates=part_Nb.shape[1])
                    if len(order.few_negatives):
                        ap_BC[block, column][~part_Nb[order.few_negatives].any(axis=0)] = np.nan

            list(pool.map(one, range(num_classes)))
    return ap_BC


def replicate_means(values: Sequence[np.ndarray], weight_NB: Weights) -> np.ndarray:
    """Means over the images that each replicate drew, one row for each of the values (N numbers, NaN if not counted)."""
    value_VN = np.stack(values)
    counted_VN = (~np.isnan(value_VN)).astype(np.float64)
    value_VN = np.nan_to_num(value_VN)
    mean_VB = np.empty((len(value_VN), _num_replicates(weight_NB)))
    for block, part_Nb in _parts(weight_NB):
        drawn_NB = part_Nb.astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):  # a replicate that drew no image that counts: NaN
            mean_VB[:, block] = (value_VN @ drawn_NB) / (counted_VN @ drawn_NB)
    return mean_VB


def _num_replicates(weight_NB: Weights) -> int:
    return weight_NB.num_replicates if isinstance(weight_NB, DrawnAgain) else weight_NB.shape[1]


def _parts(weight_NB: Weights) -> Iterator[tuple[slice, np.ndarray]]:
    if isinstance(weight_NB, DrawnAgain):
        return weight_NB.blocks()
    return ((block, weight_NB[:, block]) for block in _blocks(*weight_NB.shape))


def _blocks(num_images: int, num_replicates: int) -> list[slice]:
    """Replicates in blocks of 10 to 200: few for many images, so that their weights stay in the cache."""
    width = _LANES * min(40, max(2, _BLOCK_BYTES // (8 * max(1, num_images))))
    return [slice(start, start + width) for start in range(0, num_replicates, width)]


def _pack(weight_NB: np.ndarray) -> np.ndarray:
    """float64, N x (B / 5): the first fifth of the replicates in the lowest ten bits, and so on."""
    num_images, num_replicates = weight_NB.shape
    width = -(-num_replicates // _LANES)
    packed = np.zeros((num_images, width), np.int64)
    for lane in reversed(range(_LANES)):
        part = weight_NB[:, lane * width : (lane + 1) * width]
        packed <<= _LANE_BITS
        packed[:, : part.shape[1]] += part
    return packed.astype(np.float64)


def _unpack(packed: np.ndarray, *, num_replicates: int) -> np.ndarray:
    """int32: the sums of B replicates, in their order."""
    num_sums, width = packed.shape
    whole = packed.astype(np.int64)
    sums = np.empty((num_sums, _LANES * width), np.int32)
    for lane in range(_LANES):
        np.bitwise_and(whole, 2**_LANE_BITS - 1, out=sums[:, lane * width : (lane + 1) * width], casting="unsafe")
        whole >>= _LANE_BITS
    return sums[:, :num_replicates]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sums:
    """Sums the weights of images in their order: each row of `pieces` adds as many images as fit a lane, at most; the pieces up to
    `last_P` are those of the images scored at least the threshold. `is_packed` unless the images have weights of their own."""

    pieces: sparse.csr_array
    last_P: np.ndarray
    is_packed: bool

    def of(self, drawn: np.ndarray, *, num_replicates: int) -> np.ndarray:
        """P x B sums of weights, from the top to each threshold."""
        sums = self.pieces @ drawn
        if self.is_packed:
            sums = _unpack(sums, num_replicates=num_replicates)
        np.cumsum(sums, axis=0, out=sums)
        return sums if len(sums) == len(self.last_P) else sums[self.last_P]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Order:
    """A class's images in the order of their scores: `predicted` sums all known, `true` the positives.

    few_negatives   the rows of the negatives, one of each group, where a replicate may draw none; empty where there are many
    """

    predicted: _Sums
    true: _Sums
    few_negatives: np.ndarray


def _order(
    target_N: np.ndarray,
    score_N: np.ndarray,
    *,
    longest: int,
    groups: Groups | None,
    weight_N: np.ndarray | None,
    ones_N: np.ndarray,
) -> _Order | None:
    ranking = rank(target_N, score_N)
    if not ranking.is_defined:
        return None
    known = np.flatnonzero(target_N >= 0)
    reached = known[score_N[known] >= ranking.threshold_P[-1]]  # images below every positive change nothing
    descending = reached[np.argsort(-score_N[reached], kind="stable")]
    positives = descending[target_N[descending] == 1]
    negatives = np.flatnonzero(target_N == 0)
    if groups is not None:
        negatives = negatives[np.unique(groups.group_N[negatives], return_index=True)[1]]

    def sums(rows: np.ndarray, end_P: np.ndarray) -> _Sums:
        return _sums(rows, end_P, num_images=len(target_N), longest=longest, weight_N=weight_N, ones_N=ones_N)

    return _Order(
        few_negatives=negatives if len(negatives) < _MANY else negatives[:0],
        predicted=sums(descending, ranking.predicted_P),
        true=sums(positives, ranking.tp_P),
    )


def _sums(
    rows: np.ndarray, end_P: np.ndarray, *, num_images: int, longest: int, weight_N: np.ndarray | None, ones_N: np.ndarray
) -> _Sums:
    """The sums whose p-th is over `rows[: end_P[p]]`, in pieces of at most `longest` that end at every one of them."""
    length_P = np.diff(end_P, prepend=0)
    num_pieces_P = -(-length_P // longest)
    last_P = np.cumsum(num_pieces_P) - 1
    place_K = np.arange(last_P[-1] + 1) - np.repeat(last_P + 1 - num_pieces_P, num_pieces_P)  # of a piece among its threshold's
    starts = np.append(np.repeat(end_P - length_P, num_pieces_P) + longest * place_K, end_P[-1])
    value_K = ones_N[: len(rows)] if weight_N is None else weight_N[rows]
    pieces = sparse.csr_array((value_K, rows.astype(np.int32), starts.astype(np.int32)), shape=(len(starts) - 1, num_images))
    return _Sums(pieces=pieces, last_P=last_P, is_packed=weight_N is None)


def _weighted_ap(order: _Order, drawn: np.ndarray, *, num_replicates: int) -> np.ndarray:
    tp_PB = order.true.of(drawn, num_replicates=num_replicates)
    predicted_PB = order.predicted.of(drawn, num_replicates=num_replicates)
    least = 1 if order.predicted.is_packed else np.finfo(np.float64).tiny
    precision_PB = tp_PB / np.maximum(predicted_PB, least)  # before the first image drawn nothing is predicted and nothing gained
    # the sum of (tp_p - tp_{p-1}) precision_p, by parts, without a table of the gains
    gained_B = np.einsum("pb,pb->b", tp_PB[:-1], precision_PB[:-1] - precision_PB[1:]) + tp_PB[-1] * precision_PB[-1]
    support_B = tp_PB[-1].astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):  # a replicate without a positive: NaN
        return gained_B / support_B


def percentiles(value_B: np.ndarray) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile of the replicates that are defined; NaN if none is."""
    defined = value_B[~np.isnan(value_B)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)
