"""Sorts and filters the images of a class.

Shapes: N images, C classes. Everything here works on arrays; nothing is read or drawn.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from copy import copy
from dataclasses import dataclass
from functools import partial
from threading import Lock

import numpy as np

from polytag.contracts import ABSENT, PRESENT, UNKNOWN, LabelSet, Predictions
from polytag.errors import UsageError
from polytag.inspector.inspection import ComparedRun, Inspection
from polytag.logits import sigmoid
from polytag.metrics.ap import ordered_integers
from polytag.metrics.calibration import fit_calibration, folds_of
from polytag.metrics.decisions import decide
from polytag.metrics.groups import Groups, Value

SORTS = ("score", "loss", "suspicion", "disagreement", "id")
OUTCOMES = ("true_positive", "true_negative", "false_positive", "false_negative", "unknown", "undecided")
"""The decision compared with the label. "undecided" means that the scores are ranks, which no threshold decides."""

BONDS = ("labelled", "predicted", "kept", "invented", "broken")
"""A pair of classes in an image whose labels of both are known: labelled with both, predicted as both, both of these, predicted
only, labelled only."""

CHANGES = ("gained", "lost")
"""An image that this run alone decides rightly, and one that the compared run alone does, each at its own threshold."""

NO_TEXT_MODEL = "no text model is at hand: start polytag inspect with --text-model to find images by a text"

_PLACE_BITS, _PLACE_MASK = np.uint64(32), np.uint64(2**32 - 1)
_MAX_ORDERS, _MAX_RANKINGS = 64, 32  # in the caches
_MAX_BYTES = 100_000_000  # of each cache: of a million images it holds a dozen orders


@dataclass(frozen=True, kw_only=True)
class Query:
    """The order and the filters of a ranking.

    column              column of the class
    sort, is_ascending  one of SORTS; equal values are ordered by id, undefined values come last
    find                a text by whose cosine with the images they are ordered in place of `sort`; "" for none
    threshold           probability above which the class counts as present
    outcomes            some of OUTCOMES; empty for all
    min_labels, max_labels   bounds of the number of classes that an image is labelled with
    present, absent     columns of classes that an image must be labelled with, or without
    predicted, not_predicted   columns of classes that an image must be predicted as, or not, each at its own threshold
    other, bond         the column of another class, and one of BONDS of the two at their own thresholds; None for no such filter
    column_name, value  a column of the Inspection and the text of its value; "" for no such filter
    text                a part of the id, in upper or lower case
    only_disagreements  only images that the compared run decides differently
    change              one of CHANGES; "" for no such filter
    min_score, max_score   bounds of the probability of the class
    tagged              rows of the images that have the wanted tag; None for no such filter
    regions             regions of the map that an image must lie in, each as `regions.py` reads it
    against             the place of the compared run among those of the Inspection
    """

    column: int
    sort: str = "score"
    is_ascending: bool = False
    find: str = ""
    threshold: float = 0.5
    outcomes: frozenset[str] = frozenset()
    min_labels: int = 0
    max_labels: int | None = None
    present: frozenset[int] = frozenset()
    absent: frozenset[int] = frozenset()
    predicted: frozenset[int] = frozenset()
    not_predicted: frozenset[int] = frozenset()
    other: int | None = None
    bond: str = "labelled"
    column_name: str = ""
    value: str = ""
    text: str = ""
    only_disagreements: bool = False
    change: str = ""
    min_score: float | None = None
    max_score: float | None = None
    tagged: frozenset[int] | None = None
    regions: tuple[str, ...] = ()
    against: int = 0


class Rankings:
    """Answers queries over one inspection, and caches orders and answers so that paging costs nothing.

    `cosines` returns the cosine of each image and a text, N; None where nothing does. `inside` returns which images lie in a region
    of the map, N; None where there is no map. Safe to call from many threads.
    """

    def __init__(
        self,
        inspection: Inspection,
        *,
        cosines: Callable[[str], np.ndarray] | None = None,
        inside: Callable[[str], np.ndarray] | None = None,
    ):
        self._inspection, self._cosines, self._inside = inspection, cosines, inside
        self._lock = Lock()
        self._orders: OrderedDict[tuple[Hashable, bool], np.ndarray] = OrderedDict()
        self._rankings: OrderedDict[Query, np.ndarray] = OrderedDict()
        self._values: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._regions: OrderedDict[str, np.ndarray] = OrderedDict()
        predictions = inspection.predictions
        self._by_id_N = np.array(sorted(range(len(predictions)), key=predictions.ids.__getitem__), np.int64)
        self._num_labels_N = (predictions.target_NC == PRESENT).sum(axis=1)
        self._folded_ids: list[str] | None = None

    def rows(self, query: Query) -> np.ndarray:
        """Return the rows that pass every filter, in the order of the query. Raises as filters, `cosines` and `inside` do."""
        return self._cached(self._rankings, query, _MAX_RANKINGS, lambda: self._filtered(query))

    def values(self, query: Query) -> np.ndarray:
        """Return the cosines of the query's text, or `sort_values`, cached because Platt scaling takes time."""

        def computed() -> np.ndarray:
            if not query.find:
                return sort_values(self._inspection, query.column, query.sort, against=query.against)
            if self._cosines is None:
                raise UsageError(NO_TEXT_MODEL)
            return self._cosines(query.find)

        return self._cached(self._values, _kind_of_values(query), _MAX_RANKINGS, computed)

    def _filtered(self, query: Query) -> np.ndarray:
        order, passes_N = self._order(query), self._passes(query)
        return order if passes_N.all() else order[passes_N[order]]

    def _order(self, query: Query) -> np.ndarray:
        def sorted_rows() -> np.ndarray:
            if query.sort == "id" and not query.find:
                return self._by_id_N if query.is_ascending else self._by_id_N[::-1]
            value_N = self.values(query)
            return ascending(value_N if query.is_ascending else -value_N, by_id_N=self._by_id_N)

        return self._cached(self._orders, (_kind_of_values(query), query.is_ascending), _MAX_ORDERS, sorted_rows)

    def _passes(self, query: Query) -> np.ndarray:
        predictions, column = self._inspection.predictions, query.column
        passes_N = np.ones(len(predictions), bool)
        if query.outcomes:
            outcome_N = outcomes_of(predictions, column, query.threshold)
            passes_N &= np.isin(outcome_N, [OUTCOMES.index(outcome) for outcome in query.outcomes])
        if query.min_labels:
            passes_N &= self._num_labels_N >= query.min_labels
        if query.max_labels is not None:
            passes_N &= self._num_labels_N <= query.max_labels
        for columns, label in ((query.present, PRESENT), (query.absent, ABSENT)):
            for other in columns:
                passes_N &= predictions.target_NC[:, other] == label
        for columns, is_wanted in ((query.predicted, True), (query.not_predicted, False)):
            for other in columns:
                passes_N &= self._is_predicted(other) == is_wanted
        if query.other is not None:
            passes_N &= self._has_bond(column, query.other, query.bond)
        if query.column_name:
            passes_N &= self._has_value(query.column_name, query.value)
        if query.text:
            wanted = query.text.casefold()
            passes_N &= np.fromiter((wanted in name for name in self._folded()), bool, len(predictions))
        if query.only_disagreements:
            passes_N &= self._disagrees(column, query.threshold, query.against)
        if query.change:
            passes_N &= changed(self._inspection, self._inspection.against(query.against), column, query.change)
        if query.min_score is not None or query.max_score is not None:
            passes_N &= self._is_between(column, query.min_score, query.max_score)
        if query.tagged is not None:
            passes_N &= np.isin(np.arange(len(predictions)), np.fromiter(query.tagged, np.int64, len(query.tagged)))
        for region in query.regions:
            assert self._inside is not None
            passes_N &= self._cached(self._regions, region, _MAX_RANKINGS, partial(self._inside, region))
        return passes_N

    def _is_predicted(self, column: int) -> np.ndarray:
        if not self._inspection.predictions.has_probabilities:
            raise UsageError("ranks have no decisions", got="a filter by predictions", expected="scores that are probabilities")
        return decide(probability_of(self._inspection.predictions, column), threshold_C=float(self._inspection.threshold_C[column]))

    def _has_bond(self, column: int, other: int, bond: str) -> np.ndarray:
        target_N2 = self._inspection.predictions.target_NC[:, [column, other]]
        is_labelled_N = (target_N2 == PRESENT).all(axis=1)
        is_predicted_N = self._is_predicted(column) & self._is_predicted(other)
        chosen_N = {
            "labelled": is_labelled_N,
            "predicted": is_predicted_N,
            "kept": is_labelled_N & is_predicted_N,
            "invented": is_predicted_N & ~is_labelled_N,
            "broken": is_labelled_N & ~is_predicted_N,
        }[bond]
        return chosen_N & (target_N2 != UNKNOWN).all(axis=1)

    def _has_value(self, name: str, value: str) -> np.ndarray:
        if name not in self._inspection.column_N:
            raise UsageError(
                "unknown column to filter by", got=repr(name), expected=", ".join(self._inspection.column_N) or "no column is known"
            )
        values = self._inspection.column_N[name]
        return np.fromiter((text_of(each) == value for each in values), bool, len(values))

    def _folded(self) -> list[str]:
        if self._folded_ids is None:
            self._folded_ids = [name.casefold() for name in self._inspection.predictions.ids]
        return self._folded_ids

    def _is_between(self, column: int, low: float | None, high: float | None) -> np.ndarray:
        if not self._inspection.predictions.has_probabilities:
            raise UsageError(
                "ranks have no probability to filter by", got="min_score or max_score", expected="scores with probabilities"
            )
        probability_N = probability_of(self._inspection.predictions, column)
        return (probability_N >= (0 if low is None else low)) & (probability_N <= (1 if high is None else high))

    def _disagrees(self, column: int, threshold: float, against: int) -> np.ndarray:
        compared, predictions = self._inspection.against(against), self._inspection.predictions
        if compared is None or not (predictions.has_probabilities and compared.predictions.has_probabilities):
            raise UsageError("no second run whose decisions could differ", expected="--compare-with RUN, both with probabilities")
        ours_N = decide(probability_of(predictions, column), threshold_C=threshold)
        theirs_N = decide(probability_of(compared.predictions, column), threshold_C=threshold)[compared.row_N]
        return (compared.row_N >= 0) & (ours_N != theirs_N)

    def _cached(self, cache: "OrderedDict", key: object, size: int, make: Callable[[], np.ndarray]) -> np.ndarray:
        with self._lock:
            if key in cache:
                cache.move_to_end(key)
                return cache[key]
        made = make()
        made.setflags(write=False)
        with self._lock:
            cache[key] = made
            while len(cache) > max(1, min(size, _MAX_BYTES // max(1, made.nbytes))):
                cache.popitem(last=False)
        return made


def ascending(value_N: np.ndarray, *, by_id_N: np.ndarray) -> np.ndarray:
    """Return the rows by ascending value, NaN last, and rows of equal values in their order in `by_id_N`.

    NumPy sorts integers in a third of the time of `lexsort`: the value as float32, and behind it the place in `by_id_N`.
    """
    value_N = np.where(np.isnan(value_N), np.inf, value_N)[by_id_N]
    with np.errstate(over="ignore"):
        key_N = ordered_integers(value_N.astype(np.float32)).astype(np.uint64) << _PLACE_BITS
    key_N |= np.arange(len(key_N), dtype=np.uint64)
    key_N.sort()
    order_N = (key_N & _PLACE_MASK).astype(np.int64)
    sorted_N = value_N[order_N]
    if (sorted_N[1:] < sorted_N[:-1]).any():  # float64 values that are one float32
        key_N >>= _PLACE_BITS
        is_tied_N = np.zeros(len(key_N), bool)
        is_tied_N[1:] = key_N[1:] == key_N[:-1]
        is_tied_N[:-1] |= is_tied_N[1:]
        order_N[is_tied_N] = order_N[is_tied_N][np.lexsort((order_N[is_tied_N], sorted_N[is_tied_N]))]
    return by_id_N[order_N]


def _kind_of_values(query: Query) -> Hashable:
    return query.find or (query.column, query.sort, query.against if query.sort == "disagreement" else 0)


def sort_values(inspection: Inspection, column: int, sort: str, *, against: int = 0) -> np.ndarray:
    """Return the sort key of every image for one class: float64, N, NaN where it is undefined.

    score         the logit, or the given score
    loss          binary cross-entropy of the given label; undefined for an unknown label
    suspicion     minus the log-odds of the given label under cross-fitted Platt scaling (`metrics/label_issues.py`); for an unknown
                  label, the log-odds that the class is present
    disagreement  difference of the probabilities of this run and the compared one at the place `against`, or of their normalised
                  ranks where the scores are ranks

    Raises UsageError for another name, for "disagreement" without another run, and for "loss" and "suspicion" of ranks.
    """
    predictions = inspection.predictions
    logit_N, target_N = predictions.logit_NC[:, column].astype(np.float64), predictions.target_NC[:, column]
    if sort == "score":
        return logit_N
    if sort == "disagreement":
        return _disagreement(inspection, inspection.against(against), column)
    if sort not in ("loss", "suspicion"):
        raise UsageError("unknown order", got=repr(sort), expected="one of " + ", ".join(SORTS))
    if not predictions.has_probabilities:
        raise UsageError("ranks have no loss", got=sort, expected="score, disagreement or id")
    if sort == "loss":
        loss_N = np.logaddexp(0, np.where(target_N == PRESENT, -logit_N, logit_N))
        return np.where(target_N == UNKNOWN, np.nan, loss_N)
    return _suspicion(predictions, column, groups=inspection.groups)


def probability_of(predictions: Predictions, column: int) -> np.ndarray:
    """Return the probabilities of one class without computing the others: float64, N, NaN for ranks."""
    if predictions.given_probability_NC is not None:
        return predictions.given_probability_NC[:, column]
    if not predictions.has_probabilities:
        return np.full(len(predictions), np.nan)
    return sigmoid(predictions.logit_NC[:, column])


def outcomes_of(predictions: Predictions, column: int, threshold: float) -> np.ndarray:
    """Return for each image the index in OUTCOMES of its decision about one class: int8, N."""
    target_N = predictions.target_NC[:, column]
    if not predictions.has_probabilities:
        return np.where(target_N == UNKNOWN, OUTCOMES.index("unknown"), OUTCOMES.index("undecided")).astype(np.int8)
    is_predicted_N = decide(probability_of(predictions, column), threshold_C=threshold)
    known_outcome_N = np.where(
        target_N == PRESENT,
        np.where(is_predicted_N, OUTCOMES.index("true_positive"), OUTCOMES.index("false_negative")),
        np.where(is_predicted_N, OUTCOMES.index("false_positive"), OUTCOMES.index("true_negative")),
    )
    return np.where(target_N == UNKNOWN, OUTCOMES.index("unknown"), known_outcome_N).astype(np.int8)


def changed(inspection: Inspection, compared: ComparedRun | None, column: int, change: str) -> np.ndarray:
    """Return which images one run alone decides rightly about a class, this one ("gained") or the other one ("lost"): boolean, N.

    Each decides at its own threshold of the class. An unknown label counts in neither, and so does an image that the other run did
    not score. Raises UsageError without another run, and where scores are ranks.
    """
    predictions = inspection.predictions
    if compared is None or not (predictions.has_probabilities and compared.predictions.has_probabilities):
        raise UsageError("no second run that could have gained or lost", expected="--compare-with RUN, both with probabilities")
    is_right_N = _is_right(predictions, column, float(inspection.threshold_C[column]))
    is_right_there_N = _is_right(compared.predictions, column, float(compared.threshold_C[column]))[compared.row_N]
    is_known_N = (compared.row_N >= 0) & (predictions.target_NC[:, column] != UNKNOWN)
    return is_known_N & (is_right_N != is_right_there_N) & (is_right_N == (change == "gained"))


def _is_right(predictions: Predictions, column: int, threshold: float) -> np.ndarray:
    is_predicted_N = decide(probability_of(predictions, column), threshold_C=threshold)
    return is_predicted_N == (predictions.target_NC[:, column] == PRESENT)


def text_of(value: Value) -> str:
    """Return a value as text for an address; "" for a missing value."""
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def one_class(predictions: Predictions, column: int) -> Predictions:
    """Return the same images with one class alone. Nothing is checked again: a million names would take a third of a second."""
    one, names = copy(predictions), ("logit_NC", "target_NC", "given_probability_NC")
    arrays = {name: values[:, [column]] for name in names if (values := getattr(predictions, name)) is not None}
    for values in arrays.values():
        values.setflags(write=False)  # as those of all predictions are
    vars(one).update(arrays, label_set=LabelSet(names=(predictions.label_set.names[column],)))
    return one


def _suspicion(predictions: Predictions, column: int, *, groups: Groups | None) -> np.ndarray:
    target_N, fold_N = predictions.target_NC[:, column], None
    if len(predictions) >= 5:  # the folds of label issues
        num_folds = min(5, groups.num_groups) if groups else 5
        fold_N = folds_of(predictions.target_NC, num_folds=num_folds, seed=0, groups=groups)
    fit = fit_calibration(one_class(predictions, column), method="platt", fold_N=fold_N, groups=groups)
    logit_N = fit.cross_fitted_logit_NC[:, 0]
    return np.where(target_N == PRESENT, -logit_N, logit_N)


def _disagreement(inspection: Inspection, compared: ComparedRun | None, column: int) -> np.ndarray:
    predictions = inspection.predictions
    if compared is None:
        raise UsageError("no second run to disagree with", got="disagreement", expected="--compare-with RUN")
    if predictions.has_probabilities and compared.predictions.has_probabilities:
        first_N, second_N = probability_of(predictions, column), probability_of(compared.predictions, column)
    else:
        first_N, second_N = (_normalised_rank(table.logit_NC[:, column]) for table in (predictions, compared.predictions))
    return np.where(compared.row_N >= 0, np.abs(first_N - second_N[compared.row_N]), np.nan)


def _normalised_rank(score_N: np.ndarray) -> np.ndarray:
    """Return for each image the share of images with a lower score."""
    return np.searchsorted(np.sort(score_N), score_N) / len(score_N)
