"""A hierarchy of classes: a present child makes its parent present, an absent parent its child absent.

Shapes: N images, C classes.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from polytag.contracts import ABSENT, PRESENT, UNKNOWN
from polytag.errors import UsageError
from polytag.text import counted, nearest

_NUM_NAMED = 5

Hierarchy = Mapping[str, Sequence[str]]
"""Name of a parent: names of its children."""


def require_no_circle(hierarchy: Hierarchy) -> None:
    """Raises UsageError where a name is below itself."""
    parents_first(hierarchy)


def parents_first(hierarchy: Hierarchy) -> tuple[str, ...]:
    """All names, each after all of its parents; raises UsageError, with the circle, where there is no such order."""
    num_parents: dict[str, int] = dict.fromkeys(hierarchy, 0)
    for children in hierarchy.values():
        for child in children:
            num_parents[child] = num_parents.get(child, 0) + 1
    order = [name for name, number in num_parents.items() if not number]
    for name in order:  # grows while it is walked
        for child in hierarchy.get(name, ()):
            num_parents[child] -= 1
            if not num_parents[child]:
                order.append(child)
    if len(order) < len(num_parents):
        raise UsageError(
            "a hierarchy of classes with a circle",
            got=" -> ".join(_circle(hierarchy, [name for name, number in num_parents.items() if number])),
            expected="parents with children, none of which is above its own parent",
        )
    return tuple(order)


def _circle(hierarchy: Hierarchy, inside: Sequence[str]) -> list[str]:
    """Names from one to itself; every name of `inside` is in a circle, or below one."""
    parent_of = {child: name for name in inside for child in hierarchy.get(name, ())}
    walked = [inside[0]]
    while parent_of[walked[-1]] not in walked:
        walked.append(parent_of[walked[-1]])
    first = parent_of[walked[-1]]
    return [first, *reversed(walked[walked.index(first) :])]


def apply_hierarchy(
    names: tuple[str, ...], target_NC: np.ndarray, hierarchy: Hierarchy
) -> tuple[tuple[str, ...], np.ndarray, list[str]]:
    """Names, targets and sentences on what changed; the targets are a new array.

    First up: a parent is present where a child is, even where the annotations call it absent, which is reported. Then down: a
    child of an absent parent is absent. A parent that is no class, with a class below it, becomes the last class: present where a
    child is, absent where all are, else unknown. Other names that are no class are passed over, and reported.
    """
    order = parents_first(hierarchy)
    added = _added(names, hierarchy, order=order)
    column_of = {name: column for column, name in enumerate((*names, *added))}
    children_of = {
        name: [column_of[child] for child in hierarchy.get(name, ()) if child in column_of] for name in order if name in column_of
    }
    result_NC = np.full((len(target_NC), len(column_of)), UNKNOWN, dtype=np.int8)
    result_NC[:, : len(names)] = target_NC
    contradictions: dict[str, int] = {}
    for name, children in reversed(children_of.items()):
        if children:
            parent_N = result_NC[:, column_of[name]]
            if name in added:
                parent_N[(result_NC[:, children] == ABSENT).all(axis=1)] = ABSENT
            is_present_N = (result_NC[:, children] == PRESENT).any(axis=1)
            contradictions[name] = int((is_present_N & (parent_N == ABSENT)).sum())
            parent_N[is_present_N] = PRESENT
    for name, children in children_of.items():
        is_absent_N = result_NC[:, column_of[name]] == ABSENT
        for child in children:
            result_NC[is_absent_N & (result_NC[:, child] == UNKNOWN), child] = ABSENT
    num_changed = int((result_NC[:, : len(names)] != target_NC).any(axis=1).sum())
    unknown = [name for name in order if name not in column_of]
    return tuple(column_of), result_NC, list(_sentences(names, added, num_changed, contradictions, unknown))


def _added(names: Sequence[str], hierarchy: Hierarchy, *, order: Sequence[str]) -> tuple[str, ...]:
    """The parents that are no class and have a class below them."""
    known = set(names)
    for name in reversed(order):  # children first
        if any(child in known for child in hierarchy.get(name, ())):
            known.add(name)
    return tuple(name for name in order if name in known.difference(names))


def _sentences(
    names: Sequence[str], added: Sequence[str], num_changed: int, contradictions: Mapping[str, int], unknown: Sequence[str]
) -> Iterator[str]:
    if added:
        yield f"the hierarchy adds {counted(len(added), 'classes')}: {_some([repr(name) for name in added])}"
    if num_changed:
        yield f"the hierarchy changes labels of {counted(num_changed, 'images')}"
    if texts := [f"{name!r} in {counted(number, 'images')}" for name, number in contradictions.items() if number]:
        yield f"absent in the annotations although a child is present, and now present: {_some(texts)}"
    if unknown:
        texts = [f"{unknown[0]!r}{nearest(unknown[0], names)}", *map(repr, unknown[1:])]
        yield f"{counted(len(unknown), 'names')} of the hierarchy that the data do not have: {_some(texts)}"


def _some(texts: Sequence[str]) -> str:
    more = len(texts) - _NUM_NAMED
    return ", ".join(texts[:_NUM_NAMED]) + (f" and {more:,} more" if more > 0 else "")
