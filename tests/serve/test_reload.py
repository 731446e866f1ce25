"""Another model takes the place of the one that answers, or is refused and changes nothing."""

import json
import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from polytag.errors import CheckpointError, ExportError, PolytagError, UsageError
from polytag.models.checkpoint import Checkpoint, update_checkpoint
from polytag.models.exported import Exported
from polytag.serve import models as models_module
from polytag.serve.measured import Measured
from polytag.serve.models import Models, looks_of
from polytag.serve.scoring_queue import ScoringQueue, Ticket
from polytag.serve.served_model import ServedModel, load_served, name_of


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models_module, "LOOK_SECONDS", 0.05)


@pytest.fixture
def folder(small_export: Exported, tmp_path: Path) -> Path:
    shutil.copytree(small_export.folder, tmp_path / "model")
    return tmp_path / "model"


def wait_until(holds, seconds: float = 20.0) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, "it did not come about"
        time.sleep(0.01)


def change(folder: Path, **values: object) -> None:
    """Other values in export.json, in one step."""
    path = folder / "export.json"
    fresh = folder.parent / "fresh.json"
    fresh.write_text(json.dumps(json.loads(path.read_text()) | values))
    os.replace(fresh, path)


def test_a_changed_model_takes_its_place_and_is_named(serve_live, folder: Path, jpegs, caplog):
    import http.client

    with serve_live(folder) as (server, serving):
        before = serving.models.current
        change(folder, checkpoint="0123456789abcdef")
        wait_until(lambda: serving.models.current is not before)
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("POST", "/predict", body=jpegs[0], headers={"Content-Type": "image/jpeg"})
        answer = connection.getresponse()
        assert answer.headers["polytag-model"] == json.loads(answer.read())["model"] == "0123456789abcdef"
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
    assert 'polytag_reloads_total{outcome="loaded"} 1' in text
    assert 'id="0123456789abcdef"' in text
    assert f"model 0123456789abcdef answers in place of {before.id} (its files changed)" in caplog.text


@pytest.mark.parametrize("harm", ["graph", "json", "thresholds", "answers", "gone", "no selftest", "empty"])
def test_a_bad_model_is_refused_and_the_old_one_goes_on(folder: Path, caplog, harm):
    measured = Measured()
    holder = Models(folder, measured=measured, load=lambda: load_served(folder, name="m"))
    before = holder.current
    holder.start()
    try:
        if harm == "graph":
            content = bytearray((folder / "pixels.onnx").read_bytes())
            content[len(content) // 2] ^= 1
            (folder / "pixels.onnx").write_bytes(content)
        elif harm == "json":
            (folder / "export.json").write_text("{")
        elif harm == "thresholds":  # a decision of the self-test changes
            change(folder, thresholds=[0.0, 1.0, 0.0])
        elif harm == "answers":
            path = folder / "selftest" / "expected.json"
            values = json.loads(path.read_text())
            values["images"][0]["logit"][0] += 1
            path.write_text(json.dumps(values))
            change(folder, checkpoint="0123456789abcdef")
        elif harm == "gone":
            shutil.rmtree(folder)
        elif harm == "no selftest":
            shutil.rmtree(folder / "selftest")
            change(folder, checkpoint="0123456789abcdef")
        else:
            (folder / "pixels.onnx").write_bytes(b"")
        wait_until(lambda: "is refused" in caplog.text)
        assert holder.current is before
        assert f"the new model is refused, and {before.id} goes on" in caplog.text
        assert "Traceback" not in caplog.text
        time.sleep(0.3)
        assert caplog.text.count("is refused") == 1, "it is not tried again until it changes again"
        assert 'polytag_reloads_total{outcome="refused"} 1' in measured.text(gauges={}, model={})
    finally:
        holder.close()


def test_sighup_loads_what_has_not_changed(folder: Path, caplog):
    holder = Models(folder, measured=Measured(), load=lambda: load_served(folder, name="m"))
    before = holder.current
    holder.start()
    try:
        time.sleep(0.2)
        assert holder.current is before
        holder.ask()
        wait_until(lambda: holder.current is not before)
        assert "(SIGHUP)" in caplog.text
    finally:
        holder.close()


def test_a_copy_in_progress_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """As long as the files change from look to look."""
    num_looks = 0
    looks_at_loads: list[int] = []

    def look(_: Path) -> tuple[tuple[str, int, int, int], ...]:
        nonlocal num_looks
        num_looks += 1
        return (("export.json", 1, min(num_looks, 30), 1),)  # it grows until the 30th look

    def load() -> ServedModel:
        looks_at_loads.append(num_looks)
        return load_served(folder, name="m")

    monkeypatch.setattr(models_module, "looks_of", look)
    monkeypatch.setattr(models_module, "LOOK_SECONDS", 0.002)
    holder = Models(folder, measured=Measured(), load=load)
    holder.start()
    try:
        wait_until(lambda: num_looks > 40)
        assert looks_at_loads == [1, 31], "at the start, and once it stayed the same for a look"
    finally:
        holder.close()


def test_what_waits_is_answered_by_the_model_that_it_came_to(small_export: Exported):
    """And no batch is of two models."""
    batches: list[tuple[str, int]] = []

    class Slow:
        engine, precision = "onnx", "fp32"

        def __init__(self, name: str):
            self.name = name

        def prepare_thread(self) -> None:
            pass

        def logits_of(self, pixels_NVHWC: np.ndarray) -> np.ndarray:
            batches.append((self.name, len(pixels_NVHWC)))
            time.sleep(0.02)
            return np.full((len(pixels_NVHWC), 3), float(self.name == "new"), np.float32)

    served = {name: ServedModel(name="m", model=small_export, scorer=Slow(name), batch_size=8) for name in ("old", "new")}
    queue = ScoringQueue(num_workers=1, max_batch=8, max_waiting=100, measured=Measured())
    done = threading.Semaphore(0)
    tickets: list[tuple[str, Ticket]] = []
    view = np.zeros((1, 32, 32, 3), np.uint8)
    for name in ("old",) * 5 + ("new",) * 3 + ("old",) * 2:
        tickets.append((name, queue.submit(served[name], [view], lambda _: done.release(), since=0.0)))
    queue.start()
    assert all(done.acquire(timeout=20) for _ in tickets)
    queue.close()
    assert batches == [("old", 5), ("new", 3), ("old", 2)]
    for name, ticket in tickets:
        assert ticket.outcomes[0] is not None
        assert ticket.outcomes[0].logit_C[0] == (name == "new")


def test_cores_share_what_waits(small_export: Exported):
    """Were one to take all, the other would have nothing to do."""
    sizes: list[int] = []
    together = threading.Barrier(2)

    class Counting:
        engine, precision = "onnx", "fp32"

        def prepare_thread(self) -> None:
            together.wait(20)

        def logits_of(self, pixels_NVHWC: np.ndarray) -> np.ndarray:
            sizes.append(len(pixels_NVHWC))
            return np.zeros((len(pixels_NVHWC), 3), np.float32)

    served = ServedModel(name="m", model=small_export, scorer=Counting(), batch_size=8)
    queue = ScoringQueue(num_workers=2, max_batch=8, max_waiting=100, measured=Measured())
    done = threading.Event()
    queue.submit(served, [np.zeros((1, 32, 32, 3), np.uint8)] * 6, lambda _: done.set(), since=0.0)
    queue.start()
    assert done.wait(20)
    queue.close()
    assert sum(sizes) == 6
    assert sorted(sizes)[-1] <= 3


def test_a_checkpoint_is_served_and_its_new_thresholds_too(serve_live, checkpoint: Checkpoint, jpegs, tmp_path: Path):
    import http.client

    run = tmp_path / "my run"
    shutil.copytree(checkpoint.folder, run / "best")
    with serve_live(run) as (server, serving):
        before = serving.models.current
        assert (before.name, before.scorer.engine, before.id) == ("my run", "torch", checkpoint.id)

        def ask() -> dict:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            connection.request("POST", "/predict", body=jpegs[0], headers={"Content-Type": "image/jpeg"})
            answer = json.loads(connection.getresponse().read())
            connection.request("GET", "/v2/models/my%20run/ready")
            assert connection.getresponse().status == 200
            connection.close()
            return answer

        assert len(ask()["images"][0]["labels"]) > 0
        update_checkpoint(replace(checkpoint, folder=run / "best"), thresholds=(1.0, 1.0, 1.0), calibration=None)
        wait_until(lambda: serving.models.current is not before)
        assert ask()["images"][0]["labels"] == []


def test_what_cannot_be_served_is_said_at_the_start(small_export: Exported, checkpoint: Checkpoint, tmp_path: Path, folder: Path):
    for make, kind, match in (
        (lambda: load_served(tmp_path / "nothing", name="m"), CheckpointError, "no checkpoint here"),
        (lambda: load_served(checkpoint.folder, name="m", engine="onnx"), UsageError, "a checkpoint is scored by PyTorch"),
        (lambda: load_served(small_export.folder, name="m", engine="torch"), UsageError, "engine"),
        (lambda: load_served(small_export.folder, name="m", engine="no such"), UsageError, "unknown engine"),
        (lambda: load_served(small_export.folder, name="m", precision="int8"), UsageError, "precision"),
    ):
        with pytest.raises(kind, match=match):
            make()
    (folder / "selftest" / "1.png").write_bytes(b"no image")
    with pytest.raises(PolytagError):
        load_served(folder, name="m")
    values = json.loads((folder / "selftest" / "expected.json").read_text())
    values["images"][0]["file"] = "../../secret.png"
    (folder / "selftest" / "expected.json").write_text(json.dumps(values))
    with pytest.raises(ExportError, match="self-test cannot be read"):
        load_served(folder, name="m")


def test_names(tmp_path: Path):
    assert name_of(tmp_path / "runs" / "voc" / "best") == "voc"
    assert name_of(tmp_path / "voc-model") == "voc-model"
    assert name_of(Path("hf://ada/voc-model")) == name_of(Path("hf://ada/voc-model@main/export")) == "voc-model"
    assert looks_of(tmp_path) == looks_of(Path("hf://ada/voc-model")) == ()


def test_a_batch_is_taken_where_it_pays(small_export: Exported, monkeypatch: pytest.MonkeyPatch):
    import polytag.serve.served_model as module

    class Clock:
        now = 0.0

        def perf_counter(self) -> float:
            return self.now

    class Timed:
        engine, precision = "onnx", "fp32"

        def __init__(self, seconds_of):
            self.seconds_of = seconds_of

        def prepare_thread(self) -> None:
            pass

        def logits_of(self, pixels_NVHWC: np.ndarray) -> np.ndarray:
            clock.now += self.seconds_of(len(pixels_NVHWC))
            return np.zeros((len(pixels_NVHWC), 3), np.float32)

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    for seconds_of, expected in ((lambda number: 0.02, 4), (lambda number: 0.01 * number, 1)):
        served = ServedModel(name="m", model=small_export, scorer=Timed(seconds_of))
        assert module._worthwhile_batch(served, 4) == expected
