"""How much too high the best of several values is, because it was chosen on the images that it is a value of.

Shapes: E candidates, such as the epochs of a training; B bootstrap replicates.
"""

import numpy as np

from polytag.contracts import Predictions
from polytag.metrics.bootstrap import bootstrap_weights, replicate_ap
from polytag.metrics.groups import Groups

NUM_REPLICATES = 100


def replicate_map(predictions: Predictions, *, groups: Groups | None = None) -> np.ndarray:
    """float64 B: mAP of bootstrap replicates, which are the same for every prediction of the same images."""
    weight_NB = bootstrap_weights(len(predictions), num_replicates=NUM_REPLICATES, seed=0, groups=groups)
    ap_BC = replicate_ap(predictions.target_NC, weight_NB, score_NC=predictions.logit_NC, groups=groups)
    defined_BC = ~np.isnan(ap_BC)
    with np.errstate(invalid="ignore"):  # a replicate without a defined class: NaN
        return np.nan_to_num(ap_BC).sum(axis=1) / defined_BC.sum(axis=1)


def optimism_of_best(value_E: np.ndarray, replicate_EB: np.ndarray) -> float:
    """The expected excess of the highest value over what its candidate is truly worth; 0 where no other could have won.

    Candidates that are the best of no replicate count as truly worse. The others count as truly alike: the excess is then the mean,
    over the replicates, of the highest deviation from their common mean, each candidate's own value subtracted first. Where they
    are not quite alike this is too much, never by more than what candidates that are alike would give. `benchmarks/optimism.py`
    compares it with the truth. Replicates with an undefined value are left out.

    After Efron, Estimating the error rate of a prediction rule: improvement on cross-validation, JASA 1983, whose estimate takes
    the values as the truth, and is a third too small for candidates that are alike.
    """
    replicate_EB = replicate_EB[:, ~np.isnan(replicate_EB).any(axis=0)]
    if not replicate_EB.size or np.isnan(value_E).any():
        return 0.0
    rivals = np.unique(np.append(replicate_EB.argmax(axis=0), value_E.argmax()))
    deviation_RB = replicate_EB[rivals] - value_E[rivals, None]
    return float((deviation_RB - deviation_RB.mean(axis=0)).max(axis=0).mean())
