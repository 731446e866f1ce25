"""Foreign numbers become Predictions: exactly in their order, finite, with a scale that was said and never guessed."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn.metrics import average_precision_score

from polytag.errors import DataError, PredictionsError, UsageError
from polytag.logits import LIMIT, logits_of
from polytag.metrics.ap import average_precision
from polytag.predictions.raw_scores import RawScores, targets_of_lists, to_predictions


def table(value_NC: object, *, scale: str = "", is_default_scale: bool = False, ids: tuple[str, ...] = ("a", "b")) -> RawScores:
    return RawScores(
        source="s.csv",
        ids=ids,
        classes=("cat", "dog"),
        value_NC=np.asarray(value_NC, np.float64),
        target_NC=None,
        where=lambda row: f"s.csv:{row + 2}",
        scale=scale,
        is_default_scale=is_default_scale,
    )


GOOD = [[0.1, 0.9], [0.5, 1.0]]

# ---- logits of probabilities

dense = st.one_of(
    st.floats(0, 1, allow_subnormal=True),
    st.sampled_from([0.0, 1.0, 0.5, 5e-324, 1e-300, 1e-20, 1 - 2**-53, 1 - 2**-52]),
    st.integers(0, 30).map(lambda step: 0.3 + step * 2.0**-54),
    st.integers(0, 30).map(lambda step: 1e-5 * (1 + step * 2.0**-52)),
    st.integers(0, 30).map(lambda step: 1 - step * 2.0**-53),
)


@given(npst.arrays(np.float64, st.integers(1, 60), elements=dense))
@example(np.array([0.0, 5e-324, 1e-300, 2.0**-54, 2.0**-53, 0.5, 1 - 2.0**-53, 1.0]))
def test_logits_are_finite_and_in_exactly_the_order_of_the_probabilities(probability: np.ndarray):
    logit = logits_of(probability)
    assert np.isfinite(logit).all()
    assert (np.abs(logit) <= LIMIT + 1e-9).all()
    order_of = np.sign(probability[:, None] - probability[None])
    np.testing.assert_array_equal(np.sign(logit[:, None] - logit[None]), order_of)


def test_logits_by_hand():
    logit = logits_of(np.array([[0.5, 0.75], [0.0, 1.0]]))
    assert logit[0, 0] == 0
    assert logit[0, 1] == pytest.approx(np.log(3), abs=1e-15)
    assert logit[1].tolist() == pytest.approx([-37.42994775, 37.42994775])
    inside = np.linspace(1e-6, 1 - 1e-6, 1001)
    np.testing.assert_allclose(logits_of(inside), np.log(inside / (1 - inside)), rtol=1e-12, atol=1e-15)


@given(npst.arrays(np.float64, (40, 2), elements=dense), npst.arrays(np.int8, (40, 2), elements=st.integers(0, 1)))
def test_ap_of_probabilities_is_that_of_the_numbers_themselves(probability_NC: np.ndarray, target_NC: np.ndarray):
    target_NC[0], target_NC[1] = 1, 0  # scikit-learn's answer without a positive, or without a negative, is another
    made = to_predictions(table(probability_NC, ids=tuple(map(str, range(40)))), scale="probability")
    expected = [average_precision_score(target_NC[:, c], probability_NC[:, c]) for c in range(2)]
    np.testing.assert_allclose(average_precision(target_NC, made.logit_NC), expected, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(made.probability_NC, probability_NC)


def test_probabilities_close_to_one_do_not_run_together():
    """The float32 logits of all of these are one number, and the ranking would be lost."""
    probability_NC = 0.999 - np.arange(8)[:, None] * 1e-12 * np.ones((1, 2))
    made = to_predictions(table(probability_NC, ids=tuple("abcdefgh")), scale="probability")
    assert (len(np.unique(made.logit_NC.astype(np.float32))), len(np.unique(made.logit_NC))) == (1, 8)
    target_NC = np.array([[1, 0]] * 4 + [[0, 1]] * 4, np.int8)
    assert average_precision(target_NC, made.logit_NC)[0] == 1.0


# ---- the scale


def test_a_scale_is_never_guessed():
    with pytest.raises(UsageError) as error:
        to_predictions(table(GOOD), scale="")
    assert str(error.value) == (
        "the file does not declare the scale of its scores\n  where: s.csv\n  got: numbers from 0.1 to 1\n"
        "  expected: --scores probability (0 to 1), --scores logit (before the sigmoid) "
        "or --scores rank (only the order is meaningful)\n"
        "  next: ask the author of the file; polytag does not guess the scale from the values"
    )


def test_what_the_file_says_is_not_overruled_but_a_custom_is():
    assert to_predictions(table(GOOD, scale="probability"), scale="probability").scale == "probability"
    assert to_predictions(table(GOOD, scale="rank", is_default_scale=True), scale="").scale == "rank"
    assert to_predictions(table(GOOD, scale="rank", is_default_scale=True), scale="probability").scale == "probability"
    with pytest.raises(UsageError) as error:
        to_predictions(table(GOOD, scale="probability"), scale="logit")
    assert str(error.value) == (
        "the file declares another scale\n  where: s.csv\n  got: --scores logit\n  expected: probability\n"
        "  next: leave --scores out"
    )
    with pytest.raises(UsageError) as error:
        to_predictions(table(GOOD), scale="percent")
    assert str(error.value) == (
        "unknown scale of scores\n  where: --scores\n  got: 'percent'\n  expected: one of logit, probability, rank"
    )


def test_the_three_scales():
    logits = to_predictions(table(GOOD), scale="logit")
    assert logits.logit_NC.tolist() == GOOD
    assert logits.probability_NC[0, 0] == pytest.approx(1 / (1 + np.exp(-0.1)))
    assert to_predictions(table(GOOD), scale="probability").probability_NC.tolist() == GOOD
    ranks = to_predictions(table([[1e6, -1e-9], [0, 3]]), scale="rank")
    assert ranks.logit_NC.tolist() == [[1e6, -1e-9], [0, 3]]
    assert np.isnan(ranks.probability_NC).all()


# ---- numbers and ids that cannot be


def test_a_probability_outside_names_image_and_class():
    with pytest.raises(PredictionsError) as error:
        to_predictions(table([[0.1, 0.9], [1.25, -3]]), scale="probability")
    assert str(error.value) == (
        "a probability outside 0 to 1\n  where: s.csv:3\n  got: 1.25 for image 'b', class 'cat', and 1 more\n"
        "  expected: numbers from 0 to 1\n  next: if these are scores before the sigmoid, give --scores logit"
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("scale", ["logit", "probability", "rank"])
def test_a_score_that_is_not_finite(bad: float, scale: str):
    with pytest.raises(PredictionsError) as error:
        to_predictions(table([[0.1, bad], [0.5, 0.5]]), scale=scale)
    assert str(error.value) == (
        f"a score is not a finite number\n  where: s.csv:2\n  got: {bad} for image 'a', class 'dog'\n"
        "  expected: a finite number for every class"
    )


def test_duplicate_ids():
    with pytest.raises(PredictionsError) as error:
        to_predictions(table(np.zeros((4, 2)), ids=("a", "b", "a", "b")), scale="logit")
    assert str(error.value) == (
        "an image id is scored twice\n  where: s.csv:4\n  got: 'a', first at s.csv:2; 2 rows repeat an id\n"
        "  expected: every id once"
    )


def test_no_image_and_no_class_name():
    with pytest.raises(PredictionsError) as error:
        to_predictions(table(np.zeros((0, 2)), ids=()), scale="logit")
    assert str(error.value) == "no scored image in the file\n  where: s.csv\n  expected: one row per image"
    twice = RawScores(
        source="s.csv", ids=("a",), classes=("cat", "cat"), value_NC=np.zeros((1, 2)), target_NC=None, where=str, scale="logit"
    )
    with pytest.raises(DataError, match="a class name is given twice"):
        to_predictions(twice, scale="")


# ---- label lists


def test_lists_of_labels():
    target_NC = targets_of_lists([("dog",), (), None, ("cat", "dog")], classes=("cat", "dog"), where=str)
    assert target_NC.tolist() == [[0, 1], [0, 0], [-1, -1], [1, 1]]
    with pytest.raises(PredictionsError) as error:
        targets_of_lists([(), ("Dog",)], classes=("cat", "dog"), where=lambda row: f"t.csv:{row + 2}")
    assert str(error.value) == (
        "a label is not a class of the scores\n  where: t.csv:3\n  got: 'Dog' (did you mean 'dog'?)\n"
        "  expected: one of cat, dog\n"
        "  next: use the spelling of the scores; if another text separates the labels, give it with --separator"
    )
