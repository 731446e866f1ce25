"""Losses against independent formulas; unknown labels weigh nothing."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from polytag.training.losses import LOSS_OF, LargeLossRejection, asymmetric, binary_cross_entropy, focal


@pytest.fixture
def logit_NC() -> torch.Tensor:
    return 3 * torch.randn(40, 7, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def truth_NC() -> torch.Tensor:
    return (torch.rand(40, 7, generator=torch.Generator().manual_seed(1)) < 0.3).long()


def test_bce_is_torchs(logit_NC, truth_NC):
    torch.testing.assert_close(
        binary_cross_entropy(logit_NC, truth_NC), F.binary_cross_entropy_with_logits(logit_NC, truth_NC.float())
    )


def test_focal_is_torchvisions(logit_NC, truth_NC):
    theirs = sigmoid_focal_loss(logit_NC, truth_NC.float(), alpha=-1, gamma=2, reduction="mean")
    torch.testing.assert_close(focal(logit_NC, truth_NC), theirs)


def test_asl_is_the_papers(logit_NC, truth_NC):
    """Equations 4 to 7 of Ridnik et al. 2021, written out label by label."""
    total = 0.0
    for logit, truth in zip(logit_NC.flatten().double(), truth_NC.flatten(), strict=True):
        p = 1 / (1 + torch.exp(-logit))
        shifted = max(p - 0.05, torch.tensor(0.0).double())
        total -= torch.log(p) if truth else shifted**4 * torch.log(1 - shifted)
    assert float(asymmetric(logit_NC, truth_NC)) == pytest.approx(float(total / logit_NC.numel()), rel=1e-5)


@pytest.mark.parametrize("name", LOSS_OF)
def test_unknown_labels_equal_removed_labels(name, logit_NC, truth_NC):
    known = torch.rand(40, 7, generator=torch.Generator().manual_seed(2)) < 0.6
    masked = LOSS_OF[name]()(logit_NC, torch.where(known, truth_NC, -1), None)
    removed = LOSS_OF[name]()(logit_NC[known][:, None], truth_NC[known][:, None], None)
    torch.testing.assert_close(masked, removed)


@pytest.mark.parametrize("name", LOSS_OF)
def test_unknown_labels_get_no_gradient_and_no_known_label_is_no_loss(name, logit_NC):
    logit_NC = logit_NC.requires_grad_()
    loss = LOSS_OF[name]()(logit_NC, torch.full((40, 7), -1), None)
    loss.backward()
    assert loss == 0
    assert logit_NC.grad is not None
    assert (logit_NC.grad == 0).all()


@pytest.mark.parametrize("name", LOSS_OF)
def test_positive_weights_multiply_positives_only(name, logit_NC):
    weight_C = torch.arange(1.0, 8.0)
    ones, zeros = torch.ones(40, 7, dtype=torch.long), torch.zeros(40, 7, dtype=torch.long)
    per_class = torch.stack([LOSS_OF[name]()(logit_NC[:, [c]], ones[:, [c]], None) for c in range(7)])
    torch.testing.assert_close(LOSS_OF[name]()(logit_NC, ones, weight_C), (per_class * weight_C).mean())
    torch.testing.assert_close(LOSS_OF[name]()(logit_NC, zeros, weight_C), LOSS_OF[name]()(logit_NC, zeros, None))


@pytest.mark.parametrize("name", LOSS_OF)
def test_extreme_logits_stay_finite(name):
    logit_NC = torch.tensor([[1000.0, -1000.0, 1000.0, -1000.0]], requires_grad=True)
    loss = LOSS_OF[name]()(logit_NC, torch.tensor([[1, 0, 0, 1]]), None)
    loss.backward()
    assert torch.isfinite(loss)
    assert logit_NC.grad is not None
    assert torch.isfinite(logit_NC.grad).all()


@pytest.mark.parametrize("progress", [0.0, 0.4, 1.0])
def test_large_loss_rejection_is_the_papers(progress, logit_NC, truth_NC):
    """Equations 5 and 6 of Kim et al. 2022, label by label: of the absent labels, the share with the largest losses weighs 0."""
    truth_NC[torch.rand(40, 7, generator=torch.Generator().manual_seed(2)) < 0.3] = -1
    losses, absent = [], []
    for logit, truth in zip(logit_NC.flatten().double(), truth_NC.flatten(), strict=True):
        p = 1 / (1 + torch.exp(-logit))
        if truth == 0:
            absent.append(float(-torch.log(1 - p)))
        elif truth == 1:
            losses.append(float(-torch.log(p)))
    kept = sorted(absent)[: len(absent) - int(0.2 * progress * len(absent))]
    loss_of = LargeLossRejection(most=0.2)
    loss_of.begin_epoch(progress)
    assert float(loss_of(logit_NC, truth_NC)) == pytest.approx((sum(losses) + sum(kept)) / (len(losses) + len(absent)), rel=1e-5)
    if progress == 0:
        assert loss_of(logit_NC, truth_NC) == binary_cross_entropy(logit_NC, truth_NC)


def test_rejected_labels_get_no_gradient_and_the_others_that_of_bce(logit_NC, truth_NC):
    loss_of = LargeLossRejection(most=0.1)
    loss_of.begin_epoch(1.0)
    (ours,) = torch.autograd.grad(loss_of(logit_NC.requires_grad_(), truth_NC), logit_NC)
    (plain,) = torch.autograd.grad(binary_cross_entropy(logit_NC, truth_NC), logit_NC)
    rejected = ours == 0
    assert int(rejected.sum()) == int(0.1 * int((truth_NC == 0).sum()))
    assert (ours[~rejected] == plain[~rejected]).all()
    assert logit_NC[rejected].min() >= logit_NC[(truth_NC == 0) & ~rejected].max()


def test_large_loss_rejection_has_the_numerical_gradient(logit_NC, truth_NC):
    loss_of = LargeLossRejection(most=0.1)
    loss_of.begin_epoch(1.0)
    assert torch.autograd.gradcheck(lambda logit: loss_of(logit, truth_NC[:6]), logit_NC[:6].double().requires_grad_())


def test_no_or_tied_losses_are_no_error():
    loss_of = LargeLossRejection(most=0.5)
    loss_of.begin_epoch(1.0)
    assert loss_of(torch.zeros(2, 3), torch.ones(2, 3)) == binary_cross_entropy(torch.zeros(2, 3), torch.ones(2, 3))
    tied = torch.zeros(2, 3), torch.zeros(2, 3)
    assert loss_of(*tied) == binary_cross_entropy(*tied), "of equal losses none is rejected"
