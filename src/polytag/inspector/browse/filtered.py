"""The numbers of the images that pass the filters of a ranking, for one class: a slice, with its own average precision.

Filters on scores of the class, and on decisions about it, do not count: among the missed images alone, or those that two runs
decide differently, the filter would have chosen every number.
"""

from dataclasses import dataclass, replace

import numpy as np

from polytag.contracts import Predictions
from polytag.inspector.browse.ranking import Query, Rankings, one_class
from polytag.inspector.inspection import Inspection
from polytag.metrics.ap import ap_of, rank
from polytag.metrics.bootstrap import bootstrap_ap
from polytag.metrics.groups import Groups

_MAX_REPLICATES, _MIN_REPLICATES, _MAX_DRAWS = 400, 50, 10_000_000  # an interval within a tenth of a second or two


@dataclass(frozen=True, kw_only=True, eq=False)
class FilteredSlice:
    """One class of the images that pass the filters.

    rows          of the images, in their order
    predictions   with this class alone
    groups        of dependent images among them; None without
    is_whole      whether they are all images
    scope         which images the numbers are of, as the page says it; "" for all images, shown without a filter
    """

    rows: np.ndarray
    predictions: Predictions
    groups: Groups | None
    is_whole: bool
    scope: str


def filtered_slice(inspection: Inspection, rankings: Rankings, query: Query) -> FilteredSlice:
    """Return the slice of a query; raises UsageError as its filters do."""
    ordered = replace(query, sort="id", is_ascending=True, find="", threshold=0.5, against=0)
    undecided = _without_decisions(ordered)
    is_whole = undecided == Query(column=query.column, sort="id", is_ascending=True)
    own = one_class(inspection.predictions, query.column)
    groups, rows = inspection.groups, np.arange(len(own))
    if not is_whole:
        rows = np.sort(rankings.rows(undecided))
        own, groups = own.take(rows), groups.take(rows) if groups else None
    scope = "" if is_whole else "of these images"
    if undecided != ordered:
        scope = f"of {len(own):,}, right or wrong"
    return FilteredSlice(rows=rows, predictions=own, groups=groups, is_whole=is_whole, scope=scope)


def _without_decisions(query: Query) -> Query:
    """Return the query without its filters on the scores of its own class, and on the decisions about it."""
    own = frozenset({query.column})
    is_of_labels = query.other is None or query.bond == "labelled"
    return replace(
        query,
        outcomes=frozenset(),
        only_disagreements=False,
        change="",
        predicted=query.predicted - own,
        not_predicted=query.not_predicted - own,
        other=query.other if is_of_labels else None,
        bond="labelled",
        min_score=None,
        max_score=None,
    )


def ap_with_interval(part: FilteredSlice) -> tuple[float, float, float]:
    """Return average precision and its 95% interval, NaN where undefined; fewer replicates for many images."""
    target_NC, score_NC = part.predictions.target_NC, part.predictions.logit_NC
    ap = ap_of(rank(target_NC[:, 0], score_NC[:, 0]))
    if np.isnan(ap):
        return ap, ap, ap
    num_replicates = min(_MAX_REPLICATES, max(_MIN_REPLICATES, _MAX_DRAWS // len(target_NC)))
    found = bootstrap_ap(target_NC, score_NC, num_replicates=num_replicates, groups=part.groups)
    return ap, float(found.low_C[0]), float(found.high_C[0])
