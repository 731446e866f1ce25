"""Callbacks: any objects with some of the methods, told in the order of the run; what they raise names them."""

import sys
from pathlib import Path

import pytest

from polytag.errors import UsageError
from polytag.runs.recipe import Recipe
from polytag.training.callback import EVENTS, Callbacks, SilentCallback
from polytag.training.train import resume, train

RECIPE = Recipe(
    name="finetune", backbone="test_resnet", weights="random", image_size_px=32, epochs=2, batch_size=24, head_start="none",
    device="cpu", precision="fp32",
)  # fmt: skip


@pytest.fixture(autouse=True)
def without_pages(monkeypatch: pytest.MonkeyPatch):
    """As on a machine that only trains: the pages take longer than the training."""
    monkeypatch.setitem(sys.modules, "polytag.report.grids", None)


class Diary:
    """Every event, as text."""

    def __init__(self):
        self.events: list[str] = []

    def __getattr__(self, name: str):
        if name not in EVENTS:
            raise AttributeError(name)
        return lambda *values, **numbers: self.events.append(name)


class Table:
    """A callback with two methods."""

    def __init__(self):
        self.rows: list[tuple[int, float]] = []
        self.ended: list[tuple[str, float, bool]] = []

    def epoch(self, row) -> None:
        self.rows.append((row["epoch"], row["val_map"]))

    def end(self, run, metrics) -> None:
        self.ended.append((run.path.name, metrics.mean_ap.value, run.is_finished))


class Breaks:
    def epoch(self, row) -> None:
        if row["epoch"] == 2:
            raise RuntimeError("no disk at the tracker")


def test_each_receives_the_events_it_has_a_method_for(colours: Path, tmp_path: Path):
    diary, table = Diary(), Table()
    run = train(colours, recipe=RECIPE, output=tmp_path / "run", callbacks=[diary, table])
    assert [epoch for epoch, _ in table.rows] == [1, 2]
    assert table.ended == [("run", run.metrics.mean_ap.value, True)]
    once = [event for event in diary.events if event in ("read", "begin", "epoch", "end")]
    assert once == ["read", "begin", "epoch", "epoch", "end"]
    assert {"phase", "progress"} <= set(diary.events)


def test_what_a_callback_raises_names_it_and_the_run_goes_on_without_it(colours: Path, tmp_path: Path):
    with pytest.raises(RuntimeError, match="no disk at the tracker") as error:
        train(colours, recipe=RECIPE, output=tmp_path / "run", callbacks=[Breaks()])
    assert error.value.__notes__ == ["raised by the callback Breaks, in epoch"]
    table = Table()
    assert resume(tmp_path / "run", callbacks=[table]).folder.is_finished
    assert [epoch for epoch, _ in table.rows] == [2]
    assert (tmp_path / "run" / "best" / "model.safetensors").read_bytes() == whole(colours, tmp_path)


def whole(colours: Path, tmp_path: Path) -> bytes:
    run = train(colours, recipe=RECIPE, output=tmp_path / "whole")
    return (run.folder.best / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            print,
            "the callback has no method that training calls\n  where: callbacks\n  got: print\n"
            "  expected: an object with some of the methods read, begin, note, phase, progress, epoch, end",
        ),
        (
            SilentCallback,
            "the callback is a class\n  where: callbacks\n  got: SilentCallback\n  expected: an object: SilentCallback()",
        ),
    ],
)
def test_what_is_no_callback_is_refused_before_a_folder_is_made(colours: Path, tmp_path: Path, given: object, message: str):
    with pytest.raises(UsageError) as error:
        train(colours, recipe=RECIPE, output=tmp_path / "run", callbacks=[given])
    assert str(error.value) == message
    assert not (tmp_path / "run").exists()


def test_one_callback_in_place_of_a_list():
    with pytest.raises(UsageError) as error:
        Callbacks(Table())  # pyright: ignore[reportArgumentType]
    assert str(error.value) == (
        "the callbacks are no list\n  where: callbacks\n  got: Table\n  expected: a list, such as [MyCallback()]"
    )


def test_a_callback_has_these_methods():
    assert set(EVENTS) == {name for name in vars(SilentCallback) if not name.startswith("_")}
    assert all(hasattr(Callbacks, event) for event in EVENTS)
