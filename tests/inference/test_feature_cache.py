"""The feature cache: the same bits, stale files missed, checked, bounded, and never an error."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from polytag.contracts import Preprocessing
from polytag.data.cache.store import cache_files, clear
from polytag.inference import feature_cache
from polytag.inference.feature_cache import FeatureCache, what_computes
from polytag.inference.predictor import Extracted, extract_features, from_files, run
from polytag.models.backbone import build_model
from polytag.models.device import Arithmetic
from polytag.models.heads import linear_head

SETTINGS: dict[str, Any] = {
    "backbone": "test_resnet",
    "backbone_args": {},
    "head": "linear",
    "preprocessing": Preprocessing(image_size_px=32),
    "arithmetic": Arithmetic(device="cpu", precision="fp32"),
}


@pytest.fixture(autouse=True)
def _keep_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache, "_MIN_SECONDS", 0.0)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(1)
    return build_model("test_resnet", num_classes=3).eval()


@pytest.fixture
def paths(images: list[Path], tmp_path: Path) -> list[Path]:
    """Five images, copies, the third of which is none."""
    copies = [tmp_path / f"{number}{path.suffix}" for number, path in enumerate(images[:5])]
    for copy, path in zip(copies, images, strict=False):
        shutil.copy(path, copy)
    copies[2].write_bytes(b"no image")
    return copies


def calculating(model: nn.Module, paths: list[Path], **changes: Any) -> Callable[[], Extracted]:
    settings = SETTINGS | changes
    rows, outputs, failures = [], [], []

    def calculate() -> Extracted:
        forward = lambda pixels: model.forward_head(model.forward_features(pixels), pre_logits=True)  # noqa: E731
        for scored in run(forward, paths, preprocessing=settings["preprocessing"], arithmetic=settings["arithmetic"]):
            rows.append(scored.rows)
            outputs.append(scored.output_ND)
            failures.extend(scored.failures)
        return np.concatenate(outputs), np.concatenate(rows), tuple(failures)

    return calculate


def never() -> Extracted:
    raise AssertionError("calculated again")


def cached(model: nn.Module, paths: list[Path], folder: Path, **changes: Any) -> FeatureCache:
    return FeatureCache(paths, what=what_computes(model, **(SETTINGS | changes)), folder=folder)


def test_a_later_one_gets_the_same_bits_and_failures_without_calculating(model: nn.Module, paths: list[Path], tmp_path: Path):
    first = cached(model, paths, tmp_path / "c")
    assert not first.is_cached
    feature_ND, row_N, failures = first.get(calculating(model, paths))
    later = cached(model, paths, tmp_path / "c")
    assert later.is_cached
    again_ND, again_N, again_failures = later.get(never)
    assert (again_ND.dtype, again_ND.tobytes()) == (np.float32, feature_ND.tobytes())
    assert again_N.tolist() == row_N.tolist() == [0, 1, 3, 4]
    assert [(row, str(error)) for row, error in again_failures] == [(row, str(error)) for row, error in failures]
    assert [row for row, _ in failures] == [2]
    assert [each.path.suffix for each in cache_files(tmp_path / "c")] == [".features"]


def test_the_classifier_is_no_part_of_it(model: nn.Module, paths: list[Path], tmp_path: Path):
    cached(model, paths, tmp_path / "c").get(calculating(model, paths))
    with torch.no_grad():
        linear_head(model).weight.add_(1)
    assert cached(model, paths, tmp_path / "c").is_cached


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone": "test_other"},
        {"backbone_args": {"pad_type": "same"}},
        {"preprocessing": Preprocessing(image_size_px=24)},
        {"preprocessing": Preprocessing(image_size_px=32, fit="crop")},
        {"preprocessing": Preprocessing(image_size_px=32, std=(0.2, 0.2, 0.2))},
        {"arithmetic": Arithmetic(device="cpu", precision="bf16")},
        {"batch_size": 8},
        {"head": "concat-pool"},
    ],
    ids=str,
)
def test_other_settings_have_other_features(model: nn.Module, paths: list[Path], tmp_path: Path, changes: dict[str, Any]):
    cached(model, paths, tmp_path / "c").get(calculating(model, paths))
    assert not cached(model, paths, tmp_path / "c", **changes).is_cached


@pytest.mark.parametrize("change", ["weight", "statistic", "image", "order", "fewer", "torch"])
def test_another_network_and_other_images_have_other_features(
    model: nn.Module, paths: list[Path], tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
):
    cached(model, paths, tmp_path / "c").get(calculating(model, paths))
    match change:
        case "weight":
            with torch.no_grad():
                next(model.parameters())[0, 0, 0, 0] += 1e-6
        case "statistic":
            next(value for name, value in model.named_buffers() if name.endswith("running_var"))[0] += 1e-6
        case "image":
            shutil.copy(paths[1], paths[0])
        case "order":
            paths.reverse()
        case "fewer":
            paths.pop()
        case _:
            monkeypatch.setattr(torch, "__version__", "0.0")
    assert not cached(model, paths, tmp_path / "c").is_cached


@pytest.mark.parametrize("damage", ["cut", "flipped", "header", "empty", "foreign", "renamed", "rows outside", "float16", "vector"])
def test_a_damaged_file_is_no_file_and_is_replaced(model: nn.Module, paths: list[Path], tmp_path: Path, damage: str):
    feature_ND, *_ = cached(model, paths, tmp_path / "c").get(calculating(model, paths))
    (file,) = (each.path for each in cache_files(tmp_path / "c"))
    content = bytearray(file.read_bytes())
    match damage:
        case "cut":
            file.write_bytes(content[: len(content) // 2])
        case "flipped":
            content[content.index(feature_ND.tobytes()) + 5] ^= 0x10
            file.write_bytes(content)
        case "header":
            content[8] ^= 0xFF  # how it is compressed
            content[content.rindex(b"PK\1\2") + 10] ^= 0xFF
            file.write_bytes(content)
        case "empty":
            file.write_bytes(b"")
        case "foreign":
            file.write_bytes(b"not an archive at all")
        case "rows outside" | "float16" | "vector":
            with np.load(file) as arrays:
                values = dict(arrays)
            if damage == "rows outside":
                values["row_N"] = values["row_N"] + 10
            else:
                features = values["feature_ND"]
                values["feature_ND"] = features.astype(np.float16) if damage == "float16" else features[:, 0]
            with open(file, "wb") as target:
                np.savez(target, **values)
        case _:
            other = [paths[1], paths[0]]
            cached(model, other, tmp_path / "d").get(calculating(model, other))
            shutil.copy(cache_files(tmp_path / "d")[0].path, file)
    again = cached(model, paths, tmp_path / "c")
    assert not again.is_cached
    assert again.get(calculating(model, paths))[0].tobytes() == feature_ND.tobytes()
    assert cached(model, paths, tmp_path / "c").is_cached


def test_an_image_that_can_be_read_after_all_makes_it_stale(
    model: nn.Module, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As after a moment without memory, or on a share that was away: the file has not changed, and so neither has the name."""
    cached(model, paths, tmp_path / "c").get(calculating(model, paths))
    monkeypatch.setattr(feature_cache, "read_image", lambda path: None)
    assert not cached(model, paths, tmp_path / "c").is_cached


def test_what_is_calculated_in_a_moment_is_not_kept(
    model: nn.Module, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(feature_cache, "_MIN_SECONDS", 1000.0)
    cached(model, paths, tmp_path / "c").get(calculating(model, paths))
    assert not (tmp_path / "c").exists()


def test_nothing_is_kept_where_no_image_can_be_read(model: nn.Module, paths: list[Path], tmp_path: Path):
    cached(model, paths, tmp_path / "c").get(lambda: (np.zeros((0, 0), np.float32), np.zeros(0, np.int64), ()))
    assert not (tmp_path / "c").exists()


def test_a_folder_that_cannot_be_written_and_a_full_disk_cost_nothing_but_time(
    model: nn.Module, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").write_text("a file")
    assert len(cached(model, paths, tmp_path / "file").get(calculating(model, paths))[0]) == 4
    full = SimpleNamespace(total=10**12, used=0, free=10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: full)
    assert len(cached(model, paths, tmp_path / "c").get(calculating(model, paths))[0]) == 4
    assert cache_files(tmp_path / "c") == []


def test_it_is_removed_with_everything_else_that_is_kept(model: nn.Module, paths: list[Path], tmp_path: Path):
    cached(model, paths, tmp_path / "c").get(calculating(model, paths))
    (file,) = cache_files(tmp_path / "c")
    os.utime(file.path, (1, 1))
    assert cached(model, paths, tmp_path / "c").is_cached
    assert cache_files(tmp_path / "c")[0].used > 1  # reading counts as use
    assert clear(tmp_path / "c") == file.num_bytes
    assert cache_files(tmp_path / "c") == []


def test_they_are_the_features_that_are_extracted(model: nn.Module, images: list[Path], tmp_path: Path):
    """The network as scoring runs it, against the network as timm wrote it."""
    from polytag.contracts import Dataset, LabelSet

    dataset = Dataset(
        ids=tuple(map(str, range(5))), paths=tuple(images[:5]), target_NC=np.zeros((5, 1), np.int8), split_N=("train",) * 5,
        label_set=LabelSet(names=("x",)), source="test",
    )  # fmt: skip
    settings = {key: SETTINGS[key] for key in ("preprocessing", "arithmetic")}
    expected, *_ = cached(model, images[:5], tmp_path / "c").get(calculating(model, images[:5]))
    got, *_ = cached(model, images[:5], tmp_path / "d").get(
        lambda: extract_features(model, dataset, source=from_files(images[:5], settings["preprocessing"]), **settings)
    )
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
