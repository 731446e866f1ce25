"""The text model: its cosines are open_clip's, its vectors are cached by all that can change them, faults are told."""

import json
import shutil
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("open_clip", reason="open_clip is not installed: pip install 'polytag[open-clip]'")

from tiny_text_model import ARCHITECTURE, oracle_cosines, write_text_model

from polytag.errors import CheckpointError, MissingExtraError, PolytagError, UsageError
from polytag.inference.text_model import TextModel

TEXTS = ("a red square", "ein Käfer auf Ästen", "🐦" * 100, "word " * 40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def model(folder: Path) -> TextModel:
    return TextModel.load(str(folder), device="cpu")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twenty images, one of them a line, one of one pixel, one grey."""
    made = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for row in range(20):
        shape = {3: (3, 700, 3), 4: (1, 1, 3), 5: (50, 60)}.get(row, (40 + row, 60, 3))
        small = Image.fromarray(rng.integers(0, 255, shape, np.uint8))
        small.save(made / f"{row:02}.png")
    return sorted(made.iterdir())


def never(_: Image.Image):
    raise AssertionError("computed again")


# ---- vectors ----


@pytest.mark.parametrize("text", TEXTS)
def test_the_cosines_are_those_of_open_clip(model: TextModel, folder: Path, paths: list[Path], text: str, tmp_path: Path):
    vector_ND, row_N, failures = model.image_vectors(paths, folder=tmp_path)
    assert (row_N.tolist(), failures) == (list(range(20)), ())
    assert (vector_ND.dtype, vector_ND.shape) == (np.float32, (20, 16))
    cosine_N = vector_ND @ model.text_vector(text)
    whole = [row for row in range(20) if row != 3]  # of a line, the middle is looked at
    expected_N = oracle_cosines(folder, [paths[row] for row in whole], text)
    assert np.ptp(expected_N) > 0.01, "a model that tells nothing apart proves nothing"
    np.testing.assert_allclose(cosine_N[whole], expected_N, atol=2e-6)


def test_a_line_of_pixels_is_looked_at_in_its_middle(model: TextModel, folder: Path, paths: list[Path], tmp_path: Path):
    vector_ND, _, _ = model.image_vectors([paths[3]], folder=tmp_path / "c")
    Image.open(paths[3]).crop((326, 0, 374, 3)).save(tmp_path / "middle.png")
    cosine_N = vector_ND @ model.text_vector("a line")
    np.testing.assert_allclose(cosine_N, oracle_cosines(folder, [tmp_path / "middle.png"], "a line"), atol=2e-6)


def test_images_that_cannot_be_read_are_left_out_and_named(model: TextModel, paths: list[Path], tmp_path: Path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    vector_ND, row_N, failures = model.image_vectors([paths[0], broken, paths[1], tmp_path / "gone.png"], folder=tmp_path)
    assert row_N.tolist() == [0, 2]
    assert len(vector_ND) == 2
    assert [row for row, _ in failures] == [1, 3]


# ---- the cache ----


def test_vectors_are_computed_once(model: TextModel, paths: list[Path], tmp_path: Path):
    first_ND, _, _ = model.image_vectors(paths, folder=tmp_path)
    counts: list[int] = []
    again_ND, row_N, _ = replace(model, transform=never).image_vectors(paths, folder=tmp_path, on_batch=counts.append)
    assert (again_ND.tobytes(), row_N.tolist(), counts) == (first_ND.tobytes(), list(range(20)), [20])


@pytest.mark.parametrize("change", ["weights", "preprocessing", "image"])
def test_another_model_or_image_is_not_mistaken_for_it(model: TextModel, paths: list[Path], change: str, tmp_path: Path):
    own = [tmp_path / path.name for path in paths[:4]]
    for path, copy in zip(paths[:4], own, strict=True):
        shutil.copy(path, copy)
    before_ND, _, _ = model.image_vectors(own, folder=tmp_path / "c")
    other = model
    if change == "weights":
        other = TextModel.load(str(write_text_model(tmp_path / "other", seed=1)), device="cpu")
    if change == "preprocessing":
        other = TextModel.load(str(write_text_model(tmp_path / "other", resize_mode="squash")), device="cpu")
    if change == "image":
        shutil.copy(paths[9], own[1])
    after_ND, _, _ = other.image_vectors(own, folder=tmp_path / "c")
    assert np.abs(after_ND - before_ND).max() > 1e-3
    assert len(list((tmp_path / "c").iterdir())) == 2


# ---- names, folders and weights ----


def refused(name: str | Path) -> PolytagError:
    with pytest.raises(PolytagError) as error:
        TextModel.load(str(name), device="cpu")
    return error.value


def test_a_name_that_open_clip_does_not_know_is_refused_with_a_similar_one():
    error = refused("ViT-B32:openai")
    assert isinstance(error, UsageError)
    assert str(error) == (
        "open_clip has no model of this name (did you mean 'ViT-B-32'?)\n"
        "  where: --text-model\n"
        "  got: 'ViT-B32'\n"
        "  expected: a name of open_clip.list_models(), or a folder that has open_clip_config.json"
    )


@pytest.mark.parametrize("weights", ["", ":", ":laion", ":gone.safetensors", ":" + "x" * 5000, ":/"])
def test_weights_that_are_not_there_are_refused_with_those_that_are(weights: str):
    error = refused("ViT-B-32" + weights)
    assert isinstance(error, UsageError)
    assert error.what == "no such weights of the text model"
    assert "laion2b_s34b_b79k" in error.expected


@pytest.mark.parametrize("name", ["", "gone/folder", "x" * 5000, "hf-hub:", "local-dir:"])
def test_no_name_at_all_is_refused(name: str):
    assert isinstance(refused(name), UsageError | CheckpointError)


def test_weights_of_a_file_belong_to_the_architecture(tmp_path: Path):
    folder = write_text_model(tmp_path / "model")
    error = refused(f"ViT-S-32-alt:{folder / 'open_clip_model.safetensors'}")
    assert isinstance(error, CheckpointError)
    assert error.what == "the text model cannot be loaded"
    assert "width" in error.got, "what open_clip says"


@pytest.mark.parametrize(
    "content",
    [None, "", "{", "[]", "{}", json.dumps({"model_cfg": {}}), json.dumps({"model_cfg": ARCHITECTURE | {"embed_dim": "x"}})],
)
def test_a_folder_with_a_wrong_configuration_is_refused(content: str | None, tmp_path: Path):
    folder = write_text_model(tmp_path / "model")
    (folder / "open_clip_config.json").unlink()
    if content is not None:
        (folder / "open_clip_config.json").write_text(content)
    error = refused(folder)
    assert isinstance(error, CheckpointError)
    assert error.where == str(folder)
    assert error.got


@pytest.mark.parametrize("content", [None, b"", b"no weights", "half"])
def test_a_folder_with_damaged_weights_is_refused(content: bytes | str | None, tmp_path: Path):
    folder = write_text_model(tmp_path / "model")
    path = folder / "open_clip_model.safetensors"
    whole = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    assert isinstance(refused(folder), CheckpointError)


def test_whatever_byte_of_the_header_is_wrong_weights_load_or_are_refused(tmp_path: Path):
    folder = write_text_model(tmp_path / "model")
    path = folder / "open_clip_model.safetensors"
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(15):
        damaged = bytearray(whole)
        damaged[rng.integers(0, 2000)] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        with suppress(CheckpointError):
            TextModel.load(str(folder), device="cpu")


def test_weights_that_are_not_finite_give_no_order(tmp_path: Path):
    from safetensors.torch import load_file, save_file

    folder = write_text_model(tmp_path / "model")
    weights = load_file(folder / "open_clip_model.safetensors")
    weights["ln_final.weight"].fill_(float("nan"))
    save_file(weights, folder / "open_clip_model.safetensors")
    with pytest.raises(UsageError, match="no finite numbers"):
        TextModel.load(str(folder), device="cpu").text_vector("a cat")


def test_a_tokenizer_that_needs_another_package_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = write_text_model(tmp_path / "model")
    config = {"model_cfg": ARCHITECTURE | {"text_cfg": ARCHITECTURE["text_cfg"] | {"hf_tokenizer_name": "some/tokenizer"}}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    monkeypatch.setitem(sys.modules, "transformers", None)
    error = refused(folder)
    assert isinstance(error, MissingExtraError)
    assert str(error) == "this text model needs transformers, which is not installed\n  next: pip install transformers"
