"""Training on decisions: its numbers are those of exporting the labels and training a probe; it can be watched and stopped."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from polytag import PROBE, load_dataset, read_predictions, train
from polytag.contracts import PRESENT
from polytag.data.read_options import ReadOptions
from polytag.inference import feature_cache, relabelled
from polytag.inspector.app import create_app
from polytag.inspector.inspection import Inspection
from polytag.inspector.open import OpenOptions, open_inspection
from polytag.inspector.review.export import export_labels
from polytag.inspector.review.store import ReviewStore, open_review
from polytag.metrics.compare import compare

pytestmark = pytest.mark.usefixtures("without_pages")

TINY = replace(PROBE, backbone="test_resnet", weights="random", image_size_px=64)


@pytest.fixture(scope="module")
def probed(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(colours, recipe=TINY, output=tmp_path_factory.mktemp("probed") / "run").folder.path


@pytest.fixture
def store(probed: Path) -> Iterator[ReviewStore]:
    """The review of the run, which is empty again afterwards."""
    with open_review(probed / "review.sqlite") as store:
        yield store
    for path in probed.glob("review.sqlite*"):
        path.unlink()


def opened(run: Path) -> Inspection:
    return open_inspection(run, OpenOptions(), options=ReadOptions())


def client_of(inspection: Inspection) -> TestClient:
    return TestClient(create_app(inspection), base_url="http://127.0.0.1")


def decide(store: ReviewStore, split: str, image: str, class_name: str, *, given: int, label: int) -> None:
    store.decide(split=split, image_id=image, class_name=class_name, label=label, given=given, reviewer="Ada")


def flip(store: ReviewStore, colours: Path, split: str, number: int) -> None:
    """Turn the first labels of the split around."""
    data = load_dataset(colours).split(split)
    for row in range(number):
        given = int(data.target_NC[row, row % 3])
        decide(store, split, data.ids[row], data.label_set.names[row % 3], given=given, label=1 - given)


def until_done(client: TestClient) -> str:
    for _ in range(1000):
        html = client.get("/decisions").text
        if "data-pending" not in html:
            return html
        time.sleep(0.03)
    raise AssertionError("the training never ends")


def test_the_numbers_are_those_of_exporting_and_training(probed: Path, store: ReviewStore, colours: Path, tmp_path: Path):
    flip(store, colours, "train", 12)
    flip(store, colours, "val", 2)
    before = {path: path.stat().st_mtime_ns for path in probed.rglob("*")}
    with client_of(opened(probed)) as client:
        assert "that 12 decisions about training images changed" in client.get("/decisions").text
        assert client.post("/decisions?action=train").url.path == "/decisions"
        html = until_done(client)
    exported = export_labels(probed, tmp_path / "corrected.csv", options=ReadOptions())
    made = train(exported.data, recipe=TINY, output=tmp_path / "made").folder.path
    judged = load_dataset(exported.data).split("val")
    first, second = (read_predictions(run / "predictions-val.parquet") for run in (probed, made))
    order = [first.ids.index(name) for name in judged.ids]
    first = replace(first.take(order), target_NC=judged.target_NC)
    wanted = compare(first, second, num_permutations=99)
    assert f">{wanted.mean_aps[0].value:.4f}<" in html
    assert f">{wanted.mean_aps[1].value:.4f}<" in html
    mean = wanted.pairs[0]
    assert mean.value != 0
    signed = [f"{number:+.4f}".replace("-", "−") for number in (mean.value, mean.low, mean.high)]
    assert f">{signed[0]}<" in html
    assert f"{signed[1]} to {signed[2]}" in html
    assert "2 of them corrected" in html
    written = {path for path in probed.rglob("*") if before.get(path) != path.stat().st_mtime_ns and "review" not in path.name}
    assert {path for path in written if path.is_file()} == set(), "nothing is written into the run"


def test_other_decisions_make_the_result_an_earlier_one(probed: Path, store: ReviewStore, colours: Path):
    flip(store, colours, "train", 3)
    with client_of(opened(probed)) as client:
        client.post("/decisions?action=train")
        html = until_done(client)
        assert "Other decisions came since" not in html
        assert "Train again" not in html
        store.undo(reviewer="Ada", split="train")
        html = client.get("/decisions").text
        assert "Other decisions came since" in html
        assert "Train again" in html


def test_why_nothing_can_be_trained_is_said(probed: Path, store: ReviewStore, colours: Path):
    inspection = opened(probed)
    data = inspection.data
    assert data is not None
    moved = replace(data, paths=[Path("gone") for _ in data.ids])
    no_absent = replace(data, target_NC=np.where(data.target_NC == PRESENT, data.target_NC, -1).astype(np.int8))
    with client_of(inspection) as client:
        html = client.get("/decisions").text
        assert "No label of a training image is decided yet." in html
        assert "--split train</pre>" in html
        first = data.split("train")
        given = int(first.target_NC[0, 0])
        decide(store, "train", first.ids[0], data.label_set.names[0], given=given, label=given)
        assert "All decisions about training images confirm the label as it was" in client.get("/decisions").text
        client.post("/decisions?action=train")
        assert "data-pending" not in client.get("/decisions").text
    flip(store, colours, "val", 1)
    decide(store, "train", first.ids[1], data.label_set.names[0], given=0, label=1 - int(first.target_NC[1, 0]))
    for changes, sentence in (
        ({"run_path": None}, "These scores are not of a run"),
        ({"checkpoint": None}, "The run has no model that takes images"),
        ({"data": None}, "training and validation images are not at hand"),
        ({"data": moved}, "The files of the training images are not where they were."),
        ({"data": no_absent}, "Some class has no absent label among the training images"),
        (
            {"data": data.take(range(1, len(data)))},
            "The decisions cannot be applied to the data: 1 corrected image is not in the data",
        ),
    ):
        with client_of(replace(inspection, **changes)) as client:
            html = client.post("/decisions?action=train").text
            assert sentence in html
            assert ">Train on these</button>" not in html


def test_it_shows_its_progress_and_can_be_stopped(probed: Path, store: ReviewStore, colours: Path, monkeypatch: pytest.MonkeyPatch):
    flip(store, colours, "train", 3)
    may_go_on, features_of = threading.Event(), feature_cache.features_of

    def slowly(predictor, dataset, *, on_batch, **more):
        on_batch(1)
        assert may_go_on.wait(20)
        return features_of(predictor, dataset, on_batch=on_batch, **more)

    monkeypatch.setattr(feature_cache, "features_of", slowly)
    with client_of(opened(probed)) as client:
        client.post("/decisions?action=train")
        for _ in range(500):
            html = client.get("/decisions").text
            if "Calculating features. 1 of" in html:
                break
            time.sleep(0.02)
        assert "Calculating features. 1 of" in html
        assert "data-pending" in html
        assert "Stopping." in client.post("/decisions?action=stop").text
        may_go_on.set()
        html = until_done(client)
        assert ">Train on these</button>" in html
        assert "change of mAP" not in html


@pytest.mark.browser
@pytest.mark.slow
def test_the_button_trains_and_the_result_comes_by_itself(probed: Path, store: ReviewStore, colours: Path, live, visit):
    flip(store, colours, "train", 12)
    with live(create_app(opened(probed))) as server:
        page = visit(server.url + "/decisions", viewport={"width": 390, "height": 844})
        page.get_by_role("button", name="Train on these").click()
        page.wait_for_selector("text=change of mAP")
        assert page.get_by_role("button", name="Train").count() == 0, "nothing is left to train until other decisions come"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.close()  # before its server is


def test_a_failure_is_told(probed: Path, store: ReviewStore, colours: Path, monkeypatch: pytest.MonkeyPatch):
    flip(store, colours, "train", 3)

    def fails(*_: object, **__: object) -> None:
        raise ValueError("no memory is left")

    monkeypatch.setattr(relabelled, "compare_relabelled", fails)
    with client_of(opened(probed)) as client:
        client.post("/decisions?action=train")
        html = until_done(client)
    assert "The training ended: no memory is left." in html
    assert ">Train on these</button>" in html
