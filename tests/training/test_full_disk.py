"""A disk that fills in the middle of a training run: the message says so, what was saved before is whole, a resume goes on."""

import resource
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest

from polytag.errors import RunError
from polytag.models.checkpoint import Checkpoint
from polytag.runs.folder import RunFolder
from polytag.runs.recipe import FINETUNE
from polytag.training.callback import SilentCallback
from polytag.training.state import load_state
from polytag.training.train import resume, train

pytestmark = pytest.mark.usefixtures("without_pages")

RECIPE = replace(FINETUNE, backbone="test_resnet", weights="random", image_size_px=32, epochs=3, batch_size=24, device="cpu")


class FillsTheDisk(SilentCallback):
    """From a moment of the run on, no file may grow beyond 4 kB: the system refuses, as it does on a full disk."""

    def __init__(self, moment: str):
        self.moment = moment

    def epoch(self, row) -> None:  # told before the epoch is saved
        self._reach(f"epoch {row['epoch']:.0f}")

    def phase(self, name: str, num_images: int) -> None:
        self._reach(name)

    def _reach(self, moment: str) -> None:
        if moment == self.moment:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.fixture
def limits() -> Generator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def whole(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The run that nothing disturbed."""
    return train(colours, recipe=RECIPE, output=tmp_path_factory.mktemp("whole") / "run").folder


def interrupted(colours: Path, folder: Path, *, moment: str) -> str:
    """Train until the disk is full; the message."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(RunError) as error:
        train(colours, recipe=RECIPE, output=folder, callbacks=[FillsTheDisk(moment)])
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    return str(error.value)


def told(path: Path) -> str:
    return (
        f"could not save {path.name}: the file size limit is reached\n  where: {path}\n  expected: free space\n"
        "  next: free some space; earlier files are complete, and `polytag train --resume` continues a training run"
    )


def assert_same_run(run: RunFolder, whole: RunFolder) -> None:
    for name in ("best/model.safetensors", "last/model.safetensors", "predictions-val.parquet", "metrics.json"):
        assert (run.path / name).read_bytes() == (whole.path / name).read_bytes(), name


@pytest.mark.usefixtures("limits")
def test_in_the_middle_of_training(colours: Path, whole: RunFolder, tmp_path: Path):
    run = RunFolder(path=tmp_path / "run")
    assert interrupted(colours, run.path, moment="epoch 2") == told(run.state)

    state = load_state(run.state)
    assert state is not None
    assert (state.epoch, state.step, [row["epoch"] for row in state.rows]) == (2, 0, [1])
    assert [line.split(",")[0] for line in run.results.read_text().splitlines()] == ["epoch", "1"]
    for folder in (run.best, run.last):
        checkpoint = Checkpoint.read(folder)
        assert checkpoint.facts["epoch"] == 1
        checkpoint.load_model()
    assert not [path for path in run.path.rglob("*") if path.name.endswith((".part", ".new", ".old"))]
    assert not run.metrics.exists()

    assert_same_run(resume(run.path).folder, whole)


@pytest.mark.usefixtures("limits")
def test_while_the_best_model_is_evaluated(colours: Path, whole: RunFolder, tmp_path: Path):
    run = RunFolder(path=tmp_path / "run")
    assert interrupted(colours, run.path, moment="evaluating best/") == told(run.predictions)
    assert Checkpoint.read(run.best).id == Checkpoint.read(whole.best).id
    assert not run.metrics.exists()  # which is what says that a run is finished
    assert_same_run(resume(run.path).folder, whole)


@pytest.mark.usefixtures("limits")
def test_before_anything_was_saved(colours: Path, whole: RunFolder, tmp_path: Path):
    run = RunFolder(path=tmp_path / "run")
    assert interrupted(colours, run.path, moment="epoch 1") == told(run.state)
    assert load_state(run.state) is None
    assert_same_run(resume(run.path).folder, whole)


def test_a_state_that_was_damaged_is_told(whole: RunFolder, tmp_path: Path):
    content = whole.state.read_bytes()
    for number, part in enumerate((content[: len(content) // 2], b"", b"not a state")):
        path = tmp_path / f"{number}.pt"
        path.write_bytes(part)
        with pytest.raises(RunError) as error:
            load_state(path)
        assert str(error.value) == (
            f"the saved state of the run is damaged\n  where: {path}\n  got: {len(part)} bytes that are no state\n"
            "  expected: the file that `polytag train` wrote\n  next: copy the run folder again, or start a new run"
        )
