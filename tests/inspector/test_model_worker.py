"""The model worker: answers equal to polytag's own, one at a time, a few waiting; neighbours meanwhile; no early imports."""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch
from PIL import Image

from polytag import predict
from polytag.contracts import LabelSet, Predictions
from polytag.errors import CheckpointError, ImageError
from polytag.inspector.browse.dataset_rows import dataset_rows
from polytag.inspector.inspection import Inspection
from polytag.inspector.model.job_queue import Busy, JobQueue
from polytag.inspector.model.overlay import overlay_png
from polytag.inspector.model.worker import ModelWorker, NearestNeighbors

PATIENCE_SECONDS = 60.0


@pytest.fixture
def worker(modelled: Inspection, tmp_path: Path) -> Iterator[ModelWorker]:
    worker = ModelWorker(modelled, tmp_path / "cache")
    yield worker
    worker.close()


def neighbours(worker: ModelWorker, row: int, *, limit: int = 5) -> NearestNeighbors:
    """Asked until they are ready."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found = worker.nearest(row, limit=limit).result(PATIENCE_SECONDS)
        assert 0 <= found.progress <= 1
        if found.status == "ready":
            return found
        assert found.of_split == {}
        time.sleep(0.02)
    raise AssertionError("the features were never ready")


# ---- predictions ----


def test_an_upload_gets_what_predict_says_at_the_runs_thresholds(worker: ModelWorker, modelled: Inspection):
    path = Path(modelled.predictions.image_paths[3])
    assert modelled.checkpoint is not None
    (expected,) = predict(modelled.checkpoint, path, device="cpu")
    found = worker.predict(path.read_bytes()).result(PATIENCE_SECONDS)
    assert [each.name for each in found] == list(expected.probabilities)
    assert [each.probability for each in found] == pytest.approx(list(expected.probabilities.values()), abs=1e-5)
    threshold = dict(zip(modelled.predictions.label_set, modelled.threshold_C.tolist(), strict=True))
    for each in found:
        assert each.threshold == threshold[each.name]
        assert each.is_present == (each.probability > each.threshold)


def test_an_image_that_cannot_be_read_is_told_and_the_next_is_answered(worker: ModelWorker, modelled: Inspection):
    with pytest.raises(ImageError, match="the image is empty"):
        worker.predict(b"").result(PATIENCE_SECONDS)
    assert len(worker.predict(Path(modelled.predictions.image_paths[0]).read_bytes()).result(PATIENCE_SECONDS)) == 3


def test_a_worker_that_is_warm_answers_at_once_and_warming_up_never_raises(modelled: Inspection, tmp_path: Path):
    worker = ModelWorker(modelled, tmp_path)
    worker.warm_up()
    assert len(worker.predict(Path(modelled.predictions.image_paths[0]).read_bytes()).result(PATIENCE_SECONDS)) == 3
    worker.close()
    worker.warm_up()
    gone = ModelWorker(replace(modelled, checkpoint=tmp_path / "gone"), tmp_path)
    gone.warm_up()
    gone.close()


def test_the_threads_of_others_are_left_as_they_were(worker: ModelWorker, modelled: Inspection):
    before = torch.get_num_threads()
    worker.predict(Path(modelled.predictions.image_paths[0]).read_bytes()).result(PATIENCE_SECONDS)
    assert torch.get_num_threads() == before


# ---- heat maps ----


def rgba(png: bytes) -> np.ndarray:
    image = Image.open(BytesIO(png))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGBA"))


def test_a_row_and_its_file_have_the_same_heat_map(worker: ModelWorker, modelled: Inspection):
    of_row = worker.heat_of_row(3, 1).result(PATIENCE_SECONDS)
    content = Path(modelled.predictions.image_paths[3]).read_bytes()
    assert worker.heat_of_upload(content, 1).result(PATIENCE_SECONDS) == of_row
    assert worker.heat_of_row(3, 1).result(PATIENCE_SECONDS) is of_row
    assert rgba(of_row).shape == (512, 512, 4)


def test_the_overlay_has_the_images_shape_and_is_clear_where_it_is_cold():
    heat_hw = np.zeros((4, 4), np.float32)
    heat_hw[0, 3] = 1
    overlay = rgba(overlay_png(heat_hw, size=(600, 300), region=(0, 0, 1, 1)))
    assert overlay.shape == (256, 512, 4)
    assert overlay[:30, 480:, 3].min() > 150
    assert overlay[128:, :, 3].max() == overlay[:, :256, 3].max() == 0
    tall = rgba(overlay_png(heat_hw, size=(3, 3000), region=(0, 0, 1, 1)))
    assert tall.shape == (512, 1, 4)


def test_the_overlay_of_a_centre_crop_leaves_the_rest_clear():
    overlay = rgba(overlay_png(np.ones((7, 7), np.float32), size=(200, 100), region=(0.25, 0, 0.75, 1)))
    assert overlay[:, :128, 3].max() == overlay[:, 384:, 3].max() == 0
    assert overlay[:, 128:384, 3].min() > 150


def test_the_colours_grow_lighter_and_more_opaque_with_heat():
    ramp = rgba(overlay_png(np.linspace(0, 1, 512, dtype=np.float32)[None], size=(512, 1), region=(0, 0, 1, 1)))[0].astype(float)
    luma = ramp[:, :3] @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(luma) >= -1).all()
    assert (np.diff(ramp[:, 3]) >= 0).all()
    assert ramp[0, 3] == 0
    assert 150 < ramp[-1, 3] < 220


def test_the_tag_changes_with_row_class_and_image(worker: ModelWorker, modelled: Inspection, tmp_path: Path):
    tags = {worker.heat_tag(row, column) for row in range(4) for column in range(3)}
    assert len(tags) == 12
    path = tmp_path / "moved.png"
    path.write_bytes(Path(modelled.predictions.image_paths[0]).read_bytes())
    paths = (str(path), *modelled.predictions.image_paths[1:])
    other = ModelWorker(replace(modelled, predictions=replace(modelled.predictions, image_paths=paths)), tmp_path)
    before = other.heat_tag(0, 0)
    path.write_bytes(path.read_bytes() + b"\0")
    assert other.heat_tag(0, 0) != before
    other.close()


# ---- the line ----


def test_a_full_line_refuses_and_takes_more_when_it_has_moved_on():
    line, go_on = JobQueue(max_waiting=2), Event()
    futures = [line.submit(go_on.wait) for _ in range(3)]
    assert line.is_full
    with pytest.raises(Busy) as error:
        line.submit(go_on.wait)
    assert str(error.value) == "the model is busy with other images\n  next: try again in a moment"
    go_on.set()
    assert [future.result(PATIENCE_SECONDS) for future in futures] == [True] * 3
    assert line.submit(lambda: 7).result(PATIENCE_SECONDS) == 7
    line.close()
    assert line.is_full
    with pytest.raises(Busy):
        line.submit(lambda: 7)


def test_jobs_are_done_in_order_one_at_a_time_and_an_error_holds_up_nobody():
    line, done = JobQueue(max_waiting=10), []

    def job(number: int) -> int:
        done.append(number)
        time.sleep(0.005)
        assert done[-1] == number
        return number // (number - 5)

    futures = [line.submit(lambda number=number: job(number)) for number in range(10)]
    with pytest.raises(ZeroDivisionError):
        futures[5].result(PATIENCE_SECONDS)
    futures[9].result(PATIENCE_SECONDS)
    assert done == list(range(10))
    line.close()


def test_closing_drops_what_waits():
    line, begun, go_on = JobQueue(max_waiting=5), Event(), Event()
    first = line.submit(lambda: (begun.set(), go_on.wait()))
    waiting = line.submit(lambda: 7)
    begun.wait(PATIENCE_SECONDS)
    go_on.set()
    line.close()
    assert first.done()
    with suppress(CancelledError):
        assert waiting.result(0) == 7  # its turn came before the end


def test_background_work_steps_aside():
    line, stop = JobQueue(max_waiting=5), Event()
    line.begin_background()
    waiting = line.submit(lambda: "served")
    time.sleep(0.05)
    assert not waiting.done()
    line.yield_turn(stop)
    assert waiting.result(0) == "served"
    line.end_background()
    line.close()


def test_many_large_images_at_once_are_refused_beyond_the_line(modelled: Inspection, tmp_path: Path):
    file = BytesIO()
    Image.new("RGB", (6000, 6000)).save(file, "PNG", compress_level=1)
    worker = ModelWorker(modelled, tmp_path, max_waiting=2)
    futures, num_refused = [], 0
    for _ in range(12):
        try:
            futures.append(worker.predict(file.getvalue()))
        except Busy:
            num_refused += 1
    assert all(len(future.result(PATIENCE_SECONDS)) == 3 for future in futures)
    assert len(futures) >= 3
    assert num_refused >= 6
    worker.close()


# ---- neighbours ----


def test_neighbours_of_every_split_without_the_image_itself(worker: ModelWorker, modelled: Inspection):
    assert modelled.data is not None
    content = Path(modelled.predictions.image_paths[0]).read_bytes()
    for _ in range(2):
        unasked = worker.nearest_of_upload(content, limit=5, is_asked_for=False).result(PATIENCE_SECONDS)
        assert unasked.status == "waiting"
    first = worker.nearest(0, limit=5).result(PATIENCE_SECONDS)
    assert first == NearestNeighbors(status="computing", progress=0.0, of_split={})
    found = neighbours(worker, 0)
    assert {split: len(images) for split, images in found.of_split.items()} == {"train": 5, "val": 5}
    for split, images in found.of_split.items():
        assert [each.distance for each in images] == sorted(each.distance for each in images)
        for each in images:
            assert (each.split, each.id) == (split, modelled.data.ids[each.row])
            assert modelled.data.split_N[each.row] == split
            present = modelled.data.target_NC[each.row] == 1
            assert each.labels == tuple(np.array(modelled.data.label_set.names)[present])
    assert modelled.predictions.ids[0] not in {each.id for each in found.of_split["val"]}


def test_a_copy_in_train_is_found_at_distance_zero(modelled: Inspection, tmp_path: Path):
    assert modelled.data is not None
    row = 5
    copy = tmp_path / "copy.png"
    copy.write_bytes(Path(modelled.predictions.image_paths[row]).read_bytes())
    data = replace(modelled.data, paths=(copy, *modelled.data.paths[1:]))  # instead of the first training image
    worker = ModelWorker(replace(modelled, data=data), tmp_path / "cache")
    nearest = neighbours(worker, row).of_split["train"][0]
    assert (nearest.row, nearest.distance) == (0, pytest.approx(0, abs=1e-3))  # of another batch, in bfloat16
    worker.close()


def test_an_image_of_no_data_set_has_neighbours_too(modelled: Inspection, tmp_path: Path):
    names = tuple(f"foreign {name}" for name in modelled.predictions.ids)
    worker = ModelWorker(replace(modelled, predictions=replace(modelled.predictions, ids=names)), tmp_path)
    nearest = neighbours(worker, 2).of_split["val"][0]
    assert (nearest.id, nearest.distance) == (modelled.predictions.ids[2], pytest.approx(0, abs=1e-3))
    worker.close()


def test_features_are_kept_between_two_workers(modelled: Inspection, tmp_path: Path):
    worker = ModelWorker(modelled, tmp_path)
    expected = neighbours(worker, 4)
    worker.close()
    written = {file: file.stat().st_ino for file in tmp_path.iterdir()}
    assert len(written) == 2, "a file for each split"
    again = ModelWorker(modelled, tmp_path)
    content = Path(modelled.predictions.image_paths[4]).read_bytes()
    unasked = again.nearest_of_upload(content, limit=5, is_asked_for=False).result(PATIENCE_SECONDS)
    assert unasked.status == "computing", "cached features are read, though nobody asked for them"
    assert neighbours(again, 4) == expected
    again.close()
    assert {file: file.stat().st_ino for file in tmp_path.iterdir()} == written


def test_a_cache_folder_that_cannot_be_written_costs_no_neighbours(modelled: Inspection, tmp_path: Path):
    (tmp_path / "cache").write_text("a file, not a folder")
    worker = ModelWorker(modelled, tmp_path / "cache")
    assert neighbours(worker, 4).status == "ready"
    worker.close()


def test_people_are_answered_while_features_are_computed_and_closing_ends_that(modelled: Inspection, tmp_path: Path):
    assert modelled.data is not None
    many = modelled.data.take(np.tile(np.arange(24), 1))
    paths = tuple(many.paths[row % 24] for row in range(2400))
    data = replace(
        many,
        ids=tuple(map(str, range(2400))),
        paths=paths,
        target_NC=np.tile(many.target_NC, (100, 1)),
        split_N=("train",) * 2400,
        group_N=(),
    )
    worker = ModelWorker(replace(modelled, data=data), tmp_path)
    worker.nearest(0, limit=1).result(PATIENCE_SECONDS)
    content = Path(modelled.predictions.image_paths[0]).read_bytes()
    for _ in range(5):
        worker.predict(content).result(PATIENCE_SECONDS)
    assert worker.nearest(0, limit=1).result(PATIENCE_SECONDS).status == "computing"
    start = time.perf_counter()
    worker.close()
    assert time.perf_counter() - start < 5
    with pytest.raises(Busy):
        worker.nearest(0, limit=1)
    assert not list(tmp_path.iterdir())


# ---- models that cannot be used ----


def test_damaged_weights_are_told_and_mended_weights_are_used(modelled: Inspection, tmp_path: Path):
    assert modelled.checkpoint is not None
    folder = tmp_path / "best"
    folder.mkdir()
    for path in modelled.checkpoint.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-4] + b"oops")
    worker = ModelWorker(replace(modelled, checkpoint=folder), tmp_path / "cache")
    content = Path(modelled.predictions.image_paths[0]).read_bytes()
    with pytest.raises(CheckpointError, match="the weights are damaged"):
        worker.predict(content).result(PATIENCE_SECONDS)
    with pytest.raises(CheckpointError, match="the weights are damaged"):
        neighbours(worker, 0)
    weights.write_bytes(whole)
    assert len(worker.predict(content).result(PATIENCE_SECONDS)) == 3
    assert neighbours(worker, 0).status == "ready"
    worker.close()


def test_a_model_of_other_classes_is_refused(modelled: Inspection, tmp_path: Path):
    other = replace(modelled.predictions, label_set=LabelSet(names=("cat", "dog", "cow")))
    worker = ModelWorker(replace(modelled, predictions=other), tmp_path)
    with pytest.raises(CheckpointError, match="the checkpoint is of another class list"):
        worker.heat_of_row(0, 0).result(PATIENCE_SECONDS)
    worker.close()


# ---- rows of the data set ----


def test_rows_are_found_by_split_and_id_and_by_the_file_where_an_id_is_in_two_splits(modelled: Inspection):
    assert modelled.data is not None
    rows_N = dataset_rows(modelled)
    assert [modelled.data.ids[row] for row in rows_N] == list(modelled.predictions.ids)
    assert {modelled.data.split_N[row] for row in rows_N} == {"val"}
    assert (dataset_rows(replace(modelled, split="train")) == -1).all()
    assert (dataset_rows(replace(modelled, data=None)) == -1).all()
    twice = replace(modelled.data, ids=tuple(str(row % 36) for row in range(72)), split_N=("train",) * 36 + ("val",) * 36)
    predictions = Predictions(
        ids=("3", "4", "nowhere"),
        logit_NC=np.zeros((3, 3)),
        target_NC=np.zeros((3, 3)),
        label_set=modelled.predictions.label_set,
        image_paths=(str(twice.paths[39]), "elsewhere.png", ""),
    )
    unsplit = replace(modelled, split="", data=twice, predictions=predictions)
    assert dataset_rows(unsplit).tolist() == [39, -1, -1]
    assert dataset_rows(replace(unsplit, split="val")).tolist() == [39, 40, -1]


# ---- imports ----


def test_looking_at_a_run_without_asking_the_model_imports_no_torch(modelled: Inspection):
    script = (
        "import sys\nfrom pathlib import Path\nimport numpy as np\n"
        "import polytag.inspector.model.routes as routes\n"
        "from polytag.inspector.model.worker import ModelWorker\nfrom polytag.inspector.inspection import Inspection\n"
        "from polytag.predictions.read import read_predictions\n"
        "predictions = read_predictions(sys.argv[1])\n"
        "inspection = Inspection(name='x', review_file=Path('x'), predictions=predictions,\n"
        "                        threshold_C=np.full(3, 0.5), checkpoint=Path('best'))\n"
        "worker = ModelWorker(inspection, Path('cache'))\nroutes.model_routes(inspection, worker)\nworker.close()\n"
        "print('torch' in sys.modules)"
    )
    file = modelled.review_file.parent / "predictions-val.parquet"
    done = subprocess.run([sys.executable, "-c", script, str(file)], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
