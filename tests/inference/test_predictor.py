"""The one inference loop gives what the model gives when it is called by hand, in order, whatever a batch holds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from polytag.contracts import Dataset, LabelSet, Preprocessing
from polytag.data.images.augment import views
from polytag.data.images.read import read_image
from polytag.errors import CheckpointError, UsageError
from polytag.inference.predictor import Predictor, Scored, run, score_dataset, to_input
from polytag.models.checkpoint import Checkpoint
from polytag.models.device import Arithmetic
from polytag.models.heads import logits

FLOAT = Arithmetic(device="cpu", precision="fp32")


def dataset_of(paths: list[Path], label_set: LabelSet) -> Dataset:
    rng = np.random.default_rng(0)
    return Dataset(
        ids=tuple(path.stem for path in paths),
        paths=tuple(paths),
        target_NC=rng.choice([1, 0, -1], (len(paths), len(label_set))),
        split_N=("val",) * len(paths),
        label_set=label_set,
        source="generated",
    )


@pytest.fixture(scope="module")
def predictor(checkpoint: Checkpoint) -> Predictor:
    return Predictor.load(checkpoint, device="cpu", precision="fp32")


def by_hand(model: torch.nn.Module, checkpoint: Checkpoint, path: Path) -> np.ndarray:
    """One image at a time: decode, fit, normalise, call the model, average the views."""
    preprocessing = checkpoint.preprocessing
    pixels_VHWC = views(read_image(path), preprocessing).astype(np.float64) / 255
    normal = (pixels_VHWC - np.array(preprocessing.mean)) / np.array(preprocessing.std)
    with torch.inference_mode():
        return model(torch.from_numpy(normal.transpose(0, 3, 1, 2)).float()).mean(dim=0).numpy()


@pytest.mark.parametrize(("crops", "num_views"), [("center", 1), ("flip", 2), ("ten", 10)])
def test_scores_are_the_models_own_and_views_are_averaged(checkpoint, images, crops: str, num_views: int):
    chosen = replace(checkpoint, preprocessing=replace(checkpoint.preprocessing, crops=crops))
    predictor = Predictor.load(chosen, device="cpu", precision="fp32")
    predictions = predictor.score(dataset_of(images[:6], checkpoint.label_set))
    model = checkpoint.load_model()
    assert len(views(read_image(images[0]), chosen.preprocessing)) == num_views
    expected = np.stack([by_hand(model, chosen, path) for path in images[:6]])
    np.testing.assert_allclose(predictions.logit_NC, expected, atol=2e-5, rtol=1e-4)
    assert expected.std(axis=0).min() > 0.01  # the images are told apart, so a wrong row would show


def test_everything_that_predictions_carry(predictor, checkpoint, images):
    data = dataset_of(images, checkpoint.label_set)
    predictions = predictor.score(data)
    assert predictions.ids == data.ids
    assert predictions.target_NC.tolist() == data.target_NC.tolist()
    assert predictions.image_paths == tuple(map(str, images))
    assert (predictions.label_set, predictions.checkpoint_id) == (checkpoint.label_set, checkpoint.id)
    assert predictions.source == "generated"


def test_scores_that_are_collected_hold_no_features(predictor, checkpoint, images):
    """Of a million images the features are a hundred times as large as the scores: who wants them decides how many are kept."""
    collected: list[Scored] = []
    score_dataset(
        predictor.model,
        dataset_of(images, checkpoint.label_set),
        preprocessing=checkpoint.preprocessing,
        arithmetic=FLOAT,
        gather=lambda own: collected.extend(own) or own,
        on_features=lambda features: None,
    )
    held = [part.output_ND if part.output_ND.base is None else part.output_ND.base for part in collected]
    assert sum(map(np.size, held)) == len(images) * len(checkpoint.label_set)


def test_the_order_is_that_of_the_data_set(predictor, checkpoint, images):
    forward = predictor.score(dataset_of(images, checkpoint.label_set))
    backward = predictor.score(dataset_of(images[::-1], checkpoint.label_set))
    assert backward.ids == forward.ids[::-1]
    np.testing.assert_allclose(backward.logit_NC, forward.logit_NC[::-1], atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 40, 1000])
def test_scores_do_not_depend_on_the_batch_size(predictor, checkpoint, images, batch_size: int):
    def scores(size: int) -> np.ndarray:
        parts = list(
            run(
                lambda pixels: logits(predictor.model, pixels),
                images[:40],
                preprocessing=checkpoint.preprocessing,
                arithmetic=FLOAT,
                batch_size=size,
            )
        )
        assert np.concatenate([part.rows for part in parts]).tolist() == list(range(40))
        assert len(parts) == -(-40 // size)
        return np.concatenate([part.output_ND for part in parts])

    np.testing.assert_allclose(scores(batch_size), scores(32), atol=1e-5)


def test_the_same_images_give_the_same_bits(predictor, checkpoint, images):
    data = dataset_of(images, checkpoint.label_set)
    assert predictor.score(data).logit_NC.tobytes() == predictor.score(data).logit_NC.tobytes()


def test_a_broken_image_is_left_out_and_told(predictor, checkpoint, images, tmp_path: Path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    given = [*images[:3], tmp_path / "broken.jpg", *images[3:6], tmp_path / "missing.jpg"]
    told: list[Scored] = []
    predictions = score_dataset(
        predictor.model,
        dataset_of(given, checkpoint.label_set),
        preprocessing=checkpoint.preprocessing,
        arithmetic=FLOAT,
        on_batch=told.append,
    )
    assert predictions.ids == tuple(path.stem for path in images[:6])
    whole = predictor.score(dataset_of(given[:3] + given[4:7], checkpoint.label_set))
    np.testing.assert_allclose(predictions.logit_NC, whole.logit_NC, atol=1e-5)
    assert predictions.target_NC.tolist() == dataset_of(given, checkpoint.label_set).target_NC[[0, 1, 2, 4, 5, 6]].tolist()
    failures = [(row, error.where) for scored in told for row, error in scored.failures]
    assert failures == [(3, str(tmp_path / "broken.jpg")), (7, str(tmp_path / "missing.jpg"))]


def test_only_broken_images_give_an_empty_table(predictor, checkpoint, tmp_path: Path):
    predictions = predictor.score(dataset_of([tmp_path / f"{number}.jpg" for number in range(40)], checkpoint.label_set))
    assert (len(predictions), predictions.logit_NC.shape) == (0, (0, 3))


def test_bfloat16_scores_are_close_and_finite(checkpoint, images, predictor):
    data = dataset_of(images, checkpoint.label_set)
    rounded = Predictor.load(checkpoint, device="cpu", precision="bf16").score(data)
    exact = predictor.score(data)
    assert (rounded.logit_NC != exact.logit_NC).any()
    np.testing.assert_allclose(rounded.logit_NC, exact.logit_NC, atol=0.05 * np.abs(exact.logit_NC).max())


def test_another_class_list_is_refused_before_any_image_is_read(predictor, checkpoint, tmp_path: Path):
    with pytest.raises(CheckpointError) as error:
        predictor.score(dataset_of([tmp_path / "missing.jpg"], LabelSet(names=("cat", "dog"))))
    assert str(error.value) == (
        f"the checkpoint is of another class list\n  where: {checkpoint.folder}\n  got: cat, dog, big, old tree\n"
        "  expected: cat, dog\n"
        "  next: choose classes as for the training (--classes, --rename, --merge, --drop), or train on these"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "tpu"}, "unknown device\n  where: --device\n  got: 'tpu'\n  expected: auto, cpu or cuda"),
        ({"precision": "fp8"}, "unknown precision\n  where: --precision\n  got: 'fp8'\n  expected: auto, fp32 or bf16"),
    ],
)
def test_a_device_or_precision_that_is_none(checkpoint, options: dict[str, str], message: str):
    with pytest.raises(UsageError) as error:
        Predictor.load(checkpoint, **options)
    assert str(error.value) == message


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there(checkpoint):
    with pytest.raises(UsageError) as error:
        Predictor.load(checkpoint, device="cuda")
    assert str(error.value) == (
        "no CUDA device\n  where: --device\n  got: cuda\n  expected: a GPU that PyTorch sees\n  next: use --device cpu"
    )


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("num_images", [0, 1, 3])
def test_normalisation_is_the_plain_formula_to_the_bit_and_leaves_its_input(dtype: torch.dtype, num_images: int):
    pixels = torch.randint(0, 256, (num_images, 7, 7, 3), generator=torch.Generator().manual_seed(0)).to(dtype)
    before, preprocessing = pixels.clone(), Preprocessing(image_size_px=8)
    got = to_input(pixels, preprocessing, "cpu")
    mean, std = (torch.tensor(values) * 255 for values in (preprocessing.mean, preprocessing.std))
    assert torch.equal(got, ((before.float() - mean) / std).permute(0, 3, 1, 2))
    assert torch.equal(pixels, before)
    assert got.is_contiguous(memory_format=torch.channels_last)
