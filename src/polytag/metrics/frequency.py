"""Head, medium and tail: classes in groups by how many positives they have, as in the literature on long-tailed data.

Shapes: C classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from polytag.contracts import Dataset, LabelSet

HEAD_OVER, TAIL_UNDER = 100, 20
"""A class of the head has more positives than the first, one of the tail fewer than the second; the others are medium."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Frequency:
    """How many positives each class has, which decides its group (Wu et al. 2020, ECCV, for VOC-MLT and COCO-MLT).

    num_positives_C    positives
    is_of_training     whether they are those of the training data; else those of the images that are evaluated
    """

    num_positives_C: np.ndarray
    is_of_training: bool

    @property
    def groups(self) -> Mapping[str, np.ndarray]:
        """bool C by name: whether a class is in the head, medium or in the tail."""
        is_head_C, is_tail_C = self.num_positives_C > HEAD_OVER, self.num_positives_C < TAIL_UNDER
        return {"head": is_head_C, "medium": ~is_head_C & ~is_tail_C, "tail": is_tail_C}

    @property
    def meanings(self) -> Mapping[str, str]:
        """What each group is, by the name of its mean."""
        of = "in the training data" if self.is_of_training else "here"
        return {
            "head_mAP": f"classes with over {HEAD_OVER} positives {of}",
            "medium_mAP": f"classes with {TAIL_UNDER} to {HEAD_OVER} positives {of}",
            "tail_mAP": f"classes with under {TAIL_UNDER} positives {of}",
        }

    def to_json(self) -> str:
        """The value of "frequency_of"."""
        return "training data" if self.is_of_training else "evaluated images"


def training_frequency(trained_on: Dataset, label_set: LabelSet) -> Frequency | None:
    """The positives of each class in the training data, by name, 0 for a class that they lack; None where they share no class."""
    number_of = dict(zip(trained_on.label_set, (trained_on.target_NC == 1).sum(axis=0).tolist(), strict=True))
    if not any(name in number_of for name in label_set):
        return None
    return Frequency(num_positives_C=np.array([number_of.get(name, 0) for name in label_set]), is_of_training=True)
