"""The linear probe: frozen features in one pass, then one regularised logistic regression per class, all classes at once.

Shapes: N images, D features, R axes along which they vary, C classes, F folds.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polytag.metrics.ap import mean_average_precision, mean_over_defined
from polytag.models.heads import linear_head

# L2 penalties relative to a class's mean loss, for standardised features; strong to weak, so that each solution starts the next.
STRENGTHS = (1.0, 0.3, 0.1, 0.03, 0.01)
NUM_FOLDS = 4
_MIN_SCALE, _CONSTANT = 0.1, 1e-3  # of the median deviation of the features


@dataclass(frozen=True, kw_only=True, eq=False)
class Probe:
    """A linear head over features: logit_NC = feature_ND @ weight_CD.T + bias_C.

    strength            the chosen L2 penalty
    fold_map            held-out mAP of every strength
    held_out_logit_NC   float32: logits of each fitted image by the regression that left its fold out
    fold_N              that fold, from 0
    """

    weight_CD: Tensor
    bias_C: Tensor
    strength: float
    fold_map: dict[float, float]
    held_out_logit_NC: np.ndarray
    fold_N: np.ndarray


def fit_probe(
    feature_ND: np.ndarray,
    target_NC: np.ndarray,
    *,
    judged_NC: np.ndarray | None = None,
    group_N: np.ndarray | None = None,
    seed: int = 0,
) -> Probe:
    """Fit the head; unknown images of a class are left out of its fit, and the strength is the one with the best held-out mAP.

    The held-out mAP is that of the labels `judged_NC`, by default those that are fitted.

    One strength serves all classes, because a rare class has too few positives to choose its own. Features are standardised first,
    and the standardisation is folded into the head. A class without a positive, or without a negative, gets zero weights and the
    log-odds of its share. The images of a group, numbered in `group_N` from 0, share a fold, unless there is only one group.
    Deterministic for a seed and a thread count.
    """
    feature = torch.from_numpy(feature_ND)
    target = torch.from_numpy(np.array(target_NC))
    mean_D, scale_D = standardisation(feature)
    standard = (feature - mean_D) / scale_D
    axis_DR, deviation_R = _principal_axes(standard)
    turned = standard @ axis_DR

    num_images, num_classes = target.shape
    fold_N = torch.from_numpy(folds_of(np.arange(num_images) if group_N is None else group_N, seed=seed))
    num_folds = int(fold_N.max()) + 1
    columns = _columns(target, fold_N, num_folds=num_folds)
    judged_NC = target_NC if judged_NC is None else judged_NC
    weight_RK = torch.zeros(turned.shape[1], len(columns.share_K), dtype=torch.float32)
    bias_K = torch.logit(columns.share_K)

    heads: dict[float, tuple[Tensor, Tensor]] = {}
    fold_maps: dict[float, np.ndarray] = {}
    held_out: dict[float, np.ndarray] = {}
    for strength in STRENGTHS:
        # An estimate of the curvature of a column's loss along each axis: in units of it, all axes are alike to L-BFGS.
        curvature_RK = deviation_R[:, None].square() * (columns.share_K * (1 - columns.share_K)) + strength
        weight_RK, bias_K = _minimise(
            turned, columns, weight_RK=weight_RK, bias_K=bias_K, unit_RK=curvature_RK.rsqrt(), strength=strength
        )
        heads[strength] = axis_DR @ weight_RK[:, -num_classes:], bias_K[-num_classes:]
        logit_NFC = (turned @ weight_RK + bias_K).reshape(num_images, num_folds + 1, num_classes)
        held_out[strength] = held_out_NC = logit_NFC[torch.arange(num_images), fold_N].numpy()
        in_fold = [fold_N.numpy() == fold for fold in range(num_folds)]
        fold_maps[strength] = np.array([mean_average_precision(judged_NC[rows], held_out_NC[rows]) for rows in in_fold])
    strength = _one_standard_error(fold_maps)
    weight_DC, bias_C = heads[strength]
    weight_CD = weight_DC.T / scale_D
    return Probe(
        weight_CD=weight_CD,
        bias_C=bias_C - weight_CD @ mean_D,
        strength=strength,
        fold_map={key: mean_over_defined(value) for key, value in fold_maps.items()},
        held_out_logit_NC=held_out[strength],
        fold_N=fold_N.numpy(),
    )


def standardisation(feature_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and scale of each feature: its standard deviation, or a tenth of the median of those that vary where that is larger;
    infinite, so that the feature counts for nothing, below a thousandth of it.

    A feature that hardly varies here, such as the maximum of a channel that fires on one image in a thousand, would otherwise be
    enlarged until the first other image on which it fires gets any score: docs/experiments.md has what that costs.
    """
    deviation_D = feature_ND.std(dim=0, correction=0)
    varying_V = deviation_D[deviation_D > 0]  # where few images are fitted, most features may be constant
    median = float(varying_V.median()) if len(varying_V) else 0.0
    scale_D = deviation_D.clamp(min=max(1e-6, _MIN_SCALE * median))
    return feature_ND.mean(dim=0), torch.where(deviation_D < _CONSTANT * median, torch.inf, scale_D)


def folds_of(group_N: np.ndarray, *, seed: int) -> np.ndarray:
    """N fold numbers: groups in a random order, the largest first, each to the smallest fold."""
    size_G = np.bincount(group_N)
    if len(size_G) == 1:
        group_N, size_G = np.arange(len(group_N)), np.ones(len(group_N), np.int64)
    rank_G = np.random.default_rng(seed).permutation(len(size_G))
    size_F = np.zeros(min(NUM_FOLDS, len(size_G)), np.int64)
    fold_G = np.empty(len(size_G), np.int64)
    for group in np.lexsort((rank_G, -size_G)):
        fold_G[group] = size_F.argmin()
        size_F[fold_G[group]] += size_G[group]
    return fold_G[group_N]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Columns:
    """The regressions that are fitted at once: one per class and left-out fold, then one per class on all images, K = (F + 1) x C.

    truth_NK, known_NK   targets as 0 or 1, and whether the image counts in the column
    share_K              smoothed share of positives
    learnable_K          whether the column has a positive and a negative
    """

    truth_NK: Tensor
    known_NK: Tensor
    share_K: Tensor
    learnable_K: Tensor


def _columns(target: Tensor, fold_N: Tensor, *, num_folds: int) -> _Columns:
    num_images, num_classes = target.shape
    known_NFC = torch.stack([(fold_N != fold)[:, None] & (target >= 0) for fold in range(num_folds + 1)], dim=1)
    truth_NFC = target.clamp(min=0).float()[:, None].expand_as(known_NFC)
    num_columns = known_NFC.shape[1] * num_classes
    known_NK, truth_NK = known_NFC.reshape(num_images, num_columns), truth_NFC.reshape(num_images, num_columns)
    return _Columns(
        truth_NK=truth_NK,
        known_NK=known_NK,
        share_K=((truth_NK * known_NK).sum(0) + 0.5) / (known_NK.sum(0) + 1.0),
        learnable_K=((truth_NK * known_NK).sum(0) > 0) & (((1 - truth_NK) * known_NK).sum(0) > 0),
    )


def _one_standard_error(fold_maps: dict[float, np.ndarray]) -> float:
    """The strongest penalty whose held-out mAP is within one standard error of the best (Hastie et al., ESL, 7.10).

    Folds in which no class has both labels have no mAP, whatever the penalty, and do not count.
    """
    mean = {strength: mean_over_defined(value) for strength, value in fold_maps.items()}
    best = max(mean, key=lambda strength: (mean[strength], strength))
    defined = fold_maps[best][~np.isnan(fold_maps[best])]
    error = float(np.std(defined, ddof=1) / np.sqrt(len(defined))) if len(defined) > 1 else 0.0
    within = [strength for strength in fold_maps if mean[strength] >= mean[best] - error]
    return max(within, default=max(fold_maps))  # empty where no fold counts


def _principal_axes(standard: Tensor) -> tuple[Tensor, Tensor]:
    """The axes D x R along which features vary, R <= min(N, D), and their standard deviations.

    A penalised weight has no component orthogonal to them, so the regression on R columns has the same solution, and its curvature
    along them is nearly diagonal. Computed in float64 from the smaller of the two Gram matrices.
    """
    num_images, num_features = standard.shape
    wide = num_features > num_images
    product = (standard @ standard.T if wide else standard.T @ standard).double()
    variance, vectors = torch.linalg.eigh(product / num_images)
    varies = variance > 1e-7 * variance[-1].clamp(min=1e-12)
    deviation = variance[varies].sqrt()
    axes = (standard.double().T @ vectors[:, varies]) / (deviation * num_images**0.5) if wide else vectors[:, varies]
    return axes.float(), deviation.float()


def _minimise(
    turned: Tensor,
    columns: _Columns,
    *,
    weight_RK: Tensor,
    bias_K: Tensor,
    unit_RK: Tensor,
    strength: float,
    max_iterations: int = 60,
) -> tuple[Tensor, Tensor]:
    """Minimise mean known BCE + strength / 2 |w|^2 of every column by L-BFGS in these units; columns share one line search."""
    truth_NK, known_NK = columns.truth_NK, columns.known_NK
    weight_NK = known_NK * columns.learnable_K / known_NK.sum(0).clamp(min=1)
    unit_K = (torch.sigmoid(bias_K) * torch.sigmoid(-bias_K)).clamp(min=1e-3).rsqrt()
    parameters = [(weight_RK / unit_RK).requires_grad_(), (bias_K / unit_K).requires_grad_()]
    solver = torch.optim.LBFGS(
        parameters, lr=1.0, max_iter=max_iterations, history_size=10, line_search_fn="strong_wolfe", tolerance_grad=1e-6
    )

    @torch.no_grad()
    def objective() -> Tensor:
        weight, bias = parameters[0] * unit_RK, parameters[1] * unit_K
        logit_NK = turned @ weight + bias
        loss = (F.binary_cross_entropy_with_logits(logit_NK, truth_NK, reduction="none") * weight_NK).sum()
        slope_NK = (torch.sigmoid(logit_NK) - truth_NK) * weight_NK
        parameters[0].grad = (turned.T @ slope_NK + strength * weight) * unit_RK
        parameters[1].grad = slope_NK.sum(0) * unit_K
        return loss + strength / 2 * weight.square().sum()

    solver.step(objective)  # pyright: ignore[reportArgumentType]  the stub asks for a float; the solver takes a tensor
    return parameters[0].detach() * unit_RK, parameters[1].detach() * unit_K


def install_probe(model: nn.Module, probe: Probe) -> None:
    """Put the probe into the model's classifier; raises UsageError for a backbone without a single linear one."""
    head = linear_head(model)
    with torch.no_grad():
        head.weight.copy_(probe.weight_CD)
        if head.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]  nn.Linear(bias=False) has none
            head.bias.copy_(probe.bias_C)
