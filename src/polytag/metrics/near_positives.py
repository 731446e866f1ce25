"""Ranks of the positives among all scores, without a full sort.

Average precision needs only these ranks. A full sort of a million scores also orders the negatives among themselves; on processors
whose vector instructions compress slowly (AMD's Zen 4) it takes three times as long as this module.
"""

import numpy as np

FEWEST = 40_000  # scores: sorting fewer is faster
_HEAD_BITS, _TAIL_BITS = 13, 19  # bits of a float32: sign, exponent and four bits of the fraction; the rest of the fraction
_BINS_PER_POSITIVE = 8
_CHUNK = 65_536  # scores whose intermediate numbers fit the processor's cache


def near_positives(key_N: np.ndarray, positive_P: np.ndarray, *, fewest: int = FEWEST) -> tuple[np.ndarray, np.ndarray]:
    """The keys that are close to the key of a positive, and for each positive the number of larger keys among the others.

    key_N        uint32 or uint64 (`ordered_integers`), including the positives; positive_P ascending, may repeat
    returns      near, unsorted: every key in a bin that holds a positive; num_above_P the number of larger keys that are not near

    The rank of a positive from the top is exactly the number of near keys that are at least as large, plus num_above_P. Bins are
    ranges of the first 32 bits of a key, about eight for each positive: keys with the same first 13 bits share as many bins as
    their positives need. So few keys are near, whatever the distribution. Ties are near, and all keys are if they are too few to
    benefit.
    """
    if len(key_N) < fewest or len(key_N) < _BINS_PER_POSITIVE * len(positive_P):
        return key_N, np.zeros(len(positive_P), np.int64)
    if not len(positive_P):
        return key_N[:0], np.zeros(0, np.int64)
    head_P = _first_32_bits(positive_P)
    num_H = np.bincount(head_P >> np.uint32(_TAIL_BITS), minlength=2**_HEAD_BITS)
    num_bits_H = np.zeros(2**_HEAD_BITS, np.int64)
    held = num_H > 0
    num_bits_H[held] = np.minimum(np.ceil(np.log2(_BINS_PER_POSITIVE * num_H[held])), _TAIL_BITS)
    end_H = np.cumsum(1 << num_bits_H)
    # the bin of a key: its first 13 + num_bits bits, moved to where the bins of its first 13 bits begin; modulo 2^32
    shift_H = (_TAIL_BITS - num_bits_H).astype(np.uint32)
    move_H = (end_H - ((np.arange(2**_HEAD_BITS) + 1) << num_bits_H)).astype(np.uint32)

    bin_P = (head_P >> shift_H[head_P >> np.uint32(_TAIL_BITS)]) + move_H[head_P >> np.uint32(_TAIL_BITS)]
    is_near_B = np.zeros(int(end_H[-1]), bool)
    is_near_B[bin_P] = True
    near: list[np.ndarray] = []
    num_B = np.zeros(len(is_near_B), np.int64)
    bins, shifts, moves = np.empty(_CHUNK, np.intp), np.empty(_CHUNK, np.uint32), np.empty(_CHUNK, np.uint32)
    for start in range(0, len(key_N), _CHUNK):
        key_K = key_N[start : start + _CHUNK]
        head_K, bin_K, shift_K, move_K = _first_32_bits(key_K), bins[: len(key_K)], shifts[: len(key_K)], moves[: len(key_K)]
        np.right_shift(head_K, np.uint32(_TAIL_BITS), out=bin_K, casting="unsafe")
        np.take(shift_H, bin_K, out=shift_K, mode="clip")  # "clip" because "raise" makes a copy of what it writes to
        np.take(move_H, bin_K, out=move_K, mode="clip")
        np.right_shift(head_K, shift_K, out=shift_K)
        np.add(shift_K, move_K, out=bin_K, dtype=np.uint32, casting="unsafe")
        np.add.at(num_B, bin_K, 1)
        near.append(key_K[np.take(is_near_B, bin_K, mode="clip")])
    num_B[is_near_B] = 0
    num_to_B = np.cumsum(num_B)
    return np.concatenate(near), num_to_B[-1] - num_to_B[bin_P]


def _first_32_bits(key: np.ndarray) -> np.ndarray:
    return key if key.dtype == np.uint32 else (key >> np.uint64(32)).astype(np.uint32)
