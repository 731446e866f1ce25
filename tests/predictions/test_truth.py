"""Truth from a data set joins predictions by id, or by the image's path."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from polytag.contracts import Dataset, LabelSet, Predictions
from polytag.errors import PredictionsError
from polytag.predictions.joining import nearest
from polytag.predictions.read import read_labelled, read_predictions
from polytag.predictions.table import with_truth, write_predictions

LABELS = LabelSet(names=("cat", "dog"))
TRUTH = np.array([[1, 0], [0, 1], [-1, 1], [1, 1], [0, 0]])


def dataset(folder: Path, *, label_set: LabelSet = LABELS) -> Dataset:
    ids = ("a", "b", "c", "d", "e")
    return Dataset(
        ids=ids,
        paths=tuple(folder / f"{name}.jpg" for name in ids),
        target_NC=TRUTH,
        split_N=("train",) * 3 + ("val",) * 2,
        label_set=label_set,
        source="csv labels.csv",
    )


def scored(*names: str, paths: tuple[str, ...] = ()) -> Predictions:
    return Predictions(
        ids=names,
        logit_NC=np.arange(2.0 * len(names)).reshape(-1, 2),
        target_NC=np.full((len(names), 2), -1),
        label_set=LABELS,
        image_paths=paths,
        checkpoint_id="0123",
        source="p.parquet",
    )


def test_by_id_in_any_order_and_for_some_of_the_images(tmp_path: Path):
    before = scored("e", "a", "c")
    joined = with_truth(before, dataset(tmp_path))
    assert joined.target_NC.tolist() == [[0, 0], [1, 0], [-1, 1]]
    np.testing.assert_array_equal(joined.logit_NC, before.logit_NC)
    for name in ("ids", "image_paths", "checkpoint_id", "source", "label_set"):
        assert getattr(joined, name) == getattr(before, name)


def test_by_path_absolute_or_relative_where_an_id_is_not_the_data_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    predictions = scored("photos/b.jpg", "elsewhere", "d", paths=("photos/b.jpg", str(tmp_path / "photos" / "c.jpg"), "lost.jpg"))
    assert with_truth(predictions, dataset(tmp_path / "photos")).target_NC.tolist() == [[0, 1], [-1, 1], [1, 1]]


def test_reading_takes_a_data_set_as_truth_and_keeps_what_absent_means(tmp_path: Path):
    truth = replace(dataset(tmp_path), absent_means="unknown")
    write_predictions(scored("e", "a"), tmp_path / "p.parquet")
    joined = read_labelled(tmp_path / "p.parquet", truth=truth)
    assert joined.dataset is truth
    assert joined.predictions.target_NC.tolist() == [[0, 0], [1, 0]]
    assert joined.predictions.absent_means == "unknown"
    write_predictions(joined.predictions, tmp_path / "q.parquet")
    assert read_predictions(tmp_path / "q.parquet").absent_means == "unknown"


def test_an_id_speaks_before_a_path(tmp_path: Path):
    predictions = scored("a", paths=(str(tmp_path / "b.jpg"),))
    assert with_truth(predictions, dataset(tmp_path)).target_NC.tolist() == [[1, 0]]


def test_truth_replaces_what_was_known_before(tmp_path: Path):
    before = scored("a")
    known = Predictions(ids=before.ids, logit_NC=before.logit_NC, target_NC=np.array([[0, 1]]), label_set=LABELS)
    assert with_truth(known, dataset(tmp_path)).target_NC.tolist() == [[1, 0]]


def test_other_classes_are_refused(tmp_path: Path):
    with pytest.raises(PredictionsError) as error:
        with_truth(scored("a"), dataset(tmp_path, label_set=LabelSet(names=("cat", "dogs"))))
    assert str(error.value) == (
        "the labels and the predictions have different classes\n  where: csv labels.csv\n"
        "  got: only in the labels: dogs (did you mean 'dog'?); only in the predictions: dog (did you mean 'dogs'?)\n"
        "  expected: the same classes, in any order\n"
        "  next: use the same spelling; --rename and --merge give labels other names, --classes and --drop leave some out"
    )


def test_classes_in_another_order_are_joined_by_name(tmp_path: Path):
    joined = with_truth(scored("b", "c"), dataset(tmp_path, label_set=LabelSet(names=("dog", "cat"))))
    assert joined.label_set == LABELS
    assert joined.target_NC.tolist() == [[1, 0], [1, -1]]


def test_what_was_given_is_kept(tmp_path: Path):
    before = Predictions(
        ids=("a",),
        logit_NC=np.zeros((1, 2)),
        given_probability_NC=np.full((1, 2), 0.5),
        scale="probability",
        target_NC=np.full((1, 2), -1),
        label_set=LABELS,
    )
    after = with_truth(before, dataset(tmp_path))
    assert (after.scale, after.probability_NC.tolist(), after.target_NC.tolist()) == ("probability", [[0.5, 0.5]], [[1, 0]])


def in_two_splits(target_NC: list[list[int]]) -> Dataset:
    return Dataset(
        ids=("a", "b", "a"),
        paths=(Path("a.jpg"), Path("b.jpg"), Path("a.jpg")),
        target_NC=np.array(target_NC),
        split_N=("train", "val", "val"),
        label_set=LABELS,
        source="csv labels.csv",
    )


def test_an_image_in_two_splits_is_fine_with_the_same_labels_and_refused_with_others():
    assert with_truth(scored("a"), in_two_splits([[1, 0], [0, 1], [1, 0]])).target_NC.tolist() == [[1, 0]]
    contradiction = in_two_splits([[1, 0], [0, 1], [1, -1]])
    assert with_truth(scored("b"), contradiction).target_NC.tolist() == [[0, 1]]  # not scored: no harm
    with pytest.raises(PredictionsError) as error:
        with_truth(scored("b", "a"), contradiction)
    assert str(error.value) == (
        "an image has different labels in two splits\n  where: csv labels.csv\n"
        "  got: 'a' has other labels in split 'val' than in 'train': dog\n  expected: the same labels in both splits\n"
        "  next: remove the image from one of the splits; `polytag data check` lists every such image"
    )


@pytest.mark.parametrize(
    ("scored_id", "true_id", "differ"),
    [
        ("x1", "x1.jpg", "the ending of the file name"),
        ("photos/x1.jpg", "x1.jpg", "the folder"),
        ("photos/x1.jpg", "x1", "folder and ending"),
        ("X 1", "x1", "capital letters or spaces"),
    ],
)
def test_ids_that_differ_only_in_spelling(scored_id: str, true_id: str, differ: str):
    truth = Dataset(
        ids=(true_id, "y"),
        paths=(Path("x.jpg"), Path("y.jpg")),
        target_NC=np.zeros((2, 2)),
        split_N=("", ""),
        label_set=LABELS,
        source="csv labels.csv",
    )
    with pytest.raises(PredictionsError) as error:
        with_truth(scored(scored_id), truth)
    assert error.value.next_step == f"the ids differ only in {differ}: use the same spelling"


def test_images_that_are_not_in_the_truth_are_named(tmp_path: Path):
    with pytest.raises(PredictionsError) as error:
        with_truth(scored("a", "v", "w", "x", "y"), dataset(tmp_path))
    assert str(error.value) == (
        "4 of 5 scored images are not in the labelled data\n  where: csv labels.csv\n  got: v, w, x, ...\n"
        "  expected: ids such as a, b, c (5 in all)\n  next: give the data set that these images are from"
    )
    with pytest.raises(PredictionsError, match=r"1 of 2 scored images are not in the labelled data\n.*\n  got: /no/z\.jpg\n"):
        with_truth(scored("a", "/no/z.jpg", paths=("", "/no/z.jpg")), dataset(tmp_path))


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("airplane", ("aeroplane", "car"), "aeroplane"),
        ("tvmonitor", ("tv", "car"), "tv"),
        ("Dining Table", ("diningtable", "table"), "diningtable"),
        ("potted_plant", ("pottedplant",), "pottedplant"),
        ("gnu", ("cat", "dog"), ""),
        ("a", ("b", "cat"), ""),
    ],
)
def test_the_nearest_spelling(name: str, known: tuple[str, ...], expected: str):
    assert nearest(name, known) == (f" (did you mean {expected!r}?)" if expected else "")
