"""AP of batches: the same as of all at once, in any division and order; bins within their bound; every error."""

import math
import pickle
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from polytag import StreamingAP
from polytag.errors import PredictionsError, UsageError
from polytag.metrics.ap import average_precision, mean_average_precision
from polytag.metrics.stream import StreamedAP

Table = tuple[np.ndarray, np.ndarray]
KINDS = (None, 10, 13)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Up to 30 images of 3 classes: ties, negative zero, neighbours that share a bin, huge and tiny scores, unknown targets."""
    shape = (draw(st.integers(0, 30)), 3)
    target_NC = draw(hnp.arrays(np.int8, shape, elements=st.sampled_from([1, 0, 0, -1])))
    if draw(st.booleans()):
        target_NC[:, 0] = draw(st.sampled_from([0, -1, 1]))
    score = st.one_of(
        st.sampled_from([-0.0, 0.0, 1.0, 1.0 + 2**-12, 1.0 + 2**-8, 1.01, -1.0, -1.001, 3e38, -3e38, 1e-40]),
        st.floats(-8, 8, width=32),
    )
    return target_NC, draw(hnp.arrays(np.float32, shape, elements=score))


def streamed(table: Table, cuts: list[int] | None = None, *, num_bits: int | None) -> StreamingAP:
    stream = StreamingAP(table[0].shape[1], num_bits=num_bits)
    for start, stop in zip([0, *(cuts or [])], [*(cuts or []), len(table[0])], strict=True):
        stream.update(table[0][start:stop], table[1][start:stop])
    return stream


def assert_same(one: StreamedAP, other: StreamedAP) -> None:
    for name in ("ap_C", "error_bound_C", "support_C", "num_negative_C", "num_unknown_C", "mean_error_bound"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    np.testing.assert_array_equal([one.mean_ap.value, one.mean_ap.count], [other.mean_ap.value, other.mean_ap.count])


# ---- by hand


def test_a_worked_example():
    """Exact: precision 1, 1, 3/4 at the three positives. With 10 bits, 1 and 1.2 share a bin: the positives at 1.2 and 1 are one
    step with the negative at 1.1, and precision there is 3/4 for both."""
    target_N, score_N = np.array([1, 1, 0, 1, -1]), np.array([9.0, 1.2, 1.1, 1.0, 5.0])
    exact, binned = StreamingAP(1), StreamingAP(1, num_bits=10)
    for stream in (exact, binned):
        stream.update(target_N[:2], score_N[:2])
        stream.update(target_N[2:], score_N[2:])
    assert exact.compute().ap_C[0] == pytest.approx((1 + 1 + 3 / 4) / 3, abs=1e-15)
    found = binned.compute()
    assert found.ap_C[0] == pytest.approx((1 + 3 / 4 + 3 / 4) / 3, abs=1e-15)
    # at best all three positives before the negative; at worst the negative before both: (2/3 + 3/4) / 2 a positive
    assert found.error_bound_C[0] == pytest.approx(max(2 * (1 - 3 / 4), 2 * (3 / 4 - (2 / 3 + 3 / 4) / 2)) / 3, abs=1e-15)
    assert (found.support_C[0], found.num_negative_C[0], found.num_unknown_C[0]) == (3, 1, 1)
    assert repr(binned) == "StreamingAP(1 class, 5 images, 2^10 bins per class)"


# ---- by the exact function, and by laws


@given(tables(), st.lists(st.integers(0, 30), max_size=4))
def test_stored_scores_give_exactly_the_ap_of_all_at_once(table: Table, cuts: list[int]):
    target_NC, score_NC = table
    found = streamed(table, sorted(min(cut, len(target_NC)) for cut in cuts), num_bits=None).compute()
    np.testing.assert_array_equal(found.ap_C, average_precision(target_NC, score_NC))
    np.testing.assert_array_equal(found.mean_ap.value, mean_average_precision(target_NC, score_NC))
    assert not np.nan_to_num(found.error_bound_C).any()
    for name, target in (("support_C", 1), ("num_negative_C", 0), ("num_unknown_C", -1)):
        np.testing.assert_array_equal(getattr(found, name), (target_NC == target).sum(axis=0))


@given(tables(), st.sampled_from([10, 12, 16]))
def test_bins_stay_within_their_bound(table: Table, num_bits: int):
    exact_C = average_precision(*table)
    found = streamed(table, num_bits=num_bits).compute()
    np.testing.assert_array_equal(np.isnan(found.ap_C), np.isnan(exact_C))
    there = ~np.isnan(exact_C)
    assert (np.abs(found.ap_C - exact_C)[there] <= found.error_bound_C[there] + 1e-12).all()
    if there.any():
        assert abs(found.mean_ap.value - exact_C[there].mean()) <= found.mean_error_bound + 1e-12


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_bfloat16_scores_are_exact_in_16_bits(seed: int):
    rng = np.random.default_rng(seed)
    target_NC = rng.choice([1, 0, -1], (40, 2))
    score_NC = (rng.normal(size=(40, 2)).astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    np.testing.assert_allclose(
        streamed((target_NC, score_NC), num_bits=16).compute().ap_C, average_precision(target_NC, score_NC), atol=1e-15, rtol=0
    )


def test_the_bound_is_reached():
    """Two positives tied above a negative of their bin, and, the other way round, a negative above two different positives."""
    best = np.array([[1], [1], [0]]), np.array([[1.2], [1.2], [1.0]])
    found = streamed(best, num_bits=10).compute()
    assert average_precision(*best)[0] - found.ap_C[0] == pytest.approx(found.error_bound_C[0], abs=1e-15)
    worst = np.array([[1]] * 9 + [[0], [1], [1]]), np.array([[8.0]] * 9 + [[1.2], [1.1], [1.0]])
    found = streamed(worst, num_bits=10).compute()
    lowest = found.ap_C[0] - average_precision(*worst)[0]
    assert lowest == pytest.approx((11 / 12 - 10 / 11) / 11, abs=1e-12)
    assert lowest <= found.error_bound_C[0]


@pytest.mark.parametrize("num_bits", KINDS)
@settings(max_examples=40)
@given(table=tables(), data=st.data())
def test_order_division_and_merging_change_nothing(table: Table, num_bits: int | None, data: st.DataObject):
    whole = streamed(table, num_bits=num_bits).compute()
    order = data.draw(st.permutations(range(len(table[0]))))
    rows = np.array_split(np.array(order, int), 3)
    a, b, c = (streamed((table[0][part], table[1][part]), num_bits=num_bits) for part in rows)
    assert_same(a.merge(b).merge(c).compute(), whole)
    assert_same(a.merge(b.merge(c)).compute(), whole)
    assert_same(reduce(StreamingAP.merge, [c, a, b]).compute(), whole)
    assert_same(a.merge(StreamingAP(3, num_bits=num_bits)).compute(), a.compute())  # nothing is neutral
    assert_same(pickle.loads(pickle.dumps(a.merge(b).merge(c))).compute(), whole)


@pytest.mark.parametrize("num_bits", KINDS)
@settings(max_examples=40)
@given(table=tables())
def test_unknown_targets_count_nowhere(table: Table, num_bits: int | None):
    target_NC, _ = table
    unknown = np.full((5, 3), -1), np.linspace(-9, 9, 15).reshape(5, 3)
    stream = streamed(table, num_bits=num_bits)
    before = stream.compute()
    stream.update(*unknown)
    after = stream.compute()
    np.testing.assert_array_equal(after.ap_C, before.ap_C)
    np.testing.assert_array_equal(after.num_unknown_C, before.num_unknown_C + 5)
    assert stream.num_images == len(target_NC) + 5


@pytest.mark.parametrize("num_bits", KINDS)
def test_merging_and_computing_leave_what_was_there(num_bits: int | None):
    a, b = StreamingAP(2, num_bits=num_bits), StreamingAP(2, num_bits=num_bits)
    a.update([[1, 0], [0, 1]], [[2.0, 1.0], [3.0, 0.5]])
    b.update([[1, 1]], [[5.0, 4.0]])
    before = a.compute()
    both = a.merge(b)
    both.update([[0, 0]], [[9.0, 9.0]])
    assert_same(a.compute(), before)
    assert (a.num_images, b.num_images, both.num_images) == (2, 1, 4)
    a.update([[0, 0]], [[9.0, 9.0]])  # and it goes on after compute
    assert a.compute().ap_C.tolist() == [1 / 3, 1 / 3]


@pytest.mark.parametrize("num_bits", [*KINDS, 20])
def test_nothing_yet(num_bits: int | None):
    stream = StreamingAP(2, num_bits=num_bits)
    for _ in range(2):
        found = stream.compute()
        assert np.isnan(found.ap_C).all()
        assert np.isnan(found.error_bound_C).all()
        assert math.isnan(found.mean_ap.value)
        assert math.isnan(found.mean_error_bound)
        assert found.mean_ap.count == 0
        stream.update(np.zeros((0, 2)), np.zeros((0, 2)))  # an empty batch


@pytest.mark.parametrize("num_bits", KINDS)
def test_a_batch_may_be_written_over_afterwards(num_bits: int | None):
    stream, target, score = StreamingAP(1, num_bits=num_bits), np.array([1, 0], np.int8), np.array([2, 1], np.float32)
    stream.update(target, score)
    target[:], score[:] = 0, 7
    assert stream.compute().ap_C[0] == 1


@pytest.mark.parametrize("num_bits", [None, 16])
def test_tensors_as_a_training_loop_has_them(num_bits: int | None):
    import torch

    stream = StreamingAP(2, num_bits=num_bits)
    logit = torch.tensor([[2.0, -1.0], [1.0, 0.5]], requires_grad=True) * 1
    stream.update(torch.tensor([[1, 0], [0, 1]]), logit)
    stream.update(torch.tensor([[True, False]]), logit[:1].to(torch.bfloat16))
    stream.update(torch.tensor([[0.0, float("nan")]]), logit[:1].half())
    assert stream.compute().ap_C.tolist() == [2 / 3, 1]
    assert stream.compute().num_unknown_C.tolist() == [0, 1]


def test_memory_is_as_stated():
    exact, binned = StreamingAP(4), StreamingAP(4, num_bits=12)
    size = len(pickle.dumps(binned))
    assert abs(size - 4 * 2**16) < 2000
    for _ in range(10):
        for stream in (exact, binned):
            stream.update(np.zeros((1000, 4)), np.ones((1000, 4)))
    assert len(pickle.dumps(binned)) == pytest.approx(size, abs=200)
    assert len(pickle.dumps(exact)) == pytest.approx(5 * 40_000, abs=4000)


# ---- mistakes


def test_nan_is_refused_and_nothing_is_added():
    stream = StreamingAP(2)
    with pytest.raises(PredictionsError) as caught:
        stream.update([[1, 0], [0, 1]], [[1.0, 2.0], [float("nan"), float("inf")]])
    assert str(caught.value) == (
        "a score is not a finite number\n"
        "  where: score_NC[1, 0]\n"
        "  got: nan, and 1 more\n"
        "  expected: a finite number for every image and class\n"
        "  next: leave an image without scores out of both tables; a model that outputs NaN has diverged"
    )
    with pytest.raises(PredictionsError, match="not a finite number"):
        stream.update([[1, 0]], [[1e300, 0.0]])  # no float32
    assert stream.num_images == 0
    assert stream.compute().num_unknown_C.tolist() == [0, 0]


def test_swapped_arguments_are_an_error():
    with pytest.raises(PredictionsError) as caught:
        StreamingAP(1).update([0.5, -2.0], [1, 0])
    assert str(caught.value) == (
        "a label outside 1, 0, -1\n"
        "  where: target_NC[0, 0]\n"
        "  got: 0.5, and 1 more\n"
        "  expected: 1 or True (present), 0 or False (absent), -1 or NaN (unknown)\n"
        "  next: the labels are the first argument and the scores the second: are they swapped?"
    )


def test_wrong_shapes_are_an_error():
    with pytest.raises(UsageError) as caught:
        StreamingAP(3).update([[1, 0]], [[1.0, 2.0]])
    assert str(caught.value) == (
        "a batch has the wrong shape\n  where: score_NC\n  got: (1, 2)\n  expected: (1, 3) (images, classes)"
    )
    with pytest.raises(UsageError, match=r"where: target_NC\n  got: \(2, 2\)\n  expected: \(1, 2\)"):
        StreamingAP(2).update([[1, 0], [1, 0]], [[1.0, 2.0]])


def test_invalid_arguments_and_merges():
    with pytest.raises(UsageError) as caught:
        StreamingAP(3, num_bits=32)
    assert str(caught.value) == (
        "number of bits out of range\n  where: num_bits\n  got: 32\n  expected: 10 to 20, or None to store every score"
    )
    with pytest.raises(UsageError) as caught:
        StreamingAP(0)
    assert str(caught.value) == "no class to evaluate\n  where: num_classes\n  got: 0\n  expected: 1 or more"
    with pytest.raises(PredictionsError) as caught:
        StreamingAP(3).merge(StreamingAP(3, num_bits=16))
    assert str(caught.value) == (
        "accumulators of different kinds cannot be merged\n"
        "  where: merge\n  got: 3 classes, num_bits=16\n  expected: 3 classes, num_bits=None"
    )
