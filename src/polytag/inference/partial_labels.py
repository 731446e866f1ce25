"""The probe where absent labels may be wrong: some present classes were never labelled.

Shapes: N images, D features, C classes.
"""

import math
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from polytag.contracts import ABSENT, PRESENT, UNKNOWN
from polytag.inference.probe import Probe, fit_probe, folds_of, standardisation
from polytag.logits import sigmoid
from polytag.metrics.ap import mean_average_precision, mean_over_defined

_ROUNDS = 2
_EPOCHS, _MIN_STEPS, _BATCH_SIZE, _DECAY = 10, 280, 32, 0.5
_PEAK_LR, _NUM_FEATURES = 1e-3, 1280  # up to so many features; Adam moves every weight alike, so with more it is less


class EpochLoss(Protocol):
    """A loss of logits and targets that is told how far the training is: 0 in the first epoch, 1 in the last."""

    def begin_epoch(self, progress: float) -> None: ...

    def __call__(self, logit_NC: Tensor, target_NC: Tensor) -> Tensor: ...


def fit_doubting_probe(feature_ND: np.ndarray, target_NC: np.ndarray, *, group_N: np.ndarray | None = None, seed: int = 0) -> Probe:
    """`fit_probe` that leaves out the absent labels that its out-of-fold scores contradict, in two rounds.

    The scores are those of the other folds, so that no label vouches for itself. The L2 strength is chosen by the labels as given.
    """
    probe = fit_probe(feature_ND, target_NC, group_N=group_N, seed=seed)
    for _ in range(_ROUNDS):
        believed_NC = without_doubtful(probe.held_out_logit_NC, target_NC)
        probe = fit_probe(feature_ND, believed_NC, judged_NC=target_NC, group_N=group_N, seed=seed)
    return probe


def without_doubtful(logit_NC: np.ndarray, target_NC: np.ndarray) -> np.ndarray:
    """The labels, where an absent one is unknown if its probability is above the mean over the class's positives.

    That is the threshold of confident learning (Northcutt et al. 2021, equation 2), and calls for no guess of how many are wrong.
    """
    probability_NC = sigmoid(logit_NC)
    present_NC = target_NC == PRESENT
    mean_C = (probability_NC * present_NC).sum(axis=0) / np.maximum(present_NC.sum(axis=0), 1)
    doubtful_NC = (target_NC == ABSENT) & (probability_NC > mean_C) & present_NC.any(axis=0)
    return np.where(doubtful_NC, np.int8(UNKNOWN), target_NC)


def train_probe(
    feature_ND: np.ndarray, target_NC: np.ndarray, *, loss: EpochLoss, group_N: np.ndarray | None = None, seed: int = 0
) -> Probe:
    """A head that is trained by a loss in ten epochs of AdamW, or more for few images; `strength` is the weight decay.

    Held-out logits are those of heads trained on the other folds. Deterministic for a seed and a thread count.
    """
    num_images = len(target_NC)
    fold_N = folds_of(np.arange(num_images) if group_N is None else group_N, seed=seed)
    feature, target = torch.from_numpy(feature_ND), torch.from_numpy(np.array(target_NC))
    mean_D, scale_D = standardisation(feature)
    standard_ND = (feature - mean_D) / scale_D
    held_out_NC, fold_maps = np.zeros(target_NC.shape, np.float32), []
    for fold in range(fold_N.max() + 1):
        rows, others = np.flatnonzero(fold_N == fold), np.flatnonzero(fold_N != fold)
        if len(others):
            weight_CD, bias_C = _trained(standard_ND[others], target[others], loss=loss, seed=seed)
            held_out_NC[rows] = (standard_ND[rows] @ weight_CD.T + bias_C).numpy()
        fold_maps.append(mean_average_precision(target_NC[rows], held_out_NC[rows]))
    weight_CD, bias_C = _trained(standard_ND, target, loss=loss, seed=seed)
    weight_CD = weight_CD / scale_D
    return Probe(
        weight_CD=weight_CD,
        bias_C=bias_C - weight_CD @ mean_D,
        strength=_DECAY,
        fold_map={_DECAY: mean_over_defined(np.array(fold_maps))},
        held_out_logit_NC=held_out_NC,
        fold_N=fold_N,
    )


def _trained(standard_ND: Tensor, target_NC: Tensor, *, loss: EpochLoss, seed: int) -> tuple[Tensor, Tensor]:
    """Weights and bias: from zero and the log-odds of the classes, with an epoch of warm-up and a cosine to zero."""
    num_images, num_classes = target_NC.shape
    share_C = ((target_NC == PRESENT).sum(dim=0) + 0.5) / ((target_NC != UNKNOWN).sum(dim=0) + 1)
    weight = torch.zeros(num_classes, standard_ND.shape[1], requires_grad=True)
    bias = torch.logit(share_C).requires_grad_()
    optimizer = torch.optim.AdamW([{"params": [weight], "weight_decay": _DECAY}, {"params": [bias], "weight_decay": 0.0}])
    order, num_steps = torch.Generator().manual_seed(seed), math.ceil(num_images / _BATCH_SIZE)
    num_epochs = max(_EPOCHS, math.ceil(_MIN_STEPS / num_steps))
    peak_lr = _PEAK_LR * min(1.0, _NUM_FEATURES / standard_ND.shape[1])
    for epoch in range(num_epochs):
        loss.begin_epoch(epoch / (num_epochs - 1))
        for step, rows in enumerate(torch.randperm(num_images, generator=order).split(_BATCH_SIZE)):
            done = epoch + step / num_steps
            for group in optimizer.param_groups:
                group["lr"] = peak_lr * min(1.0, done + 0.01) * 0.5 * (1 + math.cos(math.pi * done / num_epochs))
            optimizer.zero_grad()
            loss(standard_ND[rows] @ weight.T + bias, target_NC[rows]).backward()
            optimizer.step()
    return weight.detach(), bias.detach()
