"""The values refuse what would poison everything after them, and say why."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from polytag.contracts import Dataset, LabelSet, Predictions, Preprocessing
from polytag.errors import DataError, ImageError, PredictionsError, UsageError

TWO = LabelSet(names=("cat", "dog"))


def dataset(**changes: object) -> Dataset:
    values = {
        "ids": ("a", "b"),
        "paths": (Path("a.jpg"), Path("b.jpg")),
        "target_NC": np.array([[1, 0], [-1, 1]]),
        "split_N": ("train", "val"),
        "label_set": TWO,
        "source": "test",
    }
    return Dataset(**(values | changes))


def test_label_fingerprint_depends_on_names_and_order():
    assert TWO.fingerprint == LabelSet(names=("cat", "dog")).fingerprint
    assert len({TWO.fingerprint, LabelSet(names=("dog", "cat")).fingerprint, LabelSet(names=("catdog",)).fingerprint}) == 3


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "no class names\n  expected: at least one class"),
        (("cat", "cat"), "a class name is given twice\n  got: 'cat'\n  expected: every class once"),
        (("cat", " "), "an empty class name\n  got: ' '\n  expected: a name for every class"),
    ],
)
def test_label_set_refuses(names, message):
    with pytest.raises(DataError) as error:
        LabelSet(names=names)
    assert str(error.value) == message


def test_unknown_class_names_the_known_ones():
    with pytest.raises(UsageError) as error:
        TWO.index("horse")
    assert str(error.value) == "unknown class name\n  got: 'horse'\n  expected: one of cat, dog"


def test_a_label_outside_the_three_is_refused_with_its_place():
    with pytest.raises(DataError) as error:
        dataset(target_NC=np.array([[1, 0], [2, 1]]))
    assert str(error.value) == (
        "a label outside 1, 0, -1\n  where: test\n  got: 2 in row 1, class 'cat'\n"
        "  expected: 1 (present), 0 (absent) or -1 (unknown)"
    )


def test_the_same_id_twice_in_a_split_is_refused_but_not_in_two_splits():
    assert dataset(ids=("a", "a")).ids == ("a", "a")
    with pytest.raises(DataError) as error:
        dataset(ids=("a", "a"), split_N=("train", "train"))
    assert str(error.value) == (
        "an image id is given twice in one split\n  where: test\n  got: 'a' in split 'train'\n  expected: every id once\n"
        "  next: remove the duplicate, or merge its labels"
    )


def test_a_missing_split_is_an_error_with_the_existing_ones():
    with pytest.raises(DataError) as error:
        dataset().split("test")
    assert str(error.value) == (
        "the split 'test' is missing\n  where: test\n  got: 'train', 'val'\n  expected: images in split 'test'\n"
        "  next: add the split to the annotations; `polytag data check` shows what was read"
    )


def test_targets_cannot_be_changed_behind_the_dataset():
    with pytest.raises(ValueError, match="read-only"):
        dataset().target_NC[0, 0] = 0


def test_fingerprint_changes_with_labels_and_splits_but_not_with_the_place():
    first = dataset().fingerprint
    assert first == dataset(paths=(Path("/elsewhere/a.jpg"), Path("/elsewhere/b.jpg"))).fingerprint
    assert first != dataset(target_NC=np.array([[1, 0], [0, 1]])).fingerprint
    assert first != dataset(split_N=("train", "train")).fingerprint


def test_take_keeps_rows_together():
    taken = dataset().take(np.array([False, True]))
    assert (taken.ids, taken.split_N, taken.target_NC.tolist()) == (("b",), ("val",), [[-1, 1]])


def test_a_score_that_is_no_number_is_refused_with_its_place():
    with pytest.raises(PredictionsError) as error:
        Predictions(ids=("a",), logit_NC=np.array([[0.0, np.nan]]), target_NC=np.array([[1, 0]]), label_set=TWO, source="x.csv")
    assert str(error.value) == (
        "a score is not a finite number\n  where: x.csv\n  got: nan for image 'a', class 'dog'\n  expected: finite logits"
    )


def test_an_image_that_is_scored_twice_is_refused():
    with pytest.raises(PredictionsError) as error:
        Predictions(ids=("a", "b", "a"), logit_NC=np.zeros((3, 2)), target_NC=np.zeros((3, 2)), label_set=TWO, source="x.csv")
    assert str(error.value) == "an image id is scored twice\n  where: x.csv\n  got: 'a'\n  expected: every id once"


def test_tables_of_the_wrong_shape_are_refused():
    with pytest.raises(PredictionsError) as wrong_scores:
        Predictions(ids=("a",), logit_NC=np.zeros((1, 3)), target_NC=np.zeros((1, 2)), label_set=TWO, source="x.csv")
    assert str(wrong_scores.value) == (
        "the scores have the wrong shape\n  where: x.csv\n  got: (1, 3)\n  expected: (1, 2) (images, classes)"
    )
    with pytest.raises(DataError) as wrong_labels:
        dataset(target_NC=np.zeros((2, 3)))
    assert str(wrong_labels.value) == (
        "the labels have the wrong shape\n  where: test\n  got: (2, 3)\n  expected: (2, 2) (images, classes)"
    )


def test_probability_is_the_sigmoid_and_never_overflows():
    logit = np.array([[-1000.0, 0.0], [1000.0, 2.0]])
    predictions = Predictions(ids=("a", "b"), logit_NC=logit, target_NC=np.zeros((2, 2)), label_set=TWO)
    np.testing.assert_allclose(predictions.probability_NC, [[0, 0.5], [1, 1 / (1 + np.exp(-2.0))]], rtol=1e-12)


def test_preprocessing_refuses_what_no_backbone_reads():
    with pytest.raises(UsageError) as error:
        Preprocessing(crops="seven")
    assert str(error.value) == "unknown crops\n  got: 'seven'\n  expected: one of center, flip, five, ten"


def test_errors_cross_process_borders():
    error = ImageError("broken", where="a.jpg", got="half", expected="whole", next_step="copy it again")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


# ---- what another program gave


def test_float64_logits_stay_float64_and_everything_else_becomes_float32():
    wide = np.array([[1.0 + 2.0**-40]])
    for given, dtype in ((wide, np.float64), (wide.astype(np.float32), np.float32), (wide.astype(np.float16), np.float32)):
        made = Predictions(ids=("a",), logit_NC=given, target_NC=[[1]], label_set=LabelSet(names=("cat",)))
        assert made.logit_NC.dtype == dtype
        assert made.logit_NC[0, 0] == given[0, 0]


def test_probabilities_that_were_given_are_not_computed_again():
    made = Predictions(
        ids=("a", "b"),
        logit_NC=np.array([[-0.8473], [0.0]]),
        given_probability_NC=np.array([[0.3], [0.5]]),
        scale="probability",
        target_NC=[[1], [0]],
        label_set=LabelSet(names=("cat",)),
    )
    assert made.probability_NC.tolist() == [[0.3], [0.5]]
    assert made.has_probabilities
    assert made.take([1]).probability_NC.tolist() == [[0.5]]


def test_a_rank_has_no_probability():
    made = Predictions(ids=("a",), logit_NC=[[-7.5]], target_NC=[[1]], label_set=LabelSet(names=("cat",)), scale="rank")
    assert not made.has_probabilities
    assert np.isnan(made.probability_NC).all()


def test_rows_are_taken_with_all_they_have():
    made = Predictions(
        ids=("a", "b", "c"),
        logit_NC=[[1], [2], [3]],
        target_NC=[[1], [0], [-1]],
        label_set=LabelSet(names=("cat",)),
        image_paths=("a.jpg", "b.jpg", "c.jpg"),
        checkpoint_id="0123",
        source="here",
    )
    for rows in ([2, 0], np.array([2, 0])):
        taken = made.take(rows)
        assert (taken.ids, taken.image_paths) == (("c", "a"), ("c.jpg", "a.jpg"))
        assert (taken.logit_NC.tolist(), taken.target_NC.tolist()) == ([[3], [1]], [[-1], [1]])
        assert (taken.checkpoint_id, taken.source, taken.label_set) == ("0123", "here", made.label_set)
    assert made.take(np.array([True, False, True])).ids == ("a", "c")


def test_scores_keep_their_precision_and_the_callers_array_stays_writable():
    given = np.array([[2**24], [2**24 + 1]])
    table = Predictions(ids=("a", "b"), logit_NC=given, target_NC=np.array([[1], [0]]), label_set=LabelSet(names=("x",)))
    assert table.logit_NC.dtype == np.float64
    assert table.logit_NC[0, 0] < table.logit_NC[1, 0]
    logit_NC = np.zeros((2, 1), np.float32)
    table = Predictions(ids=("a", "b"), logit_NC=logit_NC, target_NC=np.array([[1], [0]]), label_set=LabelSet(names=("x",)))
    logit_NC[0, 0] = 5
    assert (table.logit_NC[0, 0], table.logit_NC.dtype) == (0, np.float32)


@pytest.mark.parametrize("letter", ["\x00", "\x0b", "\n", "\x1b", "\x9b", "\u202e", "\ud800", "\ufffe"])
def test_a_class_name_with_a_control_character_is_refused(letter):
    """The chart library aborts the process at some of them, and a terminal obeys others."""
    with pytest.raises(DataError) as error:
        LabelSet(names=("cat", f"a{letter}b"))
    assert str(error.value) == (
        f"a class name with a control character\n  got: U+{ord(letter):04X} in {f'a{letter}b'!a}\n"
        "  expected: text in one line\n  next: rename the class, for example without its line break"
    )


def test_a_class_name_that_cannot_be_seen_is_refused():
    with pytest.raises(DataError, match="an empty class name"):
        LabelSet(names=("cat", "\u200b"))


def test_a_name_that_is_not_utf8_is_refused():
    def dataset(name: str, path: str) -> Dataset:
        return Dataset(
            ids=(name,), paths=(Path(path),), target_NC=np.zeros((1, 2)), split_N=("",), label_set=TWO, source="folder data"
        )

    for name, path in (("caf\udce9.png", "x"), ("x", "/data/caf\udce9.png")):
        with pytest.raises(DataError) as error:
            dataset(name, path)
        assert str(error.value).startswith("the name of an image is not UTF-8\n  where: folder data\n  got: ")
        assert "caf\\xe9.png\n  expected: names in UTF-8" in str(error.value)
    for kind in ("split", "group"):
        with pytest.raises(DataError) as error:
            replace(dataset("x", "x"), **{f"{kind}_N": ("x\ud800",)})  # as JSON can spell it
        assert str(error.value) == (
            f"the name of a {kind} is not UTF-8\n  where: folder data\n  got: x\\ud800\n  expected: names in UTF-8\n"
            "  next: correct the annotations"
        )
    with pytest.raises(DataError, match="the name of an image is not UTF-8"):
        Predictions(ids=("\ud800",), logit_NC=np.zeros((1, 2)), target_NC=np.zeros((1, 2)), label_set=TWO)
