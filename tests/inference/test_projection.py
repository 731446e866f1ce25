"""The plane of the two largest principal components: that of scikit-learn, its laws, and features that are hostile."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from polytag.inference.projection import principal_plane


def features(num: int, width: int, *, seed: int = 0) -> np.ndarray:
    """Of three directions that differ in length, with noise, far from the origin."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(num, 3)) @ (np.diag([5.0, 3.0, 1.0]) @ rng.normal(size=(3, width))) + rng.normal(size=(num, width)) + 50


@pytest.mark.parametrize(("num", "width"), [(300, 20), (20, 300), (5000, 8), (3, 2), (2, 7)])
def test_it_is_that_of_scikit_learn(num: int, width: int):
    feature_ND = features(num, width)
    plane, oracle = principal_plane(feature_ND), PCA(2).fit(feature_ND)
    found = np.flatnonzero(oracle.explained_variance_ratio_ > 1e-9)  # two images have one axis
    assert plane.share_2[found] == pytest.approx(oracle.explained_variance_ratio_[found], rel=1e-9)
    for axis in found:
        along = plane.axis_2D[axis] @ oracle.components_[axis]
        assert abs(along) == pytest.approx(1, abs=1e-9)
        ours, theirs = plane.places(feature_ND)[:, axis], oracle.transform(feature_ND)[:, axis]
        assert ours == pytest.approx(np.sign(along) * theirs, rel=1e-6, abs=1e-6)


def test_its_laws():
    feature_ND = features(400, 30)
    plane = principal_plane(feature_ND)
    assert plane.axis_2D @ plane.axis_2D.T == pytest.approx(np.eye(2), abs=1e-9)
    assert plane.share_2[0] > plane.share_2[1] > 0
    assert (plane.axis_2D[np.arange(2), np.abs(plane.axis_2D).argmax(axis=1)] > 0).all()  # a sign that does not change by chance
    place_N2 = plane.places(feature_ND)
    assert place_N2.mean(axis=0) == pytest.approx([0, 0], abs=1e-9)
    order = np.random.default_rng(1).permutation(len(feature_ND))
    assert principal_plane(feature_ND[order]).places(feature_ND) == pytest.approx(place_N2, abs=1e-7)
    assert principal_plane(feature_ND + 1000).places(feature_ND + 1000) == pytest.approx(place_N2, abs=1e-6)


def test_half_precision_differs_by_its_rounding_alone():
    feature_ND = features(3000, 40)
    whole, half = (principal_plane(each).places(each) for each in (feature_ND, feature_ND.astype(np.float16)))
    assert np.abs(whole - half).max() < 0.01 * np.abs(whole).max()


def test_images_whose_features_are_not_finite_have_no_place_and_move_no_other():
    feature_ND = features(50, 10)
    bad_ND = np.concatenate([feature_ND, [[np.nan] * 10, [np.inf] + [0.0] * 9]])
    place_N2 = principal_plane(bad_ND).places(bad_ND)
    assert np.isnan(place_N2[50:]).all()
    assert place_N2[:50] == pytest.approx(principal_plane(feature_ND).places(feature_ND), abs=1e-9)


@pytest.mark.parametrize(
    "feature_ND",
    [
        np.zeros((0, 5)), np.zeros((4, 0)), np.ones((1, 5)), np.full((30, 5), 0.1), np.full((30, 40), 1e3, np.float16),
        np.full((3, 2), np.nan), np.zeros((9, 4)),
    ],
    ids=["no image", "no feature", "one image", "all the same", "the same in float16", "not finite", "zeros"],
)  # fmt: skip
def test_where_nothing_varies_all_are_in_one_place(feature_ND: np.ndarray):
    plane = principal_plane(feature_ND)
    assert plane.share_2.tolist() == [0, 0]
    finite_N2 = plane.places(feature_ND)[np.isfinite(feature_ND).all(axis=1)]
    assert (finite_N2 == 0).all()


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_any_finite_size_has_a_plane(scale: float):
    feature_ND = features(60, 6)
    assert principal_plane(feature_ND * scale).share_2 == pytest.approx(principal_plane(feature_ND).share_2, rel=1e-6)
