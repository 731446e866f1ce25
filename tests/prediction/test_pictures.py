"""`polytag.predict`: files and folders in, one result a picture, in order; a broken picture concerns itself alone."""

from pathlib import Path

import numpy as np
import pytest

from polytag.contracts import Dataset, LabelSet
from polytag.errors import CheckpointError, DataError
from polytag.prediction.inference import Predictor
from polytag.prediction.pictures import SUFFIXES, PictureResult, list_pictures, predict

FLOAT = {"device": "cpu", "precision": "fp32"}


@pytest.fixture
def album(pictures, tmp_path: Path) -> Path:
    """b.png and a.png, a folder with c.PNG, and things that are no pictures."""
    (tmp_path / "album" / "inner").mkdir(parents=True)
    for source, name in zip(pictures, ("b.png", "a.png", "inner/c.PNG"), strict=False):
        (tmp_path / "album" / name).write_bytes(source.read_bytes())
    (tmp_path / "album" / "notes.txt").write_text("no picture")
    (tmp_path / "album" / "folder.png").mkdir()
    return tmp_path / "album"


# ---- what is listed ----


def test_a_folder_gives_every_picture_under_it_sorted(album: Path):
    assert list_pictures([album]) == [album / "a.png", album / "b.png", album / "inner" / "c.PNG"]


def test_files_are_taken_as_given_whatever_their_ending_and_folders_in_their_place(album: Path):
    given = [album / "notes.txt", album / "inner", "missing.jpg", str(album / "a.png")]
    assert list_pictures(given) == [album / "notes.txt", album / "inner" / "c.PNG", Path("missing.jpg"), album / "a.png"]


def test_no_picture_at_all(tmp_path: Path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "notes.txt").write_text("")
    with pytest.raises(DataError) as error:
        list_pictures([tmp_path / "one", tmp_path / "two"])
    assert str(error.value) == (
        f"no pictures to predict on\n  where: {tmp_path / 'one'}, {tmp_path / 'two'}\n"
        "  expected: picture files (.bmp, .gif, .jpeg, .jpg, .png, .tif, .tiff, .webp), or folders that hold some"
    )
    assert {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"} == SUFFIXES


# ---- what is said of them ----


def scores_of(checkpoint, paths: list[Path]) -> np.ndarray:
    data = Dataset(
        ids=tuple(map(str, range(len(paths)))),
        paths=tuple(paths),
        target_NC=np.full((len(paths), 3), -1),
        split_N=("",) * len(paths),
        label_set=checkpoint.label_set,
        source="",
    )
    return Predictor.load(checkpoint, **FLOAT).score(data).logit_NC


def test_one_result_a_picture_in_order(checkpoint, pictures):
    results = list(predict(checkpoint, pictures, **FLOAT))
    assert [result.path for result in results] == pictures
    np.testing.assert_array_equal([result.logit_C for result in results], scores_of(checkpoint, pictures))
    assert {result.error for result in results} == {""}


def test_a_model_by_its_folder_and_one_picture_by_its_path(checkpoint, pictures):
    expected = scores_of(checkpoint, pictures[:1])[0]
    for model in (checkpoint.folder, str(checkpoint.folder), checkpoint.folder.parent):
        for given in (pictures[0], str(pictures[0])):
            (result,) = predict(model, given, **FLOAT)
            np.testing.assert_array_equal(result.logit_C, expected)


def test_a_folder_of_pictures(checkpoint, album: Path):
    assert [result.path.name for result in predict(checkpoint, album, **FLOAT)] == ["a.png", "b.png", "c.PNG"]


def test_broken_pictures_give_results_with_an_error_and_the_others_are_untouched(checkpoint, pictures, tmp_path: Path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.png").write_text("not a picture")
    given = [tmp_path / "empty.jpg", pictures[0], tmp_path / "text.png", tmp_path / "missing.jpg", pictures[1]]
    results = list(predict(checkpoint, given, **FLOAT))
    assert [result.path for result in results] == given
    assert [result.error for result in results] == [
        "the picture is empty", "", "not a picture in a format that is read", "the picture is missing", "",
    ]  # fmt: skip
    broken = results[0]
    assert (broken.logit_C.shape, broken.probabilities, broken.labels) == ((0,), {}, ())
    np.testing.assert_allclose([results[1].logit_C, results[4].logit_C], scores_of(checkpoint, pictures[:2]), atol=1e-5)


def test_the_model_and_the_list_are_checked_before_the_first_result(checkpoint, tmp_path: Path):
    with pytest.raises(DataError):
        predict(checkpoint, tmp_path)
    with pytest.raises(CheckpointError):
        predict(tmp_path, "a.jpg")


def test_probabilities_are_sigmoids_highest_first_and_labels_are_above_their_thresholds():
    result = PictureResult(
        path=Path("a.jpg"),
        logit_C=np.array([0.0, 3.0, -1.0, 1.0], np.float32),
        label_set=LabelSet(names=("a", "b", "c", "d")),
        thresholds=(0.5, 0.96, 0.2, 0.7),
    )
    assert list(result.probabilities) == ["b", "d", "a", "c"]
    expected = 1 / (1 + np.exp(-np.array([3.0, 1.0, 0.0, -1.0])))
    np.testing.assert_allclose(list(result.probabilities.values()), expected, rtol=1e-12)
    assert result.labels == ("d", "c")  # b is 0.953, under its own threshold; a is exactly at its own
