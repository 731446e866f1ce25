"""Losses over known labels: unknown targets add nothing to the sum and nothing to the count it is divided by.

Shapes: logit_NC float32, target_NC in {1, 0, -1} (any dtype), weight_C or None. Each returns a scalar: the mean over known labels.
What was tried besides them, and lost, is in docs/experiments.md.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def binary_cross_entropy(logit_NC: Tensor, target_NC: Tensor, positive_weight_C: Tensor | None = None) -> Tensor:
    """BCE with logits, one sigmoid per class; positives of class c count `positive_weight_C[c]` times."""
    truth = target_NC.clamp(min=0).to(logit_NC.dtype)
    loss_NC = F.binary_cross_entropy_with_logits(logit_NC, truth, pos_weight=positive_weight_C, reduction="none")
    return _mean_over_known(loss_NC, target_NC)


def focal(logit_NC: Tensor, target_NC: Tensor, positive_weight_C: Tensor | None = None, *, gamma: float = 2.0) -> Tensor:
    """Focal loss (Lin et al. 2017, equation 4): BCE times (1 - p_t)^gamma."""
    truth = target_NC.clamp(min=0).to(logit_NC.dtype)
    loss_NC = F.binary_cross_entropy_with_logits(logit_NC, truth, pos_weight=positive_weight_C, reduction="none")
    probability = torch.sigmoid(logit_NC)
    surprise = truth * (1 - probability) + (1 - truth) * probability
    return _mean_over_known(loss_NC * surprise**gamma, target_NC)


def asymmetric(
    logit_NC: Tensor,
    target_NC: Tensor,
    positive_weight_C: Tensor | None = None,
    *,
    gamma_positive: float = 0.0,
    gamma_negative: float = 4.0,
    margin: float = 0.05,
) -> Tensor:
    """Asymmetric loss (Ridnik et al. 2021, equations 4-7): easy negatives are focused away, those under the margin dropped.

    The focusing weights carry no gradient, as in the authors' training setting.
    """
    truth = target_NC.clamp(min=0).to(logit_NC.dtype)
    probability = torch.sigmoid(logit_NC)
    shifted = (probability - margin).clamp(min=0)
    log_positive, log_negative = F.logsigmoid(logit_NC), torch.log1p(-shifted.clamp(max=1 - 1e-7))
    with torch.no_grad():
        focus = truth * (1 - probability) ** gamma_positive + (1 - truth) * shifted**gamma_negative
    weight = 1.0 if positive_weight_C is None else truth * positive_weight_C + (1 - truth)
    return _mean_over_known(-weight * focus * (truth * log_positive + (1 - truth) * log_negative), target_NC)


class LargeLossRejection:
    """LL-R (Kim et al. 2022, equations 5 and 6): BCE that leaves out the absent labels with the largest losses of a batch.

    An absent label that is wrong is learned late, so its loss is large for as long as the model has not memorised it. The share of
    the absent labels that is left out grows from 0 in the first epoch to `most` in the last; the authors add 0.2% an epoch. A
    label that is left out still counts in the mean. Of several processes, each ranks its own part of the batch.
    """

    def __init__(self, *, most: float = 0.05):
        self._most = most
        self._share = torch.zeros(())

    def begin_epoch(self, progress: float) -> None:
        """Set the share that is left out; `progress` is 0 in the first epoch and 1 in the last."""
        self._share.fill_(self._most * progress)

    def __call__(self, logit_NC: Tensor, target_NC: Tensor, positive_weight_C: Tensor | None = None) -> Tensor:
        self._share = self._share.to(logit_NC.device)  # and stays there: a CUDA graph reads it anew at every replay
        truth = target_NC.clamp(min=0).to(logit_NC.dtype)
        loss_NC = F.binary_cross_entropy_with_logits(logit_NC, truth, pos_weight=positive_weight_C, reduction="none")
        absent = target_NC == 0
        absent_loss_NC = torch.where(absent, loss_NC.detach(), -1.0)
        number = (absent.sum() * self._share).long().clamp(max=absent.numel() - 1)
        largest_kept = absent_loss_NC.flatten().sort(descending=True).values.index_select(0, number.view(1))
        return _mean_over_known(torch.where(absent_loss_NC > largest_kept, 0.0, loss_NC), target_NC)


LOSS_OF: dict[str, Callable[[], Loss]] = {
    "bce": lambda: binary_cross_entropy,
    "focal": lambda: focal,
    "asl": lambda: asymmetric,
    "ll-r": LargeLossRejection,
}
"""What makes the loss of a run."""


def _mean_over_known(loss_NC: Tensor, target_NC: Tensor) -> Tensor:
    known = target_NC >= 0
    return torch.where(known, loss_NC, 0.0).sum() / known.sum().clamp(min=1)
