"""Runs on features of another program: what a probe on images gives, without images, and a run folder as any other."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from polytag import FINETUNE, PROBE, Checkpoint, Predictor, ReadOptions, load_dataset, predict_features, resume, train
from polytag.cli.main import app
from polytag.data.load import load_labels
from polytag.errors import CheckpointError, DataError, PredictionsError, UsageError
from polytag.inference.feature_cache import features_of
from polytag.inspector.open import OpenOptions, open_inspection
from polytag.predictions.read import read_predictions
from polytag.runs.args import load_run_data, read_run_args
from polytag.runs.folder import RunFolder
from polytag.training.one_run import TrainedRun

TINY = replace(PROBE, backbone="test_resnet", weights="random", image_size_px=32, device="cpu", precision="fp32", cache="none")


@pytest.fixture(scope="module")
def on_images(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """A probe on images, whose features are the table of the others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "polytag.report.grids", None)
        return train(colours, recipe=TINY, output=tmp_path_factory.mktemp("probe") / "run")


@pytest.fixture(scope="module")
def table(on_images: TrainedRun, colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of all images in another order, and of one that the data do not have."""
    dataset = load_dataset(colours)
    feature_ND, rows, _ = features_of(Predictor.load(on_images.checkpoint, device="cpu", precision="fp32"), dataset)
    order = np.random.default_rng(0).permutation(len(rows))
    ids = [dataset.ids[row] for row in rows[order]]
    path = tmp_path_factory.mktemp("features") / "features.parquet"
    values = [*feature_ND[order], feature_ND[0]]
    pq.write_table(pa.table({"id": [*ids, "other.png"], "embedding": pa.array(values, pa.list_(pa.float32()))}), path)
    return path


@pytest.fixture(scope="module")
def labels(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The labels without the images."""
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    shutil.copy(colours, path)
    return path


@pytest.fixture(scope="module")
def trained(labels: Path, table: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    return train(labels, recipe=PROBE, features=table, output=tmp_path_factory.mktemp("run") / "run")


def polytag(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_scores_are_those_of_the_probe_on_images(trained: TrainedRun, on_images: TrainedRun):
    ours, theirs = read_predictions(trained.folder.predictions), read_predictions(on_images.folder.predictions)
    assert ours.ids == theirs.ids
    assert (ours.target_NC == theirs.target_NC).all()
    assert np.abs(ours.logit_NC - theirs.logit_NC).max() < 1e-3  # both have float32's last digits from another order of sums
    assert trained.metrics.mean_ap.value == pytest.approx(on_images.metrics.mean_ap.value)


def test_the_folder_is_that_of_a_run(trained: TrainedRun, table: Path, labels: Path):
    names = {path.relative_to(trained.folder.path).as_posix() for path in trained.folder.path.rglob("*") if path.is_file()}
    assert {
        "args.yaml", "env.json", "results.csv", "metrics.json", "thresholds.json", "report.html", "best/config.json",
        "best/README.md", "best/model.safetensors", "predictions-val.parquet", "plots/precision-recall.png",
    } <= names  # fmt: skip
    assert not any(name.startswith("grids/") for name in names), "there is no image to show"
    args = read_run_args(trained.folder)
    assert (args.features, args.recipe.backbone) == (str(table), "features")
    assert load_run_data(args).ids == load_dataset_without_images(labels).ids
    environment = json.loads(trained.folder.environment.read_text())
    size = trained.checkpoint.num_features
    assert environment["images"] == dict.fromkeys(("training", "validation"), f"features.parquet, {size:,} features")
    assert trained.checkpoint.facts["features"] == "features.parquet"
    inspection = open_inspection(trained.folder.path, open_options=OpenOptions(), options=ReadOptions())
    assert (len(inspection.predictions), inspection.checkpoint) == (24, None), "its pages offer no heat maps"


def load_dataset_without_images(labels: Path) -> Any:
    from polytag.data.load import load_labels

    return load_labels(labels)


def test_other_verbs_take_the_run_and_the_table(trained: TrainedRun, table: Path, labels: Path, tmp_path: Path):
    folder = tmp_path / "run"
    shutil.copytree(trained.folder.path, folder)
    polytag("thresholds", folder, "--goal", "f1")
    polytag("calibrate", folder)
    assert "mAP" in polytag("evaluate", folder / "predictions-val.parquet")
    scores = tmp_path / "scores.parquet"
    assert "73 rows scored" in polytag("predict", folder, "--features", table, "--output", scores)
    predictions = read_predictions(scores)
    again = predict_features(folder, table)
    assert predictions.logit_NC.tobytes() == again.logit_NC.tobytes()
    assert (predictions.ids, predictions.calibration) == (again.ids, again.calibration)
    assert again.calibration
    row = again.ids.index("images/050.png")
    printed = polytag("predict", folder, "--features", table)
    thresholds = dict(zip(again.label_set, Checkpoint.read(folder).thresholds, strict=True))
    expected = [name for name, p in zip(again.label_set, again.probability_NC[row], strict=True) if p > thresholds[name]]
    line = next(line for line in printed.splitlines() if line.startswith("images/050.png"))
    assert sorted(name for name in again.label_set if name in line) == sorted(expected)
    known = tmp_path / "known.csv"
    known.write_text(labels.read_text() + "other.png,red,val\n")
    assert "mAP" in polytag("evaluate", scores, "--truth", known)


def test_an_interrupted_run_begins_again_and_ends_with_the_same_bits(
    trained: TrainedRun, labels: Path, table: Path, tmp_path: Path
):
    class Stops:
        def phase(self, name: str, num_images: int) -> None:
            if name == "evaluating best/":
                raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        train(labels, recipe=PROBE, features=table, output=tmp_path / "run", callbacks=[Stops()])
    again = resume(tmp_path / "run")
    assert again.checkpoint.id == trained.checkpoint.id
    assert again.folder.predictions.read_bytes() == trained.folder.predictions.read_bytes()
    assert resume(tmp_path / "run").checkpoint.id == trained.checkpoint.id


def test_images_without_features_are_named_and_left_out(labels: Path, table: Path, tmp_path: Path):
    content = pq.read_table(table)
    few = content.filter(pa.array([not name.startswith(("images/00", "images/07")) for name in content["id"].to_pylist()]))
    few = few.set_column(0, "id", pa.array([Path(name).stem for name in few["id"].to_pylist()]))
    pq.write_table(few, tmp_path / "few.parquet")
    notes: list[str] = []

    class Listener:
        def note(self, text: str) -> None:
            notes.append(text)

    run = train(labels, recipe=PROBE, features=tmp_path / "few.parquet", output=tmp_path / "run", callbacks=[Listener()])
    assert "images and features are joined by file name without its ending" in notes
    assert (
        "images without a row in few.parquet are left out (10 of 48 train; 2 of 24 val): images/000.png, images/001.png, "
        "images/002.png, ..." in notes
    )
    assert run.metrics.num_images == 22


def test_what_cannot_be_done_with_features(trained: TrainedRun, on_images: TrainedRun, labels: Path, table: Path, tmp_path: Path):
    attempts: list[tuple[type[Exception], str, Callable[[], Any]]] = [
        (UsageError, "features of another program are trained on by the probe alone",
         lambda: train(labels, recipe=FINETUNE, features=table, output=tmp_path / "run")),
        (UsageError, "features of another program are trained on by the probe alone",
         lambda: train(labels, recipe=PROBE, features=table, loss=print, output=tmp_path / "run")),
        (DataError, "the feature table does not exist",
         lambda: train(labels, recipe=PROBE, features=tmp_path / "x.npy", output=tmp_path / "run")),
        (CheckpointError, "this model takes features, not images", lambda: trained.checkpoint.load_model()),
        (CheckpointError, "this model takes images, not features", lambda: predict_features(on_images.checkpoint, table)),
        (UsageError, "features are trained on by the probe",
         lambda: polytag("train", labels, "--features", table, "--recipe", "finetune")),
        (UsageError, "features take the place of images and network",
         lambda: polytag("train", labels, "--features", table, "--backbone", "resnet18", "--epochs", "3")),
        (UsageError, "features take the place of images and network",
         lambda: polytag("predict", trained.folder.path, "--features", table, "--split", "val")),
        (UsageError, "features take the place of images",
         lambda: polytag("predict", trained.folder.path, "a.jpg", "--features", table)),
        (UsageError, "no images", lambda: polytag("predict", trained.folder.path)),
    ]  # fmt: skip
    for kind, message, attempt in attempts:
        with pytest.raises(kind) as error:
            attempt()
        assert getattr(error.value, "what", "") == message
    assert not (tmp_path / "run").exists()
    np.savez(tmp_path / "short.npz", ids=np.array(["a"]), features=np.ones((1, 3)))
    with pytest.raises(PredictionsError) as error:
        predict_features(trained.folder.path, tmp_path / "short.npz")
    assert str(error.value) == (
        f"the features are not those that the model was trained on\n  where: {tmp_path / 'short.npz'}\n"
        f"  got: 3 numbers for each image\n  expected: {trained.checkpoint.num_features:,}\n"
        "  next: compute them with the network that the training's features came from"
    )


def test_on_the_command_line(labels: Path, table: Path, trained: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "polytag.report.grids", None)
    monkeypatch.chdir(tmp_path)
    printed = polytag("train", labels, "--features", table)
    assert "polytag predict runs/labels-probe --features TABLE" in printed
    run = RunFolder(path=tmp_path / "runs" / "labels-probe")
    assert Checkpoint.read(run.path).id == trained.checkpoint.id


def test_a_table_without_an_image_of_a_split(labels: Path, table: Path, tmp_path: Path):
    dataset, rows = load_labels(labels), pq.read_table(table)
    ids = {dataset.ids[row] for row in dataset.rows_of("train")}
    pq.write_table(rows.filter([name in ids for name in rows["id"].to_pylist()]), tmp_path / "train.parquet")
    with pytest.raises(PredictionsError) as error:
        train(labels, recipe=PROBE, features=tmp_path / "train.parquet", output=tmp_path / "run")
    assert (error.value.what, error.value.where) == ("no image of the split 'val' is in the table", str(tmp_path / "train.parquet"))
    assert error.value.got == "without a row: 0 of 48 train; 24 of 24 val"
