"""Every metric on parts of the images: by hand, against evaluate on the part alone, and by laws."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytag.contracts import LabelSet, Predictions
from polytag.errors import UsageError
from polytag.metrics.evaluate import evaluate_predictions
from polytag.metrics.slices import caveats, slice_scores, slices_to_json

LABELS = LabelSet(names=("cat", "dog"))


def table(target_NC: object, logit_NC: object = None) -> Predictions:
    target_NC = np.asarray(target_NC)
    if logit_NC is None:
        logit_NC = np.random.default_rng(0).normal(size=target_NC.shape)
    return Predictions(
        ids=tuple(map(str, range(len(target_NC)))), logit_NC=np.asarray(logit_NC), target_NC=target_NC, label_set=LABELS
    )


def test_by_hand():
    """In x: cat 1 and dog 5/6. In y: cat 1/2, and no dog. The mAPs are 11/12 and 1/2; over cat alone, 1 and 1/2."""
    predictions = table(
        [[1, 1], [0, 0], [0, 1], [1, 0], [0, 0]],
        [[3.0, 3], [2, 2], [1, 1], [0, 0], [5, 5]],
    )
    slices = slice_scores(predictions, ["x", "x", "x", "y", "y"], column="place", num_replicates=0)
    x, y = slices.slices
    assert (x.value, x.num_images, y.value, y.num_images) == ("x", 3, "y", 2)
    assert (x.metrics.mean_ap.value, x.metrics.mean_ap.count) == (pytest.approx(11 / 12), 2)
    assert (y.metrics.mean_ap.value, y.metrics.mean_ap.count) == (pytest.approx(1 / 2), 1)
    assert slices.shared_classes == ("cat",)
    assert (x.shared_map.value, x.shared_map.count, y.shared_map.value) == (1.0, 1, pytest.approx(1 / 2))
    assert (slices.edges, slices.num_without, slices.is_comparable) == ((), 0, False)
    assert caveats(slices) == [
        "The mAPs of the slices are over different classes and are not comparable: a class without a positive, or without a "
        "negative, in a slice is not counted there. The mAP over the shared classes (1) is comparable.",
        "Worst: place y, mAP 0.500 over 1 class (1 with fewer than 10 positives) in 2 images.",
    ]


def test_the_worst_slice_is_named_with_its_interval_and_whether_it_may_be_chance():
    rng = np.random.default_rng(0)
    target_NC = (rng.random((300, 2)) < 0.4).astype(np.int8)
    shift_N1 = np.repeat([4.0, 4.0, 0.0], 100)[:, None]
    apart = slice_scores(table(target_NC, rng.normal(size=(300, 2)) + shift_N1 * target_NC), list("xyz" * 100), column="place")
    places = [place for place in "xyz" for _ in range(100)]
    clear = slice_scores(table(target_NC, rng.normal(size=(300, 2)) + shift_N1 * target_NC), places, column="place")
    assert clear.worst is not None
    assert (clear.worst.value, clear.worst.num_overlapping, clear.worst.num_others, clear.worst.num_few) == ("z", 0, 2, 0)
    mean = clear.slices[2].metrics.mean_ap
    assert caveats(clear) == [
        f"Worst: place z, mAP {mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}] over 2 classes in 100 images."
    ]
    assert apart.worst is not None
    assert apart.worst.mean.value == min(part.metrics.mean_ap.value for part in apart.slices)
    assert caveats(apart)[0].endswith(" overlaps those of 2 of 2 others: that it is the worst may be chance.")
    assert slices_to_json(apart)["worst"] == apart.worst.value
    one = slice_scores(table(target_NC), ["x"] * 300, column="place", num_replicates=0)
    assert one.worst is None


def test_a_slice_without_any_positive_takes_no_class_from_the_others():
    """Nor does one without any negative."""
    apart = table([[1, 1], [0, 0], [1, 1], [0, 0], [0, 0], [1, 1]])
    slices = slice_scores(apart, [1, 1, 2, 2, 0, 3], column="place", num_replicates=20)
    assert [part.value for part in slices.slices] == ["0", "1", "2", "3"]
    assert np.isnan(slices.slices[3].metrics.mean_ap.value)
    empty = slices.slices[0]
    assert np.isnan([empty.metrics.mean_ap.value, empty.shared_map.value, empty.shared_map.low]).all()
    assert (empty.metrics.mean_ap.count, empty.shared_map.count) == (0, 0)
    assert slices.shared_classes == ("cat", "dog")
    assert slices.is_comparable
    (worst,) = caveats(slices)
    assert worst.startswith("Worst: place 1, mAP ")


def test_no_class_is_shared_and_no_label_is_known():
    apart = slice_scores(table([[1, 0], [0, 0], [0, 1], [0, 0]]), ["x", "x", "y", "y"], column="place", num_replicates=0)
    assert apart.shared_classes == ()
    assert caveats(apart)[0].endswith("is not counted there, and no class has both in every slice.")
    assert np.isnan([part.shared_map.value for part in apart.slices]).all()
    unknown = slice_scores(table([[-1, -1], [-1, -1]]), ["x", "y"], column="place", num_replicates=0)
    assert unknown.shared_classes == ()
    assert np.isnan([part.metrics.mean_ap.value for part in unknown.slices]).all()


def test_numbers_are_cut_at_quartiles():
    predictions = table([[1, 1]] * 12)
    slices = slice_scores(predictions, [float(value) for value in range(11)] + [None], column="size", num_replicates=0)
    assert slices.edges == (0, 2.5, 5, 7.5, 10)
    assert [(part.value, part.num_images) for part in slices.slices] == [
        ("0 to 2", 3), ("3 to 4", 2), ("5 to 7", 3), ("8 to 10", 3),
    ]  # fmt: skip
    assert slices.num_without == 1
    assert caveats(slices) == [
        "size is cut at its quantiles: 2.5, 5, 7.5.",
        "1 images have no value of size and are in no slice.",
    ]


def test_edges_that_fall_together_are_one():
    values = [5.0] * 90 + [float(value) for value in range(10)]
    slices = slice_scores(table([[1, 0]] * 100), values, column="size", num_replicates=0)
    assert slices.edges == (0, 5, 9)
    assert [(part.value, part.num_images) for part in slices.slices] == [("0 to 4", 5), ("5 to 9", 95)]


def test_a_bin_of_one_whole_number_is_that_number_and_others_have_their_edges():
    slices = slice_scores(table([[1, 0]] * 40), [1.0] * 20 + [2.0 + row for row in range(20)], column="n", num_replicates=0)
    assert [(part.value, part.num_images) for part in slices.slices] == [("1", 20), ("2 to 11", 10), ("12 to 21", 10)]
    halves = slice_scores(table([[1, 0]] * 9), [row / 8 for row in range(9)], column="x", num_replicates=0)
    assert [part.value for part in halves.slices] == ["0 to <0.25", "0.25 to <0.5", "0.5 to <0.75", "0.75 to 1"]
    assert halves.edges == (0, 0.25, 0.5, 0.75, 1)


def test_a_few_numbers_are_a_slice_each_and_sorted_as_numbers():
    slices = slice_scores(table([[1, 0]] * 4), [10.0, 9.0, 2.5, 10.0], column="n", num_replicates=0)
    assert [(part.value, part.num_images) for part in slices.slices] == [("2.5", 1), ("9", 1), ("10", 2)]


def test_one_value_for_all():
    slices = slice_scores(table([[1, 0]] * 4), ["val"] * 4, column="split", num_replicates=0)
    assert caveats(slices) == ["All images have the same value of split."]


def test_no_value_and_too_many():
    with pytest.raises(UsageError) as error:
        slice_scores(table([[1, 0]] * 4), [None, "", float("nan"), float("inf")], column="place")
    assert str(error.value) == ("no image has a value in the column\n  where: --slice place\n  expected: a value for some images")
    with pytest.raises(UsageError) as error:
        slice_scores(table([[1, 0]] * 51), [f"p{row:02}" for row in range(51)], column="place")
    assert str(error.value) == (
        "a column has too many values to slice by\n  where: --slice place\n"
        "  got: 51 distinct values, such as p00, p01, p02\n  expected: numbers, or at most 50 distinct texts"
    )


@settings(max_examples=30)
@given(st.integers(2, 60), st.integers(0, 2**32 - 1))
def test_a_slice_is_evaluate_on_its_images_and_slices_part_the_images(num_images: int, seed: int):
    rng = np.random.default_rng(seed)
    target_NC, logit_NC = rng.integers(-1, 2, (num_images, 2)), rng.integers(-3, 4, (num_images, 2)).astype(np.float32)
    values = [[None, "x", "y", "z"][number] for number in rng.integers(0, 4, num_images)]
    if not any(values):
        return
    predictions = table(target_NC, logit_NC)
    slices = slice_scores(predictions, values, column="place", num_replicates=20)
    assert sum(part.num_images for part in slices.slices) + slices.num_without == num_images
    for part in slices.slices:
        rows = [row for row, value in enumerate(values) if value == part.value]
        alone = evaluate_predictions(predictions.take(rows), num_replicates=20, frequency=part.metrics.frequency)
        assert json.dumps(part.metrics.to_json()) == json.dumps(alone.to_json())
        assert (
            set(np.array(LABELS.names)[part.metrics.support_C > 0]) >= set(slices.shared_classes) or not part.metrics.mean_ap.count
        )
        if part.metrics.mean_ap.count == len(slices.shared_classes) > 0:
            assert part.shared_map.value == pytest.approx(part.metrics.mean_ap.value)
            assert part.shared_map.low == pytest.approx(part.metrics.mean_ap.low)
    permuted = rng.permutation(num_images)
    again = slice_scores(predictions.take(permuted), [values[row] for row in permuted], column="place", num_replicates=0)
    for part, other in zip(slices.slices, again.slices, strict=True):
        assert part.value == other.value
        np.testing.assert_allclose(part.metrics.ap_C, other.metrics.ap_C, rtol=0, atol=1e-12)


@settings(max_examples=50)
@given(st.lists(st.floats(-1e6, 1e6), min_size=9, max_size=60, unique=True))
def test_no_bin_is_empty_and_every_value_is_in_its_bin(values: list[float]):
    slices = slice_scores(table([[1, 0]] * len(values)), values, column="x", num_replicates=0)
    assert 1 <= len(slices.slices) <= 4
    assert sum(part.num_images for part in slices.slices) == len(values)
    last = len(slices.slices) - 1
    for number, part in enumerate(slices.slices):
        low, high = slices.edges[number : number + 2]
        inside = [value for value in values if low <= value < high or (number == last and value == high)]
        assert part.num_images == len(inside) > 0


def test_json_has_no_nan():
    labels = table([[1, 0], [0, 0], [0, 0], [1, 1], [0, 0]], [[2.0, 1], [1, 1], [0, 0], [1, 1], [0, 0]])
    slices = slice_scores(labels, ["x", "x", "y", "z", "z"], column="place", num_replicates=5)
    content = json.loads(json.dumps(slices_to_json(slices), allow_nan=False))
    assert set(content) == {"edges", "num_without", "shared_classes", "worst", "values"}
    assert list(content["values"]) == ["x", "y", "z"]
    assert content["values"]["y"]["mAP_shared_classes"] == {"value": None, "num_classes": 0}
    assert set(content["values"]["x"]["mAP_shared_classes"]) == {"value", "num_classes", "low", "high"}
    assert content["values"]["x"]["per_class"]["cat"]["ap"] == 1.0
