"""Metrics of arrays: any container gives the same numbers, probabilities are exact, every error has its position."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score

import polytag
from polytag import Dataset, LabelSet, Predictions, evaluate_predictions, predictions_from_arrays
from polytag.errors import PolytagError, PredictionsError, UsageError

TRUE = np.array([[1, 0, -1], [0, 1, 1], [1, 1, 0], [0, 0, 1]])
LOGIT = np.array([[2.5, -1.0, 0.25], [1.5, 3.0, -0.5], [-2.0, 0.5, -3.0], [0.5, 1.0, 2.0]])
FEW = {"num_replicates": 20}


def test_a_worked_example():
    """Positives first and last of four, 1/2 (1 + 2/4); first and third, 1/2 (1 + 2/3); the first two of three known, 1."""
    metrics = polytag.evaluate(TRUE, LOGIT, scores="logit", class_names=["cat", "dog", "owl"], **FEW)
    np.testing.assert_allclose(metrics.ap_C, [(1 + 2 / 4) / 2, (1 + 2 / 3) / 2, 1], atol=1e-15)
    assert metrics.label_set.names == ("cat", "dog", "owl")
    assert (metrics.num_unknown_C.tolist(), metrics.num_images) == ([0, 0, 1], 4)
    assert repr(metrics).startswith("Metrics(mAP 0.861 [")
    assert repr(metrics).endswith("] over 3 classes, 4 images)")


def test_it_is_evaluate_predictions_of_the_same_table():
    table = Predictions(ids=("a", "b", "c", "d"), logit_NC=LOGIT.copy(), target_NC=TRUE, label_set=LabelSet(names=("x", "y", "z")))
    options = {"threshold": [0.3, 0.5, 0.7], "num_replicates": 50, "seed": 3}
    metrics = polytag.evaluate(TRUE, LOGIT, scores="logit", class_names=("x", "y", "z"), **options)
    assert metrics.to_json() == evaluate_predictions(table, **options).to_json()


def test_a_data_set_is_the_truth_with_its_classes_ids_and_paths():
    dataset = Dataset(
        ids=("a", "b", "c", "d"),
        paths=tuple(Path(f"{name}.jpg") for name in "abcd"),
        target_NC=TRUE,
        split_N=("val",) * 4,
        label_set=LabelSet(names=("x", "y", "z")),
        source="mine",
        absent_means="unknown",
    )
    table = predictions_from_arrays(dataset, LOGIT, scores="logit")
    assert (table.ids, table.label_set, table.source) == (dataset.ids, dataset.label_set, "mine")
    assert table.image_paths == ("a.jpg", "b.jpg", "c.jpg", "d.jpg")
    metrics = polytag.evaluate(dataset, LOGIT, scores="logit", **FEW)
    np.testing.assert_array_equal(metrics.ap_C, polytag.evaluate(TRUE, LOGIT, scores="logit", **FEW).ap_C)
    assert metrics.to_json()["absent_means"] == "unknown"
    assert metrics.note.startswith(
        "Absent means unknown: a label that nobody gave counts nowhere, and 8% of the labels are unknown."
    )
    with pytest.raises(UsageError, match="the columns of the two tables are different classes"):
        polytag.evaluate(dataset, _Frame(LOGIT, columns=["z", "y", "x"]), scores="logit")


class _Frame(np.ndarray):
    """A table with named columns, as pandas has."""

    columns: list[str]

    def __new__(cls, values: np.ndarray, *, columns: list[str]):
        table = values.view(cls)
        table.columns = columns
        return table


def test_ids_make_tables_that_can_be_compared():
    table = predictions_from_arrays(TRUE, LOGIT, scores="logit", ids=["a", "b", "c", "d"])
    assert table.ids == ("a", "b", "c", "d")
    assert table.label_set.names == ("class 0", "class 1", "class 2")
    assert predictions_from_arrays(TRUE, LOGIT, scores="logit").ids == ("0", "1", "2", "3")


# ---- whatever holds the numbers


def frames(values: np.ndarray) -> Any:
    return pytest.importorskip("pandas").DataFrame(values)


def tensor(values: np.ndarray) -> Any:
    import torch

    made = torch.from_numpy(values.copy())
    return made.requires_grad_() if made.is_floating_point() else made


CONTAINERS: dict[str, Callable[[np.ndarray], Any]] = {
    "lists": lambda values: values.tolist(),
    "tuples": lambda values: tuple(map(tuple, values)),
    "objects": lambda values: values.astype(object),
    "another order of memory": np.asfortranarray,
    "every other row": lambda values: np.repeat(values, 2, axis=0)[::2],
    "tensors": tensor,
    "pandas": frames,
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_any_container_gives_the_same(container: str):
    make = CONTAINERS[container]
    expected = polytag.evaluate(TRUE, LOGIT, scores="logit", **FEW).to_json()
    names = ["class 0", "class 1", "class 2"]
    assert polytag.evaluate(make(TRUE), make(LOGIT), scores="logit", class_names=names, **FEW).to_json() == expected


def test_sparse_and_masked_truth():
    from scipy import sparse

    full = np.where(TRUE < 0, 0, TRUE)
    expected = polytag.evaluate(full, LOGIT, scores="logit", **FEW).to_json()
    assert polytag.evaluate(sparse.csr_matrix(full), LOGIT, scores="logit", **FEW).to_json() == expected
    masked = np.ma.masked_array(full, mask=TRUE < 0)
    expected = polytag.evaluate(TRUE, LOGIT, scores="logit", **FEW).to_json()
    assert polytag.evaluate(masked, LOGIT, scores="logit", **FEW).to_json() == expected


@pytest.mark.parametrize("missing", [float("nan"), None, -1, -1.0])
def test_unknown_targets_of_any_spelling(missing: object):
    truth = [[missing if value < 0 else bool(value) for value in row] for row in TRUE.tolist()]
    expected = polytag.evaluate(TRUE, LOGIT, scores="logit", **FEW).to_json()
    assert polytag.evaluate(truth, LOGIT, scores="logit", **FEW).to_json() == expected


def test_booleans_and_a_single_class():
    truth, score = [True, False, True], [0.9, 0.4, 0.1]
    metrics = polytag.evaluate(truth, score, scores="probability", **FEW)
    assert metrics.ap_C.tolist() == [pytest.approx((1 + 2 / 3) / 2)]
    assert metrics.label_set.names == ("class 0",)
    column = polytag.evaluate(np.array(truth)[:, None], np.array(score), scores="probability", **FEW)
    assert column.to_json() == metrics.to_json()


def test_a_single_image():
    """It ranks no image above another; its decisions count all the same."""
    metrics = polytag.evaluate([[1, 0]], [[0.2, 0.9]], scores="probability", **FEW)
    assert np.isnan(metrics.ap_C).all()
    assert metrics.mean_ap.count == 0
    assert metrics.left_out == "Not in mAP: 1 class without a positive (class 1) and 1 class without a negative (class 0)."
    assert (metrics.means["OP"].value, metrics.means["OR"].value, metrics.means["samples_AP"].value) == (0, 0, 0.5)


@given(hnp.arrays(np.float64, (6, 3), elements=st.floats(-5, 5)))
def test_a_table_of_positives_and_unknowns_ranks_nothing(score_NC: np.ndarray):
    """Labels 1 and -1 alone, as tables of found objects have: no score could be wrong, and none is called right."""
    target_NC = np.array([[1, -1, 1], [-1, 1, 1], [1, 1, 1], [-1, -1, 1], [1, 1, -1], [1, -1, 1]])
    metrics = polytag.evaluate(target_NC, score_NC, scores="logit", num_replicates=20)
    for name in ("mAP", "mAP_voc07", "mAP_voc10", "weighted_AP", "micro_AP", "ROC_AUC"):
        assert np.isnan([metrics.means[name].value, metrics.means[name].low]).all(), name
        assert metrics.means[name].count == 0
    assert metrics.left_out == "Not in mAP: 3 classes without a negative (class 0, class 1, class 2)."
    assert metrics.left_out in str(metrics)
    one_more = np.concatenate([target_NC, [[0, -1, -1]]])
    some = polytag.evaluate(one_more, np.concatenate([score_NC, [[0.5] * 3]]), scores="logit", num_replicates=20)
    alone = average_precision_score((one_more[:, 0] == 1)[one_more[:, 0] >= 0], np.append(score_NC[:, 0], 0.5)[one_more[:, 0] >= 0])
    assert (some.mean_ap.value, some.mean_ap.count) == (pytest.approx(alone), 1)
    assert some.means["weighted_AP"].value == pytest.approx(alone)
    assert some.mean_ap.low == pytest.approx(some.ap_low_C[0], rel=1e-12, nan_ok=True)  # a mean of one class goes through a root


def test_torch_is_not_imported():
    import subprocess

    script = "import polytag, sys; polytag.evaluate([[1, 0]], [[2, 1]], scores='logit'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_bfloat16_and_half_tensors():
    import torch

    expected = polytag.evaluate(TRUE, LOGIT, scores="logit", **FEW).ap_C
    for kind in (torch.bfloat16, torch.float16):
        found = polytag.evaluate(torch.from_numpy(TRUE), torch.from_numpy(LOGIT).to(kind), scores="logit", **FEW)
        np.testing.assert_array_equal(found.ap_C, expected)


def test_what_was_given_is_left_as_it_was():
    truth, score = TRUE.copy(), LOGIT.copy()
    table = predictions_from_arrays(truth, score, scores="logit")
    score[:], truth[:] = 0.0, 0  # still writable, and no longer the table's
    np.testing.assert_array_equal(table.logit_NC, LOGIT)
    np.testing.assert_array_equal(table.target_NC, TRUE)


def test_whole_numbers_keep_their_order():
    """float32 holds whole numbers up to 2^24."""
    metrics = polytag.evaluate([1, 0], [2**24 + 1, 2**24], scores="rank", **FEW)
    assert metrics.ap_C[0] == 1


# ---- pandas: names come along, and are compared


def test_names_of_pandas_columns():
    pandas = pytest.importorskip("pandas")
    score = pandas.DataFrame(LOGIT, columns=["cat", "dog", "owl"])
    truth = pandas.DataFrame(TRUE, columns=["cat", "dog", "owl"]).astype("Int64").replace(-1, pandas.NA)
    metrics = polytag.evaluate(truth, score, scores="logit", **FEW)
    assert metrics.label_set.names == ("cat", "dog", "owl")
    assert metrics.num_unknown_C.tolist() == [0, 0, 1]
    assert polytag.evaluate(truth["cat"], score["cat"], scores="logit", **FEW).ap_C[0] == metrics.ap_C[0]
    with pytest.raises(UsageError) as caught:
        polytag.evaluate(truth[["dog", "cat", "owl"]], score, scores="logit")
    assert str(caught.value) == (
        "the columns of the two tables are different classes\n"
        "  where: y_true and y_score\n"
        "  got: at 0: 'dog' and 'cat'\n"
        "  expected: the same names in the same order\n"
        "  next: y_true = y_true[list(y_score.columns)] puts them in order; .to_numpy() of both compares by position"
    )
    with pytest.raises(UsageError) as caught:
        polytag.evaluate(truth.loc[[1, 0, 2, 3]], score, scores="logit")
    assert str(caught.value) == (
        "the rows of the two tables are in different orders\n"
        "  where: y_true and y_score\n"
        "  got: at 0: '1' and '0'\n"
        "  expected: the same index in the same order\n"
        "  next: y_true = y_true.loc[y_score.index] puts them in order; .to_numpy() of both compares by position"
    )


# ---- by scikit-learn, and by laws


@settings(max_examples=60)
@given(
    hnp.arrays(np.int8, (12, 2), elements=st.sampled_from([1, 0, -1])),
    hnp.arrays(
        np.float64,
        (12, 2),
        elements=st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0, 1 - 2**-53, 1 - 2**-52, 5e-324, 1e-300, 0.5])),
    ),
)
def test_ap_of_probabilities_is_that_of_the_numbers_given(target_NC: np.ndarray, probability_NC: np.ndarray):
    metrics = polytag.evaluate(target_NC, probability_NC, scores="probability", num_replicates=0)
    for column in range(2):
        known = target_NC[:, column] >= 0
        if (target_NC[:, column] == 1).any() and (target_NC[:, column] == 0).any():
            expected = average_precision_score(target_NC[known, column], probability_NC[known, column])
            assert metrics.ap_C[column] == pytest.approx(expected, abs=1e-12)
        else:
            assert np.isnan(metrics.ap_C[column])
    ranked = polytag.evaluate(target_NC, 7 * probability_NC - 3, scores="rank", num_replicates=0)
    assert np.isnan(ranked.precision_C).all()  # of a rank nothing is decided


# ---- mistakes


@pytest.mark.parametrize(
    "ranks", [[[2**53], [2**53 + 1]], np.array([[2**63 - 1], [5]]), np.array([[2**64 - 1], [3]], np.uint64), [[2**70 + 1], [1]]]
)
def test_integers_that_would_tie_as_floats_are_refused(ranks: Any):
    with pytest.raises(PolytagError) as caught:
        polytag.evaluate([[1], [0]], ranks, scores="rank", **FEW)
    assert str(max(value for row in np.asarray(ranks, object) for value in row)) in str(caught.value)


@given(st.lists(st.integers(-(2**53), 2**53), min_size=2, max_size=8, unique=True))
def test_integers_up_to_2_to_the_53_keep_their_order(ranks: list[int]):
    """AP of ranks is scikit-learn's of their positions."""
    truth = [row % 2 for row in range(len(ranks))]
    found = polytag.evaluate(truth, ranks, scores="rank", num_replicates=0).ap_C[0]
    assert found == pytest.approx(average_precision_score(truth, np.argsort(np.argsort(ranks))), abs=1e-12)
    assert polytag.evaluate(truth, [value * 2**9 for value in ranks], scores="rank", num_replicates=0).ap_C[0] == found


def test_a_refused_value_is_shown_with_all_its_digits():
    above = float(np.nextafter(1, 2))
    assert "got: 1.0000000000000002\n" in message_of(PredictionsError, [[1], [0]], [[above], [0.5]], scores="probability")
    single = np.array([[np.nextafter(np.float32(1), np.float32(2))], [0.5]], np.float32)
    assert "got: 1.0000001\n" in message_of(PredictionsError, [[1], [0]], single, scores="probability")


def message_of(kind: type[PolytagError], *arguments: Any, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        polytag.evaluate(*arguments, **{"scores": "logit", **options})
    assert type(caught.value) is kind
    return str(caught.value)


def test_what_the_scores_are_is_never_guessed():
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'scores'"):
        polytag.evaluate(TRUE, LOGIT)
    assert message_of(UsageError, TRUE, LOGIT, scores="percent") == (
        "unknown scale of scores\n  where: scores\n  got: 'percent'\n  expected: one of logit, probability, rank"
    )


def test_shapes_that_disagree():
    assert message_of(UsageError, TRUE, LOGIT[:3]) == (
        "labels and scores have different shapes\n"
        "  where: y_true and y_score\n"
        "  got: (4, 3) and (3, 3)\n"
        "  expected: the same (images, classes)\n"
        "  next: rows are images, columns are classes, in both"
    )
    assert message_of(UsageError, [0, 2, 1, 1], LOGIT).endswith(
        "next: multi-label targets have one column per class; sklearn.preprocessing.MultiLabelBinarizer makes them of lists"
    )
    assert message_of(UsageError, TRUE.T, LOGIT).endswith("next: rows are images: transpose one of them")
    assert message_of(UsageError, TRUE, LOGIT[None]) == (
        "not a table of images by classes\n"
        "  where: y_score\n"
        "  got: shape (1, 4, 3)\n"
        "  expected: two axes (images, classes), or one for a single class"
    )
    assert message_of(PredictionsError, np.zeros((0, 2)), np.zeros((0, 2))) == (
        "no image to evaluate\n  where: y_score\n  got: shape (0, 2)\n  expected: one row per image"
    )


def test_input_that_is_not_a_table_of_numbers():
    assert message_of(UsageError, [["cat", "dog"], ["cat", "owl"]], LOGIT) == (
        "not a table of numbers\n"
        "  where: y_true\n"
        "  got: <U3 (np.str_('cat'), ...)\n"
        "  expected: numbers or booleans, one row per image and one column per class, all rows of the same length\n"
        "  next: sklearn.preprocessing.MultiLabelBinarizer makes such a table from lists of names"
    )
    assert "got: setting an array element with a sequence" in message_of(UsageError, [["cat"], ["cat", "owl"]], LOGIT)
    assert "got: {'cat': 1}" in message_of(UsageError, {"cat": 1}, LOGIT)
    assert "where: y_score\n  got: 'high'" in message_of(UsageError, TRUE, np.array([[1.0, "high"]], object))
    assert "got: complex128" in message_of(UsageError, TRUE, LOGIT + 0j)


def test_invalid_labels_and_scores():
    assert message_of(PredictionsError, LOGIT, TRUE) == (
        "a label outside 1, 0, -1\n"
        "  where: y_true[0, 0]\n"
        "  got: 2.5, and 9 more\n"
        "  expected: 1 or True (present), 0 or False (absent), -1 or NaN (unknown)\n"
        "  next: the labels are the first argument and the scores the second: are they swapped?"
    )
    bad = LOGIT.copy()
    bad[2, 1] = np.nan
    assert message_of(PredictionsError, TRUE, bad) == (
        "a score is not a finite number\n"
        "  where: y_score[2, 1]\n"
        "  got: nan\n"
        "  expected: a finite number for every image and class\n"
        "  next: leave an image without scores out of both tables; a model that outputs NaN has diverged"
    )
    assert "where: y_score[3, 0]\n  got: inf" in message_of(PredictionsError, TRUE, [*LOGIT[:3], [np.inf, 0, 0]])
    assert message_of(PredictionsError, TRUE, LOGIT, scores="probability") == (
        "a probability outside 0 to 1\n"
        "  where: y_score[0, 0]\n"
        "  got: 2.5, and 7 more\n"
        "  expected: numbers from 0 to 1\n"
        '  next: if these are scores before the sigmoid, pass scores="logit"'
    )
    assert "got: 255" in message_of(PredictionsError, np.array([[255]], np.uint8), [[1.0]])


def test_names_that_do_not_match():
    assert message_of(UsageError, TRUE, LOGIT, class_names=["cat", "dog"]) == (
        "the number of class names is not the number of classes\n  where: class_names\n  got: 2 names\n"
        "  expected: 3, one per column of y_score"
    )
    assert message_of(UsageError, TRUE, LOGIT, class_names=["cat", "dog", "cat"]) == (
        "a class name is given twice\n  where: class_names\n  got: 'cat'\n  expected: every class once"
    )
    assert message_of(UsageError, TRUE, LOGIT, class_names="owl") == (
        "class_names is a text and not a list\n"
        "  where: class_names\n  got: 'owl'\n  expected: a name for each class\n  next: [name]"
    )
    with pytest.raises(UsageError) as caught:
        predictions_from_arrays(TRUE, LOGIT, scores="logit", ids=["a"])
    assert str(caught.value) == (
        "the number of ids is not the number of images\n  where: ids\n  got: 1 ids\n  expected: 4, one per row"
    )
    with pytest.raises(PredictionsError, match="an image id is scored twice"):
        predictions_from_arrays(TRUE, LOGIT, scores="logit", ids=["a", "b", "c", "a"])
