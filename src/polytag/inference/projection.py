"""Places images on a plane by their features: principal components, the same each time.

Shapes: N images, D features.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

_BLOCK = 2048  # rows that are widened at a time
_NOISE = {np.float32: 1e-5, np.float64: 1e-12}  # of the largest value: what rounding leaves of images that are all the same


@dataclass(frozen=True, kw_only=True, eq=False)
class PrincipalPlane:
    """The plane through the mean of some images along which they vary most.

    mean_D    float64
    axis_2D   float64, orthonormal, the most variance first, each with its largest number positive; a row of zeros for an axis
              along which nothing varies
    share_2   of the variance that each axis holds; zeros where nothing varies
    """

    mean_D: np.ndarray
    axis_2D: np.ndarray
    share_2: np.ndarray

    def places(self, feature_ND: np.ndarray) -> np.ndarray:
        """Return the coordinates of images on the plane: float64, N x 2, NaN for an image whose features are not finite."""
        place_N2 = np.empty((len(feature_ND), 2))
        for start, block_nD in _blocks(feature_ND):
            centred_nD = block_nD - self.mean_D.astype(block_nD.dtype)
            place_N2[start : start + len(block_nD)] = centred_nD @ self.axis_2D.astype(block_nD.dtype).T
        place_N2[~is_finite(feature_ND)] = np.nan
        return place_N2


def principal_plane(feature_ND: np.ndarray) -> PrincipalPlane:
    """Return the plane of the two largest principal components, from the images whose features are finite.

    Exact: by the eigenvectors of the covariance, or of the images' inner products where there are fewer images than features.
    float16 is computed in float32, all else in float64. Takes seconds and a few hundred MB for 50,000 x 1,280.
    """
    finite_N = is_finite(feature_ND)
    feature_ND = feature_ND if finite_N.all() else feature_ND[finite_N]
    num, width = feature_ND.shape
    largest = float(np.abs(feature_ND).max(initial=0))
    nothing = PrincipalPlane(mean_D=np.zeros(width), axis_2D=np.zeros((2, width)), share_2=np.zeros(2))
    if not num or not width or not largest:
        return nothing
    scale = 1 / largest  # squares of any finite scores are finite
    mean_D = sum((block_nD.sum(axis=0, dtype=np.float64) for _, block_nD in _blocks(feature_ND, scale)), np.zeros(width)) / num
    axis_kD, variance_k, total = (_of_images if num < width else _of_features)(feature_ND, mean_D, scale=scale)
    noise = _NOISE[_wide(feature_ND)]
    axis_2D, share_2 = np.zeros((2, width)), np.zeros(2)
    for place, (axis_D, variance) in enumerate(zip(axis_kD, variance_k.tolist(), strict=True)):
        if variance > max(num * width * noise**2, total * noise):
            axis_2D[place] = axis_D * np.sign(axis_D[np.argmax(np.abs(axis_D))])
            share_2[place] = min(1.0, variance / total)
    return PrincipalPlane(mean_D=mean_D * largest, axis_2D=axis_2D, share_2=share_2)


def _of_features(feature_ND: np.ndarray, mean_D: np.ndarray, *, scale: float) -> tuple[np.ndarray, np.ndarray, float]:
    """The largest eigenvectors of D x D, as rows, their variance, and the whole variance; both times N."""
    covariance_DD = np.zeros((len(mean_D), len(mean_D)))
    for _, block_nD in _blocks(feature_ND, scale):
        centred_nD = block_nD - mean_D.astype(block_nD.dtype)
        covariance_DD += centred_nD.T @ centred_nD
    variance_k, axis_Dk = _largest(covariance_DD)
    return axis_Dk.T, variance_k, float(np.trace(covariance_DD))


def _of_images(feature_ND: np.ndarray, mean_D: np.ndarray, *, scale: float) -> tuple[np.ndarray, np.ndarray, float]:
    """As `_of_features`, by N x N."""
    centred_ND = np.concatenate([block_nD for _, block_nD in _blocks(feature_ND, scale)]).astype(np.float64) - mean_D
    product_NN = centred_ND @ centred_ND.T
    variance_k, weight_Nk = _largest(product_NN)
    axis_kD = weight_Nk.T @ centred_ND
    length_k = np.linalg.norm(axis_kD, axis=1, keepdims=True)
    return np.divide(axis_kD, length_k, out=np.zeros_like(axis_kD), where=length_k > 0), variance_k, float(np.trace(product_NN))


def _largest(square: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most two eigenvalues of a symmetric matrix, largest first, and their vectors as columns."""
    size = len(square)
    value_k, vector_k = eigh(square, subset_by_index=[max(0, size - 2), size - 1])
    return value_k[::-1], vector_k[:, ::-1]


def _blocks(feature_ND: np.ndarray, scale: float = 1.0) -> Iterator[tuple[int, np.ndarray]]:
    wide = _wide(feature_ND)
    for start in range(0, len(feature_ND), _BLOCK):
        yield start, feature_ND[start : start + _BLOCK].astype(wide) * wide(scale)


def _wide(feature_ND: np.ndarray) -> type[np.float32] | type[np.float64]:
    return np.float32 if feature_ND.dtype == np.float16 else np.float64


def is_finite(feature_ND: np.ndarray) -> np.ndarray:
    """Return for each image whether all of its features are finite: bool, N."""
    return np.asarray(np.isfinite(feature_ND).all(axis=1))
