"""Losses that were tried beside polytag's own, each from its paper, and a head on features that is trained by them.

A loss is a function of logits, targets in {1, 0, -1} and the progress of the training in [0, 1]. Unknown counts as absent.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from polytag.training.losses import LargeLossRejection, asymmetric, binary_cross_entropy, focal

Tried = Callable[[Tensor, Tensor, float], Tensor]


def weak_negatives(weight: float) -> Tried:
    """WAN (Cole et al. 2021, equation 6): an absent label counts `weight` times."""

    def loss(logit_NC: Tensor, target_NC: Tensor, progress: float) -> Tensor:
        loss_NC = F.binary_cross_entropy_with_logits(logit_NC, (target_NC == 1).float(), reduction="none")
        return (loss_NC * torch.where(target_NC == 1, 1.0, weight)).mean()

    return loss


def label_smoothing(share: float) -> Tried:
    def loss(logit_NC: Tensor, target_NC: Tensor, progress: float) -> Tensor:
        return F.binary_cross_entropy_with_logits(logit_NC, torch.where(target_NC == 1, 1 - share / 2, share / 2))

    return loss


def hill(logit_NC: Tensor, target_NC: Tensor, progress: float) -> Tensor:
    """Zhang et al. 2021, equations 4 and 8: lambda 1.5, margin 1, gamma 2."""
    probability, margin = torch.sigmoid(logit_NC), logit_NC - 1
    positive = -((1 - torch.sigmoid(margin)) ** 2) * F.logsigmoid(margin)
    return torch.where(target_NC == 1, positive, (1.5 - probability) * probability**2).mean()


def splc(logit_NC: Tensor, target_NC: Tensor, progress: float) -> Tensor:
    """Zhang et al. 2021, equation 9, after the first tenth: what is over 0.6 counts as present; focal loss with margin."""
    shifted = torch.where(target_NC == 1, logit_NC - 1, logit_NC)
    present = (target_NC == 1) | (torch.sigmoid(shifted) > 0.6) if progress >= 0.1 else target_NC == 1
    loss_NC = F.binary_cross_entropy_with_logits(shifted, present.float(), reduction="none")
    return (loss_NC * (1 - torch.exp(-loss_NC)) ** 2).mean()


def correcting(most: float) -> Tried:
    """LL-Ct (Kim et al. 2022): the absent labels with the largest losses count as present for this step."""

    def loss(logit_NC: Tensor, target_NC: Tensor, progress: float) -> Tensor:
        absent_NC = torch.where(target_NC == 1, -torch.inf, logit_NC.detach())
        number = int(most * progress * int((target_NC != 1).sum()))
        limit = absent_NC.flatten().sort(descending=True).values[number]
        return F.binary_cross_entropy_with_logits(logit_NC, ((target_NC == 1) | (absent_NC > limit)).float())

    return loss


def rejecting(most: float) -> Tried:
    """polytag's LL-R."""
    rejection = LargeLossRejection(most=most)

    def loss(logit_NC: Tensor, target_NC: Tensor, progress: float) -> Tensor:
        rejection.begin_epoch(progress)
        return rejection(logit_NC, target_NC.clamp(min=0))

    return loss


def two_way(logit_NC: Tensor, target_NC: Tensor, progress: float) -> Tensor:
    """Kobayashi 2023, equation 9: temperatures 4 and 1, over classes and over images; the only one here that leaves unknown out."""
    total = logit_NC.new_zeros(())
    for axis in (0, 1):
        has_positive = (target_NC == 1).any(dim=axis)
        positive = torch.logsumexp(torch.where(target_NC == 1, -logit_NC / 4, -100.0), dim=axis) * 4
        negative = torch.logsumexp(torch.where(target_NC == 0, logit_NC, -100.0), dim=axis)
        total = total + F.softplus(positive + negative)[has_positive].mean()
    return total


def maximal_entropy(logit_NC: Tensor, target_NC: Tensor, progress: float) -> Tensor:
    """EM loss (Zhou et al. 2022, equation 3), alpha 0.1: the entropy of what is not labelled is maximised."""
    probability = torch.sigmoid(logit_NC)
    entropy = -(probability * F.logsigmoid(logit_NC) + (1 - probability) * F.logsigmoid(-logit_NC))
    return torch.where(target_NC == 1, -F.logsigmoid(logit_NC), -0.1 * entropy).mean()


class EstimatedLabels:
    """ROLE (Cole et al. 2021, equations 10 to 12): label estimates are trained beside the head, `mean_positives` an image."""

    def __init__(self, num_images: int, num_classes: int, *, mean_positives: float, seed: int):
        generator = torch.Generator().manual_seed(seed)
        self.estimate_NC = torch.logit(0.4 + 0.2 * torch.rand(num_images, num_classes, generator=generator)).requires_grad_()
        self.mean_positives = mean_positives
        self.rows = torch.arange(num_images)  # of the batch, set by the training

    def __call__(self, logit_NC: Tensor, target_NC: Tensor, progress: float) -> Tensor:
        estimate_NC = self.estimate_NC[self.rows]

        def one_way(of_NC: Tensor, by_NC: Tensor) -> Tensor:
            cross = F.binary_cross_entropy_with_logits(of_NC, torch.sigmoid(by_NC).detach())
            seen = -(F.logsigmoid(of_NC) * (target_NC == 1)).sum() / of_NC.numel()
            number = torch.sigmoid(of_NC).sum(dim=1).mean()
            return cross + seen + ((number - self.mean_positives) / of_NC.shape[1]) ** 2

        return (one_way(logit_NC, estimate_NC) + one_way(estimate_NC, logit_NC)) / 2


TRIED: dict[str, Tried] = {
    "bce": lambda logit_NC, target_NC, progress: binary_cross_entropy(logit_NC, target_NC.clamp(min=0)),
    "ll-r, at most 2%": rejecting(0.02),
    "ll-r, at most 5%": rejecting(0.05),
    "ll-r, at most 10%": rejecting(0.10),
    "ll-ct, at most 2%": correcting(0.02),
    "ll-ct, at most 5%": correcting(0.05),
    "weak negatives, 0.2": weak_negatives(0.2),
    "weak negatives, 0.05": weak_negatives(0.05),
    "label smoothing, 0.1": label_smoothing(0.1),
    "hill": hill,
    "splc": splc,
    "two-way": two_way,
    "maximal entropy": maximal_entropy,
    "focal": lambda logit_NC, target_NC, progress: focal(logit_NC, target_NC.clamp(min=0)),
    "asl": lambda logit_NC, target_NC, progress: asymmetric(logit_NC, target_NC.clamp(min=0)),
}


def train_head(
    feature_ND: np.ndarray,
    target_NC: np.ndarray,
    score_MD: np.ndarray,
    *,
    loss: Tried,
    decay: float,
    seed: int,
    epochs: int = 10,
    order: Callable[[int, torch.Generator], Tensor] | None = None,
) -> np.ndarray:
    """Logits M x C of other images by a linear head: AdamW at 1e-3, batches of 32, cosine, standardised features.

    `order` draws the images of an epoch, by default each once.
    """
    mean_D, scale_D = feature_ND.mean(axis=0), np.maximum(feature_ND.std(axis=0), 1e-6)
    feature, target = torch.from_numpy((feature_ND - mean_D) / scale_D), torch.from_numpy(target_NC).float()
    num_images, num_classes = target.shape
    share_C = ((target == 1).sum(dim=0) + 0.5) / (num_images + 1)
    weight, bias = torch.zeros(num_classes, feature.shape[1], requires_grad=True), torch.logit(share_C).requires_grad_()
    groups = [{"params": [weight], "weight_decay": decay}, {"params": [bias], "weight_decay": 0.0}]
    if isinstance(loss, EstimatedLabels):
        groups.append({"params": [loss.estimate_NC], "weight_decay": 0.0, "times": 10.0})
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    generator, num_steps = torch.Generator().manual_seed(seed), math.ceil(num_images / 32)
    for epoch in range(epochs):
        drawn = (order or _each_once)(num_images, generator)
        for step, rows in enumerate(drawn.split(32)):
            done = epoch + step / num_steps
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * group.get("times", 1.0) * min(1.0, done + 0.01) * 0.5 * (1 + math.cos(math.pi * done / epochs))
            if isinstance(loss, EstimatedLabels):
                loss.rows = rows
            optimizer.zero_grad()
            loss(feature[rows] @ weight.T + bias, target[rows], epoch / (epochs - 1)).backward()
            optimizer.step()
    with torch.no_grad():
        return (torch.from_numpy((score_MD - mean_D) / scale_D) @ weight.T + bias).numpy()


def _each_once(num_images: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(num_images, generator=generator)
