"""Answers the questions of API and pages about one inspection: rankings, classes and images."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

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
    ThresholdsAnswer,
    to_json,
    to_json_list,
)
from polytag.inspector.browse.background_evaluation import BackgroundEvaluation
from polytag.inspector.browse.curves import Proportion, threshold_sweep
from polytag.inspector.browse.ranking import OUTCOMES, Query, Rankings, outcomes_of, probability_of, text_of
from polytag.inspector.inspection import Inspection
from polytag.inspector.review.store import Decision, ReviewStore
from polytag.metrics.ap import chance_ap, mean_over_defined
from polytag.metrics.intervals import FEW_POSITIVES
from polytag.report.ranking import probability_text

_MAX_VALUES = 200


class NotThere(DataError):
    """The run has no such class, image or row."""


class InspectorService:
    """Answers questions about one inspection. Safe to call from many threads."""

    def __init__(self, inspection: Inspection, store: ReviewStore):
        self.inspection = inspection
        self._store = store
        self.evaluation = BackgroundEvaluation(inspection)
        self.rankings = Rankings(inspection)

    @cached_property
    def columns(self) -> dict[str, list[str]]:
        """The values of each column to filter by, at most 200 per column."""
        found: dict[str, list[str]] = {}
        for name, values in self.inspection.column_N.items():
            distinct = {value for value in values if value is not None and value == value}
            key = float if all(isinstance(value, float) for value in distinct) else str
            found[name] = [text_of(value) for value in sorted(distinct, key=key)[:_MAX_VALUES]]  # pyright: ignore[reportArgumentType,reportCallIssue]
        return found

    def column(self, class_name: str) -> int:
        """Return the column of a class; raises NotThere."""
        names = self.inspection.predictions.label_set.names
        if class_name not in names:
            raise NotThere("no such class", got=repr(class_name[:100]))
        return names.index(class_name)

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

    def run(self) -> RunAnswer:
        """Describe the run."""
        inspection, metrics = self.inspection, self.evaluation.metrics()
        compared, evaluation = inspection.compared, self.evaluation
        mean = mean_answer(evaluation.ap_C)
        if metrics is not None:
            mean = mean.model_copy(update={"low": to_json(metrics.mean_ap.low), "high": to_json(metrics.mean_ap.high)})
        return RunAnswer(
            name=inspection.name,
            split=inspection.split,
            num_images=len(inspection.predictions),
            classes=list(inspection.predictions.label_set),
            has_probabilities=inspection.predictions.has_probabilities,
            has_model=inspection.checkpoint is not None,
            mAP=mean,
            compared=compared.name if compared else None,
            mAP_compared=mean_answer(evaluation.ap_compared_C) if evaluation.ap_compared_C is not None else None,
            gain=mean_answer(evaluation.gain_C).value if evaluation.gain_C is not None else None,
            num_shared=len(compared.predictions) if compared else 0,
            note=metrics.note if metrics else "",
            is_evaluated=metrics is not None,
            version=inspection.version,
            columns=self.columns,
        )

    def classes(self) -> ClassesAnswer:
        """Return all classes in the order of the label set."""
        inspection, metrics, evaluation = self.inspection, self.evaluation.metrics(), self.evaluation
        target_NC = inspection.predictions.target_NC
        counts = {label: (target_NC == label).sum(axis=0) for label in (PRESENT, ABSENT, UNKNOWN)}
        chance_C = chance_ap(counts[PRESENT], counts[ABSENT])
        answers = [
            ClassAnswer(
                name=name,
                ap=to_json(evaluation.ap_C[c]),
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
                ap_compared=to_json(evaluation.ap_compared_C[c]) if evaluation.ap_compared_C is not None else None,
                gain=to_json(evaluation.gain_C[c]) if evaluation.gain_C is not None else None,
            )
            for c, name in enumerate(inspection.predictions.label_set)
        ]
        return ClassesAnswer(is_evaluated=metrics is not None, classes=answers)

    def thresholds(self, class_name: str) -> ThresholdsAnswer:
        """Return counts and proportions at every threshold; raises UsageError where the scores are ranks."""
        column, predictions = self.column(class_name), self.inspection.predictions
        if not predictions.has_probabilities:
            raise UsageError("these scores are ranks: no threshold means anything")
        own = float(self.inspection.threshold_C[column])
        sweep = threshold_sweep(predictions, column, own_threshold=own)
        return ThresholdsAnswer(
            own_threshold=own,
            goal=self.inspection.goal,
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
            threshold=float(self.inspection.threshold_C[column]) if parameters.threshold is None else parameters.threshold,
            outcomes=frozenset(parameters.outcome),
            min_labels=parameters.min_labels,
            max_labels=parameters.max_labels,
            present=frozenset(map(self.column, parameters.present)),
            absent=frozenset(map(self.column, parameters.absent)),
            column_name=parameters.column,
            value=parameters.value,
            text=parameters.text,
            only_disagreements=parameters.disagree,
        )

    def ranking(self, parameters: RankingParameters, *, offset: int, limit: int) -> RankingAnswer:
        """Return one part of a ranking; raises NotThere and UsageError as the query does."""
        query = self.query(parameters)
        rows = self.rankings.rows(query)
        part = rows[offset : offset + limit]
        predictions, column = self.inspection.predictions, query.column
        taken = predictions.take(part)
        outcome_n = outcomes_of(taken, column, query.threshold)
        probability_n = probability_of(taken, column)
        compared_n = self._compared(part, column)
        value_n = np.full(len(part), np.nan)
        if query.sort in ("loss", "suspicion", "disagreement"):
            value_n = self.rankings.values(column, query.sort)[part]
        num_labels_n = (taken.target_NC == PRESENT).sum(axis=1)
        decision_n = self._decisions(taken.ids, parameters.class_name)
        images = [
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
                reviewed=decision.label if (decision := decision_n[i]) else None,  # pyright: ignore[reportArgumentType]
                decision=decision.number if decision else 0,
            )
            for i in range(len(part))
        ]
        return RankingAnswer(total=len(rows), offset=offset, images=images)

    def image(self, row: int) -> ImageAnswer:
        """Return one image with all its classes; raises NotThere."""
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
                compared=to_json(self._compared(np.array([row]), c)[0]),
            )
            for c in np.argsort(-logit_C, kind="stable").tolist()
        ]
        columns = {name: text_of(values[row]) for name, values in inspection.column_N.items()}
        return ImageAnswer(row=row, id=taken.ids[0], columns=columns, classes=classes)

    def _decisions(self, ids: Sequence[str], class_name: str) -> list[Decision | None]:
        """Return the last review row about one class of each image; None for all where the review cannot be read."""
        try:
            decided = self._store.of_class(self.inspection.split, class_name)
        except RunError:
            return [None] * len(ids)
        return [decided.get(name) for name in ids]

    def _compared(self, rows: np.ndarray, column: int) -> np.ndarray:
        compared = self.inspection.compared
        if compared is None or not len(rows):
            return np.full(len(rows), np.nan)
        row_n = compared.row_N[rows]
        return np.where(row_n >= 0, probability_of(compared.predictions.take(np.maximum(row_n, 0)), column), np.nan)


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
    return f"{logit:.4g}" if np.isnan(probability) else probability_text(probability)
