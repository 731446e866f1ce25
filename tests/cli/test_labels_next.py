"""`polytag labels next`: a list of images with reasons, which other verbs read; what is labelled or unreadable is in no list."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import Result

from polytag import read_predictions
from polytag.data.load import load_dataset
from polytag.errors import DataError, UsageError


@pytest.fixture
def pool(colours: Path, tmp_path: Path) -> Path:
    """Twenty images that the run's data do not have, and one that nobody can read."""
    folder = tmp_path / "pool"
    folder.mkdir()
    for image in sorted((colours.parent / "images").iterdir())[:20]:
        shutil.copy(image, folder / f"copy-{image.name}")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def test_the_list_is_read_by_other_verbs(run: Path, colours: Path, pool: Path, tmp_path: Path, polytag: Callable[..., Result]):
    listed = tmp_path / "next.csv"
    said = polytag("labels", "next", run, pool, colours.parent / "images", "--budget", 6, "--output", listed, "--device", "cpu")
    rows = list(csv.DictReader(listed.read_text().splitlines()))
    assert [row["rank"] for row in rows] == list("123456")
    assert {Path(row["image"]).parent for row in rows} == {pool}
    assert all(" labelled; distance " in row["reason"] for row in rows)
    text = " ".join(said.output.split())
    assert "of 20 images without labels; left out as labelled already: 72" in text
    assert "6 images to label" in text
    assert "broken.png" in said.stderr
    dataset = load_dataset(listed)
    assert [str(path) for path in dataset.paths] == [row["image"] for row in rows]
    again = tmp_path / "again.csv"
    polytag("labels", "next", run, pool, "--budget", 6, "--output", again, "--device", "cpu")
    assert again.read_text() == listed.read_text()


def test_parquet_holds_scores_whose_labels_are_unknown(run: Path, pool: Path, tmp_path: Path, polytag: Callable[..., Result]):
    listed = tmp_path / "next.parquet"
    said = polytag("labels", "next", run, pool, "--budget", 3, "--output", listed, "--device", "cpu")
    predictions = read_predictions(listed)
    assert len(predictions) == 3
    assert (predictions.target_NC == -1).all()
    table = pq.read_table(listed)
    assert table["rank"].to_pylist() == ["1", "2", "3"]
    assert all(" labelled; distance " in reason for reason in table["reason"].to_pylist())
    assert f"polytag inspect {listed}" in said.output


def test_a_pool_without_a_new_image_and_a_list_of_another_kind(
    run: Path, colours: Path, tmp_path: Path, polytag: Callable[..., Result]
):
    with pytest.raises(DataError, match="no image of the pool is left to label") as caught:
        polytag("labels", "next", run, colours.parent / "images", "--budget", 3)
    assert caught.value.got == "72 images, 72 of them labelled, 0 unreadable"
    with pytest.raises(UsageError, match="unknown kind of list"):
        polytag("labels", "next", run, colours.parent / "images", "--budget", 3, "--output", tmp_path / "list.txt")
