"""The AP after a flip of one label is that of ranking the flipped labels again; so is the change of mAP."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from polytag.contracts import ABSENT, PRESENT, UNKNOWN
from polytag.metrics.ap import average_precision, mean_average_precision
from polytag.metrics.label_flips import ap_after_flips, map_changes

FLIPPED = {PRESENT: ABSENT, ABSENT: PRESENT, UNKNOWN: PRESENT}


def flipped(target_NC: np.ndarray, row: int, column: int) -> np.ndarray:
    after_NC = target_NC.copy()
    after_NC[row, column] = FLIPPED[int(target_NC[row, column])]
    return after_NC


def test_by_hand():
    """Three images, best first: present, absent, present. AP is (1 + 2/3) / 2."""
    target_N, score_N = np.array([1, 0, 1, -1]), np.array([3.0, 2.0, 1.0, 4.0])
    first_absent, all_present, last_absent, one_more = 1 / 3, np.nan, 1.0, (1 + 2 / 2 + 3 / 4) / 3
    found_K = ap_after_flips(target_N, score_N, np.arange(4))
    np.testing.assert_allclose(found_K, [first_absent, all_present, last_absent, one_more], rtol=1e-12)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_every_flip_is_that_of_ranking_again(data: st.DataObject):
    """With ties, unknown labels, and classes that a flip defines or makes undefined."""
    num_images, num_classes = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 3))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    target_NC = rng.choice([1, 0, -1], (num_images, num_classes), p=data.draw(st.sampled_from([(0.4, 0.4, 0.2), (0.1, 0.8, 0.1)])))
    score_NC = rng.integers(0, data.draw(st.sampled_from([2, 5, 1000])), target_NC.shape) - 2.0
    ap_C, before = average_precision(target_NC, score_NC), mean_average_precision(target_NC, score_NC)
    for column in range(num_classes):
        rows = rng.permutation(num_images)[: data.draw(st.integers(0, num_images))]
        after_K = ap_after_flips(target_NC[:, column], score_NC[:, column], rows)
        again = [flipped(target_NC, row, column) for row in rows]
        wanted = [average_precision(each_NC, score_NC)[column] for each_NC in again]
        np.testing.assert_allclose(after_K, wanted, rtol=1e-9)
        changes = [mean_average_precision(each_NC, score_NC) - before for each_NC in again]
        np.testing.assert_allclose(map_changes(ap_C, column, after_K), changes, rtol=1e-7, atol=1e-12)
