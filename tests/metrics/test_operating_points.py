"""Thresholds for a goal: by hand, against a search through every threshold, by laws, and the guarantees against a known truth."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, norm
from sklearn.metrics import fbeta_score

from polytag.contracts import LabelSet, Predictions
from polytag.errors import PredictionsError, UsageError
from polytag.logits import SMALLEST
from polytag.metrics.decisions import ALWAYS, NEVER, averages_of, count, decide
from polytag.metrics.operating_points import (
    Goal,
    choose_thresholds,
    clopper_pearson,
    points_at,
    precision_ranks,
)

F1 = Goal(kind="f", level=1)


def table(probability_NC, target_NC) -> Predictions:
    probability_NC = np.asarray(probability_NC, np.float64)
    clipped = np.clip(probability_NC, 1e-12, 1 - 1e-12)
    return Predictions(
        ids=tuple(map(str, range(len(probability_NC)))),
        logit_NC=np.log(clipped) - np.log1p(-clipped),
        target_NC=np.asarray(target_NC),
        label_set=LabelSet(names=tuple(f"c{column}" for column in range(probability_NC.shape[1]))),
        scale="probability",
        given_probability_NC=probability_NC,
    )


def column(probability_N, target_N) -> Predictions:
    return table(np.asarray(probability_N)[:, None], np.asarray(target_N)[:, None])


def only(predictions: Predictions, goal: str, **options):
    return choose_thresholds(predictions, goal=Goal.parse(goal), **options).points[0]


# ---- by hand: six images, one unknown, two tied

HAND = column([0.9, 0.8, 0.7, 0.7, 0.4, 0.95], [1, 0, 1, 1, 0, -1])


def test_best_f1_by_hand():
    # above 0.85: F1 = 2/(1+3); above 0.75: 2/(2+3); above 0.55: 6/(4+3), the best; above 0.2: 6/(5+3)
    point = only(HAND, "f1")
    assert point.threshold == pytest.approx(0.55)
    assert (point.num_predicted, point.num_right, point.num_positives, point.num_known) == (4, 3, 3, 5)
    assert (point.precision, point.recall, point.share) == (3 / 4, 1.0, 5 / 6)  # the share counts the unknown one
    assert point.attainable
    assert np.isnan(point.bound)


def test_precision_recall_and_top_by_hand():
    assert only(HAND, "precision=0.9").threshold == pytest.approx(0.85)
    assert only(HAND, "precision=0.75").threshold == pytest.approx(0.55)  # 3/4 is enough, and finds more
    assert only(HAND, "recall=0.3").threshold == pytest.approx(0.85)
    assert only(HAND, "recall=0.5").threshold == pytest.approx(0.55)
    # half of six images would be 0.95, 0.9, 0.8
    assert only(HAND, "top=0.5").threshold == pytest.approx(0.75)
    # four would cut the tied pair: it is left out whole
    assert only(HAND, "top=0.67").threshold == pytest.approx(0.75)


def test_a_plain_goal_that_no_threshold_reaches():
    point = only(column([0.9, 0.8, 0.1], [0, 1, 0]), "precision=0.9")
    assert (point.threshold, point.attainable, point.num_predicted) == (NEVER, False, 0)
    assert point.reason == "no threshold reaches it: 0.500 at best"
    assert np.isnan(point.precision)
    assert point.recall == 0
    few = only(HAND, "top=0.1")
    assert (few.threshold, few.reason) == (NEVER, "6 images; at least 10 are needed")
    tied = only(column([0.9, 0.9, 0.1], [1, 0, 0]), "top=0.4")
    assert (tied.threshold, tied.reason) == (NEVER, "more images than that are tied at the top")


@pytest.mark.parametrize(("goal", "threshold"), [("f1", 0.5), ("precision=0.9", NEVER), ("recall=0.9", ALWAYS)])
def test_a_class_without_a_positive_and_one_without_a_label(goal: str, threshold: float):
    predictions = table([[0.9, 0.9], [0.2, 0.2]], [[0, -1], [-1, -1]])
    points = choose_thresholds(predictions, goal=Goal.parse(goal)).points
    assert [point.threshold for point in points] == [threshold] * 2
    assert [point.reason for point in points] == ["no positive", "no known label"]
    assert not any(point.attainable for point in points)
    assert all(np.isnan(point.recall) for point in points)


def test_top_needs_no_truth():
    predictions = table([[0.1], [0.2], [0.3], [0.4]], [[-1]] * 4)
    assert only(predictions, "top=0.25").threshold == pytest.approx(0.35)


def test_a_threshold_of_0_predicts_every_image_also_those_scored_exactly_0():
    point = only(column([0.6, 0.0], [1, 1]), "recall=0.9")
    assert (point.threshold, point.attainable, point.recall, point.share) == (ALWAYS, True, 1, 1)
    assert only(column([0.6, 0.0], [1, 0]), "recall=0.9").num_predicted == 1  # and only a threshold of 0 does


@pytest.mark.parametrize("beta", [0.5, 1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_no_gap_has_a_higher_f_beta_by_scikit_learn(beta: float, seed: int):
    rng = np.random.default_rng(seed)
    target_N = rng.random(60) < 0.3
    probability_N = np.round(np.clip(0.3 * target_N + rng.random(60) * 0.7, 0.01, 0.99), 2)
    point = only(column(probability_N, target_N.astype(int)), f"f{beta:g}")
    best = max(fbeta_score(target_N, probability_N > cut, beta=beta) for cut in np.unique(probability_N)[:-1])
    assert fbeta_score(target_N, probability_N > point.threshold, beta=beta) == pytest.approx(best)


def test_beta_moves_the_threshold_between_precision_and_recall():
    thresholds = [only(HAND, goal).threshold for goal in ("f0.1", "f1", "f9")]
    assert thresholds == sorted(thresholds, reverse=True)
    assert thresholds[0] > thresholds[2]
    for text in ("f0", "f101", "f-1", "f", "fnan", "f1e3", "f1=0.5", "f٢"):
        with pytest.raises(UsageError):
            Goal.parse(text)
    assert [str(Goal.parse(text)) for text in ("f1", "f2.0", "f0.5", "top=0.1")] == ["f1", "f2", "f0.5", "top=0.1"]


def test_a_shared_threshold_is_that_of_all_decisions_in_one_class():
    """Their best F1 is the best OF1; unknown labels count nowhere."""
    rng = np.random.default_rng(0)
    target_NC = rng.choice([0, 0, 1, -1], (80, 4))
    probability_NC = np.clip(rng.random((80, 4)) * 0.6 + 0.4 * (target_NC == 1) * rng.random((80, 4)), 0.01, 0.99)
    predictions = table(probability_NC, target_NC)
    for goal in ("f1", "f2", "precision=0.7", "recall=0.9", "top=0.2"):
        shared = choose_thresholds(predictions, goal=Goal.parse(goal), shared=True)
        alone = only(column(probability_NC.reshape(-1), target_NC.reshape(-1)), goal)
        assert shared.is_shared
        assert set(shared.thresholds) == {alone.threshold}
        assert sum(point.num_predicted for point in shared.points) == alone.num_predicted
    best = choose_thresholds(predictions, goal=F1, shared=True).thresholds[0]
    of1s = [averages_of(count(target_NC, probability_NC > cut))["OF1"].value for cut in (best, *np.unique(probability_NC)[:-1])]
    assert of1s[0] == max(of1s)
    with pytest.raises(UsageError, match="no guarantee for a shared threshold"):
        choose_thresholds(predictions, goal=Goal.parse("recall=0.9"), confidence=0.9, shared=True)


@pytest.mark.parametrize("goal", ["f1", "precision=0.5", "precision=0.9", "recall=0.9", "top=0.5"])
@pytest.mark.parametrize("options", [{}, {"confidence": 0.9}])
def test_a_class_whose_known_probabilities_are_all_0(goal: str, options: dict[str, float]):
    if goal == "f1" and options:
        return
    target_N = [1] * 30 + [0] * 20 + [-1] * 2
    point = only(column([0.0] * 50 + [0.9, 0.1], target_N), goal, **options)
    if goal == "top=0.5":
        assert (point.threshold, point.num_predicted) == (SMALLEST if options else point.threshold, 0)
    elif goal == "precision=0.9" or (goal == "precision=0.5" and options):  # 30 of 50 prove 0.427 at a twentieth of the risk
        assert (point.threshold, point.attainable, point.num_predicted) == (NEVER, False, 0)
    else:
        assert (point.threshold, point.num_predicted, point.num_right, point.share) == (ALWAYS, 50, 30, 1)


EXTREMES = [-2000.0, -800.0, -745.1, -744.0, -400.0, -60.0, -40.0, -1.0, 0.0, 2.0, 36.0, 36.6, 40.0, 60.0]


@given(
    st.lists(st.tuples(st.sampled_from(EXTREMES), st.sampled_from((1, 0, 0, -1))), min_size=1, max_size=40),
    st.sampled_from(("f1", "precision=0.6", "recall=0.7", "top=0.3")),
    st.booleans(),
)
def test_the_point_says_what_its_threshold_decides_on_any_logits_and_on_their_probabilities(pairs, goal: str, is_sure: bool):
    """The counts that the choice was made by are those of the decisions, for logits of any size and for zeros and ones."""
    logits = Predictions(
        ids=tuple(map(str, range(len(pairs)))),
        logit_NC=np.array([[logit] for logit, _ in pairs]),
        target_NC=np.array([[target] for _, target in pairs]),
        label_set=LabelSet(names=("c",)),
    )
    given_NC = logits.probability_NC
    options = {"confidence": 0.6} if is_sure and goal != "f1" else {}
    point = only(logits, goal, **options)
    of_probabilities = only(column(given_NC[:, 0], logits.target_NC[:, 0]), goal, **options)
    assert str(point) == str(replace(of_probabilities, name=point.name))
    counts = count(logits.target_NC, decide(given_NC, threshold_C=np.array([point.threshold])))
    assert (int(counts.tp_C[0]), int(counts.tp_C[0] + counts.fp_C[0])) == (point.num_right, point.num_predicted)
    if point.attainable and not options and goal != "f1":
        reached = {"precision": point.precision, "recall": point.recall, "top": 0.3 - point.share}
        assert reached[goal.partition("=")[0]] >= (0 if goal.startswith("top") else float(goal.partition("=")[2]))
    if point.attainable and goal == "f1":  # nothing that a threshold can decide is better
        f1s = [
            2 * right / (predicted + point.num_positives)
            for cut in (*np.unique(np.maximum(given_NC, SMALLEST)), ALWAYS)
            for predicted, right in [_decided(logits, cut)]
        ]
        assert 2 * point.num_right / (point.num_predicted + point.num_positives) == pytest.approx(max(f1s), abs=1e-12)


def _decided(predictions: Predictions, threshold: float) -> tuple[int, int]:
    counts = count(predictions.target_NC, decide(predictions.probability_NC, threshold_C=threshold))
    return int(counts.tp_C[0] + counts.fp_C[0]), int(counts.tp_C[0])


def test_logits_far_below_0_have_a_threshold_between_them():
    """The sigmoid of -40 and of -60 are numbers, and so is what is between them."""
    far = Predictions(
        ids=("a", "b", "c"),
        logit_NC=np.array([[-40.0], [-60.0], [-700.0]]),
        target_NC=np.array([[1], [0], [0]]),
        label_set=LabelSet(names=("c",)),
    )
    point = only(far, "precision=0.9")
    assert (point.attainable, point.num_predicted, point.num_right) == (True, 1, 1)
    assert 8.8e-27 < point.threshold < 4.3e-18


def test_there_is_a_threshold_between_neighbouring_floats():
    low = 0.7
    high = np.nextafter(low, 1)
    point = only(column([high, low], [1, 0]), "precision=1e-9")
    assert only(column([high, low], [1, 0]), "precision=0.9").num_right == 1
    assert point.num_predicted == 1  # recall is 1 already


# ---- against a search

scored = st.lists(st.tuples(st.integers(1, 12), st.sampled_from((1, 0, 0, -1))), min_size=1, max_size=25)


def everything(predictions: Predictions) -> list[tuple[float, int, int]]:
    """Threshold, predicted and right, for one threshold in every gap, by the house's own decision rule."""
    probability_N, target_N = predictions.probability_NC[:, 0], predictions.target_NC[:, 0]
    known = np.unique(probability_N[target_N >= 0])
    cuts = (known + np.append(0, known[:-1])) / 2
    rows = []
    for cut in cuts[::-1]:
        counts = count(predictions.target_NC, decide(predictions.probability_NC, threshold_C=np.array([cut])))
        rows.append((float(cut), int(counts.tp_C[0] + counts.fp_C[0]), int(counts.tp_C[0])))
    return rows


@given(scored, st.sampled_from((0.3, 0.5, 0.75, 0.9)))
def test_the_choice_is_the_best_of_all_thresholds(pairs, level: float):
    predictions = column([value / 13 for value, _ in pairs], [target for _, target in pairs])
    num_positives = sum(target == 1 for _, target in pairs)
    if not num_positives:
        return
    rows = everything(predictions)
    best = max(2 * right / (predicted + num_positives) for _, predicted, right in rows)
    point = only(predictions, "f1")
    assert 2 * point.num_right / (point.num_predicted + num_positives) == pytest.approx(best, abs=1e-12)
    assert point.threshold == pytest.approx(
        max(cut for cut, predicted, right in rows if 2 * right / (predicted + num_positives) == best)
    )

    point = only(predictions, f"recall={level}")
    assert point.recall >= level
    assert point.num_predicted == min(predicted for _, predicted, right in rows if right / num_positives >= level)

    point = only(predictions, f"precision={level}")
    good = [(right, -predicted) for _, predicted, right in rows if right / predicted >= level]
    assert point.attainable == bool(good)
    if good:
        assert (point.num_right, -point.num_predicted) == max(good)
        assert point.precision >= level


@given(scored, st.sampled_from((F1, Goal(kind="precision", level=0.6), Goal(kind="recall", level=0.6))), st.randoms())
def test_the_order_of_images_and_unknown_ones_change_nothing(pairs, goal: Goal, random):
    known = [pair for pair in pairs if pair[1] >= 0]
    if not known:
        return
    shuffled = known + [(value, -1) for value in (3, 9)]
    random.shuffle(shuffled)
    one = choose_thresholds(column([v / 13 for v, _ in known], [t for _, t in known]), goal=goal).points[0]
    two = choose_thresholds(column([v / 13 for v, _ in shuffled], [t for _, t in shuffled]), goal=goal).points[0]
    assert one.threshold == two.threshold
    assert (one.num_predicted, one.num_right) == (two.num_predicted, two.num_right)


# ---- the guarantees


def test_clopper_pearson_is_scipys():
    for right, tried in ((0, 5), (5, 5), (3, 7), (90, 100)):
        expected = binomtest(right, tried).proportion_ci(0.95, method="exact")
        assert clopper_pearson(right, tried, risk=0.025) == pytest.approx((expected.low, expected.high))
    assert np.isnan(clopper_pearson(0, 0, risk=0.025)).all()


def test_guaranteed_precision_by_hand():
    """100 positives above 100 negatives, precision 0.9 with 95%: at most 20 ranks, each at a risk of 0.05 / 20."""
    predictions = column(np.linspace(0.99, 0.01, 200), [1] * 100 + [0] * 100)
    ranks = precision_ranks(200, level=0.9, risk=0.05)
    assert (ranks[0], ranks[-1], len(ranks)) == (57, 200, 20)  # 0.9^57 < 0.0025 < 0.9^56
    point = only(predictions, "precision=0.9", confidence=0.95)
    proved = [rank for rank in ranks if binom.sf(min(rank, 100) - 1, rank, 0.9) <= 0.05 / 20]
    assert point.num_predicted == max(proved) > 57
    assert point.threshold == predictions.probability_NC[point.num_predicted, 0]  # the next image's score
    assert 0.9 <= point.bound < point.precision
    assert point.bound == pytest.approx(clopper_pearson(point.num_right, point.num_predicted, risk=0.05 / 20)[0])
    few = only(column(np.linspace(0.99, 0.01, 200), [1] * 40 + [0] * 160), "precision=0.9", confidence=0.95)
    assert (few.threshold, few.attainable, few.num_needed) == (NEVER, False, 57)
    assert few.reason == "40 positives; at least 57 are needed, all above every negative"
    none = only(column(np.linspace(0.99, 0.01, 200), [0] * 200), "precision=0.9", confidence=0.95)
    assert none.reason == "no positive; at least 57 are needed"
    mixed = only(column(np.linspace(0.99, 0.01, 200), [1, 0] * 100), "precision=0.9", confidence=0.95)
    assert mixed.reason.startswith("proves 0.")
    assert mixed.threshold == NEVER


def test_guaranteed_recall_by_hand():
    """59 positives are the fewest that prove 0.95 with 95%, by the lowest of them; of 93, the second lowest may be lost."""
    predictions = column(np.linspace(0.99, 0.01, 59), [1] * 59)
    point = only(predictions, "recall=0.95", confidence=0.95)
    assert (point.recall, point.attainable, point.num_needed) == (1.0, True, 59)
    assert point.bound == pytest.approx(0.05 ** (1 / 59))
    few = only(column(np.linspace(0.99, 0.01, 58), [1] * 58), "recall=0.95", confidence=0.95)
    assert (few.threshold, few.reason) == (ALWAYS, "58 positives; at least 59 are needed")
    assert few.recall == 1
    more = only(column(np.linspace(0.99, 0.01, 93), [1] * 93), "recall=0.95", confidence=0.95)
    assert more.num_right == 92
    assert binom.cdf(1, 93, 0.05) <= 0.05 < binom.cdf(1, 92, 0.05)


def test_guaranteed_top_by_hand():
    predictions = column(np.linspace(0.99, 0.01, 200), [-1] * 200)
    point = only(predictions, "top=0.05", confidence=0.95)
    num_above = round(point.share * 200)
    assert binom.cdf(num_above, 200, 0.05) <= 0.05 < binom.cdf(num_above + 1, 200, 0.05)
    assert point.share < point.bound <= 0.05
    few = only(column(np.linspace(0.99, 0.01, 58), [0] * 58), "top=0.05", confidence=0.95)
    assert (few.threshold, few.reason) == (NEVER, "58 images; at least 59 are needed")


def test_joint_gives_each_class_its_part_of_the_risk():
    probability_N, target_N = np.linspace(0.99, 0.01, 300), [1] * 200 + [0] * 100
    single = only(column(probability_N, target_N), "recall=0.9", confidence=0.99)
    predictions = table(np.stack([probability_N] * 5, axis=1), np.stack([target_N] * 5, axis=1))
    joint = choose_thresholds(predictions, goal=Goal.parse("recall=0.9"), confidence=0.95, joint=True)
    assert [point.threshold for point in joint.points] == [single.threshold] * 5
    assert [point.bound for point in joint.points] == pytest.approx([single.bound] * 5)
    alone = choose_thresholds(predictions, goal=Goal.parse("recall=0.9"), confidence=0.95)
    assert alone.points[0].num_predicted < joint.points[0].num_predicted


@given(scored, st.floats(0.2, 5), st.floats(-3, 3))
def test_a_guaranteed_choice_depends_on_the_ranking_alone(pairs, slope: float, bias: float):
    """So a calibration, even one fitted on the same images, leaves the proof alone."""
    pairs = pairs * 12
    predictions = column([value / 13 for value, _ in pairs], [target for _, target in pairs])
    calibrated = 1 / (1 + np.exp(-(slope * predictions.logit_NC + bias)))
    for goal in ("precision=0.6", "recall=0.6", "top=0.3"):
        one, two = (only(each, goal, confidence=0.9) for each in (predictions, table(calibrated, predictions.target_NC)))
        assert (one.num_predicted, one.num_right, one.attainable) == (two.num_predicted, two.num_right, two.attainable)


def simulated(num_sets: int, *, num_images: int, prevalence: float, distance: float, seed: int):
    """Each class is a data set of its own: scores normal, positives `distance` higher. And the truth at logit thresholds."""
    rng = np.random.default_rng(seed)
    target_NC = (rng.random((num_images, num_sets)) < prevalence).astype(np.int8)
    logit_NC = rng.normal(size=target_NC.shape) + distance * target_NC
    predictions = Predictions(
        ids=tuple(map(str, range(num_images))),
        logit_NC=logit_NC,
        target_NC=target_NC,
        label_set=LabelSet(names=tuple(map(str, range(num_sets)))),
    )

    def truth(threshold_C):
        at_C = np.log(threshold_C) - np.log1p(-threshold_C)
        right_C, wrong_C = prevalence * norm.sf(at_C - distance), (1 - prevalence) * norm.sf(at_C)
        return right_C / (right_C + wrong_C), right_C / prevalence, right_C + wrong_C

    return predictions, truth


def violations(points, true_C, level: float, *, upper: bool = False) -> float:
    attained_C = np.array([point.attainable for point in points.points])
    return float((attained_C & ((true_C > level) if upper else (true_C < level))).mean())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_images", "prevalence", "distance"), [(300, 0.5, 2.5), (800, 0.3, 3.0), (1500, 0.1, 3.5), (3000, 0.05, 4.0)]
)
def test_guarantees_are_broken_no_more_often_than_their_risk(num_images: int, prevalence: float, distance: float):
    """2,000 data sets each, of a truth that is known exactly; the plain choice breaks its word about every second time."""
    risk, level = 0.1, 0.9
    predictions, truth = simulated(2000, num_images=num_images, prevalence=prevalence, distance=distance, seed=num_images)
    slack = 3 * np.sqrt(risk * (1 - risk) / 2000)  # of the simulation

    def chosen(goal: str, confidence: float | None):
        points = choose_thresholds(predictions, goal=Goal.parse(goal), confidence=confidence)
        threshold_C = np.clip(points.thresholds, 1e-12, 1 - 1e-12)
        return points, *truth(threshold_C)

    points, precision_C, _, _ = chosen(f"precision={level}", 1 - risk)
    assert violations(points, precision_C, level) <= risk
    assert np.mean([point.attainable for point in points.points]) > 0.5  # it is no use to promise nothing
    plain, precision_C, _, _ = chosen(f"precision={level}", None)
    assert violations(plain, precision_C, level) > 0.3

    points, _, recall_C, _ = chosen(f"recall={level}", 1 - risk)
    assert violations(points, recall_C, level) <= risk + slack
    points, _, _, share_C = chosen("top=0.05", 1 - risk)
    assert violations(points, share_C, 0.05, upper=True) <= risk + slack


@pytest.mark.slow
def test_the_precision_guarantee_holds_where_every_threshold_is_just_too_bad():
    """The hardest truth: the scores say nothing and 0.8999 of all images have the class, so whatever is chosen is wrong."""
    rng = np.random.default_rng(0)
    num_sets = 2000
    predictions = Predictions(
        ids=tuple(map(str, range(800))),
        logit_NC=rng.normal(size=(800, num_sets)),
        target_NC=(rng.random((800, num_sets)) < 0.8999).astype(np.int8),
        label_set=LabelSet(names=tuple(map(str, range(num_sets)))),
    )
    points = choose_thresholds(predictions, goal=Goal.parse("precision=0.9"), confidence=0.9)
    assert 0 < np.mean([point.attainable for point in points.points]) <= 0.1
    plain = choose_thresholds(predictions, goal=Goal.parse("precision=0.9"))
    assert np.mean([point.attainable for point in plain.points]) > 0.9


@pytest.mark.slow
def test_a_joint_guarantee_is_of_all_classes_at_once():
    predictions, truth = simulated(4000, num_images=500, prevalence=0.4, distance=3, seed=7)
    together = {}
    for joint in (True, False):
        broken = []
        for start in range(0, 4000, 20):  # 200 data sets of 20 classes; recall, whose guarantee is used up whole
            part = slice(start, start + 20)
            classes = Predictions(
                ids=predictions.ids,
                logit_NC=predictions.logit_NC[:, part],
                target_NC=predictions.target_NC[:, part],
                label_set=LabelSet(names=predictions.label_set.names[part]),
            )
            points = choose_thresholds(classes, goal=Goal.parse("recall=0.8"), confidence=0.9, joint=joint)
            broken.append((truth(np.array(points.thresholds))[1] < 0.8).any())
        together[joint] = np.mean(broken)
    assert together[True] <= 0.1 + 3 * np.sqrt(0.09 / 200)
    assert together[False] > 0.5


# ---- given thresholds, bad input


def test_points_at_given_thresholds():
    point = points_at(HAND, threshold_C=np.array([0.75])).points[0]
    assert (point.num_predicted, point.num_right, point.precision, point.recall) == (2, 1, 0.5, 1 / 3)
    assert (point.precision_low, point.precision_high) == clopper_pearson(1, 2, risk=0.025)


@pytest.mark.parametrize("text", ["", "f", "f1=0.5", "precision", "precision=", "precision=high", "top=5%"])
def test_an_unknown_goal(text: str):
    with pytest.raises(UsageError) as error:
        Goal.parse(text)
    assert str(error.value) == (
        f"unknown goal\n  where: --goal\n  got: {text!r}\n"
        "  expected: f1, f2 (any F-beta), precision=P, recall=R, top=SHARE or fnr=RATE"
    )


@pytest.mark.parametrize("level", ["0", "1", "1.5", "-1", "nan"])
def test_a_goal_out_of_range(level: str):
    with pytest.raises(UsageError) as error:
        Goal.parse(f"recall={level}")
    assert str(error.value) == f"a goal out of range\n  got: recall={float(level):g}\n  expected: a share between 0 and 1"


def test_what_cannot_be_guaranteed():
    with pytest.raises(UsageError) as error:
        choose_thresholds(HAND, goal=F1, confidence=0.95)
    assert str(error.value) == (
        "there is no guarantee for this goal\n  got: f1 with a confidence\n  expected: precision=P, recall=R or top=SHARE\n"
        "  next: leave the confidence out: the threshold of the best F-beta guarantees nothing"
    )
    with pytest.raises(UsageError) as error:
        choose_thresholds(HAND, goal=Goal.parse("top=0.1"), confidence=95)
    assert str(error.value) == "confidence out of range\n  got: 95\n  expected: a probability between 0 and 1"
    with pytest.raises(UsageError) as error:
        choose_thresholds(HAND, goal=Goal.parse("top=0.1"), joint=True)
    assert str(error.value) == "a joint guarantee without a confidence\n  got: joint\n  expected: a confidence, such as 0.95"


def test_ranks_have_no_threshold():
    ranks = Predictions(
        ids=("a",),
        logit_NC=np.array([[7.0]]),
        target_NC=np.array([[1]]),
        label_set=LabelSet(names=("x",)),
        source="r.csv",
        scale="rank",
    )
    with pytest.raises(PredictionsError) as error:
        choose_thresholds(ranks, goal=F1)
    assert str(error.value) == ("ranks have no thresholds\n  where: r.csv\n  expected: logits or probabilities")
