"""What decisions are worth: mAP under the corrected labels, redone for classes that changed, and what one label would change.

The corrected labels are those of `polytag labels export`: the last decision about a label holds, and one that was undone does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np

from polytag.inspector.inspection import Inspection
from polytag.inspector.review.store import ReviewStore
from polytag.metrics.ap import ap_of, mean_over_defined, rank
from polytag.metrics.label_flips import ap_after_flips, map_changes
from polytag.metrics.label_issues import LabelIssue


@dataclass(frozen=True, kw_only=True)
class ClassWorth:
    """A class with decisions; AP under the labels as they are in the data, and under the corrected ones, NaN where undefined."""

    name: str
    num_decided: int
    num_changed: int
    before: float
    after: float

    @property
    def num_confirmed(self) -> int:
        return self.num_decided - self.num_changed


@dataclass(frozen=True, kw_only=True)
class Worth:
    """mAP under the labels as they are in the data, and under the corrected ones; NaN where undefined.

    num_classes_before, num_classes_after   classes that each of the two is the mean of
    classes                                 those with decisions, the largest change of AP first
    """

    before: float
    after: float
    num_classes_before: int
    num_classes_after: int
    classes: tuple[ClassWorth, ...]

    @property
    def num_decided(self) -> int:
        return sum(each.num_decided for each in self.classes)

    @property
    def num_confirmed(self) -> int:
        return sum(each.num_confirmed for each in self.classes)

    @property
    def change(self) -> float:
        return self.after - self.before


class CorrectedLabels:
    """The labels of an inspection with the decisions of its review; `ap_C` is that of the labels without them.

    Decisions about images or classes without a score count nowhere. Safe to call from many threads. Raises RunError as the review
    does.
    """

    def __init__(self, inspection: Inspection, store: ReviewStore, *, ap_C: np.ndarray):
        self._inspection, self._store, self._before_C = inspection, store, ap_C
        self._column_of = {name: column for column, name in enumerate(inspection.predictions.label_set)}
        self._lock = Lock()
        self._ap_C = ap_C.copy()
        self._label_of: dict[int, dict[int, int]] = {}  # decided label by column and row
        self._after_flip: dict[int, dict[int, float]] = {}  # AP by column and row of the one label that is flipped

    def worth(self) -> Worth:
        """Return mAP before and after the decisions that are on the disk now."""
        with self._lock:
            self._read()
            ap_C, label_of = self._ap_C.copy(), self._label_of
        classes = [
            ClassWorth(
                name=self._inspection.predictions.label_set.names[column],
                num_decided=len(label_of_row),
                num_changed=sum(label != self._given(row, column) for row, label in label_of_row.items()),
                before=float(self._before_C[column]),
                after=float(ap_C[column]),
            )
            for column, label_of_row in label_of.items()
        ]
        return Worth(
            before=mean_over_defined(self._before_C),
            after=mean_over_defined(ap_C),
            num_classes_before=int(np.isfinite(self._before_C).sum()),
            num_classes_after=int(np.isfinite(ap_C).sum()),
            classes=tuple(sorted(classes, key=lambda each: (-abs(np.nan_to_num(each.after - each.before)), each.name))),
        )

    def map_changes(self, issues: Sequence[LabelIssue]) -> np.ndarray:
        """Change of mAP, float64, if each of these labels alone is wrong as it stands now: present becomes absent, and the others
        present. NaN where mAP is undefined."""
        change_M = np.full(len(issues), np.nan)
        if not len(issues):
            return change_M
        places_of: dict[str, list[int]] = {}
        for place, issue in enumerate(issues):
            places_of.setdefault(issue.class_name, []).append(place)
        with self._lock:
            self._read()
            for name, places in places_of.items():
                column = self._column_of[name]
                ap_after_K = self._after_flips(column, [issues[place].row for place in places])
                change_M[places] = map_changes(self._ap_C, column, ap_after_K)
        return change_M

    def _read(self) -> None:
        """Bring what is known up to the review; only the classes with other decisions than before are ranked again."""
        label_of: dict[int, dict[int, int]] = {}
        row_of = self._inspection.row_of
        for (image, class_name), label in self._store.labels(self._inspection.split).items():
            row, column = row_of.get(image), self._column_of.get(class_name)
            if row is not None and column is not None:
                label_of.setdefault(column, {})[row] = label
        changed = [column for column in label_of | self._label_of if label_of.get(column) != self._label_of.get(column)]
        self._label_of = label_of
        for column in changed:
            self._after_flip.pop(column, None)
            self._ap_C[column] = ap_of(rank(self._corrected(column), self._inspection.predictions.logit_NC[:, column]))

    def _corrected(self, column: int) -> np.ndarray:
        target_N = self._inspection.predictions.target_NC[:, column].copy()
        label_of_row = self._label_of.get(column, {})
        target_N[list(label_of_row)] = list(label_of_row.values())
        return target_N

    def _after_flips(self, column: int, rows: Sequence[int]) -> np.ndarray:
        known = self._after_flip.setdefault(column, {})
        missing = [row for row in rows if row not in known]
        if missing:
            logit_N = self._inspection.predictions.logit_NC[:, column]
            known.update(zip(missing, ap_after_flips(self._corrected(column), logit_N, np.array(missing)).tolist(), strict=True))
        return np.array([known[row] for row in rows])

    def _given(self, row: int, column: int) -> int:
        return int(self._inspection.predictions.target_NC[row, column])
