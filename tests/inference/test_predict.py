"""`polytag.predict`: files and folders in, one result an image, in order; a broken image concerns itself alone."""

import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polytag.contracts import Dataset, LabelSet
from polytag.data.formats.listing import images_below
from polytag.errors import CheckpointError, DataError
from polytag.inference.listing import opened
from polytag.inference.predict import ImageResult, list_images, predict
from polytag.inference.predictor import Predictor

FLOAT = {"device": "cpu", "precision": "fp32"}


@pytest.fixture
def album(images, tmp_path: Path) -> Path:
    """b.png and a.png, a folder with c.PNG, and things that are no images."""
    (tmp_path / "album" / "inner").mkdir(parents=True)
    for source, name in zip(images, ("b.png", "a.png", "inner/c.PNG"), strict=False):
        (tmp_path / "album" / name).write_bytes(source.read_bytes())
    (tmp_path / "album" / "notes.txt").write_text("no image")
    (tmp_path / "album" / "folder.png").mkdir()
    return tmp_path / "album"


# ---- what is listed ----


def test_a_folder_gives_every_image_under_it_sorted(album: Path):
    assert list_images([album]) == [album / "a.png", album / "b.png", album / "inner" / "c.PNG"]


def test_files_are_taken_as_given_whatever_their_ending_and_folders_in_their_place(album: Path):
    given = [album / "notes.txt", album / "inner", "missing.jpg", str(album / "a.png")]
    assert list_images(given) == [album / "notes.txt", album / "inner" / "c.PNG", Path("missing.jpg"), album / "a.png"]


def test_a_folder_gives_the_images_that_training_finds_and_no_others(tmp_path: Path):
    names = ("a.jpg", "d.jpe", "._a.jpg", "__MACOSX/._a.jpg", ".ipynb_checkpoints/a.jpg", "sub/e.png", "runs/x/plot.png")
    for name in (*names, "runs/x/args.yaml", "runs/x/results.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with opened([str(tmp_path)], every_seconds=1.0) as (images, left_out):
        listed = list(images.names)
    assert listed == [tmp_path / "a.jpg", tmp_path / "d.jpe", tmp_path / "sub/e.png"]
    assert listed == [tmp_path / name for name in images_below(tmp_path)]
    assert "runs/ (training runs)" in left_out
    assert "__MACOSX" in left_out


def test_images_inside_files_in_the_order_of_the_file(album: Path, tmp_path: Path):
    shards = tmp_path / "shards"
    shards.mkdir()
    image = (album / "a.png").read_bytes()
    with tarfile.open(shards / "a.tar", "w") as archive:
        for name in ("2.png", "1.jpg", "1.json", "._1.jpg"):
            archive.addfile(tarfile.TarInfo(name))
    pq.write_table(pa.table({"image": [{"bytes": image, "path": None}] * 2}), shards / "b.parquet")
    pq.write_table(pa.table({"label": [1]}), shards / "c.parquet")
    inside = [shards / "a.tar" / "2.png", shards / "a.tar" / "1.jpg"]
    assert list_images([shards / "a.tar"]) == inside
    assert list_images([shards]) == [*inside, shards / "b.parquet/image/0", shards / "b.parquet/image/1"]
    (shards / "loose.png").write_bytes(image)
    assert list_images([shards]) == [shards / "loose.png"]  # the files may hold the same ones


def test_no_image_at_all(tmp_path: Path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "notes.txt").write_text("")
    with pytest.raises(DataError) as error:
        list_images([tmp_path / "one", tmp_path / "two"])
    assert str(error.value) == (
        f"no images to predict on\n  where: {tmp_path / 'one'}, {tmp_path / 'two'}\n"
        "  expected: image files (.bmp, .gif, .jfif, .jpe, .jpeg, .jpg, .png, .tif, .tiff, .webp), or folders "
        "or tar, zip, Arrow or Parquet files that hold some"
    )


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


def test_one_result_an_image_in_order(checkpoint, images):
    results = list(predict(checkpoint, images, **FLOAT))
    assert [result.path for result in results] == images
    np.testing.assert_array_equal([result.logit_C for result in results], scores_of(checkpoint, images))
    assert {result.error for result in results} == {""}


def test_a_model_by_its_folder_and_one_image_by_its_path(checkpoint, images):
    expected = scores_of(checkpoint, images[:1])[0]
    for model in (checkpoint.folder, str(checkpoint.folder), checkpoint.folder.parent):
        for given in (images[0], str(images[0])):
            (result,) = predict(model, given, **FLOAT)
            np.testing.assert_array_equal(result.logit_C, expected)


def test_a_folder_of_images(checkpoint, album: Path):
    assert [result.path.name for result in predict(checkpoint, album, **FLOAT)] == ["a.png", "b.png", "c.PNG"]


def test_broken_images_give_results_with_an_error_and_the_others_are_untouched(checkpoint, images, tmp_path: Path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.png").write_text("not an image")
    given = [tmp_path / "empty.jpg", images[0], tmp_path / "text.png", tmp_path / "missing.jpg", images[1]]
    results = list(predict(checkpoint, given, **FLOAT))
    assert [result.path for result in results] == given
    assert [result.error for result in results] == [
        "the image is empty", "", "not an image in a known format", "the image is missing", "",
    ]  # fmt: skip
    broken = results[0]
    assert (broken.logit_C.shape, broken.probabilities, broken.labels) == ((0,), {}, ())
    np.testing.assert_allclose([results[1].logit_C, results[4].logit_C], scores_of(checkpoint, images[:2]), atol=1e-5)


def test_the_model_and_the_list_are_checked_before_the_first_result(checkpoint, tmp_path: Path):
    with pytest.raises(DataError):
        predict(checkpoint, tmp_path)
    with pytest.raises(CheckpointError):
        predict(tmp_path, "a.jpg")


def test_probabilities_are_sigmoids_highest_first_and_labels_are_above_their_thresholds():
    result = ImageResult(
        path=Path("a.jpg"),
        logit_C=np.array([0.0, 3.0, -1.0, 1.0], np.float32),
        label_set=LabelSet(names=("a", "b", "c", "d")),
        thresholds=(0.5, 0.96, 0.2, 0.7),
    )
    assert list(result.probabilities) == ["b", "d", "a", "c"]
    expected = 1 / (1 + np.exp(-np.array([3.0, 1.0, 0.0, -1.0])))
    np.testing.assert_allclose(list(result.probabilities.values()), expected, rtol=1e-12)
    assert result.labels == ("d", "c")  # b is 0.953, under its own threshold; a is exactly at its own
    far = replace(result, logit_C=np.array([40.0, 60.0, -800.0, -40.0], np.float32), thresholds=(0.5, 1.0, 0.0, 2e-18))
    assert list(far.probabilities.items()) == [("b", 1), ("a", 1), ("d", pytest.approx(4.248354255291589e-18, rel=1e-15)), ("c", 0)]
    assert far.labels == ("a", "d", "c")  # never b, always c
