"""The sigmoid: right to 2 units in the last place for every logit, and never falling; logits of probabilities in their order."""

from decimal import Decimal, localcontext

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from polytag.logits import LARGEST, LIMIT, SMALLEST, logits_of, sigmoid

FLOATS = st.sampled_from([np.float32, np.float64])


def exact(logit: float) -> Decimal:
    """To 50 digits."""
    with localcontext(prec=50):
        power = Decimal(logit).exp() if logit < 0 else (-Decimal(logit)).exp()
        return power / (1 + power) if logit < 0 else 1 / (1 + power)


@given(st.floats(-800, 800) | st.floats(-1, 1) | st.floats(-760, -690))
@example(-37.0)
@example(-40.0)
@example(-60.0)
@example(np.nextafter(-700.0, -800))
@example(-700.0)
@example(-745.13)
@example(-745.14)
@example(36.75)
def test_the_sigmoid_is_the_logistic_function_to_2_units_in_the_last_place(logit: float):
    """Of about 9,000 random logits of 2026-11 the largest error was 1.9 units; `0.5 * (1 + tanh(x / 2))` has 35% at -37."""
    with localcontext(prec=50):
        found, true = Decimal(float(sigmoid(np.array(logit)))), exact(logit)
        assert abs(found - true) <= 2 * Decimal(float(np.spacing(float(true))))


@given(st.floats(-760, 60) | st.floats(-1, 1), st.integers(1, 1000))
@example(-700.0, 100)
@example(-0.7, 1000)
def test_a_higher_logit_never_has_a_lower_probability(logit: float, num_steps: int):
    """Over neighbouring floats, where the rounding of a quotient of two rising numbers would fall."""
    neighbours = np.unique(logit + np.spacing(np.abs(logit)) * np.arange(num_steps))
    assert (np.diff(sigmoid(neighbours)) >= 0).all()


@given(st.data())
def test_a_logit_has_one_probability_in_any_array(data: st.DataObject):
    kind = data.draw(FLOATS)
    logit_NC = data.draw(
        arrays.arrays(kind, arrays.array_shapes(max_dims=2, max_side=9), elements={"allow_nan": False, "allow_infinity": True})
    )
    expected = [float(sigmoid(logit)) for logit in logit_NC.flat]
    with np.errstate(all="raise"):
        assert sigmoid(logit_NC).dtype == np.float64
        assert sigmoid(logit_NC).shape == logit_NC.shape
        assert sigmoid(logit_NC).ravel().tolist() == expected
        assert sigmoid(np.asfortranarray(logit_NC)).ravel().tolist() == expected
        assert (
            sigmoid(np.stack([logit_NC, logit_NC])[..., ::2]).ravel().tolist() == 2 * sigmoid(logit_NC[..., ::2]).ravel().tolist()
        )


def test_a_row_that_could_not_be_scored_changes_no_other():
    assert sigmoid(np.array([np.nan, -720.0])).tolist()[1] == sigmoid(np.array(-720.0)) == pytest.approx(1.9e-313, rel=0.1)
    assert sigmoid(np.zeros((0, 3))).shape == (0, 3)


def test_the_neighbours_of_0_and_1():
    assert 0 < SMALLEST == np.nextafter(0, 1)
    assert np.nextafter(1, 0) == LARGEST


def test_the_sigmoid_never_overflows_and_undoes_the_logit():
    assert sigmoid(np.array([-np.inf, -1e30, 0, 1e30, np.inf])).tolist() == [0, 0, 0.5, 1, 1]
    probability = np.array([0.001, 0.25, 0.5, 0.999])
    np.testing.assert_allclose(sigmoid(logits_of(probability)), probability, rtol=1e-12)
    assert 0 <= sigmoid(np.array(-LIMIT)) < 1e-15
