"""Lays out the graph of classes: names on a circle, grey edges for labels that occur together, orange ones for errors in pairs.

Shapes: C classes, K of them in the graph.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

import numpy as np

from polytag.metrics.class_pairs import Bonds, ClassPairs

MAX_CLASSES = 40
RADIUS_PX = 240
_MAX_EDGES, _MAX_LETTERS = 80, 18
_LABEL_GAP_PX, _LETTER_PX, _LARGEST_PX, _SMALLEST_PX = 14, 8.5, 8.0, 2.5


@dataclass(frozen=True, kw_only=True)
class GraphNode:
    """A class: its place, the angle of its name in degrees, on which side of the place the name stands, and its size."""

    name: str
    text: str
    x: float
    y: float
    radius: float
    label_x: float
    label_y: float
    angle: float
    anchor: str
    link: str


@dataclass(frozen=True, kw_only=True)
class GraphEdge:
    """A pair: "labelled", "invented" or "broken", as an SVG path with its width, and the address of its images."""

    kind: str
    path: str
    width: float
    title: str
    link: str


@dataclass(frozen=True, kw_only=True)
class ClassGraph:
    """Nodes, and edges with the grey ones first. The centre is at 0, 0, and the drawing `half` to each side of it."""

    nodes: Sequence[GraphNode]
    edges: Sequence[GraphEdge]
    half: int


def class_graph(names: Sequence[str], pairs: ClassPairs, found: Bonds) -> ClassGraph:
    """Return the graph of all classes, or of the 40 with the largest errors in pairs and the most labels."""
    columns = _in_order(_chosen(pairs, found), pairs)
    angle_of = {column: 2 * math.pi * place / max(len(columns), 1) - math.pi / 2 for place, column in enumerate(columns)}
    most = max(1, int(np.diag(pairs.both_present_CC).max(initial=0)))
    nodes = [_node(names[column], angle, int(pairs.both_present_CC[column, column]) / most) for column, angle in angle_of.items()]
    edges: list[GraphEdge] = []
    for kind, is_CC, num_CC, expected_CC in (
        ("labelled", found.is_labelled_CC, pairs.both_present_CC, None),
        ("broken", found.is_broken_CC, pairs.broken_CC, pairs.expected_broken_CC),
        ("invented", found.is_invented_CC, pairs.invented_CC, pairs.expected_invented_CC),
    ):
        two = [(int(a), int(b)) for a, b in np.argwhere(np.triu(is_CC)) if a in angle_of and b in angle_of]
        two.sort(key=lambda each: -num_CC[each])
        largest = max((int(num_CC[each]) for each in two), default=1)
        for a, b in two[:_MAX_EDGES]:
            num = int(num_CC[a, b])
            explained = "" if expected_CC is None else f"; own errors explain {expected_CC[a, b]:.1f}"
            edges.append(
                GraphEdge(
                    kind=kind,
                    path=_path(angle_of[a], angle_of[b]),
                    width=round(1 + 3 * math.sqrt(num / largest), 2),
                    title=f"{names[a]} and {names[b]}: {kind} in {num:,}{explained}",
                    link="/ranking?" + urlencode({"class": names[a], "other": names[b], "bond": kind}),
                )
            )
    longest = max((len(node.text) for node in nodes), default=0)
    return ClassGraph(nodes=nodes, edges=edges, half=round(RADIUS_PX + _LABEL_GAP_PX + _LETTER_PX * longest))


def excess(pairs: ClassPairs, found: Bonds) -> np.ndarray:
    """Return for each pair how many more images are invented or broken than own errors explain; 0 within noise. C x C."""
    invented_CC = np.where(found.is_invented_CC, pairs.invented_CC - pairs.expected_invented_CC, 0)
    broken_CC = np.where(found.is_broken_CC, pairs.broken_CC - pairs.expected_broken_CC, 0)
    return np.maximum(invented_CC, broken_CC)


def _chosen(pairs: ClassPairs, found: Bonds) -> list[int]:
    num_classes = len(pairs.known_CC)
    if num_classes <= MAX_CLASSES:
        return list(range(num_classes))
    largest_C, labels_C = excess(pairs, found).max(axis=1), np.diag(pairs.both_present_CC)
    return sorted(range(num_classes), key=lambda column: (-largest_C[column], -labels_C[column], column))[:MAX_CLASSES]


def _in_order(columns: list[int], pairs: ClassPairs) -> list[int]:
    """Classes that are often labelled together stand next to each other: each is followed by its closest one that is left."""
    if not columns:
        return []
    present_C = np.maximum(np.diag(pairs.both_present_CC), 1)
    close_CC = pairs.both_present_CC / np.sqrt(np.outer(present_C, present_C))
    ordered = [max(columns, key=lambda column: (present_C[column], -column))]
    left = [column for column in columns if column != ordered[0]]
    while left:
        ordered.append(max(left, key=lambda column: (close_CC[ordered[-1], column], -column)))
        left.remove(ordered[-1])
    return ordered


def _node(name: str, angle: float, share: float) -> GraphNode:
    is_left = math.cos(angle) < -1e-9
    x, y = _place(angle, RADIUS_PX)
    label_x, label_y = _place(angle, RADIUS_PX + _LABEL_GAP_PX)
    return GraphNode(
        name=name,
        text=name if len(name) <= _MAX_LETTERS else name[: _MAX_LETTERS - 1] + "…",
        x=x,
        y=y,
        radius=round(_SMALLEST_PX + (_LARGEST_PX - _SMALLEST_PX) * math.sqrt(share), 2),
        label_x=label_x,
        label_y=label_y,
        angle=round(math.degrees(angle) + (180 if is_left else 0), 2),
        anchor="end" if is_left else "start",
        link="/class?" + urlencode({"class": name}),
    )


def _place(angle: float, radius: float) -> tuple[float, float]:
    return round(radius * math.cos(angle), 1), round(radius * math.sin(angle), 1)


def _path(first: float, second: float) -> str:
    """A curve between two places of the circle, the deeper the farther they are from each other."""
    (x1, y1), (x2, y2) = _place(first, RADIUS_PX), _place(second, RADIUS_PX)
    depth = 1 - math.dist((x1, y1), (x2, y2)) / (2 * RADIUS_PX)
    return f"M{x1} {y1}Q{depth * (x1 + x2) / 2:.1f} {depth * (y1 + y2) / 2:.1f} {x2} {y2}"
