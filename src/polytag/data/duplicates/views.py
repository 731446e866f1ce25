"""Views of a small copy, each with a hash of 64 bits: the whole, mirrored and turned, parts of it, tilted a little. NumPy only.

The hash has the signs of the 64 lowest frequencies, without the mean, of the discrete cosine transform of a grey copy of 32 x 32
pixels ("pHash": Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions", section 3.2.1; there the bits
are against the median, here against 0, so that brightness and contrast do not count). An image that was mirrored, turned, cropped
or tilted has the hash of another view of the original, so the hash of every view of each image is compared with the hashes of all.

Shapes: N images, V views, S = 32 pixels a side.
"""

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

from polytag.data.duplicates.alignment import SAME_PLACE, SIDE, cosines, sampled

RADIUS = 11
"""Largest number of bits in which the hashes of two images, or of one and the mirrored other, differ. Re-encoded photographs
differ in 0 to 6 bits, unrelated ones in 32."""

VIEW_RADIUS = 7
"""RADIUS for every other view. The search costs an eighth of one within 11 bits."""

_FREQUENCIES = sorted(((v, u) for v in range(16) for u in range(16) if u + v), key=lambda vu: (sum(vu), vu))[:64]
_NUM_LOW = 16  # frequencies of each axis from which the hashes of all views are computed
_TRIMS = (0.07, 0.12, 0.18)  # share of each side that a part lacks
_CENTRE = (0.5, 0.5)
_PLACES = (_CENTRE, (0.15, 0.15), (0.15, 0.85), (0.85, 0.15), (0.85, 0.85))  # of what is trimmed, the share above and to the left
_MORE_PLACES = tuple(product((0.1, 0.5, 0.9), (0.1, 0.5, 0.9)))  # for the smaller parts
_TILT = 5.0  # degrees; whole and trimmed, as what was turned by a few degrees often is
_BLOCK = 8192


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """A way to look at an image: first mirrored, then turned, then sampled through `map_23`.

    is_mirrored     left and right exchanged
    quarter_turns   counter-clockwise, 0 to 3
    map_23          from positions of the view to positions of the image, as in alignment.py
    radius          largest number of bits between the hash of this view and that of another image
    """

    is_mirrored: bool = False
    quarter_turns: int = 0
    map_23: np.ndarray
    radius: int = VIEW_RADIUS

    def of(self, pixels_NSS: np.ndarray) -> np.ndarray:
        """Images, N x S x S or N x S x S x channels, mirrored and turned; `map_23` still to be applied."""
        mirrored = pixels_NSS[:, :, ::-1] if self.is_mirrored else pixels_NSS
        return np.rot90(mirrored, self.quarter_turns, axes=(1, 2))


def view_hashes(grey_NSS: np.ndarray) -> np.ndarray:
    """uint64, N x V: the hash of every view of VIEWS. Column 0 is the hash of the image itself."""
    low_LS, matrix_FV = cosines(SIDE)[:_NUM_LOW].astype(np.float32), _hash_matrix()
    hash_NV = np.zeros((len(grey_NSS), len(VIEWS)), np.uint64)
    for start in range(0, len(grey_NSS), _BLOCK):
        low = low_LS @ grey_NSS[start : start + _BLOCK].astype(np.float32) @ low_LS.T
        is_positive = (low.reshape(len(low), -1) @ matrix_FV > 0).reshape(len(low), len(VIEWS), -1)
        hash_NV[start : start + _BLOCK] = np.packbits(is_positive, axis=2, bitorder="little").view("<u8")[:, :, 0]
    return hash_NV


@cache
def _hash_matrix() -> np.ndarray:
    """From the 16 x 16 lowest frequencies of a copy to the 64 frequencies of each of its views."""
    low_LS = cosines(SIDE)[:_NUM_LOW]
    wave_FSS = np.einsum("vy,ux->vuyx", low_LS, low_LS).reshape(-1, SIDE, SIDE).astype(np.float32)
    rows, columns = np.array(_FREQUENCIES).T
    matrices: list[np.ndarray] = []
    for view in VIEWS:
        seen, _ = sampled(view.of(wave_FSS), np.repeat(view.map_23[None], len(wave_FSS), axis=0))
        matrices.append((low_LS @ seen @ low_LS.T)[:, rows, columns])
    return np.concatenate(matrices, axis=1).astype(np.float32)


def _part(trim: float, before: tuple[float, float], *, tilt: float = 0.0) -> np.ndarray:
    """The map of a view without `trim` of each side, turned by `tilt` degrees."""
    down, along = ((2 * share - 1) * trim * SIDE / 2 for share in before)
    sine, cosine = np.sin(np.radians(tilt)), np.cos(np.radians(tilt))
    return np.array([[(1 - trim) * cosine, -(1 - trim) * sine, along], [(1 - trim) * sine, (1 - trim) * cosine, down]], np.float32)


def _views() -> tuple[View, ...]:
    whole = [View(map_23=SAME_PLACE, radius=RADIUS), View(is_mirrored=True, map_23=SAME_PLACE, radius=RADIUS)]
    turned = [View(is_mirrored=m, quarter_turns=turns, map_23=SAME_PLACE) for m in (False, True) for turns in (1, 2, 3)]
    parts = [View(is_mirrored=m, map_23=_part(_TRIMS[0], place)) for m in (False, True) for place in _PLACES]
    small_parts = [View(map_23=_part(trim, place)) for trim in _TRIMS[1:] for place in _MORE_PLACES]
    tilted = [View(map_23=_part(trim, _CENTRE, tilt=tilt)) for trim in (0.0, _TRIMS[0]) for tilt in (-_TILT, _TILT)]
    return (*whole, *turned, *parts, *small_parts, *tilted)


VIEWS = _views()
"""The whole image first."""
