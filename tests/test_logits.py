"""The sigmoid: one formula, in float64, for every logit."""

import hypothesis.extra.numpy as arrays
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from polytag.logits import LIMIT, logits_of, sigmoid

FLOATS = st.sampled_from([np.float32, np.float64])


@given(st.data())
def test_the_sigmoid_is_bit_for_bit_the_formula_that_results_of_record_were_computed_with(data: st.DataObject):
    kind = data.draw(FLOATS)
    logit_NC = data.draw(
        arrays.arrays(kind, arrays.array_shapes(max_dims=2, max_side=9), elements={"allow_nan": False, "allow_infinity": True})
    )
    expected_NC = 0.5 * (1 + np.tanh(0.5 * logit_NC.astype(np.float64)))
    assert sigmoid(logit_NC).dtype == np.float64
    assert sigmoid(logit_NC).tobytes() == expected_NC.tobytes()
    assert sigmoid(np.asfortranarray(logit_NC)).tobytes() == expected_NC.tobytes()
    assert [float(sigmoid(logit)) for logit in logit_NC.flat] == expected_NC.ravel().tolist()


@given(st.floats(-36, 700))
def test_the_sigmoid_is_the_logistic_function(logit: float):
    np.testing.assert_allclose(sigmoid(np.array(logit)), 1 / (1 + np.exp(-logit)), rtol=1e-15, atol=1e-16)


def test_the_sigmoid_never_overflows_and_undoes_the_logit():
    assert sigmoid(np.array([-np.inf, -1e30, 0, 1e30, np.inf])).tolist() == [0, 0, 0.5, 1, 1]
    probability = np.array([0.001, 0.25, 0.5, 0.999])
    np.testing.assert_allclose(sigmoid(logits_of(probability)), probability, rtol=1e-12)
    assert 0 <= sigmoid(np.array(-LIMIT)) < 1e-15
