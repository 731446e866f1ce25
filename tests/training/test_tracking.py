"""A tracker is told the whole run, goes on with it after a resume, and never stops a training; the real ones where installed."""

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from polytag import evaluate
from polytag.data.load import load_dataset
from polytag.data.read_options import ReadOptions
from polytag.errors import MissingExtraError, UsageError
from polytag.extras import explaining_missing_extras
from polytag.runs.args import RunArgs, write_args
from polytag.runs.folder import RunFolder
from polytag.runs.history import read_history
from polytag.runs.recipe import FINETUNE
from polytag.training.folds import train_folds
from polytag.training.loop import Interrupted
from polytag.training.tracking.callback import TrackingCallback, stopping
from polytag.training.tracking.contents import Params, tags_of
from polytag.training.tracking.track import tracking
from polytag.training.train import resume, train

pytestmark = pytest.mark.usefixtures("without_pages")

RECIPE = replace(FINETUNE, backbone="test_resnet", weights="random", image_size_px=32, epochs=2, batch_size=24, device="cpu")


class Notebook:
    """A Tracker that writes down what it is told, and fails as often as `failures` says before each call succeeds."""

    name = "notebook"

    def __init__(self, failures: int = 0):
        self.told: list[tuple[Any, ...]] = []
        self.failures = failures

    def _tell(self, *what: Any) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the server is gone\nfor good")
        self.told.append(what)

    def open(self, run: RunFolder, *, name: str, tracker_id: str) -> str:
        self._tell("open", name, tracker_id)
        return tracker_id or "id-1"

    def describe(self, params: Params) -> None:
        self._tell("describe", dict(params))

    def log(self, numbers: Mapping[str, float], *, epoch: int) -> None:
        self._tell("log", epoch, dict(numbers))

    def result(self, numbers: Mapping[str, float]) -> None:
        self._tell("result", dict(numbers))

    def close(self, *, is_finished: bool) -> None:
        self._tell("close", is_finished)


class Stops:
    """Ctrl-C once, after the first epoch."""

    def __init__(self):
        self._has_stopped = False

    def epoch(self, row: Mapping[str, float]) -> None:
        if not self._has_stopped:
            self._has_stopped = True
            raise KeyboardInterrupt


def tracked_training(data: Path, run: Path, *callbacks: TrackingCallback) -> None:
    """Begun, interrupted in the first epoch, and finished by a resume."""
    with stopping(*callbacks), pytest.raises(Interrupted):
        train(data, recipe=RECIPE, output=run, callbacks=[*callbacks, Stops()])
    with stopping(*callbacks):
        resume(run, callbacks=callbacks)


def test_a_tracker_is_told_the_whole_run_and_goes_on_after_a_resume(colours: Path, tmp_path: Path):
    tracker, notes, run = Notebook(), [], RunFolder(path=tmp_path / "run")
    tracked_training(colours, run.path, TrackingCallback(tracker, note=notes.append))
    kinds = [(what[0], what[1]) for what in tracker.told if what[0] not in ("describe", "result")]
    first = [("open", "run"), ("log", 1), ("close", False)]
    assert kinds == [*first, ("open", "run"), ("log", 1), ("log", 2), ("close", True)]
    opened = [what for what in tracker.told if what[0] == "open"]
    assert [what[2] for what in opened] == ["", "id-1"]
    described = [what[1] for what in tracker.told if what[0] == "describe"]
    assert len(described) == 4
    params = described[0] | described[1]
    assert params["data_fingerprint"] == load_dataset(colours).fingerprint
    assert (params["run_folder"], params["data"]) == (str(run.path), str(colours))
    assert (params["backbone"], params["loss"], params["epochs"]) == ("test_resnet", "auto", 2)
    last = next(what for what in tracker.told[::-1] if what[0] == "log")
    row = read_history(run)[-1]
    assert last[2]["val_map"] == pytest.approx(row["val_map"], rel=1e-5)
    assert set(last[2]) == set(row) - {"epoch"}
    metrics = json.loads(run.metrics.read_text())
    (result,) = [what[1] for what in tracker.told if what[0] == "result"]
    for ending, key in (("", "value"), ("_low", "low"), ("_high", "high")):
        assert result[f"result/mAP{ending}"] == metrics["mAP"][key]
        assert result.get(f"AP/red{ending}") == metrics["per_class"]["red"][{"value": "ap"}.get(key, key)]
    assert notes == []


@pytest.fixture
def begun(colours: Path, tmp_path: Path) -> RunFolder:
    """A run folder with the files of its beginning."""
    run = RunFolder(path=tmp_path / "run")
    run.trackers.parent.mkdir(parents=True)
    write_args(run, RunArgs(data=colours, options=ReadOptions(), recipe=RECIPE))
    run.environment.write_text('{"data_fingerprint": "a1", "num_threads": 2, "versions": {}}')
    return run


def begun_and_ended(tracker: Notebook, run: RunFolder, *, note: Callable[[str], None]) -> None:
    """What a training of two epochs tells."""
    callback = TrackingCallback(tracker, note=note)
    callback.begin(run, RECIPE)
    for epoch in (1.0, 2.0):
        callback.phase("validation", 3)
        callback.epoch({"epoch": epoch, "val_map": 0.5})
    metrics = evaluate([[1, 0], [0, 1]], [[0.9, 0.2], [0.3, 0.8]], scores="probability", class_names=["cat", "dog"])
    callback.end(run, metrics)


def test_a_failing_tracker_is_told_all_of_it_at_the_end_and_the_user_once(begun: RunFolder):
    tracker, notes = Notebook(failures=1), []
    begun_and_ended(tracker, begun, note=notes.append)
    assert [what[0] for what in tracker.told] == ["open", "describe", "describe", "log", "log", "result", "close"]
    assert tracker.told[2][1] == {"data_fingerprint": "a1", "num_threads": 2}
    assert notes == ["notebook cannot be told (ConnectionError: the server is gone); the training goes on"]
    begun.trackers.unlink()
    notes.clear()
    begun_and_ended(Notebook(failures=10_000), begun, note=notes.append)
    assert not begun.trackers.exists()
    assert notes == [
        "notebook cannot be told (ConnectionError: the server is gone); the training goes on",
        "notebook was not told everything of this run; the run folder has it all",
    ]


def test_after_a_failure_the_pauses_grow(begun: RunFolder):
    now, tracker, tried = [0.0], Notebook(failures=10_000), []
    callback = TrackingCallback(tracker, note=lambda text: None, clock=lambda: now[0])
    callback.begin(begun, RECIPE)
    for second in range(400):
        now[0], before = float(second), tracker.failures
        callback.epoch({"epoch": 1.0, "val_map": 0.5})
        if tracker.failures < before:
            tried.append(second)
    assert tried == [30, 90, 210]


def test_ids_of_a_strange_run_folder_are_no_ids(begun: RunFolder):
    for content in ("[]", "{", '{"notebook": 1}', '{"notebook": "../../x"}', '{"notebook": "' + "x" * 65 + '"}'):
        tracker = Notebook()
        begun.trackers.write_text(content)
        TrackingCallback(tracker, note=pytest.fail).begin(begun, RECIPE)
        assert tracker.told[0] == ("open", "run", "")


def test_each_fold_is_a_run(colours: Path, tmp_path: Path):
    tracker = Notebook()
    callback = TrackingCallback(tracker, note=lambda text: None)
    train_folds(colours, num_folds=2, recipe=replace(RECIPE, epochs=1), output=tmp_path / "run", callbacks=[callback])
    assert [what[1] for what in tracker.told if what[0] == "open"] == ["run/fold-1", "run/fold-2"]
    assert [what[1] for what in tracker.told if what[0] == "close"] == [True] * 2


def test_class_names_become_names_that_every_tracker_takes():
    assert tags_of(["a/b", "a:b", "..", "Hütte", " x ", ""]) == ["a_b", "a_b_2", "__", "Hütte", "x", "_"]


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_missing_library_is_told_before_the_training(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setitem(__import__("sys").modules, name, None)
    monkeypatch.setenv("WANDB_MODE", "offline")
    with pytest.raises(MissingExtraError) as caught, explaining_missing_extras():
        tracking([name], note=print)
    assert caught.value.next_step == f"pip install 'polytag[{name}]'"


def test_an_unknown_tracker_is_told_which_there_are():
    with pytest.raises(UsageError, match="unknown tracker") as caught:
        tracking(["neptune"], note=print)
    assert caught.value.expected == "tensorboard, mlflow, wandb"


# ---- the real ones ----


def there(name: str) -> Any:
    return pytest.importorskip(
        name, reason=f"{name} is an extra of its own, which is not installed; the tests with a tracker of ours run"
    )


def real(name: str) -> tuple[TrackingCallback, list[str]]:
    notes: list[str] = []
    (callback,) = tracking([name, name], note=notes.append)
    return callback, notes


def test_tensorboard_has_the_run(colours: Path, tmp_path: Path):
    there("tensorboard")
    events = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    callback, notes = real("tensorboard")
    run = tmp_path / "run"
    tracked_training(colours, run, callback)
    found = events.EventAccumulator(str(run / "tensorboard")).Reload()
    metrics = json.loads((run / "metrics.json").read_text())
    assert {each.step for each in found.Scalars("val_map")} == {1, 2}
    assert found.Scalars("result/mAP")[0].value == pytest.approx(metrics["mAP"]["value"], rel=1e-6)
    assert found.Scalars("AP/red")[0].value == pytest.approx(metrics["per_class"]["red"]["ap"], rel=1e-6)
    assert load_dataset(colours).fingerprint in found.Tensors("run/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert notes == []


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    monkeypatch.chdir(tmp_path)
    return monkeypatch.setenv


@pytest.mark.filterwarnings("ignore")  # of its libraries about each other
def test_mlflow_has_the_run(colours: Path, tmp_path: Path, in_folder: Callable[[str, str], None]):
    in_folder("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'runs.db'}")
    in_folder("MLFLOW_EXPERIMENT_NAME", "colours")
    mlflow = there("mlflow")
    callback, notes = real("mlflow")
    run = tmp_path / "run"
    tracked_training(colours, run, callback)
    client = mlflow.MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("colours").experiment_id])
    metrics = json.loads((run / "metrics.json").read_text())
    assert (found.info.status, found.info.run_name) == ("FINISHED", "run")
    assert json.loads((run / "state" / "trackers.json").read_text()) == {"mlflow": found.info.run_id}
    assert found.data.params["data_fingerprint"] == load_dataset(colours).fingerprint
    assert found.data.params["head_lr"] == str(RECIPE.head_lr)
    assert {each.step for each in client.get_metric_history(found.info.run_id, "val_map")} == {1, 2}
    assert found.data.metrics["result/mAP_low"] == metrics["mAP"]["low"]
    assert found.data.metrics["AP/red"] == metrics["per_class"]["red"]["ap"]
    assert notes == []


def test_a_server_of_mlflow_that_is_gone_stops_nothing(colours: Path, tmp_path: Path, in_folder: Callable[[str, str], None]):
    in_folder("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    in_folder("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    there("mlflow")
    callback, notes = real("mlflow")
    assert train(colours, recipe=RECIPE, output=tmp_path / "run", callbacks=[callback]).folder.is_finished
    assert len(notes) == 2
    assert notes[0].startswith("mlflow cannot be told (MlflowException: API request to http://127.0.0.1:9/")


def test_wandb_has_the_run(colours: Path, tmp_path: Path, in_folder: Callable[[str, str], None]):
    in_folder("WANDB_MODE", "offline")
    in_folder("WANDB_DIR", str(tmp_path))
    there("wandb")
    callback, notes = real("wandb")
    run = tmp_path / "run"
    tracked_training(colours, run, callback)
    (found,) = json.loads((run / "state" / "trackers.json").read_text()).values()
    written = list((tmp_path / "wandb").glob(f"offline-run-*-{found}/run-{found}.wandb"))
    assert len(written) == 2  # of the training and of its resume, which `wandb sync` joins by the id
    metrics, content = json.loads((run / "metrics.json").read_text()), b"".join(map(content_of, written))
    for key, value in (("result/mAP_low", metrics["mAP"]["low"]), ("AP/red", metrics["per_class"]["red"]["ap"])):
        assert json.dumps(value).encode() in content.split(key.encode())[1][:40]
    assert load_dataset(colours).fingerprint.encode() in content
    assert b"val_map" in content
    assert notes == []


def content_of(path: Path) -> bytes:
    """The records of a .wandb file, which lie in blocks of 32 KiB with a header at each part, as in a log of LevelDB."""
    written, content, at = path.read_bytes(), b"", 7
    while at + 7 <= len(written):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        num_bytes = int.from_bytes(written[at + 4 : at + 6], "little")
        content += written[at + 7 : at + 7 + num_bytes]
        at += 7 + num_bytes
    return content
