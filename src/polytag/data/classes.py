"""Which classes a data set has: renamed, merged, in a hierarchy, left out, in an order. A Dataset in, a Dataset out.

The order is always the same: names take their normal form (`class_names`), then rename, merge, hierarchy, classes, drop and minimum
support. Shapes: N images, C classes, S merged classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property

import numpy as np

from polytag.contracts import ABSENT, PRESENT, UNKNOWN, Dataset, LabelSet
from polytag.data.class_hierarchy import apply_hierarchy, require_no_circle
from polytag.data.class_names import alike_names, normal_name
from polytag.data.formats.listing import first_repeated
from polytag.errors import DataError, UsageError
from polytag.text import counted, nearest

_NUM_NAMED = 5  # classes named in a sentence
_NUM_OPTIONS = 20  # options in an advice, to be copied


@dataclass(frozen=True, kw_only=True)
class ClassShaping:
    """Which classes of the annotations a data set has, and under which names.

    rename        old name: new name, which no other class has
    merge         new name: the classes, after the renaming, that become it. It is present where any of them is, absent where all
                  are, else unknown
    hierarchy     name: its children, such as animal: cat, dog. A present child makes its parent present, then an absent parent its
                  child absent. A parent that the data lack becomes a class, as by `merge`
    classes       the classes to keep, in this order; (): all
    drop          names or shell patterns (`*`, `?`, `[ab]`) of the classes to leave out
    min_support   classes with fewer positives in the training images are left out: those of "train", or without such a split of all
                  but "val" and "test"

    Names are compared without surrounding spaces and in the Unicode form NFC. Raises UsageError for a name that is given two
    roles, and for a hierarchy with a circle.
    """

    classes: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    merge: Mapping[str, Sequence[str]] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    min_support: int = 0
    hierarchy: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self):
        for name in ("classes", "drop"):
            object.__setattr__(self, name, tuple(normal_name(each) for each in getattr(self, name)))
        object.__setattr__(self, "rename", {normal_name(old): normal_name(new) for old, new in self.rename.items()})
        for name in ("merge", "hierarchy"):
            lists = {normal_name(key): tuple(map(normal_name, values)) for key, values in getattr(self, name).items()}
            object.__setattr__(self, name, lists)
        merged = [name for sources in self.merge.values() for name in sources]
        for what, names in (
            ("a class is named twice in the classes to keep", self.classes),
            ("two classes are renamed to one name", tuple(self.rename.values())),
            ("a class is merged twice", merged),
        ):
            if (twice := first_repeated(names)) is not None:
                merge = f"merge them: --merge {twice}={','.join(old for old, new in self.rename.items() if new == twice)}"
                raise UsageError(what, got=repr(twice), expected="every class once", next_step=merge if "renamed" in what else "")
        for name in (*self.classes, *self.rename.values(), *self.merge, *merged, *self.drop):
            if not name:
                raise UsageError("an empty class name", where="classes, rename, merge or drop", got="''", expected="a name")
        if nothing := [name for name, sources in self.merge.items() if not sources]:
            raise UsageError("a merge of no classes", got=repr(nothing[0]), expected="one class or more")
        if self.min_support < 0:
            raise UsageError("a minimum support below zero", got=str(self.min_support), expected="0 positives or more")
        require_no_circle(self.hierarchy)

    def new_name(self, name: str) -> str:
        """The name of a class of the annotations after renaming and merging; classes that are left out have one as well."""
        name = normal_name(name)
        name = self.rename.get(name, name)
        return next((new for new, sources in self.merge.items() if name in sources), name)

    def old_names(self, names: Sequence[str]) -> tuple[str, ...]:
        """The names of the annotations that become these classes."""
        before = {new: old for old, new in self.rename.items()}
        merged = [source for name in names for source in self.merge.get(normal_name(name), (name,))]
        return tuple(dict.fromkeys(before.get(normal_name(name), name) for name in merged))


@dataclass(frozen=True, kw_only=True, eq=False)
class Shaped:
    """A data set with other classes, and sentences that say what was done.

    corrections       of names, without an option
    notes             on what the options did
    doubt, decision   classes that look like one under several names ("" for none), and the options that decide it
    """

    dataset: Dataset
    corrections: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    doubt: str = ""
    decision: str = ""


def shape_classes(
    dataset: Dataset, shaping: ClassShaping = ClassShaping(), *, is_whole: bool = True, has_own_names: bool = False
) -> Shaped:
    """The data set with the classes that the options name; the images stay as they are, and so does a data set without need.

    Names lose surrounding spaces and take the Unicode form NFC; classes whose names are then equal become one, as by `merge`.
    Names of polytag's own tables (`has_own_names`) are as they were meant. Without `is_whole`, as for labels of some images, an
    option may name classes that are not there, and every class has support.
    Raises UsageError, with the nearest name, for an option that names no class, and for a new name that another class has;
    DataError where no class is left.
    """
    corrections, notes = list[str](), list[str]()
    table = _Table(names=dataset.label_set.names, target_NC=dataset.target_NC)
    if not has_own_names:
        table = _normalised(table, corrections)
    table = _renamed(table, shaping, source=dataset.source, is_whole=is_whole, notes=notes)
    table = _merged(table, shaping, source=dataset.source, is_whole=is_whole, notes=notes)
    if shaping.hierarchy:
        names, target_NC, sentences = apply_hierarchy(table.names, table.target_NC, shaping.hierarchy)
        table = _Table(names=names, target_NC=target_NC)
        notes += sentences
    table = _kept(table, shaping, dataset=dataset, is_whole=is_whole, notes=notes)
    if table.names != dataset.label_set.names or table.target_NC is not dataset.target_NC:
        dataset = replace(dataset, label_set=LabelSet(names=table.names), target_NC=table.target_NC)
    alike = () if has_own_names or set(table.names) <= set(shaping.classes) else alike_names(table.names)
    return Shaped(
        dataset=dataset,
        corrections=tuple(corrections),
        notes=tuple(notes),
        doubt=_alike_text(table, alike),
        decision=_decision(table, alike) if alike else "",
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Table:
    """Class names and the targets of every image, N x C."""

    names: tuple[str, ...]
    target_NC: np.ndarray

    @cached_property
    def column_of(self) -> Mapping[str, int]:
        """The column of each class, of which there may be tens of thousands."""
        return {name: column for column, name in enumerate(self.names)}

    def positives(self, name: str) -> int:
        """Images in which the class is present."""
        return int((self.target_NC[:, self.column_of[name]] == PRESENT).sum())


def merged_target(target_NS: np.ndarray) -> np.ndarray:
    """int8 N: present where any of the S targets is, absent where all are, else unknown."""
    is_absent_N = (target_NS == ABSENT).all(axis=1)
    return np.where((target_NS == PRESENT).any(axis=1), PRESENT, np.where(is_absent_N, ABSENT, UNKNOWN)).astype(np.int8)


def _normalised(table: _Table, corrections: list[str]) -> _Table:
    """Names without surrounding spaces and in NFC; equal ones become one class."""
    groups: dict[str, list[str]] = {}
    for name in table.names:
        groups.setdefault(normal_name(name), []).append(name)
    changed = {new: olds for new, olds in groups.items() if olds != [new]}
    if not changed:
        return table
    several = [new for new, olds in changed.items() if len(olds) > 1]
    text = f"{counted(len(changed), 'class names')} without surrounding spaces and in the Unicode form NFC: {_some(changed)}"
    corrections.append(text + (f"; classes that are then equal are one: {_some(several)}" if several else ""))
    return _grouped(table, groups)


def _grouped(table: _Table, groups: Mapping[str, Sequence[str]]) -> _Table:
    """The classes of these groups, each merged, in the order of their first classes; a class of no group stays as it is."""
    of_group = {name: new for new, names in groups.items() for name in names}
    names = tuple(dict.fromkeys(of_group.get(name, name) for name in table.names))
    if names == table.names:
        return table
    target_NC = np.empty((len(table.target_NC), len(names)), dtype=np.int8)
    for column, name in enumerate(names):
        columns = [table.column_of[old] for old in groups.get(name, (name,)) if old in table.column_of]
        target_NC[:, column] = table.target_NC[:, columns[0]] if len(columns) == 1 else merged_target(table.target_NC[:, columns])
    return _Table(names=names, target_NC=target_NC)


def _renamed(table: _Table, shaping: ClassShaping, *, source: str, is_whole: bool, notes: list[str]) -> _Table:
    if is_whole:
        _require_known(shaping.rename, table.names, where="rename", source=source)
    rename = {old: new for old, new in shaping.rename.items() if old in table.column_of}
    if not rename:
        return table
    names = tuple(rename.get(name, name) for name in table.names)
    if (twice := first_repeated(names)) is not None:
        olds = [old for old in table.names if rename.get(old, old) == twice]
        raise UsageError(
            "a class is renamed to the name of another",
            where=source,
            got=", ".join(f"{old}={new}" for old, new in rename.items() if new == twice),
            expected="a name that no class has",
            next_step=f"merge them: --merge '{twice}={','.join(olds)}'",
        )
    texts = [f"{old!r} is {new!r} ({counted(table.positives(old), 'positives')})" for old, new in rename.items()]
    notes.append(f"{counted(len(rename), 'classes')} renamed: {_listed(texts)}")
    return replace(table, names=names)


def _merged(table: _Table, shaping: ClassShaping, *, source: str, is_whole: bool, notes: list[str]) -> _Table:
    if is_whole:
        _require_known([name for names in shaping.merge.values() for name in names], table.names, where="merge", source=source)
    groups = {new: [name for name in names if name in table.column_of] for new, names in shaping.merge.items()}
    groups = {new: names for new, names in groups.items() if names}
    sources = {name for names in groups.values() for name in names}
    for new, names in groups.items():
        if new in table.column_of and new not in sources:
            raise UsageError(
                "classes are merged to the name of another",
                where=source,
                got=f"{new}={','.join(names)}",
                expected="a name that no class has, or that of a merged class",
                next_step=f"merge it as well: --merge '{new}={','.join((new, *names))}'",
            )
    merged = _grouped(table, groups)
    for new, names in groups.items():
        parts = [f"{name!r} ({counted(table.positives(name), 'positives')})" for name in names]
        notes.append(f"{new!r} is {_listed(parts)} merged: {counted(merged.positives(new), 'positives')}")
    return merged


def _kept(table: _Table, shaping: ClassShaping, *, dataset: Dataset, is_whole: bool, notes: list[str]) -> _Table:
    """The classes of `classes`, without those of `drop` and those of too few positives."""
    source = dataset.source
    if is_whole:
        _require_known(shaping.classes, table.names, where="classes", source=source)
        _require_known(
            [each for each in shaping.drop if not _matching(each, table.names)], table.names, where="drop", source=source
        )
    names = tuple(name for name in shaping.classes if name in table.column_of) if shaping.classes else table.names
    dropped = {name for pattern in shaping.drop for name in _matching(pattern, names)}
    remaining = [name for name in names if name not in dropped]
    trained = _training_rows(table, dataset) if shaping.min_support and is_whole else None
    rare = {name: None for name in remaining if trained.positives(name) < shaping.min_support} if trained else {}
    kept = tuple(name for name in remaining if name not in rare)
    if not kept:
        raise DataError(
            "no class is left",
            where=source,
            got=f"{counted(len(table.names), 'classes')}, all of them left out",
            expected="at least one",
            next_step="keep a class with --classes, or leave out fewer with --drop and --min-support",
        )
    if kept == table.names:
        return table
    result = _Table(names=kept, target_NC=table.target_NC[:, [table.column_of[name] for name in kept]])
    others = {*kept, *rare}
    left_out = [name for name in table.names if name not in others]
    few = f" with fewer than {counted(shaping.min_support, 'positives')} in the training images"
    for names, of, reason in ((left_out, table, ""), (rare, trained or table, few)):
        if names:
            texts = [f"{name!r} ({counted(of.positives(name), 'positives')})" for name in names]
            notes.append(f"{counted(len(names), 'classes')}{reason} left out: {_listed(texts)}")
    num_without = int(((table.target_NC == PRESENT).any(axis=1) & ~(result.target_NC == PRESENT).any(axis=1)).sum())
    if num_without:
        notes.append(f"{counted(num_without, 'images')} have none of the classes that are left, and had one of the others")
    return result


def _training_rows(table: _Table, dataset: Dataset) -> _Table:
    """The targets of the images that may be learned from; of all where there is only "val" or "test"."""
    splits = {"train"} if "train" in dataset.splits else set(dataset.splits) - {"val", "test"} or set(dataset.splits)
    is_trained_N = np.array([split in splits for split in dataset.split_N], bool)
    return replace(table, target_NC=table.target_NC if is_trained_N.all() else table.target_NC[is_trained_N])


def _matching(pattern: str, names: Sequence[str]) -> list[str]:
    """The class of this name, or those that a shell pattern fits; capitals count."""
    return [pattern] if pattern in names else [name for name in names if fnmatchcase(name, pattern)]


def _require_known(wanted: Sequence[str] | Mapping[str, str], names: Sequence[str], *, where: str, source: str) -> None:
    known = set(names)
    for name in wanted:
        if name not in known:
            raise UsageError(
                "unknown class name",
                where=source,
                got=f"{where}: {name!r}{nearest(name, names)}",
                expected="one of " + ", ".join(names[:20]) + (", ..." if len(names) > 20 else ""),
            )


def _alike_text(table: _Table, groups: Sequence[Sequence[str]]) -> str:
    texts = [" and ".join(f"{name!r} ({counted(table.positives(name), 'positives')})" for name in names) for names in groups]
    return _listed(texts)


def _decision(table: _Table, groups: Sequence[Sequence[str]]) -> str:
    merges = [f"--merge '{max(names, key=table.positives)}={','.join(names)}'" for names in groups]
    more = " ..." if len(merges) > _NUM_OPTIONS else ""
    return f"{' '.join(merges[:_NUM_OPTIONS])}{more} makes them one; --rename '{groups[0][-1]}=ANOTHER NAME' tells them apart"


def _some(names: Sequence[str] | Mapping[str, object]) -> str:
    return _listed([repr(name) for name in names])


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - _NUM_NAMED
    return ", ".join(texts[:_NUM_NAMED]) + (f" and {more:,} more" if more > 0 else "")
