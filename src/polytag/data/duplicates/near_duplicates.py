"""Near duplicates: one image re-encoded, resized, a little brighter, cropped at the border, or mirrored. NumPy only.

Shapes: N images, P pairs, S = 32 pixels a side, D features. The search has two stages, because a short hash alone confuses images
with little detail:

1. A hash of 64 bits: the signs of the 64 lowest frequencies, without the mean, of the discrete cosine transform of a grey copy of
   32 x 32 pixels ("pHash": Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions", section 3.2.1; there
   the bits are against the median, here against 0, so that mirroring an image flips the bits of the odd horizontal frequencies and
   nothing else). Hashes within RADIUS bits are found by multi-index hashing (Norouzi, Punjani, Fleet 2014, "Fast Exact Search in
   Hamming Space with Multi-Index Hashing", IEEE TPAMI 36, 1107, arXiv:1307.2982): of four 16-bit parts one differs in 2 at most.
   The hash of a cropped image differs from that of the whole, so the hashes of five parts of each image are searched too, within
   PART_RADIUS.
2. The copies themselves: the correlation of their detail (without the 4 x 4 lowest frequencies) after alignment by shift and scale
   (Lucas, Kanade 1981, with Gauss-Newton steps), and the difference of their colours.

An image without detail, such as a blank page, is flat: it resembles every other flat image and is not compared.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
from PIL import Image

from polytag.data.duplicates.alignment import SIDE, aligned, correlation, cosines, detail
from polytag.machine import num_cores

RADIUS = 11
"""Largest number of bits in which two hashes differ. Re-encoded photographs differ in 0 to 6 bits, unrelated ones in 32."""

PART_RADIUS = 7
"""RADIUS for the hash of a part of one image and of the whole other. The search costs an eighth of one within 11 bits."""

SAME_DETAIL = 0.91
"""Smallest correlation of detail of two copies of one image; the highest measured of unrelated photographs is 0.78."""

MIN_DETAIL = 2.0
"""Standard deviation of an image's detail, in grey levels of 255, below which it is flat."""

_SIDE, _COLOUR_SIDE = SIDE, 8
_MAX_COLOUR, _GREY = 12.0, 2.0  # mean difference of the two colour channels; mean distance from grey of an image without colour
_SURE = 0.97  # correlation above which copies need no alignment
_BLOCK = 8192  # pairs compared at a time
_BUCKET = 32  # of the images with one hash, the number that each is compared with
_FREQUENCIES = sorted(((v, u) for v in range(16) for u in range(16) if u + v), key=lambda vu: (sum(vu), vu))[:64]
_MIRROR = np.uint64(sum(1 << bit for bit, (_, u) in enumerate(_FREQUENCIES) if u % 2))
_PARTS = (
    (0.5, 0.5),
    (0.15, 0.15),
    (0.15, 0.85),
    (0.85, 0.15),
    (0.85, 0.85),
)  # the share of the trimmed rows and columns that is before the part
_PART_TRIM = 0.07  # share of each side that a part lacks


@dataclass(frozen=True, kw_only=True, eq=False)
class Fingerprints:
    """Hashes and small copies of N images: 1.2 kB each.

    hash_N        uint64, the bits of the lowest frequencies
    grey_NSS      uint8, 32 x 32
    colour_NTT2   uint8, 8 x 8, the two colour channels of YCbCr
    is_flat_N     with too little detail to be compared
    """

    hash_N: np.ndarray
    grey_NSS: np.ndarray
    colour_NTT2: np.ndarray
    is_flat_N: np.ndarray

    def __len__(self) -> int:
        return len(self.hash_N)


@dataclass(frozen=True, kw_only=True, eq=False)
class NearPairs:
    """P pairs of rows that show one image.

    first_P, second_P   rows, first < second
    bits_P              bits in which the hashes differ, or the hashes of one and of a part of the other if fewer; at most RADIUS
    correlation_P       of their detail, SAME_DETAIL to 1
    is_mirrored_P       whether one is the mirror image of the other
    """

    first_P: np.ndarray
    second_P: np.ndarray
    bits_P: np.ndarray
    correlation_P: np.ndarray
    is_mirrored_P: np.ndarray

    def __len__(self) -> int:
        return len(self.first_P)


def small_copy(image: Image.Image) -> bytes:
    """The 1,152 bytes of an RGB image that its fingerprint is computed from: 32 x 32 grey, 8 x 8 of the two colour channels."""
    small = image.resize((_SIDE, _SIDE), Image.Resampling.BOX).convert("YCbCr")
    grey, blue, red = small.split()
    colours = [channel.resize((_COLOUR_SIDE, _COLOUR_SIDE), Image.Resampling.BOX).tobytes() for channel in (blue, red)]
    return grey.tobytes() + b"".join(colours)


def fingerprints_of(copies: Sequence[bytes]) -> Fingerprints:
    """Fingerprints of small copies; about 10 microseconds each."""
    flat_N = np.frombuffer(b"".join(copies), np.uint8).reshape(len(copies), -1)
    grey_NSS = flat_N[:, : _SIDE**2].reshape(-1, _SIDE, _SIDE)
    colour_NTT2 = flat_N[:, _SIDE**2 :].reshape(-1, 2, _COLOUR_SIDE, _COLOUR_SIDE).transpose(0, 2, 3, 1)
    hash_N, is_flat_N = np.zeros(len(copies), np.uint64), np.zeros(len(copies), bool)
    for start in range(0, len(copies), _BLOCK):
        block = slice(start, start + _BLOCK)
        grey = grey_NSS[block].astype(np.float32)
        hash_N[block] = _hash(grey)
        is_flat_N[block] = detail(grey).std(axis=(1, 2)) < MIN_DETAIL
    return Fingerprints(hash_N=hash_N, grey_NSS=grey_NSS, colour_NTT2=colour_NTT2, is_flat_N=is_flat_N)


def near_pairs(fingerprints: Fingerprints, *, part_N: np.ndarray | None = None) -> NearPairs:
    """Pairs of rows that show one image, by both stages; with `part_N` only pairs whose parts differ.

    Without parts, a pair is omitted where pairs with fewer bits already link its two images: the remaining pairs link every group.
    Of more than 32 images with one hash, not all pairs are tried. Sorted by rows.
    """
    pair_P2, bits_P, mirrored_P = candidate_pairs(
        fingerprints.hash_N, part_hash_NW=part_hashes(fingerprints.grey_NSS), is_left_out_N=fingerprints.is_flat_N
    )
    if part_N is not None:
        across = part_N[pair_P2[:, 0]] != part_N[pair_P2[:, 1]]
        pair_P2, bits_P, mirrored_P = pair_P2[across], bits_P[across], mirrored_P[across]
    group_N = np.arange(len(fingerprints))
    confirmed: list[np.ndarray] = []
    correlations: list[np.ndarray] = []
    order = np.lexsort((pair_P2[:, 1], pair_P2[:, 0], mirrored_P, bits_P))
    for start in range(0, len(order), _BLOCK):
        block = order[start : start + _BLOCK]
        if part_N is None:
            block = block[group_N[pair_P2[block, 0]] != group_N[pair_P2[block, 1]]]
        correlation_p = _compare(fingerprints, pair_P2[block], mirrored_P[block])
        same = correlation_p >= SAME_DETAIL
        confirmed.append(block[same])
        correlations.append(correlation_p[same])
        if part_N is None and same.any():
            group_N = groups_of(pair_P2[np.concatenate(confirmed)], num_rows=len(fingerprints))
    chosen = np.concatenate(confirmed) if confirmed else np.zeros(0, np.int64)
    correlation_P = np.concatenate(correlations) if correlations else np.zeros(0)
    by_rows = np.lexsort((pair_P2[chosen, 1], pair_P2[chosen, 0]))
    chosen = chosen[by_rows]
    return NearPairs(
        first_P=pair_P2[chosen, 0],
        second_P=pair_P2[chosen, 1],
        bits_P=bits_P[chosen],
        correlation_P=correlation_P[by_rows],
        is_mirrored_P=mirrored_P[chosen],
    )


def candidate_pairs(
    hash_N: np.ndarray, *, part_hash_NW: np.ndarray | None = None, radius: int = RADIUS, is_left_out_N: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pair of rows whose hashes, one of them mirrored or not, differ in at most `radius` bits.

    With `part_hash_NW`, also the pairs where the hashes of a part of one and of the other differ in at most PART_RADIUS bits.

    Returns rows P x 2 with the lower first, bits P, and whether mirrored P. A pair that is near in both ways is returned once, in
    the nearer one. Of more than 32 rows with one hash, each is paired with 32. The search is complete for a `radius` of at most 11.
    """
    assert 0 <= radius <= RADIUS
    rows = np.arange(len(hash_N)) if is_left_out_N is None else np.flatnonzero(~is_left_out_N)
    order = rows[np.argsort(hash_N[rows], kind="stable")]
    distinct_U, start_U, count_U = np.unique(hash_N[order], return_index=True, return_counts=True)
    pairs, bits, mirrored = [np.zeros((0, 2), np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, bool)]
    for flip in (np.uint64(0), _MIRROR):
        members = [_members(*_near(distinct_U, distinct_U ^ flip, radius=radius), start_U=start_U, count_U=count_U)]
        for part_N in () if part_hash_NW is None else part_hash_NW.T:
            found = _near(distinct_U, part_N[order] ^ flip, radius=min(radius, PART_RADIUS), both_ways=True)
            members.append(_members_of_parts(*found, start_U=start_U, count_U=count_U))
        for a, b, d in chain.from_iterable(members):
            pairs.append(np.sort(np.stack([order[a], order[b]], axis=1), axis=1))
            bits.append(d)
            mirrored.append(np.full(len(d), bool(flip)))
    pair_P2, bits_P, mirrored_P = np.concatenate(pairs), np.concatenate(bits), np.concatenate(mirrored)
    key_P = pair_P2[:, 0] * len(hash_N) + pair_P2[:, 1]
    by_key = np.lexsort((mirrored_P, bits_P, key_P))
    first_of_each = by_key[np.flatnonzero(np.diff(key_P[by_key], prepend=-1))]
    return pair_P2[first_of_each], bits_P[first_of_each], mirrored_P[first_of_each]


def groups_of(pair_P2: np.ndarray, *, num_rows: int) -> np.ndarray:
    """The group of each row: the lowest row that pairs link it with, or itself."""
    group_N = np.arange(num_rows)
    while len(pair_P2):
        lowest_P = group_N[pair_P2].min(axis=1)
        before = group_N.copy()
        np.minimum.at(group_N, group_N[pair_P2[:, 0]], lowest_P)
        np.minimum.at(group_N, group_N[pair_P2[:, 1]], lowest_P)
        while not np.array_equal(group_N, group_N[group_N]):
            group_N = group_N[group_N]
        if np.array_equal(before, group_N):
            break
    return group_N


def feature_pairs(feature_ND: np.ndarray, *, cosine: float, block: int = 1024) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of rows whose features have at least this cosine: rows P x 2, lower first, and cosines P.

    Features of length 0 are in no pair. A blocked matrix product: N x N / 2 x D multiplications, `block` x N numbers in memory.
    """
    length_N = np.linalg.norm(feature_ND, axis=1)
    unit_ND = feature_ND / np.where(length_N > 0, length_N, 1)[:, None]
    pairs, cosines = [np.zeros((0, 2), np.int64)], [np.zeros(0)]
    for start in range(0, len(unit_ND), block):
        cosine_BN = unit_ND[start : start + block] @ unit_ND[start:].T
        first, second = np.nonzero(np.triu(cosine_BN >= cosine, k=1))
        pairs.append(np.stack([first + start, second + start], axis=1))
        cosines.append(cosine_BN[first, second].astype(np.float64))
    return np.concatenate(pairs), np.concatenate(cosines)


# ---- computing and searching hashes ----


def part_hashes(grey_NSS: np.ndarray) -> np.ndarray:
    """uint64, N x 5: hashes of the centre and of the part towards each corner, each without 7% of each side."""
    hash_NW = np.zeros((len(grey_NSS), len(_PARTS)), np.uint64)
    for start in range(0, len(grey_NSS), _BLOCK):
        grey = grey_NSS[start : start + _BLOCK].astype(np.float32)
        for part, (down, along) in enumerate(_PARTS):
            hash_NW[start : start + _BLOCK, part] = _hash(grey, window_y=_window(down), window_x=_window(along))
    return hash_NW


def _hash(grey_NSS: np.ndarray, *, window_y: np.ndarray | None = None, window_x: np.ndarray | None = None) -> np.ndarray:
    basis_FS = cosines(_SIDE)[: 1 + max(max(pair) for pair in _FREQUENCIES)].astype(np.float32)
    y_FS, x_FS = (basis_FS if window is None else basis_FS @ window for window in (window_y, window_x))
    rows, columns = np.array(_FREQUENCIES).T
    weight_B = np.uint64(1) << np.arange(len(_FREQUENCIES), dtype=np.uint64)
    return (((y_FS @ grey_NSS @ x_FS.T)[:, rows, columns] > 0) * weight_B).sum(axis=1, dtype=np.uint64)


def _window(before: float) -> np.ndarray:
    """S x S: maps a side of S pixels to the S pixels of its trimmed part, each the mean of the pixels that it covers."""
    edge = _PART_TRIM * _SIDE * before + (1 - _PART_TRIM) * np.arange(_SIDE + 1)
    place = np.arange(_SIDE)
    covered = np.minimum(edge[1:, None], place + 1) - np.maximum(edge[:-1, None], place)
    return (np.maximum(covered, 0) / (1 - _PART_TRIM)).astype(np.float32)


def _near(
    distinct_U: np.ndarray, query_Q: np.ndarray, *, radius: int, both_ways: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(query, hash, bits) of all pairs within `radius` bits, some of them repeated."""
    with ThreadPoolExecutor(num_cores()) as pool:
        search = partial(_search, distinct_U, query_Q, radius=radius, both_ways=both_ways)
        parts = list(pool.map(lambda part: search(part=part), range(4)))
    first, second, bits = (np.concatenate(each) for each in zip(*parts, strict=True))
    return first, second, bits


def _search(
    distinct_U: np.ndarray, query_U: np.ndarray, *, part: int, radius: int, both_ways: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(first, second, bits) within `radius` bits that differ in few of this part's 16; first <= second unless `both_ways`."""
    limit = radius // 4
    flips = [0] + [1 << a for a in range(16)] * (limit >= 1) + [1 << a | 1 << b for a in range(16) for b in range(a)] * (limit >= 2)
    shift, ones = np.uint64(16 * part), np.uint64(0xFFFF)
    key_U, query_key_U = ((hashes >> shift & ones).astype(np.int64) for hashes in (distinct_U, query_U))
    # both sorted by key, so that memory is read nearly sequentially
    order, query_order = np.argsort(key_U, kind="stable"), np.argsort(query_key_U, kind="stable")
    hash_U, query_U, query_key_U = distinct_U[order], query_U[query_order], query_key_U[query_order]
    start_K = np.concatenate([[0], np.cumsum(np.bincount(key_U, minlength=1 << 16))])
    firsts, seconds, bits = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for flip in flips:
        wanted_U = query_key_U ^ flip
        low_U = start_K[wanted_U]
        for query, within in _expand(start_K[wanted_U + 1] - low_U, chunk_size=1 << 18):
            place = low_U[query] + within
            distance = np.bitwise_count(query_U[query] ^ hash_U[place])
            near = np.flatnonzero(distance <= radius)
            first, second, distance = query_order[query[near]], order[place[near]], distance[near]
            ordered = slice(None) if both_ways else second >= first
            firsts.append(first[ordered])
            seconds.append(second[ordered])
            bits.append(distance[ordered].astype(np.int64))
    return np.concatenate(firsts), np.concatenate(seconds), np.concatenate(bits)


def _expand(count_U: np.ndarray, *, chunk_size: int = 1 << 22) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(u, 0 .. count[u] - 1) for every u, in chunks of about `chunk_size`."""
    total_U = np.cumsum(count_U)
    start = 0
    while start < len(count_U):
        before = total_U[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total_U, before + chunk_size, side="right")))
        count = count_U[start:stop]
        u = np.repeat(np.arange(start, stop), count)
        yield u, np.arange(len(u)) - np.repeat(np.cumsum(count) - count, count)
        start = stop


def _members(
    first: np.ndarray, second: np.ndarray, bits: np.ndarray, *, start_U: np.ndarray, count_U: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pairs of hashes expanded to pairs of rows, as positions in the order of the hashes."""
    key = first * len(start_U) + second
    _, once = np.unique(key, return_index=True)
    first, second, bits = first[once], second[once], bits[once]
    alike = first == second
    for step in range(1, _BUCKET + 1):  # rows with one hash are paired with the next ones
        few = alike & (count_U[first] > step)
        for u, within in _expand(np.where(few, count_U[first] - step, 0)):
            place = start_U[first[u]] + within
            yield place, place + step, bits[u]
    first, second, bits = first[~alike], second[~alike], bits[~alike]
    width = np.minimum(count_U[second], _BUCKET)
    for u, within in _expand(np.minimum(count_U[first], _BUCKET) * width):
        yield start_U[first[u]] + within // width[u], start_U[second[u]] + within % width[u], bits[u]


def _members_of_parts(
    place: np.ndarray, second: np.ndarray, bits: np.ndarray, *, start_U: np.ndarray, count_U: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pairs of a part and a hash expanded to pairs of rows, as positions in the order of the hashes."""
    _, once = np.unique(place * len(start_U) + second, return_index=True)
    place, second, bits = place[once], second[once], bits[once]
    for each, within in _expand(np.minimum(count_U[second], _BUCKET)):
        other = start_U[second[each]] + within
        is_other = other != place[each]
        yield place[each][is_other], other[is_other], bits[each][is_other]


# ---- comparing copies ----


def _compare(fingerprints: Fingerprints, pair_P2: np.ndarray, mirrored_P: np.ndarray) -> np.ndarray:
    """Correlation of detail of each pair after alignment; 0 where their colours differ."""
    if not len(pair_P2):
        return np.zeros(0)
    first, second = pair_P2.T
    a_PSS = fingerprints.grey_NSS[first].astype(np.float32)
    b_PSS = fingerprints.grey_NSS[second].astype(np.float32)
    a_colour, b_colour = (fingerprints.colour_NTT2[rows].astype(np.float32) - 128 for rows in (first, second))
    b_PSS[mirrored_P], b_colour[mirrored_P] = b_PSS[mirrored_P, :, ::-1], b_colour[mirrored_P, :, ::-1]
    is_grey = np.minimum(np.abs(a_colour).mean(axis=(1, 2, 3)), np.abs(b_colour).mean(axis=(1, 2, 3))) < _GREY
    alike = is_grey | (np.abs(a_colour - b_colour).mean(axis=(1, 2, 3)) <= _MAX_COLOUR)
    correlation_P = np.zeros(len(first))
    everywhere = np.ones((1, _SIDE, _SIDE), bool)
    correlation_P[alike] = correlation(detail(a_PSS[alike]), detail(b_PSS[alike]), everywhere)
    again = np.flatnonzero(alike & (correlation_P < _SURE))
    if len(again):
        correlation_P[again] = np.maximum(correlation_P[again], aligned(a_PSS[again], b_PSS[again]))
    return correlation_P
