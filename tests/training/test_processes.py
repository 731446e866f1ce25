"""Several processes share every batch and come to what one process comes to; validation is the same to the last bit."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from polytag.data.load import load_dataset
from polytag.inference.predictor import Scored, score_dataset
from polytag.models.backbone import build_model
from polytag.models.device import Arithmetic
from polytag.predictions.read import read_predictions
from polytag.runs.folder import RunFolder
from polytag.runs.recipe import FINETUNE
from polytag.training.preprocessing import preprocessing_of
from polytag.training.processes import ALONE, shares
from polytag.training.train import train

pytestmark = pytest.mark.usefixtures("without_pages")

SRC = Path(__file__).resolve().parents[2] / "src"
# No batch normalisation, so that a share of a batch teaches what it teaches in the whole.
RECIPE = replace(
    FINETUNE, backbone="test_convnext", weights="random", image_size_px=32, epochs=2, batch_size=10, head_lr=1e-3,
    precision="fp32", device="cpu", augment="light", head_start="none",
)  # fmt: skip


@pytest.mark.parametrize(("num_images", "count"), [(10, 2), (11, 3), (3, 2), (4, 4), (1, 2), (0, 3), (100, 7)])
def test_every_image_of_a_batch_is_in_one_share_and_none_is_alone(num_images: int, count: int):
    chunk = np.random.default_rng(0).permutation(num_images)
    parts = shares(chunk, count)
    assert len(parts) == count
    assert np.concatenate(parts).tolist() == chunk.tolist()
    assert all(len(part) != 1 for part in parts) or num_images == 1
    filled = [len(part) for part in parts if len(part)]
    assert max(filled, default=0) - min(filled, default=0) <= 1


def test_alone_nothing_is_sent():
    assert ALONE.total([1, 2.5]) == [1, 2.5]
    assert ALONE.gather("x") == ["x"]
    assert ALONE.from_first("x") == "x"
    ALONE.add_gradients([])


def test_shards_of_a_validation_are_the_batches_of_one_process(colours: Path):
    """Every third batch each, put together: the same bits, every image once, the broken one by whoever met it."""
    dataset = load_dataset(colours)
    model, arithmetic = build_model("test_resnet", num_classes=3).eval(), Arithmetic(device="cpu", precision="fp32")
    preprocessing = preprocessing_of(replace(RECIPE, backbone="test_resnet"))
    for batch_size in (4, 7, 100):
        settings = {"preprocessing": preprocessing, "arithmetic": arithmetic, "batch_size": batch_size}
        whole = score_dataset(model, dataset, **settings)
        scored: list[Scored] = []
        for rank in range(3):
            score_dataset(model, dataset, shard=(rank, 3), gather=partial(_collected, scored), **settings)
        assert sorted(row for part in scored for row in part.rows) == list(range(len(dataset)))
        together = score_dataset(model, dataset, shard=(0, 3), gather=partial(_all_of, scored), **settings)
        assert together.ids == whole.ids
        assert together.logit_NC.tobytes() == whole.logit_NC.tobytes()


def _collected(into: list[Scored], own: Sequence[Scored]) -> Sequence[Scored]:
    into.extend(own)
    return own


def _all_of(scored: list[Scored], own: Sequence[Scored]) -> Sequence[Scored]:
    return scored


_TRAINER = """
import json, sys
import torch
sys.path.insert(0, {tests!r})
from test_processes import RECIPE
sys.modules["polytag.report.grids"] = None  # without pages
from polytag.training.callback import SilentCallback
from polytag.training.train import resume, train

class Stops(SilentCallback):
    def phase(self, name, num_images):
        if {dies!r} and name == "epoch 2/2":
            sys.exit(3)

torch.set_num_threads(1)
if {resumes!r}:
    run = resume({run!r})
else:
    run = train({data!r}, recipe=RECIPE, output={run!r}, callbacks=[Stops()])
print(json.dumps([str(run.folder.path), run.metrics.mean_ap.value]), flush=True)
"""


def launched(count: int, data: Path, run: Path, *, resumes: bool = False, dies: bool = False) -> subprocess.CompletedProcess[str]:
    script = run.parent / f"{run.name}-{count}-{resumes}.py"
    script.write_text(_TRAINER.format(tests=str(Path(__file__).parent), data=str(data), run=str(run), resumes=resumes, dies=dies))
    starter = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    environment = {**os.environ, "PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *starter, str(script)], capture_output=True, text=True, check=False, env=environment, timeout=240
    )


@pytest.fixture(scope="module")
def of_two(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, subprocess.CompletedProcess[str]]:
    """A run of two processes, and what they said."""
    run = tmp_path_factory.mktemp("processes") / "of-2"
    return RunFolder(path=run), launched(2, colours, run)


@pytest.mark.slow(15)
def test_two_processes_come_to_what_one_comes_to(
    colours: Path, of_two: tuple[RunFolder, subprocess.CompletedProcess[str]], tmp_path: Path
):
    runs = {1: RunFolder(path=tmp_path / "of-1"), 2: of_two[0]}
    train(colours, recipe=RECIPE, output=runs[1].path)
    assert of_two[1].returncode == 0, of_two[1].stderr
    lines = of_two[1].stdout.replace("][", "]\n[").splitlines()  # two processes may write before either ends its line
    told = [json.loads(line) for line in lines if line.startswith('["')]  # PyTorch 2.8 prints lines of [Gloo] too
    assert len(told) == 2
    assert len({tuple(each) for each in told}) == 1  # every process knows the result; one wrote it
    assert [path.name for path in runs[2].path.parent.iterdir() if path.is_dir()] == ["of-2"]

    one, two = (read_predictions(run.predictions) for run in runs.values())
    assert one.ids == two.ids
    assert np.abs(one.logit_NC - two.logit_NC).max() < 2e-4  # sums of two halves, not of one whole: float32's last digits
    metrics = [json.loads(run.metrics.read_text()) for run in runs.values()]
    assert metrics[0]["mAP"] == pytest.approx(metrics[1]["mAP"])
    rows = [[line.split(",")[:5] for line in run.results.read_text().splitlines()[1:]] for run in runs.values()]
    for ours, theirs in zip(*rows, strict=True):
        assert [float(cell) for cell in ours] == pytest.approx([float(cell) for cell in theirs], abs=1e-4)
    environment = json.loads((runs[2].path / "env.json").read_text())
    assert environment["num_processes"] == 2


@pytest.mark.slow(15)
def test_two_processes_go_on_where_they_were_stopped(
    colours: Path, of_two: tuple[RunFolder, subprocess.CompletedProcess[str]], tmp_path: Path
):
    whole_run, whole = of_two
    assert whole.returncode == 0, whole.stderr
    assert launched(2, colours, tmp_path / "stopped", dies=True).returncode != 0
    done = launched(2, colours, tmp_path / "stopped", resumes=True)
    assert done.returncode == 0, done.stderr
    run = RunFolder(path=tmp_path / "stopped")
    assert (run.best / "model.safetensors").read_bytes() == (whole_run.best / "model.safetensors").read_bytes()
    assert run.predictions.read_bytes() == whole_run.predictions.read_bytes()
