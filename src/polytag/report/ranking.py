"""The images that a model scores highest and lowest for a class, and the classes that are shown in detail."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polytag.contracts import ABSENT, PRESENT, UNKNOWN, Predictions
from polytag.errors import UsageError
from polytag.metrics.decisions import decide
from polytag.metrics.intervals import FEW_POSITIVES, by_ap

TOP, TOP_POSITIVES = 50, 20
"""The images of each end of a ranking, and its lowest scored positives, that reports and the grids of a run show."""

MAX_CLASSES_IN_DETAIL = 100
"""With more classes than this, a report shows images and curves of the best and the worst half of this number."""


@dataclass(frozen=True, kw_only=True)
class RankedRow:
    """One image in a ranking.

    rank          1 is the first of the ranking: the highest score, or the lowest score in a ranking of the lowest
    row           its row in the Predictions
    probability   as in Predictions; NaN for ranks
    target        PRESENT (1), ABSENT (0) or UNKNOWN (-1)
    image_path    "" without an image file
    """

    rank: int
    row: int
    id: str
    logit: float
    probability: float
    target: int
    image_path: str

    @property
    def text(self) -> str:
        """The probability as text, or the score if it has none."""
        return f"{self.logit:.4g}" if np.isnan(self.probability) else probability_text(self.probability)


def ranked_rows(
    predictions: Predictions, *, class_name: str, top: int, lowest: bool = False, positives: bool = False
) -> tuple[RankedRow, ...]:
    """The `top` images with the highest scores for a class, best first; with `lowest`, those with the lowest, lowest first.

    With `positives`, only images that are labelled with the class.
    Ties are sorted by id, so the order does not depend on the order of the images. Returns fewer rows if there are fewer images.
    Compares logits, since probabilities near 0 and 1 coincide.

    Raises UsageError for an unknown class name or a negative `top`.
    """
    if top < 0:
        raise UsageError("a negative number of images", got=str(top), expected="0 or more")
    column = predictions.label_set.index(class_name)
    logit_N, target_N = predictions.logit_NC[:, column], predictions.target_NC[:, column]
    first_N = logit_N if lowest else -logit_N  # ascending: the first has the smallest
    row_n = np.flatnonzero(target_N == PRESENT) if positives else np.arange(len(predictions))
    top = min(top, len(row_n))
    if top == 0:
        return ()
    candidate_rows = row_n[first_N[row_n] <= np.partition(first_N[row_n], top - 1)[top - 1]]
    order = sorted(candidate_rows.tolist(), key=lambda row: (first_N[row], predictions.ids[row]))[:top]
    probability = predictions.take(order).probability_NC[:, column]
    return tuple(
        RankedRow(
            rank=rank,
            row=row,
            id=predictions.ids[row],
            logit=float(logit_N[row]),
            probability=float(probability[rank - 1]),
            target=int(target_N[row]),
            image_path=predictions.image_paths[row],
        )
        for rank, row in enumerate(order, start=1)
    )


def classes_in_detail(ap_C: np.ndarray, support_C: np.ndarray) -> list[int]:
    """The columns shown with images and curves: all, or the best and the worst MAX_CLASSES_IN_DETAIL / 2 by AP, best first.

    Of classes with fewer than 10 positives none is among the best or the worst, unless there are too few others.
    """
    columns = by_ap(ap_C, support_C).tolist()
    if len(columns) <= MAX_CLASSES_IN_DETAIL:
        return columns
    defined = [column for column in columns if not np.isnan(ap_C[column])] or columns
    enough = [column for column in defined if support_C[column] >= FEW_POSITIVES] or defined
    half = MAX_CLASSES_IN_DETAIL // 2
    return enough[:half] + enough[-half:] if len(enough) > 2 * half else defined[: 2 * half]


def num_targets(rows: Sequence[RankedRow]) -> tuple[int, int, int]:
    """The numbers of present, absent and unknown labels among the rows."""
    targets = [row.target for row in rows]
    return targets.count(PRESENT), targets.count(ABSENT), targets.count(UNKNOWN)


def side_of(row: RankedRow, threshold: float) -> str:
    """Whether the decision about an image is "right" or "wrong"; "" where its label is unknown, or the scores are ranks."""
    if row.target == UNKNOWN or np.isnan(row.probability):
        return ""
    is_present = bool(decide(np.array(row.probability), threshold_C=threshold))
    return "right" if is_present == (row.target == PRESENT) else "wrong"


def probability_text(probability: float) -> str:
    """Three decimals; "2e-5" and ">0.999" where these would read as 0 or 1."""
    if 0 < probability < 0.0005:
        return f"{probability:.0e}".replace("e-0", "e-")
    if 0.9995 <= probability < 1:
        return ">0.999"
    return f"{probability:.3f}"
