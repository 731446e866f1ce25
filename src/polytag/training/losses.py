"""Losses over known labels: unknown targets add nothing to the sum and nothing to the count it is divided by.

Shapes: logit_NC float32, target_NC in {1, 0, -1} (any dtype), weight_C or None. Each returns a scalar: the mean over known labels.
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


LOSS_OF: dict[str, Loss] = {"bce": binary_cross_entropy, "focal": focal, "asl": asymmetric}


def _mean_over_known(loss_NC: Tensor, target_NC: Tensor) -> Tensor:
    known = target_NC >= 0
    return torch.where(known, loss_NC, 0.0).sum() / known.sum().clamp(min=1)
