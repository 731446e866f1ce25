"""A run folder that came to harm, or from a stranger: a resume repairs it or says what is wrong, in one message."""

import hashlib
import io
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from polytag.errors import RunError
from polytag.models.checkpoint import Checkpoint
from polytag.runs.folder import RunFolder
from polytag.runs.recipe import FINETUNE
from polytag.training.state import VERSION, State, load_state, save_state
from polytag.training.train import resume, train

pytestmark = pytest.mark.usefixtures("without_pages")

RECIPE = replace(FINETUNE, backbone="test_resnet", weights="random", image_size_px=32, epochs=2, batch_size=24, device="cpu")


@pytest.fixture(scope="module")
def whole(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return train(colours, recipe=RECIPE, output=tmp_path_factory.mktemp("whole") / "run").folder


@pytest.fixture
def unfinished(whole: RunFolder, tmp_path: Path) -> RunFolder:
    """The run as it was before its evaluation."""
    shutil.copytree(whole.path, tmp_path / "run")
    run = RunFolder(path=tmp_path / "run")
    run.metrics.unlink()
    return run


def message(call: Callable[[], object]) -> str:
    with pytest.raises(RunError) as error:
        call()
    return str(error.value)


# ---- damage ----


def test_every_flipped_bit_of_the_state_is_told(whole: RunFolder, tmp_path: Path):
    content, draw, path = whole.state.read_bytes(), random.Random(0), tmp_path / "state.pt"
    places = [*range(48), len(content) - 1, *(draw.randrange(len(content)) for _ in range(50))]
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        assert message(lambda: load_state(path)).startswith("the saved state of the run is damaged\n")


def test_a_last_folder_that_a_kill_left_behind_is_written_again(whole: RunFolder, unfinished: RunFolder, colours: Path):
    one_epoch = train(colours, recipe=replace(RECIPE, epochs=1), output=unfinished.path.parent / "one").folder
    shutil.rmtree(unfinished.last)
    shutil.copytree(one_epoch.last, unfinished.last)
    resume(unfinished.path)
    assert Checkpoint.read(unfinished.last).facts["epoch"] == 2
    for name in ("last/model.safetensors", "best/model.safetensors", "predictions-val.parquet"):
        assert (unfinished.path / name).read_bytes() == (whole.path / name).read_bytes()


_KILLING = """
import os, sys, traceback
sys.path.insert(0, sys.argv[1])
from test_damaged_state import RECIPE
sys.modules["polytag.report.grids"] = None  # without pages
from polytag.training.callback import SilentCallback
from polytag.training.train import train

now, killing = [], []

class Last(SilentCallback):
    def epoch(self, row):
        now[:] = [1] if row["epoch"] == 2 else []

def hook(event, args):
    if now and event == "os.rename" and str(args[1]).endswith(killing[0]):
        os.kill(os.getpid(), 9)

sys.addaudithook(hook)
for name in sys.argv[4:]:  # each in a process forked from this one, which has imported PyTorch and computed nothing
    child = os.fork()
    if not child:
        killing[:] = [name]
        try:
            train(sys.argv[2], recipe=RECIPE, output=sys.argv[3] + "/" + name, callbacks=[Last()])
        except BaseException:
            traceback.print_exc()
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.slow
def test_kill_9_between_the_state_and_the_folders(whole: RunFolder, colours: Path, tmp_path: Path):
    """At every rename of the last epoch: state, results.csv, last/ (an exchange, which Python does not see), best/."""
    names = ("state.pt", "results.csv", "model.safetensors", "predictions-val.parquet")
    command = [sys.executable, "-c", _KILLING, str(Path(__file__).parent), str(colours), str(tmp_path), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout.split() == [f"{-signal.SIGKILL}"] * len(names), done.stderr
    for name in names:
        run = RunFolder(path=tmp_path / name)
        resume(run.path)
        for written in ("last/model.safetensors", "best/model.safetensors", "predictions-val.parquet"):
            assert (run.path / written).read_bytes() == (whole.path / written).read_bytes(), (name, written)
        assert Checkpoint.read(run.last).facts["epoch"] == 2
        assert not [path for path in run.path.rglob("*") if path.name.endswith(".part")], name


def test_a_finished_run_needs_no_state_and_is_not_written(whole: RunFolder, tmp_path: Path):
    shutil.copytree(whole.path, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "state")
    before = sorted(tmp_path.rglob("*"))
    assert resume(tmp_path / "run").folder.path == tmp_path / "run"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("gone", ["state.pt", "state"])
def test_an_unfinished_run_without_its_state_is_told(unfinished: RunFolder, gone: str):
    unfinished.state.unlink()
    if gone == "state":
        shutil.rmtree(unfinished.state.parent)
    before = unfinished.results.read_text()
    assert message(lambda: resume(unfinished.path)) == (
        f"the saved state of the run is missing\n  where: {unfinished.state}\n"
        "  expected: the file that `polytag train` wrote before it wrote results.csv\n"
        "  next: copy the run folder again, or start a new run"
    )
    assert unfinished.results.read_text() == before


# ---- strangers ----


def signed(path: Path, content: bytes) -> Path:
    path.write_bytes(b"polytag state\n" + hashlib.sha256(content).digest() + content)
    return path


def rewritten(path: Path, change: Callable[[State], Any]) -> None:
    state = load_state(path)
    assert state is not None
    change(state)
    save_state(path, state)


HUGE = torch.zeros(1).expand(10**9, 3)  # four bytes in the file, and 12 GB in memory
VALUES: dict[str, object] = {
    "data_fingerprint": 3,
    "classes": [1, 2, 3],
    "epoch": "2",
    "step": -1,
    "model": [],
    "average": {"x": 3},
    "optimizer": None,
    "loss": {"x": 3},
    "best": {3: torch.zeros(1)},
    "best_map": "high",
    "best_epoch": None,
    "rows": [{"epoch": 1}],
    "map_replicates": [torch.zeros(3)],
    "epoch_logits": [HUGE],
    "epoch_targets": [torch.zeros(2, 3)],
    "epoch_loss_sum": [],
    "epoch_num_images": 10**12,
    "epoch_seconds": "1",
    "failures": [],
    "num_threads": 1.5,
    "ends": [(0, -3)],
    "used_seconds": "60",
    "stopped_after": -0.5,
}


def test_every_value_is_tried():
    assert set(VALUES) == set(State.__dataclass_fields__)


@pytest.mark.parametrize("name", VALUES)
def test_a_value_of_another_kind_or_size(whole: RunFolder, tmp_path: Path, name: str):
    path = tmp_path / "state.pt"
    shutil.copy(whole.state, path)
    rewritten(path, lambda state: setattr(state, name, VALUES[name]))
    assert message(lambda: load_state(path)).startswith("the saved state of the run is damaged\n")


def test_content_that_is_no_state_or_expands(whole: RunFolder, tmp_path: Path):
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**7))
    saved = io.BytesIO()
    torch.save({"version": VERSION, "surplus": 3}, saved)
    for content in (b"", b"hello", bomb.getvalue(), saved.getvalue(), whole.state.read_bytes()):
        path = signed(tmp_path / "state.pt", content)
        assert message(lambda path=path: load_state(path)).startswith("the saved state of the run is damaged\n")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda state: state.model.popitem(), "the saved state is of another model"),
        (lambda state: state.best.update(surplus=torch.zeros(1)), "the saved state is of another model"),
        (lambda state: state.average.clear(), "the saved state is of another model"),
        (lambda state: state.optimizer.clear(), "the saved state is of another optimizer or loss"),
        (lambda state: state.optimizer["param_groups"].pop(), "the saved state is of another optimizer or loss"),
        (
            lambda state: state.optimizer["state"][0].update(exp_avg=torch.zeros(7)),
            "the saved state is of another optimizer or loss",
        ),
    ],
)
def test_a_state_of_another_model(unfinished: RunFolder, change: Callable[[State], object], what: str):
    rewritten(unfinished.state, change)
    assert message(lambda: resume(unfinished.path)).splitlines()[0] == what


def test_a_network_that_no_memory_holds_is_refused_before_it_takes_any(unfinished: RunFolder):
    """1.2 terabytes of weights, with the state of a small network, and with none, as where the run was killed before its first."""
    text = unfinished.args.read_text()
    assert "  backbone_args: {}\n" in text
    unfinished.args.write_text(text.replace("backbone_args: {}", "backbone_args: {channels: [8192, 8192], layers: [125, 125]}"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert message(lambda: resume(unfinished.path)).startswith("the saved state is of another model\n")
    unfinished.state.unlink()
    unfinished.results.unlink()
    assert message(lambda: resume(unfinished.path)).startswith("the network of the run does not fit into memory\n")
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 300  # MB


def test_a_folder_of_somebody_else_that_cannot_be_written(unfinished: RunFolder):
    if os.geteuid() == 0:
        pytest.skip("root writes everywhere; tests/runs/test_folder.py asks as another user")
    unfinished.state.parent.chmod(0o555)
    unfinished.lock.chmod(0o444)
    assert message(lambda: resume(unfinished.path)).startswith("could not save lock\n")
    unfinished.state.parent.chmod(0o755)
