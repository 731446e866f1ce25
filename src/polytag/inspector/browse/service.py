"""Answers the questions of API and pages about one inspection: rankings, classes and images."""

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from polytag.contracts import ABSENT, PRESENT, UNKNOWN
from polytag.errors import DataError, RunError, UsageError
from polytag.inspector.browse.answers import (
    ClassAnswer,
    ClassesAnswer,
    ImageAnswer,
    ImageClass,
    MeanAnswer,
    ProportionAnswer,
    RankedImage,
    RankingAnswer,
    RankingParameters,
    RunAnswer,
    SliceAnswer,
    ThresholdsAnswer,
    to_json,
    to_json_list,
)
from polytag.inspector.browse.background_evaluation import BackgroundEvaluation, ComparedEvaluation
from polytag.inspector.browse.chips import chips_of
from polytag.inspector.browse.curves import Proportion, threshold_sweep
from polytag.inspector.browse.filtered import FilteredSlice, ap_with_interval, filtered_slice
from polytag.inspector.browse.ranking import OUTCOMES, Query, Rankings, outcomes_of, probability_of, text_of
from polytag.inspector.inspection import Inspection
from polytag.inspector.model.text_search import TextSearch
from polytag.inspector.review.store import ReviewStore
from polytag.inspector.review.worth import CorrectedLabels, Worth
from polytag.metrics.ap import chance_ap, mean_over_defined
from polytag.metrics.intervals import FEW_POSITIVES
from polytag.report.ranking import probability_text
from polytag.text import with_minus

Found = TypeVar("Found")

_MAX_VALUES = 200


class NotThere(DataError):
    """The run has no such class, image or row."""


class InspectorService:
    """Answers questions about one inspection. `inside` finds the images in a region of the map. Safe to call from many threads."""

    def __init__(
        self,
        inspection: Inspection,
        store: ReviewStore,
        *,
        text_search: TextSearch | None,
        inside: Callable[[str], np.ndarray],
    ):
        self.inspection = inspection
        self.store = store
        self.text_search = text_search
        self.evaluation = BackgroundEvaluation(inspection)
        self.rankings = Rankings(inspection, cosines=text_search.cosines if text_search else None, inside=inside)
        self.corrected = CorrectedLabels(inspection, store, ap_C=self.evaluation.ap_C)

    @cached_property
    def columns(self) -> dict[str, list[str]]:
        """The values of each column to filter by: those with at most 200. Of more numbers the page of a class has slices."""
        found: dict[str, list[str]] = {}
        for name, values in self.inspection.column_N.items():
            distinct = {value for value in values if value is not None and value == value}
            if len(distinct) > _MAX_VALUES:
                continue
            key = float if all(isinstance(value, float) for value in distinct) else str
            found[name] = [text_of(value) for value in sorted(distinct, key=key)]  # pyright: ignore[reportArgumentType,reportCallIssue]
        return found

    @cached_property
    def num_labels_C(self) -> Mapping[int, np.ndarray]:
        """The number of images with each label, 1, 0 and -1, of each class."""
        return {label: (self.inspection.predictions.target_NC == label).sum(axis=0) for label in (PRESENT, ABSENT, UNKNOWN)}

    def column(self, class_name: str) -> int:
        """Return the column of a class; raises NotThere."""
        names = self.inspection.predictions.label_set.names
        if class_name not in names:
            raise NotThere("no such class", got=repr(class_name[:100]))
        return names.index(class_name)

    def place(self, against: str) -> int:
        """Return the place of the compared run with this name, 0 for ""; raises NotThere."""
        names = [each.name for each in self.inspection.compared]
        if against and against not in names:
            raise NotThere("no such run to compare with", got=repr(against[:100]))
        return names.index(against) if against else 0

    def row(self, image_id: str) -> int:
        """Return the row of an image; raises NotThere."""
        if image_id not in self.inspection.row_of:
            raise NotThere("no such image", got=repr(image_id[:100]))
        return self.inspection.row_of[image_id]

    def image_path(self, row: int) -> Path:
        """Return the image file of a row; raises NotThere. The file is decoded, and its bytes are never sent."""
        paths = self.inspection.predictions.image_paths
        if not 0 <= row < len(paths):
            raise NotThere("no such image", got=f"row {row}")
        if not paths[row]:
            raise NotThere("no image file is known", got=f"row {row}")
        return Path(paths[row])

    def data_image_path(self, row: int) -> Path:
        """Return the image file of a row of the data set; raises NotThere."""
        data = self.inspection.data
        if data is None or not 0 <= row < len(data):
            raise NotThere("no such image in the data set", got=f"row {row}")
        return data.paths[row]

    def run(self, against: int = 0) -> RunAnswer:
        """Describe the run, and how it compares with the one at a place of `compared`."""
        inspection, metrics = self.inspection, self.evaluation.metrics()
        compared, evaluation = inspection.against(against), self.evaluation.compared(against)
        mean = mean_answer(self.evaluation.ap_C)
        if metrics is not None:
            mean = mean.model_copy(update={"low": to_json(metrics.mean_ap.low), "high": to_json(metrics.mean_ap.high)})
        return RunAnswer(
            name=inspection.name,
            split=inspection.split,
            num_images=len(inspection.predictions),
            classes=list(inspection.predictions.label_set),
            has_probabilities=inspection.predictions.has_probabilities,
            has_model=inspection.checkpoint is not None,
            has_text_search=self.text_search is not None,
            may_keep_thresholds=inspection.may_keep_thresholds,
            has_runs=inspection.run_path is not None,
            num_unlabelled=len(inspection.unlabelled_rows),
            mAP=mean,
            compared_runs=[each.name for each in inspection.compared],
            compared=compared.name if compared else None,
            mAP_compared=mean_answer(evaluation.ap_C) if evaluation else None,
            gain=mean_answer(evaluation.gain_C).value if evaluation else None,
            num_gained=_num_changed(evaluation, "gained"),
            num_lost=_num_changed(evaluation, "lost"),
            num_shared=len(compared.predictions) if compared else 0,
            note=metrics.note if metrics else "",
            is_evaluated=metrics is not None,
            version=inspection.version,
            columns=self.columns,
        )

    def classes(self, against: int = 0) -> ClassesAnswer:
        """Return all classes in the order of the label set, compared with the run at a place of `compared`."""
        inspection, metrics, evaluation = self.inspection, self.evaluation.metrics(), self.evaluation.compared(against)
        of_runs = [self.evaluation.compared_so_far(place) for place in range(len(inspection.compared))]
        counts = self.num_labels_C
        chance_C = chance_ap(counts[PRESENT], counts[ABSENT])
        answers = [
            ClassAnswer(
                name=name,
                ap=to_json(self.evaluation.ap_C[c]),
                ap_low=to_json(metrics.ap_low_C[c]) if metrics else None,
                ap_high=to_json(metrics.ap_high_C[c]) if metrics else None,
                ap_chance=to_json(chance_C[c]),
                num_present=int(counts[PRESENT][c]),
                num_absent=int(counts[ABSENT][c]),
                num_unknown=int(counts[UNKNOWN][c]),
                is_few=0 < int(counts[PRESENT][c]) < FEW_POSITIVES,
                threshold=float(inspection.threshold_C[c]),
                precision=to_json(metrics.precision_C[c]) if metrics else None,
                recall=to_json(metrics.recall_C[c]) if metrics else None,
                ap_compared=to_json(evaluation.ap_C[c]) if evaluation else None,
                gain=to_json(evaluation.gain_C[c]) if evaluation else None,
                num_gained=_num_changed(evaluation, "gained", c),
                num_lost=_num_changed(evaluation, "lost", c),
                ap_of_runs=[to_json(each.ap_C[c]) if each else None for each in of_runs],
            )
            for c, name in enumerate(inspection.predictions.label_set)
        ]
        return ClassesAnswer(is_evaluated=metrics is not None, classes=answers)

    def filtered(self, parameters: RankingParameters) -> FilteredSlice:
        """Return the class of the images that pass the filters; raises NotThere and UsageError as the query does."""
        return filtered_slice(self.inspection, self.rankings, self.query(parameters))

    def slice_of(self, parameters: RankingParameters) -> SliceAnswer:
        """Return the average precision of a class on the images that pass the filters.

        That of all images has its interval once the run is evaluated.
        """
        part, column = self.filtered(parameters), self.column(parameters.class_name)
        metrics = self.evaluation.metrics()
        if not part.is_whole:
            ap, low, high = ap_with_interval(part)
        elif metrics is None:
            ap, low, high = float(self.evaluation.ap_C[column]), math.nan, math.nan
        else:
            ap, low, high = (float(each_C[column]) for each_C in (metrics.ap_C, metrics.ap_low_C, metrics.ap_high_C))
        target_N = part.predictions.target_NC[:, 0]
        return SliceAnswer(
            num_images=len(part.predictions),
            num_present=int((target_N == PRESENT).sum()),
            num_absent=int((target_N == ABSENT).sum()),
            ap=to_json(ap),
            low=to_json(low),
            high=to_json(high),
            scope=part.scope,
        )

    def thresholds(self, parameters: RankingParameters, *, also: float | None = None) -> ThresholdsAnswer:
        """Return counts and proportions at every threshold; raises UsageError where the scores are ranks, and as the filters do."""
        part, column = self.filtered(parameters), self.column(parameters.class_name)
        if not part.predictions.has_probabilities:
            raise UsageError("these scores are ranks: no threshold means anything")
        own = float(self.inspection.threshold_C[column])
        sweep = threshold_sweep(part.predictions, 0, own_threshold=own, also=also)
        return ThresholdsAnswer(
            own_threshold=own,
            goal=self.inspection.goal,
            scope=part.scope,
            threshold=sweep.threshold_T.tolist(),
            present=sweep.present_T.tolist(),
            absent=sweep.absent_T.tolist(),
            unknown=sweep.unknown_T.tolist(),
            precision=_proportion_answer(sweep.precision),
            recall=_proportion_answer(sweep.recall),
            tail_accuracy=_proportion_answer(sweep.tail_accuracy),
            num_present=sweep.num_present,
        )

    def query(self, parameters: RankingParameters) -> Query:
        """Return the query that the parameters describe; raises NotThere for an unknown class."""
        column = self.column(parameters.class_name)
        return Query(
            column=column,
            sort=parameters.sort,
            is_ascending=parameters.order == "asc",
            find=parameters.find,
            threshold=float(self.inspection.threshold_C[column]) if parameters.threshold is None else parameters.threshold,
            outcomes=frozenset(parameters.outcome),
            min_labels=parameters.min_labels,
            max_labels=parameters.max_labels,
            present=frozenset(map(self.column, parameters.present)),
            absent=frozenset(map(self.column, parameters.absent)),
            predicted=frozenset(map(self.column, parameters.predicted)),
            not_predicted=frozenset(map(self.column, parameters.not_predicted)),
            other=self.column(parameters.other) if parameters.other else None,
            bond=parameters.bond,
            column_name=parameters.column,
            value=parameters.value,
            text=parameters.text,
            only_disagreements=parameters.disagree,
            change=parameters.change,
            min_score=parameters.min_score,
            max_score=parameters.max_score,
            tagged=self._tagged(parameters.tag) if parameters.tag else None,
            regions=tuple(parameters.region),
            against=self.place(parameters.against),
        )

    def _tagged(self, tag: str) -> frozenset[int]:
        row_of = self.inspection.row_of
        return frozenset(row_of[name] for name in self.store.batches.tagged(self.inspection.split, tag) if name in row_of)

    def ranking(self, parameters: RankingParameters, *, offset: int, limit: int) -> RankingAnswer:
        """Return one part of a ranking; raises NotThere and UsageError as the query does, NotYet as a search by text."""
        last_row = self.last_row()  # before what it is to cover is read
        query = self.query(parameters)
        rows = self.rankings.rows(query)
        images = self.images(rows[offset : offset + limit], query)
        return RankingAnswer(total=len(rows), offset=offset, images=images, last_row=last_row)

    def images(self, part: np.ndarray, query: Query) -> list[RankedImage]:
        """Return the images of some rows as a ranking shows them."""
        predictions, column = self.inspection.predictions, query.column
        split, class_name = self.inspection.split, predictions.label_set.names[column]
        taken = predictions.take(part)
        outcome_n = outcomes_of(taken, column, query.threshold)
        probability_n = probability_of(taken, column)
        compared_n = self._compared(part, column, query.against)
        value_n = np.full(len(part), np.nan)
        if query.find or query.sort in ("loss", "suspicion", "disagreement"):
            value_n = self.rankings.values(query)[part]
        num_labels_n = (taken.target_NC == PRESENT).sum(axis=1)
        chips_n = chips_of(taken, threshold_C=self.inspection.threshold_C, column=column)
        decisions = self._review(lambda: self.store.of_keys(split, [(name, class_name) for name in taken.ids]), otherwise={})
        tags = self._review(lambda: self.store.batches.tags_of(split, taken.ids), otherwise={})
        notes = self._review(lambda: self.store.batches.notes_of(split, taken.ids), otherwise={})
        return [
            RankedImage(
                row=int(part[i]),
                id=taken.ids[i],
                probability=to_json(probability_n[i]),
                text=score_text(float(probability_n[i]), float(taken.logit_NC[i, column])),
                truth=int(taken.target_NC[i, column]),  # pyright: ignore[reportArgumentType]  1, 0 or -1
                outcome=OUTCOMES[outcome_n[i]],  # pyright: ignore[reportArgumentType]
                num_labels=int(num_labels_n[i]),
                compared=to_json(compared_n[i]),
                value=to_json(value_n[i]),
                reviewed=decision.label if (decision := decisions.get((taken.ids[i], class_name))) else None,  # pyright: ignore[reportArgumentType]
                decision=decision.number if decision else 0,
                chips=chips_n[i][0],
                num_more=chips_n[i][1],
                tags=list(tags.get(taken.ids[i], ())),
                note=notes.get(taken.ids[i], ""),
            )
            for i in range(len(part))
        ]

    def image(self, row: int, against: int = 0) -> ImageAnswer:
        """Return one image with all its classes, beside the run at a place of `compared`; raises NotThere."""
        inspection, predictions = self.inspection, self.inspection.predictions
        if not 0 <= row < len(predictions):
            raise NotThere("no such image", got=f"row {row}")
        taken = predictions.take([row])
        probability_C, logit_C = taken.probability_NC[0], taken.logit_NC[0]
        classes = [
            ImageClass(
                name=predictions.label_set.names[c],
                probability=to_json(probability_C[c]),
                text=score_text(float(probability_C[c]), float(logit_C[c])),
                threshold=float(inspection.threshold_C[c]),
                truth=int(taken.target_NC[0, c]),  # pyright: ignore[reportArgumentType]
                outcome=OUTCOMES[outcomes_of(taken, c, float(inspection.threshold_C[c]))[0]],  # pyright: ignore[reportArgumentType]
                compared=to_json(self._compared(np.array([row]), c, against)[0]),
            )
            for c in np.argsort(-logit_C, kind="stable").tolist()
        ]
        columns = {name: text_of(values[row]) for name, values in inspection.column_N.items()}
        return ImageAnswer(row=row, id=taken.ids[0], columns=columns, classes=classes)

    def last_row(self) -> int:
        """Return the number of the last row of the review; 0 for none, and where it cannot be read."""
        return self._review(self.store.last_number, otherwise=0)

    def tags(self) -> Mapping[str, int]:
        """Return the number of images of every tag."""
        return self._review(lambda: self.store.batches.tags(self.inspection.split), otherwise={})

    def worth(self) -> Worth | None:
        """Return what the decisions are worth; None where there is none, or the review cannot be read."""
        found = self._review(self.corrected.worth, otherwise=None)
        return found if found and found.num_decided else None

    def _review(self, read: Callable[[], Found], *, otherwise: Found) -> Found:
        """Read from the review; `otherwise` where it cannot be read: a ranking shows what it can."""
        try:
            return read()
        except RunError:
            return otherwise

    def _compared(self, rows: np.ndarray, column: int, against: int) -> np.ndarray:
        compared = self.inspection.against(against)
        probability_n = np.full(len(rows), np.nan)
        if compared is not None and (compared.row_N[rows] >= 0).any():
            row_n = compared.row_N[rows]
            probability_n[row_n >= 0] = probability_of(compared.predictions.take(row_n[row_n >= 0]), column)
        return probability_n


def _num_changed(evaluation: ComparedEvaluation | None, change: str, column: int | None = None) -> int | None:
    num_C = evaluation.num_changed_C.get(change) if evaluation else None
    return None if num_C is None else int(num_C.sum() if column is None else num_C[column])


def mean_answer(value_C: np.ndarray) -> MeanAnswer:
    """Return the mean over the classes that have a value."""
    num_classes = int(np.isfinite(value_C).sum())
    return MeanAnswer(value=to_json(mean_over_defined(value_C)), num_classes=num_classes)


def _proportion_answer(proportion: Proportion) -> ProportionAnswer:
    return ProportionAnswer(
        value=to_json_list(proportion.value_T), low=to_json_list(proportion.low_T), high=to_json_list(proportion.high_T)
    )


def score_text(probability: float, logit: float) -> str:
    """Return the probability as the page shows it, or the score where there is none."""
    return with_minus(f"{logit:.4g}" if np.isnan(probability) else probability_text(probability))
