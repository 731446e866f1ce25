"""Pairs of near hashes, by multi-index hashing (Norouzi, Punjani, Fleet 2014, "Fast Exact Search in Hamming Space with Multi-Index
Hashing", IEEE TPAMI 36, 1107, arXiv:1307.2982): where two hashes differ in 11 bits, one of their four parts of 16 bits differs in 2
at most. NumPy only.

Shapes: N images, V views, U distinct hashes, Q queries, P pairs.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from polytag.machine import num_cores

_BUCKET = 32  # of the images with one hash, the number that each is compared with


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """P pairs of rows with near hashes, each pair once, sorted by the lower row and then the other.

    query_P, other_P   rows; the hash of a view of `query` is near that of `other`
    view_P             the view
    bits_P             bits in which the two hashes differ
    """

    query_P: np.ndarray
    other_P: np.ndarray
    view_P: np.ndarray
    bits_P: np.ndarray

    def __len__(self) -> int:
        return len(self.query_P)

    def __getitem__(self, chosen: np.ndarray) -> "Candidates":
        return Candidates(
            query_P=self.query_P[chosen], other_P=self.other_P[chosen], view_P=self.view_P[chosen], bits_P=self.bits_P[chosen]
        )


def candidate_pairs(hash_NV: np.ndarray, *, radius_V: Sequence[int], is_left_out_N: np.ndarray | None = None) -> Candidates:
    """Every pair of rows where the hash of a view of one is within the view's radius, at most 11 bits, of the hash of the other.

    `hash_NV` has the images' own hashes in column 0. A pair that is near in several ways is returned in the nearest of them, or
    the first view of equally near ones. Of more than 32 rows with one hash, each is paired with 32.
    """
    assert max(radius_V) <= 11
    rows = np.arange(len(hash_NV)) if is_left_out_N is None else np.flatnonzero(~is_left_out_N)
    order = rows[np.argsort(hash_NV[rows, 0], kind="stable")]
    distinct_U, start_U, count_U = np.unique(hash_NV[order, 0], return_index=True, return_counts=True)
    queries, others, views, bits = ([np.zeros(0, np.int64)] for _ in range(4))
    for view, radius in enumerate(radius_V):
        if view:
            found = _near(distinct_U, hash_NV[order, view], radius=radius, both_ways=True)
            members = _members_of_views(*found, start_U=start_U, count_U=count_U)
        else:
            members = _members(*_near(distinct_U, distinct_U, radius=radius), start_U=start_U, count_U=count_U)
        for a, b, distance in members:
            queries.append(order[a])
            others.append(order[b])
            bits.append(distance)
            views.append(np.full(len(a), view))
    query_P, other_P, view_P, bits_P = map(np.concatenate, (queries, others, views, bits))
    key_P = np.minimum(query_P, other_P) * len(hash_NV) + np.maximum(query_P, other_P)
    by_key = np.lexsort((query_P, view_P, bits_P, key_P))
    nearest = by_key[np.flatnonzero(np.diff(key_P[by_key], prepend=-1))]
    return Candidates(query_P=query_P[nearest], other_P=other_P[nearest], view_P=view_P[nearest], bits_P=bits_P[nearest])


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


def _members_of_views(
    place: np.ndarray, second: np.ndarray, bits: np.ndarray, *, start_U: np.ndarray, count_U: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pairs of a view and a hash expanded to pairs of rows, as positions in the order of the hashes."""
    _, once = np.unique(place * len(start_U) + second, return_index=True)
    place, second, bits = place[once], second[once], bits[once]
    for each, within in _expand(np.minimum(count_U[second], _BUCKET)):
        other = start_U[second[each]] + within
        is_other = other != place[each]
        yield place[each][is_other], other[is_other], bits[each][is_other]
