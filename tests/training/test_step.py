"""A replayed step does what the plain one does. The graph is a stand-in that runs the work again: here is no GPU."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from polytag.models.backbone import build_model
from polytag.models.device import Arithmetic
from polytag.training.losses import binary_cross_entropy
from polytag.training.step import GraphedStep, Step

CPU = Arithmetic(device="cpu", precision="fp32")


def plain_step(seed: int = 0) -> Step:
    torch.manual_seed(seed)
    model = build_model("test_resnet", num_classes=3)
    return Step(model=model, pixels=lambda pixels: pixels * 2, loss_of=binary_cross_entropy, weight_C=None, arithmetic=CPU)


def stand_in(model: nn.Module) -> Callable[[Callable[[], tuple[Tensor, Tensor]]], tuple[tuple[Tensor, Tensor], Callable[[], None]]]:
    """A capture as CUDA's: trial runs first; a replay reads and writes the tensors that the captured run had."""

    def capture(work: Callable[[], tuple[Tensor, Tensor]]) -> tuple[tuple[Tensor, Tensor], Callable[[], None]]:
        work()
        results = work()
        grads = [parameter.grad for parameter in model.parameters()]

        def replay() -> None:
            for kept, fresh in zip(results, work(), strict=True):
                kept.copy_(fresh)
            for kept, parameter in zip(grads, model.parameters(), strict=True):
                assert kept is not None
                assert parameter.grad is not None
                kept.copy_(parameter.grad)

        return results, replay

    return capture


def batch(seed: int, size: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    return torch.randn(size, 3, 32, 32), torch.randint(-1, 2, (size, 3)).to(torch.int8)


def test_replayed_steps_leave_what_plain_ones_leave():
    """Full batches and shorter ones in turn, with an optimizer between them: losses, logits, weights and statistics."""
    plain, graphed = plain_step(), plain_step()
    fast = GraphedStep(step=graphed, note=lambda text: pytest.fail(text), capture=stand_in(graphed.model))
    optimizers = [torch.optim.SGD(step.model.parameters(), lr=0.1, momentum=0.9) for step in (plain, graphed)]
    for number, size in enumerate((8, 8, 3, 8, 5, 8)):
        pixels, target_NC = batch(number, size)
        results = [plain.on_cpu((pixels,), target_NC, 0.5), fast.on_device((pixels,), target_NC, 0.5)]
        for ours, theirs in zip(*results, strict=True):
            assert torch.equal(ours, theirs)
        for optimizer in optimizers:
            optimizer.step()
    assert fast.replay is not None
    for ours, theirs in zip(plain.model.state_dict().values(), graphed.model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_results_of_earlier_steps_stay_as_they_were():
    step = plain_step()
    fast = GraphedStep(step=step, note=lambda text: None, capture=stand_in(step.model))
    loss, logit_NC = fast.on_device((batch(0, 8)[0],), batch(0, 8)[1], 1.0)
    before = loss.clone(), logit_NC.clone()
    fast.on_device((batch(1, 8)[0],), batch(1, 8)[1], 1.0)
    assert torch.equal(loss, before[0])
    assert torch.equal(logit_NC, before[1])


def test_a_step_that_cannot_be_captured_is_told_once_and_stays_plain():
    def refuse(work: object) -> tuple[tuple[Tensor, Tensor], Callable[[], None]]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    plain, graphed, notes = plain_step(), plain_step(), list[str]()
    fast = GraphedStep(step=graphed, note=notes.append, capture=refuse)
    for number in range(2):
        pixels, target_NC = batch(number, 4)
        assert torch.equal(fast.on_device((pixels,), target_NC, 1.0)[0], plain.on_cpu((pixels,), target_NC, 1.0)[0])
    assert notes == ["the step runs without a CUDA graph: operation not permitted when stream is capturing"]


def test_gradients_are_scaled_and_replace_earlier_ones():
    step = plain_step()
    pixels, target_NC = batch(0, 4)
    grads = []
    for share in (1.0, 0.25, 1.0):
        step.model.load_state_dict(plain_step().model.state_dict())
        step.on_cpu((pixels,), target_NC, share)
        grads.append(torch.cat([parameter.grad.flatten() for parameter in step.model.parameters() if parameter.grad is not None]))
    assert torch.allclose(grads[0] * 0.25, grads[1], atol=1e-7)
    assert torch.equal(grads[0], grads[2])
