"""Heat maps: equal to class activation maps worked out by hand, in range, repeatable, the model untouched, and on the object."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from polytag.contracts import Dataset, LabelSet, Preprocessing
from polytag.data.formats.boxes import Box, boxes_reader
from polytag.data.images.augment import views
from polytag.data.images.read import read_image
from polytag.data.load import load_dataset
from polytag.data.read_options import ReadOptions
from polytag.errors import UsageError
from polytag.inference.predictor import extract_features, to_input
from polytag.inference.probe import fit_probe, install_probe
from polytag.models.backbone import build_model
from polytag.models.device import Arithmetic
from polytag.models.heads import linear_head
from polytag.models.heatmap import class_activation

CPU = Arithmetic(device="cpu", precision="fp32")
BACKBONES = {  # name: side of the input, side of the map
    "test_resnet": (96, 3),
    "resnet18": (96, 3),
    "mobilenetv2_100": (96, 3),
    "mobilenetv3_small_050": (96, 3),  # a hidden layer between pooling and classifier
    "efficientnet_lite0": (96, 3),
    "convnext_atto": (96, 3),  # a normalisation after pooling
    "swin_tiny_patch4_window7_224": (224, 7),  # channels last
    "test_vit": (160, 10),
    "vit_tiny_patch16_224": (224, 14),
    "deit_tiny_distilled_patch16_224": (224, 14),  # two classifiers, two prefix tokens
    "eva02_tiny_patch14_224": (224, 16),
}


def random_model(name: str, *, seed: int = 0, **arguments: object) -> nn.Module:
    torch.manual_seed(seed)
    model = build_model(name, num_classes=4, backbone_args=arguments).eval()
    with torch.no_grad():  # timm starts some classifiers at almost nothing
        for layer in model.get_classifier() if isinstance(model.get_classifier(), tuple) else (model.get_classifier(),):
            layer.weight.copy_(torch.randn(layer.weight.shape) / layer.weight.shape[1] ** 0.5)
    return model


def random_input(size_px: int, *, seed: int = 1) -> Tensor:
    return torch.randn(1, 3, size_px, size_px, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", BACKBONES)
def test_maps_are_in_range_repeatable_and_leave_the_model_as_it_was(name: str):
    size_px, side = BACKBONES[name]
    model, pixels = random_model(name), random_input(size_px)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    heat_Khw = class_activation(model, pixels, [3, 0])
    assert heat_Khw.shape == (2, side, side)
    assert heat_Khw.dtype == np.float32
    assert heat_Khw.min() >= 0
    assert set(heat_Khw.max(axis=(1, 2)).tolist()) <= {0.0, 1.0}
    assert heat_Khw.any()
    np.testing.assert_array_equal(heat_Khw, class_activation(model, pixels, [3, 0]))
    np.testing.assert_array_equal(heat_Khw[:1], class_activation(model, pixels, [3]))

    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not any(module.training or module._forward_hooks for module in model.modules())


def class_activation_by_hand(model: nn.Module, pixels: Tensor, column: int) -> np.ndarray:
    """Zhou et al. 2016: the classifier's weights over the channels of the last feature map; no gradient anywhere."""
    with torch.no_grad():
        feature = model.forward_features(pixels)[0].numpy()
    weight = linear_head(model).weight[column].detach().numpy()
    positive = np.maximum(np.einsum("d,dhw->hw", weight, feature), 0)
    return positive / max(positive.max(), 1e-12)


@pytest.mark.parametrize("name", ["test_resnet", "resnet18", "mobilenetv2_100", "efficientnet_lite0"])
def test_average_pooling_and_a_linear_classifier_give_the_map_of_their_weights(name: str):
    model, pixels = random_model(name), random_input(96)
    expected = [class_activation_by_hand(model, pixels, column) for column in range(4)]
    assert np.any(expected)
    np.testing.assert_allclose(class_activation(model, pixels, range(4)), expected, atol=1e-4)


def test_pooled_tokens_give_the_map_of_the_classifiers_weights():
    model, pixels = random_model("test_vit", global_pool="avg", fc_norm=False), random_input(160)
    with torch.no_grad():
        token_TD = model.forward_features(pixels)[0, model.num_prefix_tokens :].numpy()
    evidence_T = np.maximum(token_TD @ linear_head(model).weight[2].detach().numpy(), 0)
    np.testing.assert_allclose(class_activation(model, pixels, [2])[0].ravel(), evidence_T / evidence_T.max(), atol=1e-4)


def test_what_a_class_token_reads_is_found_by_the_last_attention():
    """The change of the logit to first order, by finite differences at what the last attention reads of each patch."""
    model, pixels = random_model("test_vit").double(), random_input(160).double()
    norm = model.blocks[-1].norm1

    def logit(scale_T: Tensor) -> float:
        handle = norm.register_forward_hook(lambda module, inputs, output: output * scale_T[None, :, None])
        try:
            with torch.no_grad():
                return float(model(pixels)[0, 1])
        finally:
            handle.remove()

    evidence: list[float] = []
    for token in range(1, 101):
        step = torch.zeros(101, dtype=torch.float64)
        step[token] = 1e-4
        evidence.append((logit(1 + step) - logit(1 - step)) / 2e-4)
    positive = np.maximum(evidence, 0)
    heat = class_activation(model.float(), pixels.float(), [1])[0].ravel()
    np.testing.assert_allclose(heat, positive / positive.max(), atol=5e-3)


def test_a_class_that_nothing_speaks_for_has_a_cold_map():
    model = random_model("test_resnet")
    with torch.no_grad():
        linear_head(model).weight[1] = -1.0  # features are never negative
    heat_Khw = class_activation(model, random_input(96), [1, 2])
    assert not heat_Khw[0].any()
    assert heat_Khw[1].any()


def test_autocast_and_inference_mode_around_change_nothing():
    model, pixels = random_model("test_resnet"), random_input(96)
    expected = class_activation(model, pixels, [0])
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        np.testing.assert_array_equal(class_activation(model, pixels, [0]), expected)


def test_hooks_are_removed_after_an_error():
    model = random_model("vit_tiny_patch16_224")
    with pytest.raises(AssertionError, match="Input height"):
        class_activation(model, random_input(96), [0])
    with pytest.raises(IndexError):
        class_activation(model, random_input(224), [99])
    assert not any(module._forward_hooks for module in model.modules())
    assert class_activation(model, random_input(224), [0]).shape == (1, 14, 14)


def test_a_backbone_that_cannot_be_mapped_is_told():
    model = timm.create_model("crossvit_tiny_240", num_classes=2).eval()
    with pytest.raises(UsageError) as error:
        class_activation(model, random_input(240), [0])
    assert str(error.value) == (
        "no heat map can be made for CrossVit\n"
        "  got: a list of features\n"
        "  expected: a feature map, or patch tokens in a square with class tokens before them\n"
        "  next: predictions and everything else work; use another backbone if heat maps matter"
    )


# ---- the pointing game (Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016) ----


def probed(backbone: str, train_set: Dataset, *, preprocessing: Preprocessing, weights: str = "random", **arguments: object):
    """A linear probe; with random weights, batch statistics are taken from a few of the images first."""
    torch.manual_seed(0)
    model = build_model(backbone, num_classes=len(train_set.label_set), weights=weights, backbone_args=arguments)
    if weights == "random":
        with torch.no_grad():
            for _ in range(10):
                model(torch.cat([model_input(path, preprocessing) for path in train_set.paths[:32]]))
    feature_ND, rows, _ = extract_features(model.eval(), train_set, preprocessing=preprocessing, arithmetic=CPU)
    install_probe(model, fit_probe(feature_ND, train_set.target_NC[rows]))
    return model


def model_input(path: Path, preprocessing: Preprocessing) -> Tensor:
    return to_input(torch.from_numpy(views(read_image(path), preprocessing)), preprocessing, "cpu")


def pointing_game(model: nn.Module, dataset: Dataset, boxes_of, *, preprocessing: Preprocessing) -> tuple[float, float]:
    """Over all present (image, class): how often the warmest place is in a box of the class, and what share boxes cover."""
    hits: list[bool] = []
    covered: list[float] = []
    for row, path in enumerate(dataset.paths):
        columns = np.flatnonzero(dataset.target_NC[row] == 1).tolist()
        heat_Khw = class_activation(model, model_input(path, preprocessing), columns) if columns else []
        for column, heat_hw in zip(columns, heat_Khw, strict=True):
            inside_hw = covers(boxes_of(row, dataset.label_set.names[column]), heat_hw.shape)
            hits.append(bool(inside_hw[np.unravel_index(heat_hw.argmax(), heat_hw.shape)]))
            covered.append(float(inside_hw.mean()))
    return float(np.mean(hits)), float(np.mean(covered))


def covers(boxes: list[Box], shape: tuple[int, ...]) -> np.ndarray:
    """Which places of a map have their middle in a box."""
    y_h, x_w = ((np.arange(side) + 0.5) / side for side in shape)
    inside_hw = np.zeros(shape, bool)
    for box in boxes:
        inside_hw |= ((box.top <= y_h) & (y_h < box.bottom))[:, None] & ((box.left <= x_w) & (x_w < box.right))
    return inside_hw


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset, list[dict[str, Box]]]:
    """Coloured squares on noise, train and val, and the boxes of val."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("squares")
    names = ("red", "green", "blue")
    paths: list[Path] = []
    all_boxes: list[dict[str, Box]] = []
    target_NC = (rng.random((150, 3)) < 0.5).astype(np.int8)
    for row, target_C in enumerate(target_NC):
        pixels = rng.integers(90, 150, (80, 80, 3))
        boxes: dict[str, Box] = {}
        for column in np.flatnonzero(target_C):
            top, left = rng.integers(0, 60, 2).tolist()
            pixels[top : top + 20, left : left + 20] = 30
            pixels[top : top + 20, left : left + 20, column] = 230
            corners = (value / 80 for value in (left, top, left + 20, top + 20))
            name = names[column]
            boxes[name] = Box(class_name=name, **dict(zip(("left", "top", "right", "bottom"), corners, strict=True)))
        paths.append(folder / f"{row}.png")
        all_boxes.append(boxes)
        Image.fromarray(pixels.astype(np.uint8)).save(paths[-1])
    dataset = Dataset(
        ids=tuple(path.stem for path in paths),
        paths=tuple(paths),
        target_NC=target_NC,
        split_N=("train",) * 100 + ("val",) * 50,
        label_set=LabelSet(names=names),
        source="",
    )
    return dataset.split("train"), dataset.split("val"), all_boxes[100:]


def test_the_warmest_place_is_on_the_square(squares: tuple[Dataset, Dataset, list[dict[str, Box]]]):
    train_set, val_set, boxes = squares
    preprocessing = Preprocessing(image_size_px=160)
    model = probed("test_resnet", train_set, preprocessing=preprocessing)
    hit, covered = pointing_game(model, val_set, lambda row, name: [boxes[row][name]], preprocessing=preprocessing)
    assert covered < 0.1
    assert hit > 0.6  # measured: 0.7; a square of 20 px is little more than one place of the map, and often between two


@pytest.mark.slow
def test_the_warmest_place_is_on_the_object_in_real_photographs(shared: Path):
    data = shared / "data/voc-mini/VOCdevkit/VOC2012"
    dataset = load_dataset(data)
    train_set, val_set = (dataset.split(name) for name in ("train", "val"))
    train_set, val_set = train_set.take(np.arange(0, len(train_set), 4)), val_set.take(np.arange(0, len(val_set), 6))
    preprocessing = Preprocessing(image_size_px=224)
    weights = shared / "weights/mobilenetv2_100.keras_in1k.imagenet-norm.fp16.safetensors"
    model = probed("mobilenetv2_100", train_set, preprocessing=preprocessing, weights=str(weights), pad_type="same")
    read = boxes_reader(data, dataset=val_set, options=ReadOptions())
    assert read is not None

    def boxes_of(row: int, name: str) -> list[Box]:
        return [box for box in read(row).boxes if box.class_name == name]

    hit, covered = pointing_game(model, val_set, boxes_of, preprocessing=preprocessing)
    assert hit > covered + 0.2
