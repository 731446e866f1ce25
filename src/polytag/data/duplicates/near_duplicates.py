"""Near duplicates: one image re-encoded, resized, tinted, marked, framed, cropped, mirrored, turned or tilted a little. NumPy only.

Shapes: N images, R small copies, P pairs, S = 32 pixels a side, D features. The search has two stages, because a short hash alone
confuses images with little detail:

1. The hash of each view of an image (views.py) against the hashes of all images (hash_search.py).
2. The copies themselves: the correlation of their detail after alignment (alignment.py), and their colours up to a tint.

An image inside a plain frame has two small copies, one without the frame. An image without detail, such as a blank page, is flat:
it resembles every other flat image and is not compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from polytag.data.duplicates.alignment import SIDE, aligned, correlation, detail, sampled
from polytag.data.duplicates.hash_search import Candidates, candidate_pairs
from polytag.data.duplicates.views import VIEWS, view_hashes
from polytag.data.images.resize import resize

SAME_DETAIL = 0.91
"""Smallest correlation of detail of two copies of one image."""

MIN_DETAIL = 2.0
"""Standard deviation of an image's detail, in grey levels of 255, below which it is flat."""

_COLOUR_SIDE = 8
_COPY_BYTES = SIDE**2 + 2 * _COLOUR_SIDE**2
_MAX_COLOUR, _COLOUR_SHARE, _COLOUR_NOISE = 12.0, 0.5, 1.5  # difference of colours beyond a tint: at most, share of colour, noise
_MAX_TINT, _MAX_SATURATION = 0.22, 2.0  # of a tint: colour per grey level, and how much stronger or weaker colours become
_SURE = 0.97  # correlation above which copies need no alignment
_BLOCK = 8192  # pairs compared at a time
_FRAME_SIDE = 128  # of the copy on which a frame is looked for
_PLAIN = 8.0  # standard deviation of the grey levels in a line of a frame, and difference of its mean from the first line's
_UNEVEN_LINES = 3  # of 128, by which opposite sides of a frame differ
_MIN_FRAME, _MAX_FRAME = 0.02, 0.6  # share of a side that is frame


@dataclass(frozen=True, kw_only=True, eq=False)
class Fingerprints:
    """Hashes and small copies of N images: 1.3 kB each, twice that for an image inside a plain frame.

    image_R       the image of each copy; the whole images come first, in their order
    grey_RSS      uint8, 32 x 32
    colour_RTT2   uint8, 8 x 8, the two colour channels of YCbCr
    hash_RV       uint64, the hash of every view
    is_flat_R     with too little detail to be compared
    num_images    N
    """

    image_R: np.ndarray
    grey_RSS: np.ndarray
    colour_RTT2: np.ndarray
    hash_RV: np.ndarray
    is_flat_R: np.ndarray
    num_images: int

    @property
    def is_flat_N(self) -> np.ndarray:
        """Images of which no copy has enough detail to be compared."""
        is_flat_N = np.ones(self.num_images, bool)
        is_flat_N[self.image_R[~self.is_flat_R]] = False
        return is_flat_N


@dataclass(frozen=True, kw_only=True, eq=False)
class NearPairs:
    """P pairs of rows that show one image.

    first_P, second_P   rows, first < second
    bits_P              bits in which the hashes of the nearest views of the two differ; at most RADIUS
    correlation_P       of their detail after alignment, SAME_DETAIL to 1
    is_mirrored_P       whether one is the mirror image of the other
    is_turned_P         whether one is turned by a quarter or a half, against the other or against its mirror image
    """

    first_P: np.ndarray
    second_P: np.ndarray
    bits_P: np.ndarray
    correlation_P: np.ndarray
    is_mirrored_P: np.ndarray
    is_turned_P: np.ndarray

    def __len__(self) -> int:
        return len(self.first_P)


def orientation(*, is_mirrored: bool, is_turned: bool) -> str:
    """What follows the number of bits in a line about a pair: ", mirrored", ", turned", both, or nothing."""
    return (", mirrored" if is_mirrored else "") + (", turned" if is_turned else "")


# ---- small copies and their fingerprints ----


def small_copy(image: Image.Image) -> bytes:
    """The bytes of an RGB image that its fingerprint is computed from: 32 x 32 grey, 8 x 8 of the two colour channels.

    1,152 bytes, or twice as many for an image inside a plain frame: then those of the image without the frame follow.
    """
    frame = _inside_frame(image)
    return _copy(image) + (b"" if frame is None else _copy(image.crop(frame)))


def fingerprints_of(copies: Sequence[bytes]) -> Fingerprints:
    """Fingerprints of small copies; about 40 microseconds each."""
    framed = [row for row, copy in enumerate(copies) if len(copy) > _COPY_BYTES]
    joined = b"".join([*(copy[:_COPY_BYTES] for copy in copies), *(copies[row][_COPY_BYTES:] for row in framed)])
    flat_R = np.frombuffer(joined, np.uint8).reshape(-1, _COPY_BYTES)
    grey_RSS = flat_R[:, : SIDE**2].reshape(-1, SIDE, SIDE)
    is_flat_R = np.zeros(len(flat_R), bool)
    for start in range(0, len(flat_R), _BLOCK):
        block = slice(start, start + _BLOCK)
        is_flat_R[block] = detail(grey_RSS[block].astype(np.float32)).std(axis=(1, 2)) < MIN_DETAIL
    return Fingerprints(
        image_R=np.concatenate([np.arange(len(copies)), np.array(framed, np.int64)]),
        grey_RSS=grey_RSS,
        colour_RTT2=flat_R[:, SIDE**2 :].reshape(-1, 2, _COLOUR_SIDE, _COLOUR_SIDE).transpose(0, 2, 3, 1),
        hash_RV=view_hashes(grey_RSS),
        is_flat_R=is_flat_R,
        num_images=len(copies),
    )


def _copy(image: Image.Image) -> bytes:
    small = resize(image, (SIDE, SIDE), Image.Resampling.BOX).convert("YCbCr")
    grey, blue, red = small.split()
    colours = [resize(channel, (_COLOUR_SIDE, _COLOUR_SIDE), Image.Resampling.BOX).tobytes() for channel in (blue, red)]
    return grey.tobytes() + b"".join(colours)


def _inside_frame(image: Image.Image) -> tuple[int, int, int, int] | None:
    """The box inside a frame of one grey level: a border, or bars on two opposite sides; None without one.

    Opposite sides are about equally wide: a plain sky is no frame.
    """
    grey = np.asarray(resize(image.convert("L"), (_FRAME_SIDE, _FRAME_SIDE), Image.Resampling.BOX), np.float32)
    top, bottom = _plain_lines(grey), _plain_lines(grey[::-1])
    if top + bottom >= _FRAME_SIDE:
        return None  # blank
    inner = grey[top : _FRAME_SIDE - bottom]
    left, right = _plain_lines(inner.T), _plain_lines(inner[:, ::-1].T)
    top, bottom = (top, bottom) if abs(top - bottom) <= _UNEVEN_LINES else (0, 0)
    left, right = (left, right) if abs(left - right) <= _UNEVEN_LINES else (0, 0)
    if not _MIN_FRAME <= max(top + bottom, left + right) / _FRAME_SIDE <= _MAX_FRAME:
        return None
    width, height = image.width / _FRAME_SIDE, image.height / _FRAME_SIDE
    box = round(left * width), round(top * height), round((_FRAME_SIDE - right) * width), round((_FRAME_SIDE - bottom) * height)
    return box if box[2] > box[0] and box[3] > box[1] else None


def _plain_lines(grey: np.ndarray) -> int:
    """The number of first rows that all have nearly one grey level, apart from the ripples of JPEG at the edge of a frame."""
    mean = grey.mean(axis=1)
    is_plain = (np.abs(mean - mean[0]) <= _PLAIN) & (grey.std(axis=1) <= _PLAIN)
    return int(np.argmin(np.append(is_plain, False)))


# ---- pairs ----


def near_pairs(fingerprints: Fingerprints, *, part_N: np.ndarray | None = None) -> NearPairs:
    """Pairs of images that show one image, by both stages; with `part_N` only pairs whose parts differ.

    Without parts, a pair is omitted where pairs with fewer bits already link its two images: the remaining pairs link every group.
    Of more than 32 images with one hash, not all pairs are tried. Sorted by rows.
    """
    candidates = candidate_pairs(
        fingerprints.hash_RV, radius_V=[view.radius for view in VIEWS], is_left_out_N=fingerprints.is_flat_R
    )
    image_P2 = fingerprints.image_R[np.stack([candidates.query_P, candidates.other_P], axis=1)]
    image_P2.sort(axis=1)
    is_framed_N = np.bincount(fingerprints.image_R, minlength=fingerprints.num_images) > 1
    is_whole_P = np.maximum(candidates.query_P, candidates.other_P) < fingerprints.num_images
    possible = image_P2[:, 0] != image_P2[:, 1]  # not an image and itself without its frame
    possible &= ~(is_whole_P & is_framed_N[image_P2].all(axis=1))  # two framed images are compared without their frames
    if part_N is not None:
        possible &= part_N[image_P2[:, 0]] != part_N[image_P2[:, 1]]
    order = np.flatnonzero(possible)
    order = order[np.lexsort((image_P2[order, 1], image_P2[order, 0], candidates.view_P[order], candidates.bits_P[order]))]
    group_N = np.arange(fingerprints.num_images)
    confirmed, correlations = [np.zeros(0, np.int64)], [np.zeros(0)]
    for start in range(0, len(order), _BLOCK):
        block = order[start : start + _BLOCK]
        if part_N is None:
            block = block[group_N[image_P2[block, 0]] != group_N[image_P2[block, 1]]]
        correlation_P = _compare(fingerprints, candidates[block])
        same = correlation_P >= SAME_DETAIL
        confirmed.append(block[same])
        correlations.append(correlation_P[same])
        if part_N is None and same.any():
            group_N = groups_of(image_P2[np.concatenate(confirmed)], num_rows=fingerprints.num_images)
    chosen, correlation_P = np.concatenate(confirmed), np.concatenate(correlations)
    key_P = image_P2[chosen] @ np.array([fingerprints.num_images, 1])
    _, once = np.unique(key_P, return_index=True)  # sorted by rows, of each pair of images the one with fewest bits
    chosen, correlation_P = chosen[once], correlation_P[once]
    views = [VIEWS[view] for view in candidates.view_P[chosen].tolist()]
    return NearPairs(
        first_P=image_P2[chosen, 0],
        second_P=image_P2[chosen, 1],
        bits_P=candidates.bits_P[chosen],
        correlation_P=correlation_P,
        is_mirrored_P=np.array([view.is_mirrored for view in views], bool),
        is_turned_P=np.array([view.quarter_turns > 0 for view in views], bool),
    )


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


# ---- comparing copies ----


def _compare(fingerprints: Fingerprints, pairs: Candidates) -> np.ndarray:
    """Correlation of detail of each pair after alignment; 0 where their colours differ by more than a tint."""
    a_PSS, b_PSS = (fingerprints.grey_RSS[rows].astype(np.float32) for rows in (pairs.query_P, pairs.other_P))
    a_PTT2, b_PTT2 = (fingerprints.colour_RTT2[rows].astype(np.float32) - 128 for rows in (pairs.query_P, pairs.other_P))
    start_P23 = np.zeros((len(pairs), 2, 3), np.float32)
    for number in np.unique(pairs.view_P):
        view, here = VIEWS[number], pairs.view_P == number
        a_PSS[here], a_PTT2[here], start_P23[here] = view.of(a_PSS[here]), view.of(a_PTT2[here]), view.map_23
    map_P23, moved_PSS = start_P23, sampled(a_PSS, start_P23)
    correlation_P = correlation(detail(moved_PSS[0]), detail(b_PSS), moved_PSS[1])
    again = np.flatnonzero(correlation_P < _SURE)
    if len(again):
        map_P23[again], correlation_P[again] = aligned(a_PSS[again], b_PSS[again], start_P23[again])
    same = np.flatnonzero(correlation_P >= SAME_DETAIL)
    a_PSS[same], inside_PSS = sampled(a_PSS[same], map_P23[same])
    blue, red = (sampled(_enlarged(a_PTT2[same, :, :, channel]), map_P23[same])[0] for channel in (0, 1))
    moved_PTT2 = np.stack([_reduced(blue), _reduced(red)], axis=3)
    inside_PTT = _reduced(inside_PSS) > 0.99
    greys = _reduced(a_PSS[same]), _reduced(b_PSS[same])
    is_tint_P = _is_tint(moved_PTT2, b_PTT2[same], greys[1], inside_PTT) | _is_tint(b_PTT2[same], moved_PTT2, greys[0], inside_PTT)
    correlation_P[same[~is_tint_P]] = 0
    return correlation_P


def _is_tint(a_PTT2: np.ndarray, b_PTT2: np.ndarray, grey_PTT: np.ndarray, inside_PTT: np.ndarray) -> np.ndarray:
    """Whether the colours of `b` are those of `a` up to a tint: the rest is at most half of the colour there is, and noise.

    A tint makes colours stronger or weaker and adds a share of `grey`, the grey level of `b`, to each channel: white balance, a
    sepia tone, a copy without colour.
    """
    grey = np.where(inside_PTT, grey_PTT, 0)[..., None]
    a, b = (np.where(inside_PTT[..., None], each, 0) for each in (a_PTT2, b_PTT2))
    power = np.maximum((grey * grey).sum(axis=(1, 2), keepdims=True), 1e-6)

    def share(colour: np.ndarray) -> np.ndarray:
        return (colour * grey).sum(axis=(1, 2), keepdims=True) / power

    a_rest, b_rest = a - share(a) * grey, b - share(b) * grey
    overlap = (a_rest * b_rest).sum(axis=(1, 2, 3), keepdims=True)
    saturation = np.clip(overlap / np.maximum((a_rest * a_rest).sum(axis=(1, 2, 3), keepdims=True), 1e-6), 0, _MAX_SATURATION)
    tint = np.clip(share(b - saturation * a), -_MAX_TINT, _MAX_TINT)
    count_P = np.maximum(2 * inside_PTT.sum(axis=(1, 2)), 1)
    rest_P, colour_P = (np.abs(each).sum(axis=(1, 2, 3)) / count_P for each in (b - saturation * a - tint * grey, b))
    return rest_P <= np.minimum(_MAX_COLOUR, _COLOUR_SHARE * colour_P + _COLOUR_NOISE)


def _reduced(pixels_PSS: np.ndarray) -> np.ndarray:
    """Means over the 8 x 8 places of the colours."""
    factor = SIDE // _COLOUR_SIDE
    return pixels_PSS.reshape(-1, _COLOUR_SIDE, factor, _COLOUR_SIDE, factor).mean(axis=(2, 4))


def _enlarged(colour_PTT: np.ndarray) -> np.ndarray:
    factor = SIDE // _COLOUR_SIDE
    return colour_PTT.repeat(factor, axis=1).repeat(factor, axis=2)
