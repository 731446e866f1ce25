"""The head's start: features of an earlier run serve, and the model is the same to the bit."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import save_file

from polytag import PROBE, train
from polytag.data.cache.store import cache_files
from polytag.errors import DataError
from polytag.inference import feature_cache
from polytag.inference.out_of_fold import out_of_fold_of_run
from polytag.models.backbone import build_model
from polytag.runs.folder import RunFolder
from polytag.runs.recipe import FINETUNE, Recipe
from polytag.training import head_start

TINY = {"backbone": "test_resnet", "weights": "random", "image_size_px": 32, "device": "cpu"}
TINY_PROBE = replace(PROBE, **TINY)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(feature_cache, "_MIN_SECONDS", 0.0)


@pytest.fixture
def run_of(colours: Path, tmp_path: Path) -> Callable[[str, Recipe], tuple[bytes, str, dict[str, str]]]:
    """Weights, the probe's note, and where images came from."""

    def run(name: str, recipe: Recipe) -> tuple[bytes, str, dict[str, str]]:
        said: list[str] = []

        class Listener:
            def note(self, text: str) -> None:
                said.append(text)

        trained = train(colours, recipe=recipe, output=tmp_path / name, callbacks=[Listener()]).folder
        images = json.loads((trained.path / "env.json").read_text())["images"]
        return (trained.best / "model.safetensors").read_bytes(), "".join(said), images

    return run


def test_a_second_probe_and_a_fine_tuning_begin_with_the_features_of_the_first(run_of, colours: Path, tmp_path: Path, monkeypatch):
    tuning = replace(
        FINETUNE, **TINY | {"weights": str(tmp_path / "first" / "best" / "model.safetensors")}, epochs=1, batch_size=16
    )
    plain, note, how = run_of("plain", replace(TINY_PROBE, cache="none"))
    assert ("earlier" not in note, cache_files()) == (True, [])
    first, note, how = run_of("first", TINY_PROBE)
    assert ("earlier" in note, how) == (False, {"training": "files", "validation": "files"})
    plainly_tuned, *_ = run_of("plainly tuned", replace(tuning, cache="none"))

    monkeypatch.setattr(head_start, "extract_features", None)
    second, note, how = run_of("second", TINY_PROBE)
    assert note.endswith("on training folds; features of an earlier run")
    assert how == {"training": "not read", "validation": "files", "features": "of an earlier run"}
    assert "of an earlier run" in (tmp_path / "second" / "report.html").read_text()
    assert first == second == plain
    tuned, note, how = run_of("tuned", tuning)
    assert "features of an earlier run" in note
    assert how == {"training": "files", "validation": "files", "features": "of an earlier run"}
    assert tuned == plainly_tuned


def test_other_labels_or_another_seed_use_the_same_features(run_of, monkeypatch):
    run_of("first", TINY_PROBE)
    monkeypatch.setattr(head_start, "extract_features", None)
    assert "earlier" in run_of("labels", replace(TINY_PROBE, difficult="negative"))[1]


def test_label_issues_of_a_probe_need_no_second_pass(run_of, tmp_path: Path, monkeypatch):
    run_of("first", TINY_PROBE)
    expected, _ = out_of_fold_of_run(RunFolder(path=tmp_path / "first"), device="cpu")
    monkeypatch.setattr(feature_cache, "extract_features", None)
    seen: list[int] = []
    again, _ = out_of_fold_of_run(RunFolder(path=tmp_path / "first"), device="cpu", on_batch=seen.append)
    assert (again.logit_NC == expected.logit_NC).all()
    assert seen == [48]
    assert [file.path.suffix for file in cache_files()] == [".features"] * 2  # of the training and of the validation images


@pytest.mark.parametrize("minutes", [0.0, 1.0])
def test_training_images_of_which_none_can_be_read_are_told(tmp_path: Path, colours: Path, minutes: float):
    """As pointers to large files are, where only these were copied."""
    shutil.copytree(colours.parent, tmp_path / "data")
    for image in (tmp_path / "data" / "images").iterdir():
        image.write_text("version https://git-lfs.github.com/spec/v1")
    weights = tmp_path / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in build_model("test_resnet", num_classes=3).state_dict().items()}, weights)
    labels = tmp_path / "data" / "labels.csv"
    recipe = replace(TINY_PROBE, weights=str(weights), minutes=minutes)
    with pytest.raises(DataError) as caught:
        train(labels, recipe=recipe, output=tmp_path / "run")
    assert caught.value.what == "no training image can be read"
    assert caught.value.got.startswith("48 images, such as ")
    assert caught.value.next_step == "run `polytag data check` on the data: it says what is wrong with each image"
