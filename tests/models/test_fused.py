"""A frozen network gives what the plain one gives, whatever its layers, and leaves the model as it was."""

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import timm
import torch
from torch import nn

from polytag.models.device import Arithmetic
from polytag.models.fused import freeze
from polytag.models.fusing import FusedConvolution, fused_graph
from polytag.models.heads import features, logits

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this build of PyTorch has no oneDNN")
FLOAT, HALF = (Arithmetic(device="cpu", precision=precision) for precision in ("fp32", "bf16"))


def lively(name: str, **arguments: object) -> nn.Module:
    """A network with random weights whose normalisations do something: fresh ones have mean 0, variance 1, scale 1, shift 0."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=3, **arguments)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    return model.eval().to(memory_format=torch.channels_last)


def images(size_px: int = 64, n: int = 3) -> torch.Tensor:
    noise = torch.randn(n, 3, size_px, size_px, generator=torch.Generator().manual_seed(1))
    return noise.to(memory_format=torch.channels_last)


def distance(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got.float() - expected.float()).norm() / expected.float().norm())


BACKBONES = [
    ("resnet10t", {}),
    ("resnet10t", {"global_pool": "max"}),
    ("mobilenetv2_035", {"pad_type": "same"}),
    ("mobilenetv3_small_050", {}),
    ("test_efficientnet", {}),
    ("densenet121", {"growth_rate": 8, "block_config": (2, 2)}),
]


@pytest.mark.parametrize(("name", "arguments"), BACKBONES, ids=lambda value: str(value))
@pytest.mark.parametrize("size_px", [64, 63, 32])  # at 32 the last feature maps are a single pixel
def test_fused_networks_agree_with_the_plain_ones(name: str, arguments: dict[str, object], size_px: int):
    model = lively(name, **arguments)
    pixels = images(size_px)
    with torch.inference_mode():
        exact_ND, exact_NC = features(model, pixels), logits(model, pixels)
        frozen = freeze(model, arithmetic=FLOAT, image_size_px=size_px)
        assert frozen.how == "fused"
        assert distance(frozen.features(pixels), exact_ND) < 1e-4
        assert distance(frozen.logits(pixels), exact_NC) < 1e-4

        with HALF.autocast():
            frozen = freeze(model, arithmetic=HALF, image_size_px=size_px)
            rounded_ND, plain_ND = frozen.features(pixels), features(model, pixels)
            assert frozen.logits(pixels).dtype == torch.float32
        assert distance(rounded_ND, exact_ND) < max(0.02, 1.5 * distance(plain_ND, exact_ND))  # as good as autocast's bfloat16


def test_activations_and_sums_leave_with_the_convolution():
    frozen = freeze(lively("resnet10t"), arithmetic=FLOAT, image_size_px=64)
    kinds = [type(module) for module in frozen.extractor.modules()]
    assert kinds.count(FusedConvolution) == 14
    assert not {nn.BatchNorm2d, nn.ReLU, nn.Conv2d} & set(kinds)
    assert not [node for node in frozen.extractor.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize("name", ["test_vit", "convnext_atto"])
def test_what_cannot_be_fused_is_run_as_it_is(name: str):
    model = lively(name)
    pixels = images(160 if name == "test_vit" else 64)
    frozen = freeze(model, arithmetic=FLOAT, image_size_px=pixels.shape[-1])
    assert frozen.how == "plain"
    with torch.inference_mode():
        assert torch.equal(frozen.logits(pixels), logits(model, pixels))
        assert torch.equal(frozen.features(pixels), features(model, pixels))


def test_the_model_stays_as_it_was():
    model = lively("resnet10t")
    before = copy.deepcopy(model.state_dict())
    freeze(model, arithmetic=HALF, image_size_px=64)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.inference_mode():
        expected = logits(model, images())
    model.train()(images()).sum().backward()  # it still learns
    frozen = freeze(model, arithmetic=FLOAT, image_size_px=64)
    assert not model.training
    with torch.inference_mode():
        assert distance(frozen.logits(images()), expected) > 1e-4  # the statistics moved, and freezing again sees it


class _Branching(nn.Module):
    """A convolution that two read, one of them its normalisation; a normalisation without statistics; a lone activation."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.act = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        self.next, self.other = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8, track_running_stats=False)
        self.last, self.end = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        stem = self.stem(pixels)
        normal = self.act(self.norm(stem))
        summed = stem + self.other(self.next(normal))
        return self.end(self.last(summed)) + self.last(normal)


def test_only_what_nothing_else_reads_is_fused():
    torch.manual_seed(0)
    network = _Branching().eval()
    network.norm.running_mean.normal_()
    network.end.running_mean.normal_()
    fused = fused_graph(network)
    assert fused is not None
    with torch.inference_mode():
        assert distance(fused(images()), network(images())) < 1e-5


def test_other_threads_go_on_computing_while_a_network_is_traced():
    """torch.fx replaces methods of every module in the process while it traces; the inspector scores in other threads meanwhile."""
    model, pixels = lively("test_resnet"), images()
    frozen = freeze(model, arithmetic=FLOAT, image_size_px=64)
    before = nn.Module.__call__
    is_over = threading.Event()

    def score(forward: Callable[[torch.Tensor], torch.Tensor]) -> int:
        num_passes = 0
        with torch.inference_mode():
            expected = forward(pixels)
            while not is_over.is_set():
                assert torch.equal(forward(pixels), expected)
                num_passes += 1
        return num_passes

    with ThreadPoolExecutor(4) as pool:
        scoring = [pool.submit(score, forward) for forward in (frozen.features, lambda pixels: features(model, pixels))]
        try:
            tracing = [pool.submit(lambda: [fused_graph(model) is not None for _ in range(15)]) for _ in range(2)]
            assert all(all(each.result(60)) for each in tracing)
        finally:
            is_over.set()
        assert all(each.result(60) > 0 for each in scoring)
    assert nn.Module.__call__ is before
