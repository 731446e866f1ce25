"""Builds the page that says why a class is bad: its worst errors, what stands out, and the tables behind it."""

from collections.abc import Sequence
from urllib.parse import urlencode

import numpy as np

from polytag.contracts import PRESENT
from polytag.errors import RunError
from polytag.inspector.browse.answers import RankingParameters
from polytag.inspector.browse.both_runs import runs_of_class
from polytag.inspector.browse.service import InspectorService
from polytag.inspector.explain.contexts import ClassPage, CompanionRow, CompanionTable, Example, Examples, SliceRow
from polytag.inspector.explain.evidence import BoxesOfRow, ClassEvidence, class_evidence, slices_of_class
from polytag.inspector.explain.findings import findings, ranking_of_slice
from polytag.inspector.explain.jobs import Jobs
from polytag.inspector.review.queue import IssueFinder, queue
from polytag.inspector.review.store import ReviewStore
from polytag.metrics.class_errors import Companions

NUM_EXAMPLES = 8
_MORE_SECONDS = 0.2  # that a page waits for each part besides the first
_MAX_ROWS = 8  # of each table of other classes
MAX_DOUBTED = 5_000_000
"""Labels among which the page looks for label issues; with more, only the review does, which takes minutes."""


def class_page(
    service: InspectorService,
    class_name: str,
    *,
    against: int = 0,
    jobs: Jobs,
    slow_jobs: Jobs,
    boxes_of: BoxesOfRow | None,
    issue_finder: IssueFinder,
    store: ReviewStore,
    leaked_rows: Sequence[int],
) -> ClassPage:
    """Return everything that is known about a class; raises NotThere for an unknown one.

    What takes longer than a moment is missing while `is_pending`, and the page asks again. `leaked_rows` are the images of the run
    with a near duplicate among the training images, as far as they are known. `slow_jobs` evaluate slices. Links lead to pages that
    compare with the run at the place `against`.
    """
    inspection, column = service.inspection, service.column(class_name)
    metrics = service.evaluation.metrics(timeout_seconds=_MORE_SECONDS)
    chosen = service.classes(against).classes[column]
    evidence = jobs.answer(
        ("class", column, inspection.threshold_C.tobytes()), lambda: class_evidence(inspection, column, boxes_of=boxes_of)
    )
    slices = slow_jobs.answer(
        ("slices", column, inspection.threshold_C.tobytes()),
        lambda: slices_of_class(inspection, column),
        patience_seconds=_MORE_SECONDS,
    )
    has_issues = inspection.predictions.target_NC.size <= MAX_DOUBTED
    issues = issue_finder.found(timeout_seconds=_MORE_SECONDS) if has_issues else None
    own_issues = [each for each in issues.lists["issues"] if each.class_name == class_name] if issues else []
    num_trained_on = _num_trained_on(service, class_name)
    is_leaked_N = np.isin(np.arange(len(inspection.predictions)), list(leaked_rows))
    return ClassPage(
        run=service.run(against),
        chosen=chosen,
        against=runs_of_class(inspection, service.rankings, column),
        num_trained_on=num_trained_on,
        examples=_examples(service, class_name),
        is_pending=evidence is None or slices is None or (has_issues and issues is None) or metrics is None,
        findings=findings(
            chosen,
            evidence,
            slices=slices or (),
            num_trained_on=num_trained_on,
            num_label_issues=sum(each.is_counted for each in own_issues),
            num_leaked=int((is_leaked_N & (inspection.predictions.target_NC[:, column] == PRESENT)).sum()),
        )
        if evidence
        else [],
        companions=_companion_tables(class_name, evidence) if evidence else [],
        sizes=evidence.sizes if evidence else None,
        num_sized=evidence.num_sized if evidence else 0,
        slices=[[SliceRow(part=part, link=ranking_of_slice(class_name, part)) for part in of_column] for of_column in slices or ()],
        label_issues=_num_undecided(service, issue_finder, store, class_name) if issues and not issues.reason else None,
    )


def _examples(service: InspectorService, class_name: str) -> list[Examples]:
    """The worst errors of both kinds; without decisions, the images on the wrong end of the ranking."""
    has_decisions = service.inspection.predictions.has_probabilities
    worst: tuple[tuple[str, dict[str, object]], ...] = (
        ("Worst false positives", {"outcome": ["false_positive"]}),
        ("Worst misses", {"outcome": ["false_negative"], "order": "asc"}),
    )
    if not has_decisions:
        worst = (
            ("Highest scored without the label", {"absent": [class_name]}),
            ("Lowest scored with the label", {"present": [class_name], "order": "asc"}),
        )
    return [examples_of(service, title, {"class": class_name, **parameters}) for title, parameters in worst]


def examples_of(service: InspectorService, title: str, parameters: dict[str, object]) -> Examples:
    """Return the first eight images of a ranking."""
    found = service.ranking(RankingParameters.model_validate(parameters), offset=0, limit=NUM_EXAMPLES)
    query = urlencode(parameters, doseq=True)
    images = [
        Example(image=image, link="/image?" + query + "&" + urlencode({"id": image.id, "offset": place}))
        for place, image in enumerate(found.images)
    ]
    return Examples(title=title, images=images, total=found.total, link="/ranking?" + query)


def _num_trained_on(service: InspectorService, class_name: str) -> int | None:
    """The training images labelled with a class; None where they are not known, or are those under inspection."""
    data = service.inspection.data
    if data is None or service.inspection.split == "train" or class_name not in data.label_set.names or "train" not in data.splits:
        return None
    return int((data.target_NC[data.rows_of("train"), data.label_set.index(class_name)] == PRESENT).sum())


def _num_undecided(service: InspectorService, issue_finder: IssueFinder, store: ReviewStore, class_name: str) -> int | None:
    """The labels of a class that wait for a decision; None where the review cannot be read."""
    try:
        return queue(service.inspection, issue_finder, store, service.corrected, class_name=class_name, limit=0).total
    except RunError:
        return None


def _companion_tables(class_name: str, evidence: ClassEvidence) -> list[CompanionTable]:
    kinds = (
        ("In its false positives", "labelled", evidence.in_false_positives, "false_positive", "present"),
        ("Beside its misses", "predicted", evidence.beside_misses, "false_negative", "predicted"),
        ("Beside its misses", "labelled", evidence.among_misses, "false_negative", "present"),
    )
    return [
        CompanionTable(
            title=title,
            relation=relation,
            num_errors=evidence.num_false_positives if outcome == "false_positive" else evidence.num_misses,
            rows=_rows(class_name, evidence.names, companions, outcome=outcome, parameter=parameter),
        )
        for title, relation, companions, outcome, parameter in kinds
        if companions is not None and companions.most_first
    ]


def _rows(class_name: str, names: Sequence[str], companions: Companions, *, outcome: str, parameter: str) -> list[CompanionRow]:
    columns = companions.most_first
    columns.sort(key=lambda column: not companions.is_more_C[column])
    return [
        CompanionRow(
            name=names[column],
            num=int(companions.num_C[column]),
            expected=float(companions.expected_C[column]),
            is_more=bool(companions.is_more_C[column]),
            link="/ranking?" + urlencode({"class": class_name, "outcome": outcome, parameter: names[column]}),
        )
        for column in columns[:_MAX_ROWS]
    ]
