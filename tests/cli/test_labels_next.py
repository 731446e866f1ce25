"""`polytag labels next`: a list of images with reasons, which other verbs read, and whose images a person labels in the browser;
what is labelled or unreadable is in no list."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL.Image import Image
from typer.testing import Result

from polytag import read_predictions
from polytag.data.load import load_dataset
from polytag.errors import DataError, RunError, UsageError
from polytag.inference import feature_cache
from polytag.inference.images import local_images
from polytag.inference.label_next import next_images
from polytag.inspector.review.store import open_review, review_file_of
from polytag.runs.folder import RunFolder


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
    assert all(" labelled; novelty " in row["reason"] for row in rows)
    text = " ".join(said.output.split())
    assert "of 20 images without labels; left out as labelled already: 72" in text
    assert "6 images to label" in text
    assert "broken.png" in said.stderr
    dataset = load_dataset(listed)
    assert [str(path) for path in dataset.paths] == [row["image"] for row in rows]
    again = tmp_path / "again.csv"
    polytag("labels", "next", run, pool, "--budget", 6, "--output", again, "--device", "cpu")
    assert again.read_text() == listed.read_text()


def test_a_name_that_is_no_text_is_in_the_list(run: Path, pool: Path, tmp_path: Path, polytag: Callable[..., Result]):
    os.rename(pool / "broken.png", os.fsencode(pool / "p") + b"\xe9.png")
    shutil.copy(next(pool.glob("copy-*")), os.fsencode(pool / "q") + b"\xe9.png")
    output = tmp_path / "next list.csv"
    polytag("labels", "next", run, pool, "--budget", 40, "--output", output)
    names = [Path(row["image"]).name for row in csv.DictReader(output.read_text().splitlines())]
    assert len(names) == 21
    assert "q\\xe9.png" in names


def test_parquet_holds_scores_whose_labels_are_unknown(run: Path, pool: Path, tmp_path: Path, polytag: Callable[..., Result]):
    listed = tmp_path / "next.parquet"
    said = polytag("labels", "next", run, pool, "--budget", 3, "--output", listed, "--device", "cpu")
    predictions = read_predictions(listed)
    assert len(predictions) == 3
    assert (predictions.target_NC == -1).all()
    table = pq.read_table(listed)
    assert table["rank"].to_pylist() == ["1", "2", "3"]
    assert all(" labelled; novelty " in reason for reason in table["reason"].to_pylist())
    assert f"polytag inspect {listed}" in said.output


def test_a_pool_without_a_new_image_and_a_list_of_another_kind(
    run: Path, colours: Path, tmp_path: Path, polytag: Callable[..., Result]
):
    with pytest.raises(DataError, match="no image of the pool is left to label") as caught:
        polytag("labels", "next", run, colours.parent / "images", "--budget", 3)
    assert caught.value.got == "72 images, 72 of them labelled, 0 unreadable"
    with pytest.raises(UsageError, match="unknown kind of list"):
        polytag("labels", "next", run, colours.parent / "images", "--budget", 3, "--output", tmp_path / "list.txt")


def test_a_pool_is_scored_once(run: Path, pool: Path, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also by another choice, after some of its images have got labels; the answers are the same bits."""
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(feature_cache, "_MIN_SECONDS", 0.0)
    reads: list[int] = []
    images = local_images([*sorted(pool.iterdir()), *sorted((colours.parent / "images").iterdir())[:3]])

    def read(row: int) -> Image:
        reads.append(row)
        return images.read(row)

    counted = replace(images, read=read)
    first = next_images(RunFolder(path=run), counted, budget=4, device="cpu")
    assert sorted(reads) == list(range(24))
    again = next_images(RunFolder(path=run), counted, budget=6, device="cpu")
    assert len(reads) == 24
    assert [image.path for image in again.images[:4]] == [image.path for image in first.images]
    assert np.array_equal(
        np.stack([image.logit_C for image in again.images[:4]]), np.stack([each.logit_C for each in first.images])
    )
    assert (again.num_pool, again.num_labelled) == (20, 3)
    assert again.failures == first.failures
    assert [Path(path).name for path, _ in again.failures] == ["broken.png"]


def labelled_in_the_browser(command: list[str], truth: Callable[[str], list[str]], *, environment: dict[str, str]) -> str:
    """Start a command, label every image but the last as its page does, end it by Ctrl-C; what it printed."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        printed = ""
        while not (found := re.search(r"open  (http://\S+)", printed)):
            line = process.stdout.readline()
            assert line, process.stderr and process.stderr.read()
            printed += line
        assert found[1].endswith("/label")
        address = found[1].removesuffix("label")
        with urllib.request.urlopen(address + "api/review/images", timeout=20) as answer:
            listed = json.load(answer)
        for each in listed["images"][:-1]:
            with urllib.request.urlopen(address + "api/review/labels?image=" + each["image"], timeout=20) as answer:
                classes = json.load(answer)["classes"]
            present = truth(each["image"])
            labels = [{"class_name": it["class_name"], "label": int(it["class_name"] in present), "based_on": 0} for it in classes]
            body = json.dumps({"image": each["image"], "labels": labels, "reviewer": "Ann"}).encode()
            request = urllib.request.Request(address + "api/review/image", body, {"content-type": "application/json"})
            with urllib.request.urlopen(request, timeout=20) as answer:
                assert len(json.load(answer)["decisions"]) == len(classes)
        process.send_signal(signal.SIGINT)
        rest, complaints = process.communicate(timeout=60)
        assert process.returncode == 0, complaints
        return printed + rest
    finally:
        process.kill()
        process.communicate()


def test_label_train_and_again(
    run: Path, colours: Path, pool: Path, tmp_path: Path, quick: tuple[str, ...], polytag: Callable[..., Result]
):
    """The whole loop: images are chosen, labelled in the browser, join the data of the run, and are not chosen again."""
    dataset = load_dataset(colours)
    labels_of = {
        path.name: [name for name, target in zip(dataset.label_set, target_C, strict=True) if target == 1]
        for path, target_C in zip(dataset.paths, dataset.target_NC, strict=True)
    }

    def truth(image: str) -> list[str]:
        return labels_of[Path(image).name.removeprefix("copy-")]

    listed, labelled = tmp_path / "next.parquet", tmp_path / "labelled"
    command = [sys.executable, "-m", "polytag", "labels", "next", run, pool, "--budget", 5, "--output", listed, "--review"]
    environment = {**os.environ, "DISPLAY": "", "WAYLAND_DISPLAY": ""}  # no browser opens
    printed = labelled_in_the_browser([*map(str, command), "--device", "cpu"], truth, environment=environment)
    assert f"polytag labels export {run} labelled --add {listed}" in printed
    with pytest.raises(UsageError, match="images of an earlier list of this name are being labelled"):
        polytag("labels", "next", run, pool, "--budget", 5, "--output", listed, "--device", "cpu")
    said = polytag("labels", "export", run, labelled, "--add", listed)
    assert "12 labels of 4 images changed" in said.output
    assert "4 images added" in said.output
    both = load_dataset(labelled / "labels.csv")
    assert len(both) == len(dataset) + 4
    assert both.ids[: len(dataset)] == dataset.ids
    new = both.take(range(len(dataset), len(both)))
    assert set(new.split_N) == {"train"}
    assert {path.parent for path in new.paths} == {pool}
    found = [[name for name, target in zip(new.label_set, target_C, strict=True) if target == 1] for target_C in new.target_NC]
    assert found == [truth(path.name) for path in new.paths]
    second = tmp_path / "second"
    polytag("train", labelled / "labels.csv", *quick, "--recipe", "probe", "--output", second)
    said = polytag("labels", "next", second, pool, "--budget", 99, "--output", tmp_path / "rest.csv", "--device", "cpu")
    assert "of 16 images without labels; left out as labelled already: 4" in " ".join(said.output.split())
    said = polytag("labels", "export", run, tmp_path / "twice.csv", "--add", listed, "--add", listed)
    assert "4 images added; the data have 4 labelled images of the lists already" in " ".join(said.output.split())


def test_lists_that_nothing_can_be_added_from(run: Path, pool: Path, tmp_path: Path, polytag: Callable[..., Result]):
    listed = tmp_path / "next.parquet"
    polytag("labels", "next", run, pool, "--budget", 2, "--output", listed, "--device", "cpu")
    with pytest.raises(RunError, match="no image of the list is labelled") as caught:
        polytag("labels", "export", run, tmp_path / "out", "--add", listed)
    assert caught.value.next_step == f"label them: polytag inspect {listed}"
    image = read_predictions(listed).ids[0]
    with open_review(review_file_of(listed)) as review:
        review.decide(split="", image_id=image, class_name="red", label=1, given=-1, reviewer="Ann")
    Path(image).unlink()
    with pytest.raises(DataError, match="1 labelled images are not there"):
        polytag("labels", "export", run, tmp_path / "out", "--add", listed)
    with pytest.raises(UsageError, match="unknown kind of list"):
        polytag("labels", "next", run, pool, "--budget", 2, "--output", tmp_path / "next.csv", "--review")
