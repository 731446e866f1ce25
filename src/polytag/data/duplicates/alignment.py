"""Alignment of two small grey copies, and the correlation of their detail afterwards. NumPy only.

Shapes: P pairs, S = 32 pixels a side.
"""

import numpy as np

SIDE = 32
_LOW = 4  # lowest frequencies of each axis, which do not count as detail
_MAX_SCALE, _MAX_SHIFT_PX, _NUM_STEPS = 0.15, 4.0, 10  # limits of the alignment


def aligned(a_PSS: np.ndarray, b_PSS: np.ndarray) -> np.ndarray:
    """Correlation of detail after `a` is shifted and scaled, each axis separately, onto `b`; NaN becomes 0."""
    place_S = np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2
    change_P4 = np.zeros((len(a_PSS), 4), np.float32)  # log-free: scale - 1 and shift of x, then of y
    limit_4 = np.array([_MAX_SCALE, _MAX_SHIFT_PX] * 2, np.float32)
    a_PSS, b_PSS = _standard(a_PSS), _standard(b_PSS)
    for _ in range(_NUM_STEPS):
        moved, inside = _moved(a_PSS, change_P4, place_S)
        slope_y, slope_x = np.gradient(moved, axis=(1, 2))
        error = np.where(inside, b_PSS - moved, 0)
        x, y = place_S[None, None, :], place_S[None, :, None]
        towards_P4SS = np.stack([slope_x * x, slope_x, slope_y * y, slope_y], axis=1) * inside[:, None]
        flat = towards_P4SS.reshape(len(a_PSS), 4, -1)
        curvature = flat @ flat.transpose(0, 2, 1)
        damping = 1e-3 * np.einsum("pii->pi", curvature)[:, :, None] * np.eye(4, dtype=np.float32) + 1e-6 * np.eye(
            4, dtype=np.float32
        )
        gradient = flat @ error.reshape(len(a_PSS), -1, 1)
        change_P4 = np.clip(change_P4 + np.linalg.solve(curvature + damping, gradient)[..., 0], -limit_4, limit_4)
    moved, inside = _moved(detail(a_PSS), change_P4, place_S)
    return np.nan_to_num(correlation(moved, detail(b_PSS), inside))


def _moved(a_PSS: np.ndarray, change_P4: np.ndarray, place_S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`a` sampled bilinearly at the transformed positions, and whether each position is inside it."""
    centre = (SIDE - 1) / 2
    x_PS = place_S * (1 + change_P4[:, 0:1]) + change_P4[:, 1:2] + centre
    y_PS = place_S * (1 + change_P4[:, 2:3]) + change_P4[:, 3:4] + centre
    inside = ((x_PS >= 0) & (x_PS <= SIDE - 1))[:, None, :] & ((y_PS >= 0) & (y_PS <= SIDE - 1))[:, :, None]
    x0, y0 = (np.clip(np.floor(place).astype(np.int64), 0, SIDE - 2) for place in (x_PS, y_PS))
    x_part, y_part = np.clip(x_PS - x0, 0, 1), np.clip(y_PS - y0, 0, 1)
    pair = np.arange(len(a_PSS))[:, None]
    rows = a_PSS[pair, y0] * (1 - y_part)[..., None] + a_PSS[pair, y0 + 1] * y_part[..., None]
    left = np.take_along_axis(rows, x0[:, None, :], axis=2)
    right = np.take_along_axis(rows, x0[:, None, :] + 1, axis=2)
    return left * (1 - x_part)[:, None, :] + right * x_part[:, None, :], inside


def detail(grey_NSS: np.ndarray) -> np.ndarray:
    """The copies without their 4 x 4 lowest frequencies, which include the mean."""
    low_LS = cosines(SIDE)[:_LOW].astype(np.float32)
    return grey_NSS - low_LS.T @ (low_LS @ grey_NSS @ low_LS.T) @ low_LS


def correlation(a_PSS: np.ndarray, b_PSS: np.ndarray, inside_PSS: np.ndarray) -> np.ndarray:
    """Pearson's correlation over the positions inside; 0 where one copy is constant there."""
    number = inside_PSS.sum(axis=(1, 2), keepdims=True)
    a, b = ((part - (part * inside_PSS).sum(axis=(1, 2), keepdims=True) / number) * inside_PSS for part in (a_PSS, b_PSS))
    size = np.sqrt((a * a).sum(axis=(1, 2)) * (b * b).sum(axis=(1, 2)))
    return (a * b).sum(axis=(1, 2)) / np.where(size > 0, size, np.inf)


def _standard(grey_PSS: np.ndarray) -> np.ndarray:
    centred = grey_PSS - grey_PSS.mean(axis=(1, 2), keepdims=True)
    return centred / np.maximum(centred.std(axis=(1, 2), keepdims=True), 1e-6)


def cosines(side: int) -> np.ndarray:
    """The orthonormal basis of the discrete cosine transform (DCT-II): row f is frequency f."""
    place = (np.arange(side) + 0.5) / side
    basis = np.cos(np.pi * np.arange(side)[:, None] * place) * np.sqrt(2 / side)
    basis[0] /= np.sqrt(2)
    return basis
