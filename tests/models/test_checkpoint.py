"""The Checkpoint folder: what is saved is what is loaded, and damage is told."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from polytag.calibration import Calibration, ClassMap
from polytag.contracts import LabelSet, Preprocessing
from polytag.errors import CheckpointError
from polytag.models.backbone import build_model
from polytag.models.checkpoint import Checkpoint, save_checkpoint, update_checkpoint

LABELS = LabelSet(names=("a", "b", "c"))


def saved(folder: Path, *, seed: int = 0) -> tuple[Checkpoint, torch.nn.Module]:
    torch.manual_seed(seed)
    model = build_model("test_resnet", num_classes=3, backbone_args={"drop_rate": 0.1}).eval()
    checkpoint = save_checkpoint(
        folder,
        tensors=model.state_dict(),
        backbone="test_resnet",
        backbone_args={"drop_rate": 0.1},
        preprocessing=Preprocessing(image_size_px=64, mean=(0.1, 0.2, 0.3)),
        label_set=LABELS,
        thresholds=(0.5, 0.4, 0.3),
        facts={"recipe": "test"},
        card=lambda checkpoint_id: f"# {checkpoint_id}\n",
    )
    return checkpoint, model


def test_round_trip(tmp_path):
    checkpoint, model = saved(tmp_path / "best")
    again = Checkpoint.read(tmp_path / "best")
    assert again == checkpoint
    assert (tmp_path / "best" / "README.md").read_text() == f"# {checkpoint.id}\n"
    pixels = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(again.load_model()(pixels), model(pixels))


def test_a_run_folder_leads_to_its_best(tmp_path):
    checkpoint, _ = saved(tmp_path / "best")
    assert Checkpoint.read(tmp_path) == checkpoint


def test_saving_again_replaces_the_whole_folder(tmp_path):
    first, _ = saved(tmp_path / "best")
    second, _ = saved(tmp_path / "best", seed=1)
    assert Checkpoint.read(tmp_path / "best").id == second.id != first.id
    assert [item.name for item in tmp_path.iterdir()] == ["best"]


def test_what_was_read_is_what_is_loaded_even_after_another_save(tmp_path):
    first, model = saved(tmp_path / "best")
    before = pickle.dumps(Checkpoint.read(tmp_path / "best"))
    read = Checkpoint.read(tmp_path / "best")
    second, _ = saved(tmp_path / "best", seed=1)
    assert torch.equal(next(read.load_model().parameters()), next(model.parameters()))
    assert torch.equal(next(read.load_model().parameters()), next(model.parameters()))  # and again
    shutil.rmtree(tmp_path / "best")
    assert torch.equal(next(read.load_model().parameters()), next(model.parameters()))
    with pytest.raises(FileNotFoundError):  # another process opens the file by its name
        pickle.loads(before)
    assert read.id == first.id != second.id


def test_a_reader_finds_a_whole_checkpoint_at_any_moment_of_a_save(tmp_path):
    script = (
        "import sys\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[1])\nfrom test_checkpoint import saved\n"
        "print(flush=True)\nwhile True:\n    saved(Path(sys.argv[2]), seed=1)\n    saved(Path(sys.argv[2]), seed=2)"
    )
    ids = {saved(tmp_path / "best", seed=seed)[0].id for seed in (1, 2)}
    command = [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path / "best")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        found: Counter[str] = Counter()
        until = time.monotonic() + 20
        while time.monotonic() < until and (found.total() < 100 or set(found) != ids):
            checkpoint = Checkpoint.read(tmp_path)
            found[checkpoint.id] += 1
            if found.total() % 25 == 0:
                checkpoint.load_model()
        writer.kill()
    assert set(found) == ids


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_pipe_in_the_place_of_a_file_does_not_hang(tmp_path, name):
    saved(tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(CheckpointError, match=f"got: {name} is not a file"):
        Checkpoint.read(tmp_path)


def test_one_flipped_bit_is_found(tmp_path):
    checkpoint, _ = saved(tmp_path)
    content = bytearray((tmp_path / "model.safetensors").read_bytes())
    content[-5] ^= 1
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        Checkpoint.read(tmp_path).load_model()
    lines = str(error.value).splitlines()
    assert lines[0] == "the weights are damaged"
    assert lines[3] == f"  expected: {checkpoint.id}"


def test_another_class_list_is_refused(tmp_path):
    checkpoint, _ = saved(tmp_path)
    with pytest.raises(CheckpointError) as error:
        checkpoint.require_labels(LabelSet(names=("b", "a", "c")))
    assert str(error.value) == (
        f"the checkpoint is of another class list\n  where: {tmp_path}\n  got: a, b, c\n  expected: b, a, c\n"
        "  next: choose classes as for the training (--classes, --rename, --merge, --drop), or train on these"
    )


def test_no_checkpoint_here(tmp_path):
    with pytest.raises(CheckpointError) as error:
        Checkpoint.read(tmp_path / "nothing")
    assert str(error.value) == (
        f"no checkpoint here\n  where: {tmp_path / 'nothing'}\n  got: No such file or directory\n"
        "  expected: a folder with config.json and model.safetensors, or a run folder with best/\n"
        "  next: `polytag train DATA` makes one"
    )


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}', '{"version": 1, "backbone": 3}'])
def test_a_config_of_something_else(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json is not that of a checkpoint"):
        Checkpoint.read(tmp_path)


def test_a_newer_version_is_told(tmp_path):
    saved(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"version": 99}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError) as error:
        Checkpoint.read(tmp_path)
    assert str(error.value) == (
        f"this checkpoint was made by another version of polytag\n  where: {tmp_path / 'config.json'}\n  got: version 99\n"
        "  expected: version 1 or 2\n  next: use the version of polytag that made it, or train again"
    )


# ---- thresholds and calibration

CALIBRATION = Calibration(
    method="platt",
    maps=(
        ClassMap(kind="platt", slope=2.0, bias=1.0),
        ClassMap(kind="isotonic", slope=0.3, logit=(-1.0, 2.0), calibrated=(-2.0, 1.5)),
        ClassMap(kind="pooled", slope=0.5),
    ),
)


def test_thresholds_and_calibration_are_written_and_the_weights_stay(tmp_path):
    checkpoint, _ = saved(tmp_path)
    weights = (tmp_path / "model.safetensors").read_bytes()
    changed = update_checkpoint(checkpoint, thresholds=(0.25, 1.0, 0.0), calibration=CALIBRATION)
    again = Checkpoint.read(tmp_path)
    assert again == changed
    assert (again.thresholds, again.calibration, again.id) == ((0.25, 1.0, 0.0), CALIBRATION, checkpoint.id)
    assert (tmp_path / "model.safetensors").read_bytes() == weights
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert update_checkpoint(again, thresholds=checkpoint.thresholds, calibration=None) == checkpoint == Checkpoint.read(tmp_path)


def test_a_polytag_without_calibrations_comes_to_the_same_decisions(tmp_path):
    """Version 0.1.0 reads `thresholds` and no `calibration`: they are the same cuts of the scores before calibration."""
    checkpoint, _ = saved(tmp_path)
    update_checkpoint(checkpoint, thresholds=(0.25, 0.6, 0.5), calibration=CALIBRATION)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["version"] == 1
    logit_NC = np.random.default_rng(0).normal(0, 2, (500, 3))
    mended_NC = CALIBRATION.apply(logit_NC)
    assert np.array_equal(1 / (1 + np.exp(-logit_NC)) > config["thresholds"], 1 / (1 + np.exp(-mended_NC)) > (0.25, 0.6, 0.5))


def test_a_checkpoint_of_before_there_were_calibrations_is_read(tmp_path):
    saved(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["calibration"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    checkpoint = Checkpoint.read(tmp_path)
    assert (checkpoint.calibration, checkpoint.thresholds) == (None, (0.5, 0.4, 0.3))


@pytest.mark.parametrize(
    "change",
    [
        {"thresholds": [0.5, 0.5]},
        {"thresholds": [0.5, 0.5, 1.5]},
        {"thresholds": [0.5, 0.5, None]},
        {"calibration": {"method": "platt"}},
        {"calibration": CALIBRATION.to_json()},
        {"calibration": CALIBRATION.to_json() | {"id": "0" * 16, "thresholds": [0.5, 0.5, 0.5]}},
        {"calibration": Calibration(method="platt", maps=CALIBRATION.maps[:2]).to_json() | {"thresholds": [0.5, 0.5, 0.5]}},
    ],
)
def test_thresholds_or_a_calibration_that_do_not_fit_are_told(tmp_path, change):
    saved(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"config\.json is not that of a checkpoint"):
        Checkpoint.read(tmp_path)
