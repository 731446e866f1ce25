"""UMAP in a process of its own: the real one where it is installed, and stand-ins that go on for ever, fail, print and end."""

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from sklearn.manifold import trustworthiness
from umap_stand_in import DIES, ENDLESS, FAILS, MISFIT, PRINTS, stand_in

from polytag.errors import UsageError
from polytag.inference.umap_process import UmapProcess, UmapStopped, has_umap


def groups(num: int = 60, width: int = 12) -> np.ndarray:
    """Three groups of images, each around a direction of its own."""
    rng = np.random.default_rng(0)
    return np.eye(3, width)[np.arange(num) % 3] * 5 + rng.normal(0, 0.3, (num, width)) + 1


@pytest.mark.slow
@pytest.mark.skipif(not has_umap(), reason="umap-learn, which is optional, is not installed: pip install umap-learn")
def test_it_is_that_of_umap_learn_and_the_same_each_time():
    feature_ND = groups()
    first, second = UmapProcess(), UmapProcess()
    place_N2 = first.places(np.concatenate([feature_ND, np.full((1, 12), np.nan)]))
    assert np.isnan(place_N2[60:]).all()
    place_N2 = place_N2[:60]
    assert np.isfinite(place_N2).all()
    assert first.progress == 1
    assert (second.places(feature_ND) == place_N2).all()
    assert trustworthiness(feature_ND, place_N2, n_neighbors=10, metric="cosine") > 0.8
    middle_32 = np.stack([place_N2[group::3].mean(axis=0) for group in range(3)])
    distance_N3 = np.linalg.norm(place_N2[:, None] - middle_32, axis=2)
    assert (distance_N3.argmin(axis=1) == np.arange(60) % 3).all(), "images of a group are nearest to its middle"


def test_a_stand_in_has_its_progress_and_what_it_prints_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    stand_in(PRINTS, tmp_path, monkeypatch)
    assert has_umap()
    feature_ND = groups().astype(np.float16)
    process = UmapProcess()
    assert (process.places(feature_ND) == feature_ND[:, :2]).all()
    assert process.progress == 0.75


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (FAILS, "UMAP failed: ValueError: … has too few neighbours"),
        (MISFIT, "UMAP failed: ImportError: Numba needs NumPy 1.0 or less"),
        (DIES, "UMAP failed: the system ended its process by signal 9, as it does where memory is short"),
        ("import os\nos._exit(3)", "UMAP failed: its process ended with status 3 and without an answer"),
    ],
)
def test_a_failure_is_a_sentence_without_paths(code: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    stand_in(code, tmp_path, monkeypatch)
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        UmapProcess().places(groups())


def test_few_images_need_no_process():
    with pytest.raises(UsageError, match=r"^UMAP needs at least 20 images, and 19 have features$"):
        UmapProcess().places(groups(19))


def test_a_stop_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    stand_in(ENDLESS, tmp_path, monkeypatch)
    process = UmapProcess()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(process.places, groups())
        while process.progress != 0.25:
            assert not future.done()
            time.sleep(0.02)
        number = int((tmp_path / "number").read_text())
        process.stop()
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)
        with pytest.raises(UmapStopped):
            future.result()
    with pytest.raises(UmapStopped):
        process.places(groups())
