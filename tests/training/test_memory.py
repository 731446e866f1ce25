"""Micro-batches and gradient checkpointing: the same gradients in less memory."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from polytag import FINETUNE, train
from polytag.errors import UsageError
from polytag.models.backbone import build_model
from polytag.models.device import Arithmetic
from polytag.models.own_backbone import create_own_network
from polytag.training.losses import asymmetric, binary_cross_entropy, focal
from polytag.training.memory import require_grad_checkpointing, require_micro_batches
from polytag.training.step import GraphedStep, Step

pytestmark = pytest.mark.usefixtures("without_pages")

CPU = Arithmetic(device="cpu", precision="fp32")
SMALL = {"test_vit": {"img_size": 32}}
NUM_IMAGES = 8


def step_of(backbone: str = "test_vit", *, head: str = "linear", is_training: bool = True, **options: object) -> Step:
    torch.manual_seed(0)
    model = build_model(backbone, num_classes=3, head=head, backbone_args=SMALL.get(backbone), image_size_px=32)
    settings = {"loss_of": binary_cross_entropy, "weight_C": torch.tensor([1.0, 3.0, 0.5])} | options
    return Step(model=model.train(is_training), pixels=lambda pixels, gain: pixels * gain, arithmetic=CPU, **settings)


def batch(num_images: int = NUM_IMAGES) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Inputs of two kinds, as the loader of resident images has, and labels of which some images have none and some all."""
    generator = torch.Generator().manual_seed(3)
    pixels, gain = torch.randn(num_images, 3, 32, 32, generator=generator), torch.rand(num_images, 1, 1, 1, generator=generator)
    target_NC = torch.randint(0, 2, (num_images, 3), generator=generator).to(torch.int8)
    target_NC[torch.rand(num_images, 3, generator=generator) < torch.linspace(0, 1, num_images)[:, None]] = -1
    return (pixels, gain), target_NC


def gradients(step: Step) -> Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in step.model.parameters() if parameter.grad is not None])


def calculated(step: Step, *, share: float = 0.7, rows: slice = slice(None)) -> tuple[Tensor, Tensor, Tensor]:
    (pixels, gain), target_NC = batch()
    torch.manual_seed(5)
    loss, logit_NC = step.on_cpu((pixels[rows], gain[rows]), target_NC[rows], share)
    return loss, logit_NC, gradients(step)


# ---- micro-batches


@pytest.mark.parametrize("micro_batch_size", [1, 2, 3, 5, 8, 9])
@pytest.mark.parametrize("loss_of", [binary_cross_entropy, focal, asymmetric])
def test_micro_batches_add_up_to_the_batch(micro_batch_size: int, loss_of):
    """Equal up to rounding, although the known labels are spread unevenly over the parts."""
    whole = calculated(step_of(loss_of=loss_of))
    parts = calculated(step_of(loss_of=loss_of, micro_batch_size=micro_batch_size))
    for ours, theirs in zip(parts, whole, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-4)


def test_no_more_images_than_asked_for_go_through_at_once_and_no_part_is_much_smaller():
    for num_images, micro_batch_size, sizes in (
        (8, 3, [3, 3, 2]),
        (8, 5, [4, 4]),
        (4, 3, [2, 2]),
        (8, 8, [8]),
        (8, 0, [8]),
        (3, 9, [3]),
    ):
        step = step_of(micro_batch_size=micro_batch_size)
        seen: list[int] = []
        step.model.patch_embed.register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(len(inputs[0])))
        (pixels, gain), target_NC = batch(num_images)
        step.on_cpu((pixels, gain), target_NC, 1.0)
        assert seen == sizes


def test_frozen_statistics_of_batch_normalisation_do_not_depend_on_the_parts():
    whole, parts = (calculated(step_of("test_resnet", is_training=False, micro_batch_size=size)) for size in (0, 3))
    for ours, theirs in zip(parts, whole, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-4)


def test_a_batch_without_a_known_label_has_no_gradient():
    step = step_of(micro_batch_size=3)
    inputs, target_NC = batch()
    loss, _ = step.on_cpu(inputs, torch.full_like(target_NC, -1), 1.0)
    assert float(loss) == 0
    assert not gradients(step).any()


def test_processes_divide_the_batch_before_micro_batches_do():
    """Each process scales by its share of the known labels, as the loop does; the sum is the gradient of the whole batch."""
    _, _, whole = calculated(step_of(), share=1.0)
    _, target_NC = batch()
    total = torch.zeros_like(whole)
    for rows in (slice(0, 5), slice(5, None)):
        share = int((target_NC[rows] >= 0).sum()) / int((target_NC >= 0).sum())
        total += calculated(step_of(micro_batch_size=2), share=share, rows=rows)[2]
    torch.testing.assert_close(total, whole, atol=2e-6, rtol=1e-4)


def test_a_captured_step_has_them_too():
    """The capture is a stand-in that runs the work again, for want of a GPU."""
    plain, captured = step_of(micro_batch_size=3), step_of(micro_batch_size=3)

    def capture(work):
        results = work()
        return results, lambda: [kept.copy_(fresh) for kept, fresh in zip(results, work(), strict=True)]

    fast = GraphedStep(step=captured, note=lambda text: pytest.fail(text), capture=capture)
    inputs, target_NC = batch()
    for ours, theirs in zip(fast.on_device(inputs, target_NC, 0.5), plain.on_cpu(inputs, target_NC, 0.5), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(gradients(captured), gradients(plain))


def test_batch_normalisation_is_not_given_single_images():
    require_micro_batches(build_model("test_vit", num_classes=2), 1)
    require_micro_batches(build_model("test_resnet", num_classes=2), 3)
    with pytest.raises(UsageError) as error:
        require_micro_batches(build_model("test_resnet", num_classes=2), 2)
    assert str(error.value) == (
        "batch normalisation cannot learn from a single image\n  where: --micro-batch-size\n  got: 2\n"
        "  expected: 3 or more, or 0 for the whole batch\n"
        "  next: or take a backbone without batch normalisation (ViT, ConvNeXt), or batch_norm: frozen in the recipe"
    )


# ---- gradient checkpointing


@pytest.mark.parametrize(
    ("backbone", "head", "block"),
    [
        ("test_vit", "linear", "blocks.0"),
        ("test_vit", "concat-pool", "backbone.blocks.0"),
        ("test_resnet", "linear", "layer2.0"),
        ("test_efficientnet", "concat-pool", "backbone.blocks.1.0"),
        ("test_convnext", "linear", "stages.1.blocks.0"),
    ],
)
def test_checkpointed_gradients_statistics_and_dropout_are_the_same_to_the_bit(backbone: str, head: str, block: str):
    """Each block runs twice, the second time for the gradient alone."""
    results: list[tuple[Tensor, ...]] = []
    runs: list[int] = []
    for is_checkpointed in (False, True):
        step = step_of(backbone, head=head, is_checkpointed=is_checkpointed)
        for module in step.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.3
        calls: list[int] = []
        step.model.get_submodule(block).register_forward_pre_hook(lambda module, inputs, calls=calls: calls.append(1))
        results.append((*calculated(step), *(value.clone() for value in step.model.buffers())))
        runs.append(len(calls))
        with torch.inference_mode():
            step.model.eval()(batch()[0][0])
        assert len(calls) == runs[-1] + 1  # scoring is as without it
    assert runs == [1, 2]
    for ours, theirs in zip(*results, strict=True):
        assert torch.equal(ours, theirs)


def test_a_backbone_that_cannot_be_checkpointed_is_told():
    network = create_own_network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), num_classes=2, image_size_px=32)
    with pytest.raises(UsageError) as error:
        require_grad_checkpointing(network, backbone="own")
    assert str(error.value) == (
        "the backbone own has no gradient checkpointing\n  where: --grad-checkpointing\n"
        "  got: 'Sequential' object has no attribute 'set_grad_checkpointing'\n"
        "  expected: a backbone with a method set_grad_checkpointing that takes True\n"
        "  next: leave it out; --micro-batch-size saves memory with any backbone"
    )
    with pytest.raises(UsageError, match="has no gradient checkpointing"):
        require_grad_checkpointing(build_model("inception_v3", num_classes=2), backbone="inception_v3")


# ---- a whole run


def test_a_run_with_both_learns_what_one_without_learns(colours: Path, tmp_path: Path):
    recipe = replace(
        FINETUNE, backbone="test_vit", backbone_args={"img_size": 32}, weights="random", image_size_px=32, batch_size=16, epochs=1,
        device="cpu", precision="fp32", augment="light",
    )  # fmt: skip
    weights: list[np.ndarray] = []
    for name, changes in (("whole", {}), ("saving", {"micro_batch_size": 5, "grad_checkpointing": True})):
        run = train(colours, recipe=replace(recipe, **changes), output=tmp_path / name).folder
        tensors = safetensors.torch.load_file(run.last / "model.safetensors")
        weights.append(np.concatenate([tensors[key].double().numpy().ravel() for key in sorted(tensors)]))
    np.testing.assert_allclose(*weights, atol=2e-3)  # AdamW divides small gradients by themselves, rounding and all


def test_an_own_backbone_without_it_is_refused_before_there_is_a_run(colours: Path, tmp_path: Path):
    recipe = replace(FINETUNE, weights="random", image_size_px=32, epochs=1, device="cpu", grad_checkpointing=True)
    with pytest.raises(UsageError, match="the backbone own has no gradient checkpointing"):
        train(colours, recipe=recipe, backbone=nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), output=tmp_path / "run")
    assert not (tmp_path / "run").exists()
