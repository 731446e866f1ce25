"""Concat pooling: its features by hand, its checkpoints, its maps, and everything that reads a network."""

import copy
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from polytag.contracts import LabelSet, Preprocessing
from polytag.errors import CheckpointError, UsageError
from polytag.models.backbone import build_model, create_backbone, lay_out
from polytag.models.backbone_args import HEADS
from polytag.models.checkpoint import Checkpoint, save_checkpoint
from polytag.models.device import Arithmetic
from polytag.models.fused import freeze
from polytag.models.heads import backbone_features, chosen_head, features, head_parameters, linear_head, logits
from polytag.models.heatmap import class_activation
from polytag.own_parts import FEATURES, OWN_BACKBONE

MOBILE = "mobilenetv2_035"  # an inverted residual block before its last map
FLOAT = Arithmetic(device="cpu", precision="fp32")


def headed(backbone: str = MOBILE, *, seed: int = 0, head: str = "concat-pool", **arguments: object) -> nn.Module:
    torch.manual_seed(seed)
    return build_model(backbone, num_classes=3, head=head, backbone_args=arguments).eval()


def images(n: int = 2, *, size_px: int = 64) -> Tensor:
    return torch.randn(n, 3, size_px, size_px, generator=torch.Generator().manual_seed(1))


def maps_by_hand(model: nn.Module, pixels: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The features of timm's own model, its last map, and what enters the last projection, seen by a hook of this test."""
    plain = create_backbone(MOBILE, num_classes=0).eval()
    plain.load_state_dict(model.backbone.state_dict())
    seen: list[Tensor] = []
    plain.blocks[-1][-1].conv_pwl.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    with torch.inference_mode():
        last = plain.forward_features(pixels)
        own = plain.forward_head(last, pre_logits=True)
    return own.numpy(), last.numpy(), seen[0].numpy()


def test_the_features_are_those_of_the_backbone_then_maxima_then_means():
    model, pixels = headed(), images()
    own_ND, last, expanded = maps_by_hand(model, pixels)
    wanted_ND = np.concatenate([own_ND, last.max((2, 3)), expanded.max((2, 3)), expanded.mean((2, 3))], axis=1)
    weight_CD, bias_C = (parameter.detach().numpy() for parameter in model.get_classifier().parameters())
    with torch.inference_mode():
        np.testing.assert_allclose(features(model, pixels).numpy(), wanted_ND, atol=1e-4)
        np.testing.assert_allclose(logits(model, pixels).numpy(), wanted_ND @ weight_CD.T + bias_C, atol=1e-5)
        assert torch.equal(model(pixels), logits(model, pixels))
    assert backbone_features(model, wanted_ND).tobytes() == own_ND.tobytes()
    assert linear_head(model) is model.get_classifier()
    assert head_parameters(model) == {"classifier.weight", "classifier.bias"}


def attention_by_hand(weight_CM: np.ndarray, map_NMP: np.ndarray) -> np.ndarray:
    """CSRA with T = 1, for each image, class and place; less the mean, which the linear layer has already."""
    added_NC = np.zeros((len(map_NMP), len(weight_CM)))
    for n, map_MP in enumerate(map_NMP):
        for c, weight_M in enumerate(weight_CM):
            evidence_P = weight_M.astype(np.float64) @ map_MP
            share_P = np.exp(evidence_P) / np.exp(evidence_P).sum()
            added_NC[n, c] = 0.2 * (share_P @ evidence_P - evidence_P.mean())
    return added_NC


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_attention_adds_what_the_best_places_have_over_the_mean(pooling: str):
    model, pixels = headed(head="csra", global_pool=pooling), images()
    plain = create_backbone(MOBILE, num_classes=0, backbone_args={"global_pool": pooling}).eval()
    _, last, expanded = maps_by_hand(model, pixels) if pooling == "avg" else (None, *map_of(model, pixels))
    with torch.no_grad():
        model.classifier.weight.mul_(20)  # so that places differ
    weight_CD, own, total = model.classifier.weight.detach().numpy(), model.num_own, model.num_own + model.num_features
    means, maps = [weight_CD[:, total:]], [expanded]
    if pooling == "avg":  # a maximum of the backbone's own is no mean over the places
        means, maps = [weight_CD[:, :own], *means], [last, *maps]
    added_NC = attention_by_hand(np.concatenate(means, 1), np.concatenate(maps, 1).reshape(2, -1, 4))
    with torch.inference_mode():
        wanted_NC = model.classifier(features(model, pixels)).numpy() + added_NC
        np.testing.assert_allclose(logits(model, pixels).numpy(), wanted_NC, atol=1e-4)
        np.testing.assert_allclose(model(pixels).numpy(), wanted_NC, atol=1e-4)
    assert (added_NC > 0).all()
    assert added_NC.max() > 1e-3
    assert plain.num_features == own


def map_of(model: nn.Module, pixels: Tensor) -> tuple[np.ndarray, np.ndarray]:
    with torch.inference_mode():
        maps = model.forward_features(pixels).numpy()
    return maps[:, : model.num_own], maps[:, model.num_own :]


def test_maps_that_are_alike_everywhere_get_no_attention():
    model = headed(head="csra")
    with torch.inference_mode():
        added_NC = model.attention(torch.randn(2, model.num_features, 1, 1).expand(-1, -1, 3, 3))
    torch.testing.assert_close(added_NC, torch.zeros(2, 3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_frozen_attention_is_that_of_the_plain_network(precision: str):
    model, pixels = headed(head="csra", pad_type="same"), images()
    frozen = freeze(model, arithmetic=Arithmetic(device="cpu", precision=precision), image_size_px=64)
    autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16")
    with torch.inference_mode(), autocast:
        both_ND, logit_NC = frozen.features_and_logits(pixels), frozen.logits(pixels)
        width = model.classifier.in_features
        assert both_ND.shape == (2, width + 3)
        assert logit_NC.dtype == torch.float32
        assert torch.equal(both_ND[:, width:], logit_NC)
        assert torch.equal(both_ND[:, :width], frozen.features(pixels).float())
        linear_NC = torch.nn.functional.linear(both_ND[:, :width], model.classifier.weight.float(), model.classifier.bias.float())
        torch.testing.assert_close(linear_NC.float() + frozen.attention(pixels), logit_NC, atol=2e-2, rtol=2e-2)
        torch.testing.assert_close(logit_NC, logits(model, pixels), atol=1e-4 if precision == "fp32" else 0.1, rtol=1e-2)


@pytest.mark.parametrize(
    ("backbone", "problem"), [("test_convnext", "averages its last map"), ("test_vit", "needs a feature map,")]
)
def test_attention_needs_places_whose_mean_is_read(backbone: str, problem: str):
    with pytest.raises(UsageError, match=problem):
        headed(backbone, head="csra")


def test_attention_has_a_checkpoint_a_heat_map_and_another_heads_weights(tmp_path: Path):
    model, pixels = headed(head="csra"), images()
    saved(tmp_path, model, head="csra")
    read = Checkpoint.read(tmp_path).load_model()
    with torch.inference_mode():
        assert torch.equal(read(pixels), model(pixels))
    assert class_activation(read, pixels[:1], [0, 2]).shape == (2, 2, 2)
    assert lay_out(MOBILE, num_classes=3, head="csra") is not None
    assert headed("test_resnet", head="csra").classifier.in_features == 2 * headed("test_resnet", head="csra").num_own
    narrow = build_model(MOBILE, num_classes=2, head="linear", weights=str(tmp_path / "model.safetensors"))
    assert torch.equal(narrow.conv_head.weight, model.backbone.conv_head.weight)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext", "test_efficientnet", "mobilenetv3_small_050", "test_nfnet"])
def test_any_backbone_with_a_map_has_it(backbone: str):
    """What is not an inverted residual block has no expanded map; a ConvNeXt normalises its own features after pooling."""
    model, pixels = headed(backbone), images(size_px=96)
    with torch.inference_mode():
        maps, feature_ND = model.forward_features(pixels), features(model, pixels)
        last = model.backbone.forward_features(pixels)
        own_ND = model.backbone.forward_head(last, pre_logits=True)
    num_last, num_expanded = last.shape[1], maps.shape[1] - last.shape[1]
    assert (num_expanded > 0) == (backbone in ("test_efficientnet", "mobilenetv3_small_050"))
    assert feature_ND.shape[1] == own_ND.shape[1] + num_last + 2 * num_expanded
    np.testing.assert_array_equal(backbone_features(model, feature_ND.numpy()), own_ND)
    layout = lay_out(backbone, num_classes=3, head="concat-pool")
    assert layout is not None
    shapes, laid_out = ({name: value.shape for name, value in each.items()} for each in (model.state_dict(), layout))
    assert shapes == laid_out


def test_a_backbone_with_neither_map_nor_known_tokens_is_refused():
    with pytest.raises(UsageError) as error:
        build_model("mixer_s32_224", num_classes=3, head="concat-pool")
    assert str(error.value) == (
        "the head concat-pool needs a feature map or the tokens of a ViT, which this backbone does not have\n  where: --head\n"
        "  got: features of shape (1, 49, 512)\n"
        "  expected: a feature map: channels, height and width; or tokens, timm knowing how many precede the patches\n"
        "  next: use --head linear, or another backbone"
    )


TOKENS = {  # side of the image, tokens before the patches, what the features are: c class token, m mean, t maximum, a attention
    "test_vit": (160, 1, {}, "cm"),
    "test_vit global_pool=avg": (160, 1, {"global_pool": "avg"}, "mc"),  # normalised after the pooling
    "test_vit global_pool=avg fc_norm=False": (160, 1, {"global_pool": "avg", "fc_norm": False}, "mc"),
    "test_vit fc_norm=True": (160, 1, {"fc_norm": True}, "cm"),
    "test_vit2": (160, 1, {}, "mt"),  # a register and no class token
    "test_vit3": (160, 1, {}, "am"),  # SigLIP's attention pooling, and a register
    "test_vit_relpos": (160, 0, {}, "mt"),
    "vit_small_patch14_reg4_dinov2": (56, 5, {"img_size": 56, "depth": 2, "embed_dim": 48, "num_heads": 3}, "cm"),
    "vit_small_patch16_dinov3": (64, 5, {"depth": 2, "embed_dim": 48, "num_heads": 3}, "mc"),
    "vit_pe_core_tiny_patch16_384": (64, 1, {"img_size": 64, "depth": 2}, "acm"),
    "vit_base_patch16_siglip_224": (64, 0, {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 3}, "am"),
    "eva02_tiny_patch14_224": (56, 1, {"img_size": 56, "depth": 2}, "mc"),
    "beit_base_patch16_224": (64, 1, {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 3}, "mc"),
    "deit_tiny_distilled_patch16_224": (64, 2, {"img_size": 64, "depth": 2}, "dm"),  # d: mean of class and distillation token
    "xcit_nano_12_p16_224": (64, 1, {"depth": 2}, "cm"),
}


def tokens_by_hand(plain: nn.Module, pixels: Tensor, *, num_prefix: int, parts: str) -> np.ndarray:
    """The features, in NumPy, from what timm's blocks give before the last normalisation; only attention pooling is timm's own."""
    seen: list[Tensor] = []
    norms = [(name, module) for name, module in plain.named_children() if name in ("norm", "fc_norm")]
    for _, module in norms:
        module.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        tokens = plain.forward_features(pixels)
        own_ND = plain.forward_head(tokens, pre_logits=True).numpy()
    ((kind, norm),) = [(name, module) for name, module in norms if not isinstance(module, nn.Identity)]

    def normalised(value: np.ndarray) -> np.ndarray:
        centred = value - value.mean(-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(-1, keepdims=True) + norm.eps)
        return centred / scale * norm.weight.detach().numpy() + norm.bias.detach().numpy()

    before, after = (normalised, lambda value: value) if kind == "norm" else (lambda value: value, normalised)
    value_NTM = before(seen[0].numpy())
    by_letter = {
        "a": own_ND,
        "c": after(value_NTM[:, 0]),
        "d": value_NTM[:, :2].mean(1),
        "m": after(value_NTM[:, num_prefix:].mean(1)),
        "t": after(value_NTM[:, num_prefix:].max(1)),
    }
    return np.concatenate([by_letter[letter] for letter in parts], axis=1)


@pytest.mark.parametrize("name", TOKENS)
def test_of_tokens_it_reads_class_token_and_patches_and_never_a_register(name: str):
    size_px, num_prefix, arguments, parts = TOKENS[name]
    backbone, pixels = name.split()[0], images(size_px=size_px)
    torch.manual_seed(0)
    model = build_model(backbone, num_classes=3, head="concat-pool", backbone_args=arguments).eval()
    with torch.no_grad():  # so that no normalisation is timm's first one, which hides where it stands
        for module in model.modules():
            if type(module).__name__ in ("LayerNorm", "LayerNormFp32"):
                module.weight.uniform_(0.5, 2)
                module.bias.normal_()
    plain = create_backbone(backbone, num_classes=0, backbone_args=arguments).eval()
    plain.load_state_dict(model.backbone.state_dict())
    wanted_ND = tokens_by_hand(plain, pixels, num_prefix=num_prefix, parts=parts)
    weight_CD, bias_C = (parameter.detach().numpy() for parameter in model.get_classifier().parameters())
    with torch.inference_mode():
        np.testing.assert_allclose(features(model, pixels).numpy(), wanted_ND, atol=2e-4)
        np.testing.assert_allclose(logits(model, pixels).numpy(), wanted_ND @ weight_CD.T + bias_C, atol=2e-4)
        assert torch.equal(model(pixels), logits(model, pixels))
    assert backbone_features(model, wanted_ND).shape[1] == wanted_ND.shape[1] // len(parts)
    layout = lay_out(backbone, num_classes=3, head="concat-pool", backbone_args=arguments)
    assert layout is not None
    shapes, laid_out = ({key: value.shape for key, value in each.items()} for each in (model.state_dict(), layout))
    assert shapes == laid_out


def test_half_precision_does_not_round_the_mean_of_patches():
    model, pixels = headed("test_vit"), images(size_px=160)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        tokens, feature_ND = model.forward_features(pixels), features(model, pixels)
    mean_NM = tokens[:, 1:].double().mean(1)
    torch.testing.assert_close(feature_ND[:, 64:].double(), mean_NM, atol=1e-6, rtol=1e-5)


def test_a_heat_map_of_tokens_adds_what_the_class_token_has_read():
    """The patches' share by hand, and that of the class token by finite differences at what the last attention reads."""
    model, pixels = headed("test_vit").double(), images(1, size_px=160).double()
    own_D, mean_D = model.classifier.weight[2].detach().split(64)
    norm = model.backbone.blocks[-1].norm1

    def own_logit(scale_T: Tensor) -> float:
        handle = norm.register_forward_hook(lambda module, inputs, output: output * scale_T[None, :, None])
        try:
            with torch.no_grad():
                return float(model.forward_features(pixels)[0, 0] @ own_D)
        finally:
            handle.remove()

    with torch.no_grad():
        evidence_T = model.forward_features(pixels)[0, 1:] @ mean_D / 100
    for token in range(100):
        step_T = torch.zeros(101, dtype=torch.float64)
        step_T[token + 1] = 1e-4
        evidence_T[token] += (own_logit(1 + step_T) - own_logit(1 - step_T)) / 2e-4
    positive_T = evidence_T.relu().numpy()
    heat = class_activation(model.float(), pixels.float(), [2])[0]
    np.testing.assert_allclose(heat.ravel(), positive_T / positive_T.max(), atol=5e-3)


def test_channels_last_maps_are_read_as_the_others():
    model = headed("swin_tiny_patch4_window7_224", embed_dim=24, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1])
    pixels = images(size_px=224)
    with torch.inference_mode():
        last_Nhwc = model.backbone.forward_features(pixels)
        own_ND = model.backbone.forward_head(last_Nhwc, pre_logits=True)
        torch.testing.assert_close(features(model, pixels), torch.cat([own_ND, last_Nhwc.amax((1, 2))], dim=1))


def test_it_is_chosen_where_it_was_measured():
    names = ("tf_efficientnet_lite0", "mobilenetv2_100.ra_in1k", "resnet18", "vit_tiny_patch16_224", "no_such_model")
    assert [chosen_head("auto", backbone=name) for name in names] == ["csra", "csra", "linear", "linear", "linear"]
    assert [chosen_head(head, backbone="resnet18") for head in HEADS] == list(HEADS)
    assert [chosen_head("auto", backbone=backbone) for backbone in (OWN_BACKBONE, FEATURES)] == ["linear", "linear"]
    assert chosen_head("auto", backbone="auto") == "auto"  # until a plan chooses the backbone
    for head in ("csra", "concat-pool"):
        with pytest.raises(UsageError) as error:
            chosen_head(head, backbone=OWN_BACKBONE)
    assert str(error.value) == (
        "this head reads a backbone of timm alone\n  where: --head\n  got: concat-pool\n"
        "  expected: linear with a backbone of your own\n  next: leave --head out"
    )


def test_a_copy_and_other_threads_read_their_own_maps():
    """What a forward pass keeps of the expanded map belongs to its thread, and to no model."""
    model = headed()
    pixels = [images(1, size_px=size_px) for size_px in (32, 64, 96, 64) * 8]
    with torch.inference_mode():
        expected = [model(each) for each in pixels]
        assert torch.equal(copy.deepcopy(model)(pixels[0]), expected[0])

    def score(each: Tensor) -> Tensor:
        with torch.inference_mode():
            return model(each)

    with ThreadPoolExecutor(4) as pool:  # another thread may compute on another number of cores, and round otherwise
        torch.testing.assert_close(list(pool.map(score, pixels)), expected)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this build of PyTorch has no oneDNN")
def test_the_fused_network_agrees():
    model, pixels = headed(pad_type="same"), images()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    with torch.inference_mode():
        frozen = freeze(model, arithmetic=FLOAT, image_size_px=64)
        assert frozen.how == "fused"
        expected = features(model, pixels)
        assert float((frozen.features(pixels) - expected).norm() / expected.norm()) < 1e-4


def test_it_learns_in_every_part():
    model = headed().train()
    model(images(4)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.classifier.parameters())
    assert model.backbone.conv_stem.weight.grad.any()


def test_a_heat_map_weighs_both_maps():
    """Equations 1 and 2 of Grad-CAM by hand: a mean gives each place 1/P of its weight, a maximum all of it to one place."""
    model, pixels = headed(), images(1)
    _, last, expanded = (each[0] for each in maps_by_hand(model, pixels))
    weight_D = model.classifier.weight[2].detach().numpy()
    own, top, mean = np.split(weight_D, [model.num_own, model.num_own + model.num_features])
    places = last.shape[1] * last.shape[2]
    of_last = (own + top[: len(last)]) / places
    of_expanded = (top[len(last) :] + mean) / places
    evidence = np.einsum("c,chw->hw", of_last, last) + np.einsum("c,chw->hw", of_expanded, expanded)
    heat = class_activation(model, pixels, [2])[0]
    np.testing.assert_allclose(heat, np.maximum(evidence, 0) / np.maximum(evidence, 0).max(), atol=1e-4)


# ---- checkpoints


def saved(folder: Path, model: nn.Module, *, head: str = "concat-pool", backbone: str = MOBILE, size_px: int = 64) -> Checkpoint:
    return save_checkpoint(
        folder,
        tensors=model.state_dict(),
        backbone=backbone,
        backbone_args={},
        head=head,
        preprocessing=Preprocessing(image_size_px=size_px),
        label_set=LabelSet(names=("a", "b", "c")),
        thresholds=(0.5, 0.5, 0.5),
        facts={},
        card=lambda checkpoint_id: "",
    )


def test_a_checkpoint_has_it_in_a_version_that_others_refuse(tmp_path: Path):
    model, pixels = headed(), images()
    checkpoint = saved(tmp_path / "best", model)
    assert Checkpoint.read(tmp_path / "best") == checkpoint
    with torch.inference_mode():
        assert torch.equal(checkpoint.load_model()(pixels), model(pixels))
    config = json.loads((tmp_path / "best" / "config.json").read_text())
    assert (config["version"], config["head"]) == (2, "concat-pool")
    linear = saved(tmp_path / "linear", create_backbone(MOBILE, num_classes=3), head="linear")
    config = json.loads((tmp_path / "linear" / "config.json").read_text())
    assert (config["version"], "head" in config, linear.head) == (1, False, "linear")  # what every version reads


def test_a_checkpoint_of_tokens_answers_as_the_model_did_and_starts_the_linear_head(tmp_path: Path):
    model, pixels = headed("test_vit2"), images(size_px=160)
    saved(tmp_path, model, backbone="test_vit2", size_px=160)
    with torch.inference_mode():
        assert torch.equal(Checkpoint.read(tmp_path).load_model()(pixels), model(pixels))
    plain = build_model("test_vit2", num_classes=2, weights=str(tmp_path / "model.safetensors"))
    assert torch.equal(plain.blocks[0].attn.qkv.weight, model.backbone.blocks[0].attn.qkv.weight)


@pytest.mark.parametrize(
    ("changes", "got", "expected"),
    [
        (
            {"head": "ml-decoder"},
            "head: 'ml-decoder'",
            "one of linear, concat-pool, csra; a newer version of polytag may have others",
        ),
        ({"version": 1}, "version: 1", "1 for the head linear, else 2"),
        ({"head": "linear"}, "version: 2", "1 for the head linear, else 2"),
    ],
)
def test_a_head_that_is_none_is_told(tmp_path: Path, changes: dict[str, object], got: str, expected: str):
    saved(tmp_path, headed())
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(CheckpointError) as error:
        Checkpoint.read(tmp_path)
    assert (error.value.got, error.value.expected) == (got, expected)


def test_the_tensors_of_another_head_are_refused(tmp_path: Path):
    saved(tmp_path, create_backbone(MOBILE, num_classes=3))
    with pytest.raises(CheckpointError, match="the weights are not this backbone's"):
        Checkpoint.read(tmp_path).load_model()


def test_weights_of_either_head_start_the_other(tmp_path: Path):
    wide, narrow = headed(seed=1), create_backbone(MOBILE, num_classes=5)
    saved(tmp_path / "wide", wide)
    saved(tmp_path / "narrow", narrow, head="linear")
    for head in ("linear", "concat-pool"):
        for source, name in ((wide.backbone, "wide"), (narrow, "narrow")):
            model = build_model(MOBILE, num_classes=2, head=head, weights=str(tmp_path / name / "model.safetensors"))
            own = model.backbone if head == "concat-pool" else model
            assert torch.equal(own.conv_head.weight, source.conv_head.weight)
