"""Calibrations: known distortions are found again, other programs agree, and what is reported was not fitted on itself."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.optimize import minimize
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from polytag.contracts import LabelSet, Predictions
from polytag.errors import PredictionsError, UsageError
from polytag.logits import sigmoid
from polytag.metrics.ap import average_precision
from polytag.metrics.calibration import (
    METHODS,
    fit_calibration,
    folds_of,
    keep_decisions,
    num_merged,
    quality,
)
from polytag.metrics.groups import groups_of
from polytag.metrics.reliability import calibration_error, reliability


def table(logit_NC, target_NC, **given) -> Predictions:
    logit_NC = np.asarray(logit_NC)
    return Predictions(
        ids=tuple(map(str, range(len(logit_NC)))),
        logit_NC=logit_NC,
        target_NC=np.asarray(target_NC),
        label_set=LabelSet(names=tuple(f"c{column}" for column in range(logit_NC.shape[1]))),
        **given,
    )


def distorted(*, slope: float, bias: float, num_images: int = 4000, num_classes: int = 3, seed: int = 0) -> Predictions:
    """Truth drawn from logits, of which the table holds (logit - bias) / slope: the right Platt map is slope and bias."""
    rng = np.random.default_rng(seed)
    logit_NC = rng.normal(-1, 2, (num_images, num_classes))
    target_NC = rng.random(logit_NC.shape) < 1 / (1 + np.exp(-logit_NC))
    return table((logit_NC - bias) / slope, target_NC.astype(int))


def test_a_known_distortion_is_found_again():
    fit = fit_calibration(distorted(slope=0.4, bias=-1.0), method="platt")
    for each in fit.calibration.maps:
        assert (each.slope, each.bias) == pytest.approx((0.4, -1.0), abs=0.1)
    temperature = fit_calibration(distorted(slope=0.4, bias=0.0), method="temperature")
    assert [each.slope for each in temperature.calibration.maps] == pytest.approx([0.4] * 3, abs=0.03)
    assert {each.bias for each in temperature.calibration.maps} == {0.0}
    for each in (fit, temperature):
        assert (each.after.log_loss_C < each.before.log_loss_C).all()
        assert (each.after.error_C < 0.03).all()
        assert each.notes == ("", "", "")


def test_an_honest_model_is_left_nearly_alone():
    fit = fit_calibration(distorted(slope=1.0, bias=0.0), method="platt")
    for each in fit.calibration.maps:
        assert (each.slope, each.bias) == pytest.approx((1, 0), abs=0.12)
    assert np.abs(fit.after.log_loss_C - fit.before.log_loss_C).max() < 0.002


@pytest.mark.parametrize("method", METHODS)
def test_a_bent_scale_is_straightened_by_isotonic_best(method: str):
    predictions = distorted(slope=1.0, bias=0.0, num_images=6000)
    bent = table(np.sign(predictions.logit_NC) * np.abs(predictions.logit_NC) ** 3, predictions.target_NC)
    after = fit_calibration(bent, method=method).after.log_loss_C.mean()
    isotonic = fit_calibration(bent, method="isotonic").after.log_loss_C.mean()
    honest = quality(predictions.target_NC, predictions.logit_NC).log_loss_C.mean()
    assert isotonic <= after
    assert isotonic == pytest.approx(honest, abs=0.01)


def test_platt_is_logistic_regression_on_smoothed_targets():
    predictions = distorted(slope=0.7, bias=0.5, num_images=300, num_classes=1)
    logit_N, positive_N = predictions.logit_NC[:, 0].astype(float), predictions.target_NC[:, 0] == 1
    high, low = (positive_N.sum() + 1) / (positive_N.sum() + 2), 1 / ((~positive_N).sum() + 2)
    share_N = np.where(positive_N, high, low)
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
        np.concatenate([logit_N, logit_N])[:, None],
        np.repeat([1, 0], len(logit_N)),
        sample_weight=np.concatenate([share_N, 1 - share_N]),
    )
    each = fit_calibration(predictions, method="platt").calibration.maps[0]
    assert (each.slope, each.bias) == pytest.approx((oracle.coef_[0, 0], oracle.intercept_[0]), abs=1e-5)


def test_isotonic_passes_through_the_steps_of_scikit_learn():
    predictions = distorted(slope=0.5, bias=0.0, num_images=3000, num_classes=1)
    logit_N, target_N = predictions.logit_NC[:, 0].astype(float), predictions.target_NC[:, 0]
    step_N = IsotonicRegression().fit_transform(logit_N, target_N)
    each = fit_calibration(predictions, method="isotonic").calibration.maps[0]
    for value in np.unique(step_N):
        inside = step_N == value
        if inside.sum() >= 100:  # large steps are neither smoothed much nor merged
            at_centre = 1 / (1 + np.exp(-each.apply(np.array([logit_N[inside].mean()]))[0]))
            assert at_centre == pytest.approx(value, abs=0.01)


@pytest.mark.parametrize("method", METHODS)
def test_no_ranking_changes(method: str):
    predictions = distorted(slope=0.3, bias=-2.0, num_images=500, num_classes=4, seed=3)
    mended_NC = fit_calibration(predictions, method=method).calibration.apply(predictions.logit_NC)
    before_C = average_precision(predictions.target_NC, predictions.logit_NC)
    assert average_precision(predictions.target_NC, mended_NC) == pytest.approx(before_C, abs=1e-12)
    assert np.isfinite(mended_NC).all()


@pytest.mark.parametrize("method", METHODS)
def test_too_few_of_a_class_take_the_temperature_of_all(method: str):
    predictions = distorted(slope=0.4, bias=0.0, num_images=800, num_classes=5)
    target_NC = np.array(predictions.target_NC)
    target_NC[:, 1] = 0
    target_NC[:3, 1] = 1  # three positives
    target_NC[:, 2] = -1  # nothing known
    target_NC[:, 3] = 1
    target_NC[0, 3] = 0  # one negative
    target_NC[:, 4] = predictions.logit_NC[:, 4] < -1  # ranked backwards
    fit = fit_calibration(table(predictions.logit_NC, target_NC), method=method)
    kinds = [each.kind for each in fit.calibration.maps]
    assert kinds == [method, "pooled", "pooled", "pooled", "pooled"]
    assert len({each.slope for each in fit.calibration.maps[1:]}) == 1
    fewest = {"temperature": 5, "platt": 10, "isotonic": 30}[method]
    assert fit.notes == (
        "",
        f"3 of {fewest} positives needed: all classes’ temperature",
        f"0 of {fewest} positives needed: all classes’ temperature",
        f"1 of {fewest} negatives needed: all classes’ temperature",
        "the scores do not rank it: all classes’ temperature",
    )
    assert np.isnan(fit.before.log_loss_C[2])
    assert np.isnan(fit.after.error_C[2])
    assert np.isfinite(fit.after.log_loss_C[[0, 1, 3, 4]]).all()


@pytest.mark.parametrize("method", METHODS)
def test_nothing_known_and_perfect_separation_stay_finite(method: str):
    nothing = fit_calibration(table(np.zeros((20, 2)), np.full((20, 2), -1)), method=method)
    assert [each.slope for each in nothing.calibration.maps] == [1.0, 1.0]
    assert np.isnan(nothing.before.brier_C).all()
    logit_NC = np.linspace(-3, 3, 200)[:, None]
    apart = fit_calibration(table(logit_NC, (logit_NC > 0).astype(int)), method=method)
    mended_NC = apart.calibration.apply(logit_NC)
    assert np.isfinite(mended_NC).all()
    assert (np.diff(mended_NC[:, 0]) > 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_unknown_labels_change_nothing(method: str):
    predictions = distorted(slope=0.5, bias=0.0, num_images=600, num_classes=2)
    target_NC = np.array(predictions.target_NC)
    target_NC[::3] = -1
    with_unknown = fit_calibration(table(predictions.logit_NC, target_NC), method=method)
    known = np.arange(600) % 3 > 0
    without = fit_calibration(table(predictions.logit_NC[known], target_NC[known]), method=method)
    assert with_unknown.calibration == without.calibration
    assert with_unknown.before.error_C == pytest.approx(without.before.error_C, abs=1e-12)


def test_cross_fitted_numbers_are_of_images_a_map_has_not_seen():
    """A calibrated model cannot be improved: on the images it was fitted on an isotonic map gains, and loses on others."""
    predictions = distorted(slope=1, bias=0, num_images=200, num_classes=8)
    fit = fit_calibration(predictions, method="isotonic")
    itself = quality(predictions.target_NC, fit.calibration.apply(predictions.logit_NC))
    assert itself.log_loss_C.mean() < fit.before.log_loss_C.mean() < fit.after.log_loss_C.mean()
    assert fit.after.log_loss_C == pytest.approx(quality(predictions.target_NC, fit.cross_fitted_logit_NC).log_loss_C)


def test_the_same_seed_gives_the_same_and_another_other_folds():
    predictions = distorted(slope=0.5, bias=0.0, num_images=300)
    one, two, other = (fit_calibration(predictions, seed=seed) for seed in (0, 0, 1))
    assert one.cross_fitted_logit_NC.tobytes() == two.cross_fitted_logit_NC.tobytes()
    assert one.calibration == other.calibration  # fitted on all images
    assert not np.array_equal(one.cross_fitted_logit_NC, other.cross_fitted_logit_NC)


# ---- how it is measured


def test_quality_by_hand():
    found = quality(np.array([[1], [0], [-1]]), np.array([[math.log(3)], [0.0], [9.0]]))  # probabilities 3/4 and 1/2
    assert found.log_loss_C[0] == pytest.approx((-math.log(0.75) - math.log(0.5)) / 2)
    assert found.brier_C[0] == pytest.approx((0.25**2 + 0.5**2) / 2)
    assert found.error_C[0] == pytest.approx((0.25 + 0.5) / 2)


def test_log_loss_of_far_logits_is_not_rounded_away():
    found = quality(np.array([[0], [0]]), np.array([[800.0], [-800.0]]))
    assert found.log_loss_C[0] == pytest.approx(400)


def test_calibration_error_by_hand():
    """Four images in two bins: 0.1 and 0.3 with no positive, 0.6 and 0.8 with one."""
    target_N, probability_N = np.array([0, 0, 1, 0]), np.array([0.1, 0.3, 0.6, 0.8])
    mean_B, share_B, count_B = reliability(target_N, probability_N, num_bins=2)
    assert (mean_B.tolist(), share_B.tolist(), count_B.tolist()) == ([0.2, 0.7], [0.0, 0.5], [2, 2])
    assert calibration_error(target_N, probability_N, num_bins=2) == pytest.approx((0.2 + 0.2) / 2)
    assert np.isnan(calibration_error(np.array([-1]), np.array([0.5])))


@given(st.lists(st.tuples(st.integers(0, 8), st.sampled_from((0, 1))), min_size=1, max_size=60), st.randoms())
def test_laws_of_the_reliability_curve(pairs, random):
    shuffled = list(pairs)
    random.shuffle(shuffled)
    curves = [
        reliability(np.array([t for _, t in each]), np.array([v / 8 for v, _ in each]), num_bins=5) for each in (pairs, shuffled)
    ]
    for one, two in zip(*curves, strict=True):
        assert one == pytest.approx(two)
    mean_B, share_B, count_B = curves[0]
    assert count_B.sum() == len(pairs)
    assert (np.diff(mean_B) > 0).all()
    assert (count_B * share_B).sum() == pytest.approx(sum(t for _, t in pairs))
    assert 0 <= calibration_error(np.array([t for _, t in pairs]), np.array([v / 8 for v, _ in pairs])) <= 1


def test_bins_hold_equally_many():
    *_, count_B = reliability(np.zeros(1500), np.linspace(0, 1, 1500))
    assert count_B.tolist() == [100] * 15


# ---- folds


def scenes(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Targets of 4 to 12 % positives that resemble each other within a group, and the group of each image."""
    rng = np.random.default_rng(seed)
    group_N = np.repeat(np.arange(80), rng.geometric(1 / 6, 80))
    effect_GC = rng.normal(size=(80, 6))
    return (effect_GC[group_N] + rng.normal(size=(len(group_N), 6)) > np.linspace(1.6, 2.4, 6)).astype(np.int8), group_N


@given(
    target_NC=npst.arrays(np.int8, (30, 3), elements=st.sampled_from([1, 0, -1])),
    num_groups=st.integers(5, 30),
    seed=st.integers(0, 3),
)
def test_no_group_is_in_two_folds_and_groups_of_one_image_are_images(target_NC: np.ndarray, num_groups: int, seed: int):
    group_N = np.random.default_rng(seed).permutation(np.arange(30) % num_groups)
    fold_N = folds_of(target_NC, num_folds=5, seed=seed, groups=groups_of(group_N.tolist()))
    assert set(fold_N.tolist()) <= set(range(5))
    assert all(len(set(fold_N[group_N == group].tolist())) == 1 for group in range(num_groups))
    alone = folds_of(target_NC, num_folds=5, seed=seed, groups=groups_of([f"p{row}" for row in range(30)]))
    np.testing.assert_array_equal(alone, folds_of(target_NC, num_folds=5, seed=seed))


def test_folds_of_groups_spread_labels_better_than_folds_at_random_and_of_scikit_learn():
    """The spread of the positives over five folds, relative to their mean, of the classes and of the images."""

    def spread(target_NC: np.ndarray, fold_N: np.ndarray) -> float:
        counted_NK = np.column_stack([target_NC == 1, np.ones(len(fold_N))])
        count_FK = np.array([counted_NK[fold_N == fold].sum(axis=0) for fold in range(5)])
        return float((count_FK.std(axis=0) / count_FK.mean(axis=0)).mean())

    mine, chance, other = [], [], []
    for seed in range(10):
        target_NC, group_N = scenes(seed)
        mine.append(spread(target_NC, folds_of(target_NC, num_folds=5, seed=seed, groups=groups_of(group_N.tolist()))))
        chance.append(spread(target_NC, np.random.default_rng(seed).permutation(80)[group_N] % 5))
        by_label = StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(target_NC, target_NC[:, -1], group_N)
        fold_N = np.empty(len(group_N), np.int64)
        for fold, (_, rows) in enumerate(by_label):
            fold_N[rows] = fold
        other.append(spread(target_NC, fold_N))
    assert np.mean(mine) < np.mean(chance) / 2
    assert np.mean(mine) < 0.7 * np.mean(other)


def test_a_group_is_corrected_by_a_map_of_the_others():
    """Reversing the labels of one group leaves the line that its images are corrected by; all of a class in one group has none."""
    target_NC, group_N = scenes(0)
    logit_NC = np.random.default_rng(1).normal(size=target_NC.shape) + 2.0 * target_NC
    groups = groups_of(group_N.tolist(), column="scene")
    fold_N = folds_of(target_NC, num_folds=5, seed=0, groups=groups)
    inside_N = group_N == 3
    reversed_NC = np.where(inside_N[:, None], 1 - target_NC, target_NC)
    first, second = (
        fit_calibration(table(logit_NC, each_NC), fold_N=fold_N, groups=groups).cross_fitted_logit_NC
        for each_NC in (target_NC, reversed_NC)
    )
    np.testing.assert_allclose(first[inside_N], second[inside_N], atol=1e-4)
    assert np.abs(first - second).max() > 0.01
    alone_NC = np.where(np.arange(len(group_N))[:, None] < 40, target_NC, -1)
    alone_NC[:40, 0] = np.arange(40) % 2
    one = fit_calibration(table(logit_NC, alone_NC), groups=groups_of(["p"] * 40 + [f"q{row}" for row in range(len(group_N) - 40)]))
    assert one.notes[0] == ""
    assert np.isfinite(one.cross_fitted_logit_NC).all()


def test_fewer_groups_than_folds_are_a_fold_each():
    """The scores of each group are corrected by the maps of the two others."""
    target_NC, group_N = scenes(0)
    logit_NC = target_NC + np.random.default_rng(0).normal(size=target_NC.shape)
    fit = fit_calibration(table(logit_NC, target_NC), groups=groups_of((group_N % 3).tolist()))
    assert fit.num_folds == 3
    inside_N = group_N % 3 == 0
    others = fit_calibration(table(logit_NC[~inside_N], target_NC[~inside_N])).calibration
    crossed_NC, expected_NC = fit.cross_fitted_logit_NC[inside_N], others.apply(logit_NC[inside_N])
    np.testing.assert_allclose(crossed_NC[:, :5], expected_NC[:, :5], atol=1e-4)  # the last class is too rare without the group


@given(
    npst.arrays(np.int8, st.tuples(st.integers(10, 60), st.integers(1, 4)), elements=st.sampled_from((1, 0, 0, -1))),
    st.integers(2, 6),
    st.integers(0, 9),
)
def test_folds_spread_the_rarest_label_evenly_and_all_images(target_NC: np.ndarray, num_folds: int, seed: int):
    fold_N = folds_of(target_NC, num_folds=num_folds, seed=seed)
    assert set(fold_N.tolist()) <= set(range(num_folds))
    np.testing.assert_array_equal(fold_N, folds_of(target_NC, num_folds=num_folds, seed=seed))
    num_C = np.minimum((target_NC == 1).sum(axis=0), (target_NC == 0).sum(axis=0))
    first = int(np.argmin(num_C))
    rarer = 1 if (target_NC[:, first] == 1).sum() == num_C[first] else 0
    held_F = np.bincount(fold_N[target_NC[:, first] == rarer], minlength=num_folds)
    assert held_F.max() - held_F.min() <= 1
    if target_NC.shape[1] == 1:
        size_F = np.bincount(fold_N, minlength=num_folds)
        assert size_F.max() - size_F.min() <= 1


def platt_by_scipy(positive_N: np.ndarray, logit_N: np.ndarray) -> tuple[float, float]:
    """Slope and bias by another optimiser."""
    num_positives, num_negatives = int(positive_N.sum()), int((~positive_N).sum())
    goal_N = np.where(positive_N, (num_positives + 1) / (num_positives + 2), 1 / (num_negatives + 2))

    def loss(line: np.ndarray) -> float:
        value_N = line[0] * logit_N + line[1]
        return float(np.sum(np.logaddexp(0, value_N) - goal_N * value_N))

    return tuple(minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000}).x)


@pytest.mark.parametrize("num_positives", [10, 11, 13])
def test_what_is_measured_is_the_kind_of_map_that_is_saved(num_positives: int):
    """With as few positives as a map of its own needs, each fold has fewer, and its map is Platt's all the same."""
    rng = np.random.default_rng(num_positives)
    target_N = (np.arange(300) < num_positives).astype(int)
    predictions = table(rng.normal(2 * target_N - 1, 1.5)[:, None], target_N[:, None])
    fit = fit_calibration(predictions, method="platt")
    assert (fit.calibration.maps[0].kind, fit.notes) == ("platt", ("",))
    fold_N = folds_of(predictions.target_NC, num_folds=5, seed=0)
    for fold in range(5):
        inside = fold_N == fold
        slope, bias = platt_by_scipy(target_N[~inside] == 1, predictions.logit_NC[~inside, 0])
        np.testing.assert_allclose(
            fit.cross_fitted_logit_NC[inside, 0], slope * predictions.logit_NC[inside, 0] + bias, rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize("num_positives", [30, 34, 38])
def test_an_isotonic_map_is_measured_by_isotonic_maps(num_positives: int):
    rng = np.random.default_rng(num_positives)
    target_N = (np.arange(400) < num_positives).astype(int)
    predictions = table(rng.normal(3 * target_N - 1, 1.0)[:, None], target_N[:, None])
    fit = fit_calibration(predictions, method="isotonic")
    assert fit.calibration.maps[0].kind == "isotonic"
    fold_N = folds_of(predictions.target_NC, num_folds=5, seed=0)
    slopes = []
    for fold in range(5):
        inside = np.flatnonzero(fold_N == fold)
        order = inside[np.argsort(predictions.logit_NC[inside, 0])]
        slopes += [np.diff(fit.cross_fitted_logit_NC[order, 0]) / np.diff(predictions.logit_NC[order, 0])]
    assert all(len(np.unique(slope.round(6))) > 2 for slope in slopes)  # a temperature has one slope


def test_scores_that_become_equal_are_counted():
    before_NC = np.array([[1.0, 5.0], [1.0, 6.0], [2.0, 7.0], [3.0, 8.0]])
    after_NC = np.array([[0.5, 1.0], [0.5, 1.0], [0.5, 1.0], [0.7, 2.0]])
    assert num_merged(before_NC, after_NC).tolist() == [1, 2]


# ---- decisions and bad input


def test_decisions_survive_the_rounding_of_float32():
    logit_NC = np.array([[-1.0], [0.5], [2.0]], np.float32)
    before = table(logit_NC, [[0], [1], [1]])
    after = table(logit_NC * 3, [[0], [1], [1]])
    at = float(before.probability_NC[1, 0])  # exactly an image's score: that image is not above it
    exact = float(after.probability_NC[1, 0])
    low = float(np.nextafter(exact, 0))
    assert keep_decisions(before, after, thresholds=(at,), moved=(low,)) == (exact,)
    assert keep_decisions(before, after, thresholds=(at,), moved=(exact,)) == (exact,)
    assert keep_decisions(before, after, thresholds=(1.0,), moved=(1.0,)) == (1.0,)
    assert keep_decisions(before, after, thresholds=(0.0,), moved=(0.0,)) == (0.0,)


def test_invalid_arguments():
    good = distorted(slope=1, bias=0, num_images=20)
    with pytest.raises(UsageError) as error:
        fit_calibration(good, method="magic")
    assert str(error.value) == ("unknown calibration method\n  got: 'magic'\n  expected: one of platt, temperature, isotonic")
    with pytest.raises(UsageError) as error:
        fit_calibration(good, num_folds=1)
    assert str(error.value) == "too few folds\n  got: 1\n  expected: 2 or more"
    with pytest.raises(PredictionsError) as error:
        fit_calibration(good.take([0, 1, 2]))
    assert str(error.value) == ("too few images to calibrate on\n  got: 3\n  expected: at least 5, one per fold")
    with pytest.raises(PredictionsError) as error:
        fit_calibration(table(np.zeros((9, 1)), np.zeros((9, 1), int), scale="rank", source="r.csv"))
    assert str(error.value) == ("ranks cannot be calibrated\n  where: r.csv\n  expected: logits or probabilities")


def folds_dealt_plainly(target_NC: np.ndarray, *, num_folds: int, seed: int) -> np.ndarray:
    """The rule of `folds_of` image by image: the next one goes to the fold that holds fewest of these, then to the smallest."""
    rng = np.random.default_rng(seed)
    present_NC, absent_NC = target_NC == 1, target_NC == 0
    rarer_NC = np.where(present_NC.sum(axis=0) <= absent_NC.sum(axis=0), present_NC, absent_NC)
    fold_N = np.full(len(target_NC), -1)
    order = rng.permutation(len(target_NC))
    for is_dealt_N in (*rarer_NC.T[np.argsort(rarer_NC.sum(axis=0), kind="stable")], np.ones(len(target_NC), bool)):
        held_F = np.bincount(fold_N[is_dealt_N & (fold_N >= 0)], minlength=num_folds)
        size_F = np.bincount(fold_N[fold_N >= 0], minlength=num_folds)  # of the folds when the class begins
        for row in [row for row in order if is_dealt_N[row] and fold_N[row] < 0]:
            fold = min(range(num_folds), key=lambda each: (held_F[each], size_F[each], each))
            fold_N[row] = fold
            held_F[fold] += 1
    return fold_N


@given(
    npst.arrays(np.int8, st.tuples(st.integers(5, 60), st.integers(1, 5)), elements=st.integers(-1, 1)),
    st.integers(2, 5),
    st.integers(0, 9),
)
def test_folds_are_those_of_dealing_one_by_one(target_NC: np.ndarray, num_folds: int, seed: int):
    expected_N = folds_dealt_plainly(target_NC, num_folds=num_folds, seed=seed)
    np.testing.assert_array_equal(folds_of(target_NC, num_folds=num_folds, seed=seed), expected_N)


def line_fitted_plainly(
    positive_N: np.ndarray, logit_N: np.ndarray, *, start: tuple[float, float] = (1.0, 0.0)
) -> tuple[float, float]:
    """Newton's method with every value computed where it is used."""
    num_positives = int(positive_N.sum())
    goal_N = np.where(positive_N, (num_positives + 1) / (num_positives + 2), 1 / (len(positive_N) - num_positives + 2))
    scale = float(np.abs(logit_N).max()) or 1.0
    column_NF = np.stack([logit_N / scale, np.ones(len(logit_N))], axis=1)
    weight_F = np.array([start[0] * scale, start[1]])

    def loss_of(weight_F: np.ndarray) -> float:
        return float(np.mean(np.logaddexp(0, column_NF @ weight_F) - goal_N * (column_NF @ weight_F)))

    for _ in range(100):
        loss, probability_N = loss_of(weight_F), sigmoid(column_NF @ weight_F)
        gradient_F = column_NF.T @ (probability_N - goal_N) / len(goal_N)
        curvature_FF = (column_NF * (probability_N * (1 - probability_N))[:, None]).T @ column_NF / len(goal_N)
        step_F = np.linalg.solve(curvature_FF + 1e-12 * np.eye(2), gradient_F)
        length = 1.0
        while loss_of(weight_F - length * step_F) > loss and length > 1e-9:
            length /= 2
        weight_F = weight_F - length * step_F
        if loss - loss_of(weight_F) < 1e-11:
            break
    return float(weight_F[0] / scale), float(weight_F[1])


@pytest.mark.parametrize("seed", range(4))
def test_cross_fitted_logits_are_those_of_a_plain_reading_to_the_last_bit(seed: int):
    """With ties, unknown labels, groups, and a class too rare for a line of its own."""
    rng = np.random.default_rng(seed)
    target_NC = rng.choice([-1, 0, 0, 1], (300, 4)).astype(np.int8)
    target_NC[:, 3] = np.where(np.arange(300) < 6, 1, 0)
    logit_NC = np.round(2.0 * target_NC + rng.normal(0, 2, target_NC.shape), 1)
    groups = groups_of((rng.permutation(300) // 3).tolist()) if seed % 2 else None
    fit = fit_calibration(table(logit_NC, target_NC), groups=groups)
    fold_N = folds_of(target_NC, num_folds=5, seed=0, groups=groups)
    for column in range(3):
        known, logit_N = target_NC[:, column] >= 0, logit_NC[:, column]
        start = line_fitted_plainly(target_NC[known, column] == 1, logit_N[known])
        assert (fit.calibration.maps[column].slope, fit.calibration.maps[column].bias) == start
        for fold in range(5):
            inside, others = fold_N == fold, known & (fold_N != fold)
            slope, bias = line_fitted_plainly(target_NC[others, column] == 1, logit_N[others], start=start)
            np.testing.assert_array_equal(fit.cross_fitted_logit_NC[inside, column], slope * logit_N[inside] + bias)
    assert fit.calibration.maps[3].kind == "pooled"
    assert (fit.after.log_loss_C[:3] < fit.before.log_loss_C[:3]).all()
