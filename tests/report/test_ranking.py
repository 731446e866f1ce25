"""ranked_rows against a full sort, its order under ties, and which classes are shown."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytag.contracts import LabelSet, Predictions
from polytag.errors import UsageError
from polytag.report.ranking import MAX_CLASSES_IN_DETAIL, classes_in_detail, probability_text, ranked_rows


def single_class(logits: list[float], *, ids: list[str] | None = None, targets: list[int] | None = None) -> Predictions:
    return Predictions(
        ids=tuple(ids or [f"{row:03}" for row in range(len(logits))]),
        logit_NC=np.array(logits, dtype=np.float32)[:, None],
        target_NC=np.array(targets or [-1] * len(logits))[:, None],
        label_set=LabelSet(names=("dog",)),
    )


@given(
    logits=st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.5, 3.0]) | st.floats(-20, 20, width=32), min_size=1, max_size=40),
    top=st.integers(0, 50),
    lowest=st.booleans(),
    positives=st.booleans(),
)
def test_the_ranking_is_a_stable_full_sort_cut_off(logits: list[float], top: int, lowest: bool, positives: bool):
    targets = [row % 3 - 1 for row in range(len(logits))]
    predictions = single_class(logits, targets=targets)  # ids ascend with the row, so a stable sort breaks ties by id
    score_N = np.array(logits, dtype=np.float32)
    expected = np.argsort(score_N if lowest else -score_N, kind="stable")
    expected = np.array([row for row in expected.tolist() if not positives or targets[row] == 1][:top])
    rows = ranked_rows(predictions, class_name="dog", top=top, lowest=lowest, positives=positives)
    assert [row.row for row in rows] == expected.tolist()
    assert [row.rank for row in rows] == list(range(1, len(expected) + 1))


@given(st.permutations(range(8)))
def test_the_order_of_the_images_changes_nothing(order: list[int]):
    logits, ids = [1.0, 1.0, 0.0, 1.0, -3.0, 0.0, 2.0, 1.0], list("hgfedcba")
    shuffled = single_class([logits[i] for i in order], ids=[ids[i] for i in order])
    for lowest in (False, True):
        expected = ranked_rows(single_class(logits, ids=ids), class_name="dog", top=4, lowest=lowest)
        assert [row.id for row in ranked_rows(shuffled, class_name="dog", top=4, lowest=lowest)] == [row.id for row in expected]


def test_worked_example_with_ties_and_unknown_truth():
    predictions = single_class([0.0, 2.0, 2.0, -1.0], ids=["d", "c", "b", "a"], targets=[1, 0, -1, 1])
    assert [(row.id, row.target) for row in ranked_rows(predictions, class_name="dog", top=3)] == [("b", -1), ("c", 0), ("d", 1)]
    lowest = ranked_rows(predictions, class_name="dog", top=2, lowest=True)
    assert [(row.id, row.probability) for row in lowest] == [("a", pytest.approx(1 / (1 + np.e))), ("d", 0.5)]


def test_scores_whose_probabilities_run_together_keep_their_order():
    rows = ranked_rows(single_class([90.0, 91.0]), class_name="dog", top=2)
    assert [row.probability for row in rows] == [1.0, 1.0]
    assert [row.logit for row in rows] == [91.0, 90.0]


def test_unknown_class_and_negative_top():
    with pytest.raises(UsageError) as error:
        ranked_rows(single_class([0.0]), class_name="cat", top=1)
    assert str(error.value) == "unknown class name\n  got: 'cat'\n  expected: one of dog"
    with pytest.raises(UsageError) as error:
        ranked_rows(single_class([0.0]), class_name="dog", top=-1)
    assert str(error.value) == "a negative number of images\n  got: -1\n  expected: 0 or more"


def test_no_images_give_no_rows():
    assert ranked_rows(single_class([]), class_name="dog", top=5) == ()


@pytest.mark.parametrize(
    ("probability", "text"),
    [(0.0, "0.000"), (2e-5, "2e-5"), (0.0005, "0.001"), (0.5, "0.500"), (0.99996, ">0.999"), (1.0, "1.000")],
)
def test_probability_text(probability: float, text: str):
    assert probability_text(probability) == text


def test_few_classes_are_all_shown_best_first_undefined_last():
    assert classes_in_detail(np.array([0.2, np.nan, 0.9, 0.2]), np.array([50, 0, 50, 50])) == [2, 0, 3, 1]


def test_of_many_classes_the_best_and_the_worst_are_shown():
    ap_C = np.linspace(1, 0, 300)
    ap_C[:100] = np.nan
    half = MAX_CLASSES_IN_DETAIL // 2
    assert classes_in_detail(ap_C, np.where(np.isnan(ap_C), 0, 20)) == [*range(100, 100 + half), *range(300 - half, 300)]
    without_truth = classes_in_detail(np.full(300, np.nan), np.zeros(300))
    assert without_truth == [*range(half), *range(300 - half, 300)]


def test_classes_with_few_positives_come_after_the_others_and_are_neither_best_nor_worst():
    assert classes_in_detail(np.array([0.2, np.nan, 1.0, 0.3]), np.array([50, 0, 9, 10])) == [3, 0, 2, 1]
    ap_C, support_C = np.linspace(1, 0, 300), np.full(300, 10)
    support_C[:50] = support_C[-50:] = 1
    half = MAX_CLASSES_IN_DETAIL // 2
    assert classes_in_detail(ap_C, support_C) == [*range(50, 50 + half), *range(250 - half, 250)]
    support_C[60:] = 1
    assert classes_in_detail(ap_C, support_C) == [*range(50, 60), *range(50), *range(60, 100)]
