"""Alignment of two small grey copies, and the correlation of their detail afterwards. NumPy only.

Shapes: P pairs, S = 32 pixels a side. A map is 2 x 3: it takes a position (x, y, 1) of the second copy, in pixels from the centre,
to the position (x, y) of the first.
"""

import numpy as np

SIDE = 32
SAME_PLACE = np.eye(2, 3, dtype=np.float32)

_LOW = 4  # lowest frequencies of each axis, which do not count as detail
_STEPS = (2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0)  # Gauss-Newton steps, by the blur in pixels of the copies they compare
_LIMIT_23 = np.array([[0.12, 0.12, 3.5]] * 2, np.float32)  # how far each number of a map moves from where it starts
_BLUR_PX = 0.6  # of both copies before their detail is correlated: what was scaled is softer
_OVERLAP = 0.5  # smallest share of the second copy that the first covers


def aligned(a_PSS: np.ndarray, b_PSS: np.ndarray, start_P23: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps that align `a` with `b`, found from `start` by Gauss-Newton steps, and the correlation of detail under each.

    The steps compare blurred copies first (Lucas, Kanade 1981, from coarse to fine). The correlation is 0 where the copies overlap
    by less than a half. It counts every position: without the eighth that differs most, pages with one letterhead and images of one
    camera with different animals are one image.
    """
    place_S = np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2
    x_SS, y_SS = np.meshgrid(place_S, place_S)
    map_P23 = start_P23.astype(np.float32)
    low_P23, high_P23 = start_P23 - _LIMIT_23, start_P23 + _LIMIT_23
    identity = np.eye(6, dtype=np.float32)
    before, a, b = -1.0, a_PSS, b_PSS
    for blur_px in _STEPS:
        if blur_px != before:
            before, a, b = blur_px, _standard(blurred(a_PSS, blur_px)), _standard(blurred(b_PSS, blur_px))
        moved, inside = sampled(a, map_P23)
        slope_y, slope_x = np.gradient(moved, axis=(1, 2))
        slopes = (slope_x * x_SS, slope_x * y_SS, slope_x, slope_y * x_SS, slope_y * y_SS, slope_y)
        towards = (np.stack(slopes, axis=1) * inside[:, None]).reshape(len(a), 6, -1)
        curvature = towards @ towards.transpose(0, 2, 1)
        damping = (1e-3 * np.trace(curvature, axis1=1, axis2=2) + 1e-6)[:, None, None] * identity
        gradient = towards @ np.where(inside, b - moved, 0).reshape(len(a), -1, 1)
        step_P23 = np.linalg.solve(curvature + damping, gradient).reshape(-1, 2, 3)
        map_P23 = np.clip(map_P23 + step_P23, low_P23, high_P23)
    moved, inside = sampled(detail(blurred(a_PSS, _BLUR_PX)), map_P23)
    correlation_P = correlation(moved, detail(blurred(b_PSS, _BLUR_PX)), inside)
    return map_P23, np.where(inside.mean(axis=(1, 2)) >= _OVERLAP, np.nan_to_num(correlation_P), 0)


def sampled(a_PSS: np.ndarray, map_P23: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`a` sampled bilinearly where the map takes each position, and whether that is inside it."""
    centre = (SIDE - 1) / 2
    place_S = np.arange(SIDE, dtype=np.float32) - centre
    across_P2SS = map_P23[:, :, 0, None, None] * place_S[None, None, None, :]
    down_P2SS = map_P23[:, :, 1, None, None] * place_S[None, None, :, None]
    position_P2SS = across_P2SS + down_P2SS + map_P23[:, :, 2, None, None] + centre
    inside_P2SS = (position_P2SS >= -1e-3) & (position_P2SS <= SIDE - 1 + 1e-3)
    inside = inside_P2SS[:, 0] & inside_P2SS[:, 1]
    first_P2SS = np.clip(np.floor(position_P2SS).astype(np.int32), 0, SIDE - 2)
    x_part, y_part = np.moveaxis(np.clip(position_P2SS - first_P2SS, 0, 1), 1, 0).astype(np.float32)
    flat_PS, start_PS = a_PSS.reshape(-1, SIDE**2), (first_P2SS[:, 1] * SIDE + first_P2SS[:, 0]).reshape(-1, SIDE**2)

    def at(offset: int) -> np.ndarray:
        return np.take_along_axis(flat_PS, start_PS + offset, axis=1).reshape(inside.shape)

    above = at(0) * (1 - x_part) + at(1) * x_part
    below = at(SIDE) * (1 - x_part) + at(SIDE + 1) * x_part
    return above * (1 - y_part) + below * y_part, inside


def detail(grey_NSS: np.ndarray) -> np.ndarray:
    """The copies without their 4 x 4 lowest frequencies, which include the mean."""
    low_LS = cosines(SIDE)[:_LOW].astype(np.float32)
    return grey_NSS - low_LS.T @ (low_LS @ grey_NSS @ low_LS.T) @ low_LS


def correlation(a_PSS: np.ndarray, b_PSS: np.ndarray, inside_PSS: np.ndarray) -> np.ndarray:
    """Pearson's correlation over the positions inside; 0 where one copy is constant there."""
    a, b = _centred(a_PSS, inside_PSS), _centred(b_PSS, inside_PSS)
    size = np.sqrt((a * a).sum(axis=(1, 2)) * (b * b).sum(axis=(1, 2)))
    return (a * b).sum(axis=(1, 2)) / np.where(size > 0, size, np.inf)


def blurred(grey_PSS: np.ndarray, blur_px: float) -> np.ndarray:
    """The copies after a Gaussian blur; the border counts only what is inside."""
    if not blur_px:
        return grey_PSS
    distance_SS = np.subtract.outer(np.arange(SIDE), np.arange(SIDE)) / blur_px
    weight_SS = np.exp(-0.5 * distance_SS**2)
    weight_SS = (weight_SS / weight_SS.sum(axis=1, keepdims=True)).astype(np.float32)
    return weight_SS @ grey_PSS @ weight_SS.T


def cosines(side: int) -> np.ndarray:
    """The orthonormal basis of the discrete cosine transform (DCT-II): row f is frequency f."""
    place = (np.arange(side) + 0.5) / side
    basis = np.cos(np.pi * np.arange(side)[:, None] * place) * np.sqrt(2 / side)
    basis[0] /= np.sqrt(2)
    return basis


def _centred(grey_PSS: np.ndarray, inside_PSS: np.ndarray) -> np.ndarray:
    number = np.maximum(inside_PSS.sum(axis=(1, 2), keepdims=True), 1)
    return (grey_PSS - (grey_PSS * inside_PSS).sum(axis=(1, 2), keepdims=True) / number) * inside_PSS


def _standard(grey_PSS: np.ndarray) -> np.ndarray:
    centred = grey_PSS - grey_PSS.mean(axis=(1, 2), keepdims=True)
    return centred / np.maximum(centred.std(axis=(1, 2), keepdims=True), 1e-6)
