"""Builds the page of pairs of classes: the graph, the worst pairs, the pairs of one class, and the matrix of few classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlencode

import numpy as np

from polytag.contracts import PRESENT
from polytag.errors import UsageError
from polytag.inspector.browse.service import InspectorService
from polytag.inspector.explain.class_graph import MAX_CLASSES, ClassGraph, class_graph, excess
from polytag.inspector.explain.contexts import MatrixCell, PairCount, PairRow, TogetherPage
from polytag.inspector.explain.evidence import predicted_of
from polytag.inspector.explain.jobs import Jobs
from polytag.inspector.inspection import Inspection
from polytag.metrics.class_pairs import Bonds, ClassPairs, bonds, class_pairs

NUM_DEVIATING, MAX_ROWS = 30, 100
MAX_COMPARED = 2000
"""Classes whose pairs are counted: with more, the most frequent ones."""

_TINTS = (0.0, 0.05, 0.2, 0.5)  # shares of the rarer class above which a cell of the matrix gets its next tint


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparedPairs:
    """The pairs of the compared classes, by their names."""

    names: Sequence[str]
    pairs: ClassPairs
    bonds: Bonds

    @cached_property
    def graph(self) -> ClassGraph:
        """The graph of the page."""
        return class_graph(self.names, self.pairs, self.bonds)

    @cached_property
    def deviating(self) -> list[PairRow]:
        """The pairs that deviate most."""
        return _most_deviating(self)


def compared_pairs(inspection: Inspection) -> ComparedPairs:
    """Count and test every pair at the thresholds of the classes."""
    target_NC, names = inspection.predictions.target_NC, inspection.predictions.label_set.names
    columns = np.arange(len(names))
    if len(names) > MAX_COMPARED:
        columns = np.sort(np.argsort(-(target_NC == PRESENT).sum(axis=0), kind="stable")[:MAX_COMPARED])
    pairs = class_pairs(target_NC[:, columns], predicted_of(inspection)[:, columns])
    compared = ComparedPairs(names=[names[column] for column in columns], pairs=pairs, bonds=bonds(pairs))
    _ = compared.graph, compared.deviating  # sort in this thread, not in each request
    return compared


def together_page(service: InspectorService, class_name: str, *, against: int = 0, jobs: Jobs) -> TogetherPage:
    """Return the page with the row of one class, by default of the first in the worst pair.

    `against` is the place of the compared run. Raises NotThere for an unknown class, UsageError for ranks.
    """
    inspection = service.inspection
    if class_name:
        service.column(class_name)
    if not inspection.predictions.has_probabilities:
        raise UsageError("ranks have no decisions, so no class is predicted together with another")
    compared = jobs.answer(("pairs", inspection.threshold_C.tobytes()), lambda: compared_pairs(inspection))
    if compared is None:
        return TogetherPage(
            run=service.run(against),
            is_pending=True,
            chosen=class_name,
            num_classes=0,
            num_invented=0,
            num_broken=0,
            graph=None,
            deviating=[],
            rows=[],
            matrix=[],
        )
    chosen = class_name or (compared.deviating[0].first if compared.deviating else compared.names[0])
    return TogetherPage(
        run=service.run(against),
        is_pending=False,
        chosen=chosen,
        num_classes=len(compared.names),
        num_invented=int(np.triu(compared.bonds.is_invented_CC).sum()),
        num_broken=int(np.triu(compared.bonds.is_broken_CC).sum()),
        graph=compared.graph,
        deviating=compared.deviating,
        rows=_rows_of(compared, chosen),
        matrix=_matrix(compared) if len(compared.names) <= MAX_CLASSES else [],
    )


def _most_deviating(compared: ComparedPairs) -> list[PairRow]:
    """Pairs beyond noise, the largest excess first, then the others by how far they are from what own errors explain."""
    pairs = compared.pairs
    beyond_CC = excess(pairs, compared.bonds)
    far_CC = np.maximum(pairs.invented_CC - pairs.expected_invented_CC, pairs.broken_CC - pairs.expected_broken_CC)
    first_U, second_U = np.triu_indices(len(compared.names), k=1)
    order = np.lexsort((-far_CC[first_U, second_U], -beyond_CC[first_U, second_U]))[:NUM_DEVIATING]
    found = [(int(first_U[place]), int(second_U[place])) for place in order]
    return [_row(compared, a, b) for a, b in found if far_CC[a, b] > 0]


def _rows_of(compared: ComparedPairs, name: str) -> list[PairRow]:
    """The pairs of one class with an image, the largest excess first, then the most labels; none for a class left out."""
    if name not in compared.names:
        return []
    own, pairs = compared.names.index(name), compared.pairs
    beyond_C, num_C = excess(pairs, compared.bonds)[own], pairs.both_present_CC[own] + pairs.both_predicted_CC[own]
    others = [column for column in range(len(compared.names)) if column != own and num_C[column]]
    others.sort(key=lambda column: (-beyond_C[column], -num_C[column], column))
    return [_row(compared, own, other) for other in others[:MAX_ROWS]]


def _row(compared: ComparedPairs, a: int, b: int) -> PairRow:
    pairs, found = compared.pairs, compared.bonds

    def count(
        num_CC: np.ndarray, bond: str, *, expected_CC: np.ndarray | None = None, is_more_CC: np.ndarray | None = None
    ) -> PairCount:
        return PairCount(
            num=int(num_CC[a, b]),
            expected=None if expected_CC is None else float(expected_CC[a, b]),
            is_more=is_more_CC is not None and bool(is_more_CC[a, b]),
            link=_link(compared.names, a, b, bond),
        )

    return PairRow(
        first=compared.names[a],
        second=compared.names[b],
        labelled=count(pairs.both_present_CC, "labelled"),
        predicted=count(pairs.both_predicted_CC, "predicted"),
        invented=count(pairs.invented_CC, "invented", expected_CC=pairs.expected_invented_CC, is_more_CC=found.is_invented_CC),
        broken=count(pairs.broken_CC, "broken", expected_CC=pairs.expected_broken_CC, is_more_CC=found.is_broken_CC),
    )


def _matrix(compared: ComparedPairs) -> list[tuple[str, list[MatrixCell]]]:
    """Below the diagonal labelled together, above it predicted together, on it labelled at all."""
    size = range(len(compared.names))
    return [(compared.names[a], [_cell(compared, a, b) for b in size]) for a in size]


def _cell(compared: ComparedPairs, a: int, b: int) -> MatrixCell:
    pairs, found, names = compared.pairs, compared.bonds, compared.names
    is_below = a > b
    num = int((pairs.both_present_CC if a >= b else pairs.both_predicted_CC)[a, b])
    if a == b:
        link = "/ranking?" + urlencode({"class": names[a], "present": names[a]})
        return MatrixCell(num=num, tint=0, is_more=False, link=link if num else "", title=f"{names[a]}: labelled in {num:,}")
    bond = "labelled" if is_below else "predicted"
    rarer_CC = pairs.present_CC if is_below else pairs.predicted_CC
    share = num / max(1, min(int(rarer_CC[a, b]), int(rarer_CC[b, a])))
    is_more = bool((found.is_broken_CC if is_below else found.is_invented_CC)[a, b])
    beyond = ", more of them broken than own errors explain" if is_below else ", more of them invented than own errors explain"
    return MatrixCell(
        num=num,
        tint=sum(share > limit for limit in _TINTS),
        is_more=is_more,
        link=_link(names, a, b, bond) if num else "",
        title=f"{names[a]} and {names[b]}: {bond} together in {num:,}{beyond if is_more else ''}",
    )


def _link(names: Sequence[str], a: int, b: int, bond: str) -> str:
    return "/ranking?" + urlencode({"class": names[a], "other": names[b], "bond": bond})
