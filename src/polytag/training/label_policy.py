"""What a run learns from its labels: as they are, or with doubt where present classes may not have been labelled."""

from dataclasses import dataclass

import numpy as np

from polytag.contracts import ABSENT, PRESENT, UNKNOWN, Dataset
from polytag.inference.partial_labels import fit_doubting_probe, train_probe
from polytag.inference.probe import Probe, fit_probe
from polytag.training.losses import LargeLossRejection


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelPolicy:
    """The labels and the loss of a run.

    target_NC   int8, images x classes: the training labels, the unknown ones of a class without any absent label being absent in
                images that have some label
    loss        a name of `losses.LOSS_OF`
    probe       how the probe is fitted: "given", "doubting" or "rejecting"
    note        a sentence for people; "" where labels are as given
    """

    target_NC: np.ndarray
    loss: str
    probe: str = "given"
    note: str = ""

    def fit(self, feature_ND: np.ndarray, *, group_N: np.ndarray, seed: int) -> tuple[Probe, str]:
        """The probe on the features of these images, and a sentence about it."""
        if self.probe == "rejecting":
            probe = train_probe(feature_ND, self.target_NC, loss=LargeLossRejection(), group_N=group_N, seed=seed)
            how = "trained by ll-r"
        else:
            fit = fit_doubting_probe if self.probe == "doubting" else fit_probe
            probe = fit(feature_ND, self.target_NC, group_N=group_N, seed=seed)
            how = f"L2 strength {probe.strength:g}"
        return probe, f"probe: {how}, held-out mAP {probe.fold_map[probe.strength]:.3f} on training folds"


def label_policy(train_set: Dataset, *, loss: str) -> LabelPolicy:
    """The policy for these training images and a recipe's loss, which is "auto" or that of the run.

    A class without any absent label cannot be told from anything, so its unknown labels count as absent: most are (assume negative;
    Cole et al. 2021). As some are not, `auto` then takes `ll-r`, which doubts absent labels; otherwise `bce`. The figures are in
    docs/experiments.md.
    """
    target_NC, assumed_C = _assumed_absent(train_set)
    if assumed_C.any():
        chosen = "ll-r" if loss == "auto" else loss
        share = float((train_set.target_NC == UNKNOWN).mean())
        which = "every class has" if assumed_C.all() else f"{assumed_C.sum()} of {len(assumed_C)} classes have"
        note = f"{share:.0%} of the training labels are unknown, and {which} no absent one: there, unknown counts as absent"
        if chosen != "ll-r":
            return LabelPolicy(target_NC=target_NC, loss=chosen, note=note)
        doubt = "; those that the model contradicts are doubted (loss ll-r)"
        return LabelPolicy(target_NC=target_NC, loss=chosen, probe="doubting", note=note + doubt)
    if loss == "ll-r":
        return LabelPolicy(target_NC=target_NC, loss=loss, probe="rejecting")
    return LabelPolicy(target_NC=target_NC, loss="bce" if loss == "auto" else loss)


def _assumed_absent(train_set: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The labels with unknown ones of some classes taken for absent, and which classes these are."""
    target_NC = train_set.target_NC
    if train_set.absent_means != "unknown":
        return target_NC, np.zeros(target_NC.shape[1], bool)
    assumed_C = (target_NC == PRESENT).any(axis=0) & ~(target_NC == ABSENT).any(axis=0) & (target_NC == UNKNOWN).any(axis=0)
    is_labelled_N1 = (target_NC != UNKNOWN).any(axis=1, keepdims=True)  # an image that nobody labelled says nothing
    return np.where(is_labelled_N1 & assumed_C & (target_NC == UNKNOWN), np.int8(ABSENT), target_NC), assumed_C
