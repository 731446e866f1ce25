"""A run says how much the choice of its best epoch flatters it: on labels that no image shows, that is all that it gains."""

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polytag.metrics.values import Metrics
from polytag.runs.folder import RunFolder
from polytag.runs.recipe import FINETUNE
from polytag.training.callback import SilentCallback
from polytag.training.state import load_state
from polytag.training.train import resume, train


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of noise with labels drawn at random: nothing can be learned."""
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    lines = ["file_name,split,a,b,c"]
    for number in range(240):
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        labels = ",".join(map(str, (rng.random(3) < 0.3).astype(int)))
        lines.append(f"{number}.png,{'train' if number < 120 else 'val'},{labels}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder / "labels.csv"


def test_labels_that_no_image_shows_gain_nothing(noise: Path, tmp_path: Path):
    notes: list[str] = []
    callback = SilentCallback()
    callback.note = notes.append
    recipe = replace(FINETUNE, backbone="test_resnet", weights="random", image_size_px=32, epochs=12, head_lr=0.02, ema_decay=0.0)
    run = train(noise, recipe=recipe, output=tmp_path / "run", callbacks=[callback])
    said = next(found for note in notes if (found := re.search(r"best of 12 epochs .* about ([0-9.]+) too high", note)))
    optimism = float(said[1])
    values = [float(row["val_map"]) for row in csv.DictReader(run.folder.results.read_text().splitlines())]
    assert run.metrics.mean_ap.value == pytest.approx(max(values), abs=1e-5)
    excess = max(values) - np.mean(values)
    assert excess > 0.01, "the best epoch seems to have learned something"
    assert excess - optimism < 0.5 * excess, "a gain is reported where nothing can be learned"
    assert optimism < 3 * excess, "one run's excess scatters about its expectation; tests/metrics/test_optimism.py compares many"
    assert f"{optimism:.3f} too high" in run.folder.report.read_text()
    again = _resumed(run.folder)
    assert again.mean_ap.value == run.metrics.mean_ap.value


def _resumed(run: RunFolder) -> Metrics:
    state = load_state(run.state)
    if state is not None:  # a finished run may keep none
        assert len(state.map_replicates) == len(state.rows)
    return resume(run.path).metrics
