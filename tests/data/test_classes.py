"""Renaming, merging, choosing and leaving out classes; what looks like one class under two names; the hierarchy's laws."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytag.contracts import Dataset, LabelSet
from polytag.data.class_hierarchy import apply_hierarchy, parents_first
from polytag.data.class_names import alike_names
from polytag.data.classes import ClassShaping, merged_target, shape_classes
from polytag.errors import DataError, UsageError
from polytag.plain import from_plain


def data(**columns: Sequence[int]) -> Dataset:
    """A data set with these classes, and the targets of each."""
    return data_of(columns)


def data_of(columns: Mapping[str, Sequence[int]]) -> Dataset:
    number = len(next(iter(columns.values())))
    return Dataset(
        ids=tuple(map(str, range(number))),
        paths=tuple(Path(f"{row}.jpg") for row in range(number)),
        target_NC=np.array(list(columns.values()), np.int8).T,
        split_N=("",) * number,
        label_set=LabelSet(names=tuple(columns)),
        source="a list of columns",
    )


def columns(dataset: Dataset) -> dict[str, list[int]]:
    return dict(zip(dataset.label_set, dataset.target_NC.T.tolist(), strict=True))


def shaped(dataset: Dataset, **options: Any) -> dict[str, list[int]]:
    return columns(shape_classes(dataset, ClassShaping(**options)).dataset)


def refusal(dataset: Dataset, **options: Any) -> str:
    with pytest.raises(UsageError) as error:
        shape_classes(dataset, ClassShaping(**options))
    return str(error.value)


# ---- renaming and merging ----


def test_a_merged_class_is_present_if_any_is_absent_if_all_are_else_unknown():
    """The nine cases of two classes."""
    expected = {(1, 1): 1, (1, 0): 1, (1, -1): 1, (0, 1): 1, (0, 0): 0, (0, -1): -1, (-1, 1): 1, (-1, 0): -1, (-1, -1): -1}
    for pair in product((1, 0, -1), repeat=2):
        assert merged_target(np.array([pair], np.int8)).tolist() == [expected[pair]]


def test_renaming_keeps_the_place_and_merging_takes_the_first_ones():
    dataset = data(cat=[1, 0, -1], bird=[0, 0, 1], dog=[0, 0, 0])
    assert shaped(dataset, rename={"cat": "Katze"}) == {"Katze": [1, 0, -1], "bird": [0, 0, 1], "dog": [0, 0, 0]}
    assert shaped(dataset, merge={"animal": ["dog", "cat"]}) == {"animal": [1, 0, -1], "bird": [0, 0, 1]}
    assert shaped(dataset, rename={"cat": "Katze"}, merge={"dog": ["Katze", "dog"]}) == {"dog": [1, 0, -1], "bird": [0, 0, 1]}
    swapped = shaped(dataset, rename={"cat": "dog", "dog": "cat"})
    assert swapped == {"dog": [1, 0, -1], "bird": [0, 0, 1], "cat": [0, 0, 0]}


def test_what_was_done_is_said_with_counts():
    dataset = data(cat=[1, 1, 0], Cat=[0, 0, 1], dog=[0, 0, 1], cow=[0, 0, 0])
    notes = shape_classes(
        dataset, ClassShaping(rename={"dog": "hound"}, merge={"cat": ["cat", "Cat"]}, drop=("h*",), min_support=1)
    ).notes
    assert notes == (
        "1 class renamed: 'dog' is 'hound' (1 positive)",
        "'cat' is 'cat' (2 positives), 'Cat' (1 positive) merged: 3 positives",
        "1 class left out: 'hound' (1 positive)",
        "1 class with fewer than 1 positive in the training images left out: 'cow' (0 positives)",
    )
    only = shape_classes(dataset, ClassShaping(classes=("dog", "cow")))
    assert only.notes[1] == "2 images have none of the classes that are left, and had one of the others"


def test_without_options_nothing_is_copied():
    dataset = data(cat=[1, 0], dog=[0, 1])
    assert shape_classes(dataset).dataset is dataset


# ---- choosing ----


def test_classes_are_kept_in_the_order_of_the_option_and_dropped_by_pattern():
    dataset = data_of({"cat": [1], "cat[1]": [0], "car": [-1], "dog": [0]})
    assert list(shaped(dataset, classes=("dog", "cat"))) == ["dog", "cat"]
    assert list(shaped(dataset, drop=("ca?",))) == ["cat[1]", "dog"]
    assert list(shaped(dataset, drop=("cat[1]",))) == ["cat", "car", "dog"], "a name is itself before it is a pattern"
    assert list(shaped(dataset, classes=("dog", "cat", "car"), drop=("c*",))) == ["dog"]


@pytest.mark.parametrize(
    ("splits", "kept"),
    [
        (("train", "val", "test", "more"), ["a"]),
        (("trainval", "trainval", "test", "test"), ["a", "b"]),
        (("", "", "", ""), ["a", "b", "c", "d"]),
        (("fold-1", "fold-2", "test", "fold-2"), ["a", "b", "d"]),
        (("val", "test", "test", "test"), ["a", "b", "c", "d"]),
    ],
)
def test_support_counts_the_images_that_are_learned_from(splits: tuple[str, ...], kept: list[str]):
    """A label of the test images is nothing that training may look at, and no support."""
    dataset = replace(data(a=[1, 0, 0, 0], b=[0, 1, 0, 0], c=[0, 0, 1, 0], d=[0, 0, 0, 1]), split_N=splits)
    assert list(shaped(dataset, min_support=1)) == kept


def test_labels_of_some_images_may_lack_a_class_that_an_option_names():
    dataset = data(cat=[1, 0], dog=[0, 1])
    options = ClassShaping(rename={"cow": "bull"}, merge={"pet": ["cat", "hamster"]}, drop=("x*",), min_support=2)
    assert columns(shape_classes(dataset, options, is_whole=False).dataset) == {"pet": [1, 0], "dog": [0, 1]}
    assert options.old_names(("pet", "bull", "dog")) == ("cat", "hamster", "cow", "dog")
    assert [options.new_name(name) for name in ("hamster", "cow", "dog ")] == ["pet", "bull", "dog"]


# ---- refusals ----


def test_refusals_name_the_option_and_the_nearest_class():
    dataset = data(cat=[1, 0], dog=[0, 1])
    assert refusal(dataset, drop=("cats",)) == (
        "unknown class name\n  where: a list of columns\n  got: drop: 'cats' (did you mean 'cat'?)\n  expected: one of cat, dog"
    )
    for option in ({"rename": {"cow": "x"}}, {"merge": {"x": ["cow"]}}, {"classes": ("cow",)}):
        assert f"got: {next(iter(option))}: 'cow'" in refusal(dataset, **option)
    assert refusal(dataset, rename={"cat": "dog"}) == (
        "a class is renamed to the name of another\n  where: a list of columns\n  got: cat=dog\n"
        "  expected: a name that no class has\n  next: merge them: --merge 'dog=cat,dog'"
    )
    assert refusal(data(cat=[1], dog=[0], cow=[0]), merge={"cow": ["cat", "dog"]}).endswith(
        "expected: a name that no class has, or that of a merged class\n  next: merge it as well: --merge 'cow=cow,cat,dog'"
    )
    with pytest.raises(DataError, match="no class is left"):
        shape_classes(dataset, ClassShaping(min_support=3))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"classes": ("a", "a ")}, "a class is named twice in the classes to keep"),
        ({"rename": {"a": "c", "b": "c"}}, "two classes are renamed to one name"),
        ({"merge": {"x": ["a"], "y": ["a"]}}, "a class is merged twice"),
        ({"merge": {"x": []}}, "a merge of no classes"),
        ({"rename": {"a": " "}}, "an empty class name"),
        ({"min_support": -1}, "a minimum support below zero"),
        ({"hierarchy": {"a": ["b"], "b": ["c"], "c": ["b"]}}, "a hierarchy of classes with a circle"),
    ],
)
def test_options_that_contradict_themselves(options: dict[str, Any], what: str):
    with pytest.raises(UsageError) as error:
        ClassShaping(**options)
    assert error.value.what == what


def test_options_are_plain_values_and_come_back():
    """As args.yaml keeps them."""
    options = ClassShaping(classes=("a",), rename={"b": "a"}, merge={"c": ["d", "e"]}, hierarchy={"f": ["g"]})
    assert from_plain(ClassShaping, asdict(options)) == options


# ---- spelling ----


def test_spaces_around_a_name_and_its_unicode_form_are_corrected_and_said():
    decomposed = "cafe\N{COMBINING ACUTE ACCENT}"
    result = shape_classes(data_of({decomposed: [1, 0, 0], "café": [0, 0, -1], " dog": [0, 1, 0]}))
    assert columns(result.dataset) == {"café": [1, 0, -1], "dog": [0, 1, 0]}
    assert result.corrections == (
        "2 class names without surrounding spaces and in the Unicode form NFC: 'café', 'dog'; "
        "classes that are then equal are one: 'café'",
    )
    assert not result.doubt


def test_names_that_differ_in_capitals_or_inner_spaces_are_doubtful_until_an_option_decides():
    dataset = data_of({"cat": [1, 1, 0], "Cat": [0, 0, 1], "ice cream": [0, 0, 0], "icecream": [1, 0, 0], "dog": [0, 1, 0]})
    result = shape_classes(dataset)
    assert result.dataset is dataset
    assert result.doubt == ("'cat' (2 positives) and 'Cat' (1 positive), 'ice cream' (0 positives) and 'icecream' (1 positive)")
    assert result.decision == (
        "--merge 'cat=cat,Cat' --merge 'icecream=ice cream,icecream' makes them one; --rename 'Cat=ANOTHER NAME' tells them apart"
    )
    merge = {"cat": ["cat", "Cat"], "icecream": ["ice cream", "icecream"]}
    assert not shape_classes(dataset, ClassShaping(merge=merge)).doubt
    assert not shape_classes(dataset, ClassShaping(classes=dataset.label_set.names)).doubt, "who names both means both"
    assert not shape_classes(dataset, ClassShaping(drop=("Cat", "ice cream"))).doubt


def test_alike_is_what_unicode_calls_a_canonical_caseless_match():
    assert alike_names(("Straße", "STRASSE", "İ", "i")) == (("Straße", "STRASSE"),)
    assert alike_names(("m2", "m²", "a_b", "ab")) == ()


# ---- the hierarchy ----

ANIMALS = {"animal": ("pet", "cow"), "pet": ("cat", "dog")}


def test_present_goes_up_and_absent_goes_down():
    dataset = data(animal=[-1, 0, 1, 0], pet=[0, -1, -1, 0], cat=[1, -1, -1, 0], cow=[0, 0, 0, -1])
    result = shape_classes(dataset, ClassShaping(hierarchy=ANIMALS))
    assert columns(result.dataset) == {"animal": [1, 0, 1, 0], "pet": [1, 0, -1, 0], "cat": [1, 0, -1, 0], "cow": [0, 0, 0, 0]}
    assert result.notes == (
        "the hierarchy changes labels of 3 images",
        "absent in the annotations although a child is present, and now present: 'pet' in 1 image",
        "1 name of the hierarchy that the data do not have: 'dog'",
    )


def test_a_parent_without_a_class_becomes_one_as_by_merge():
    dataset = data(cat=[1, 0, -1], dog=[-1, 0, 0])
    result = shape_classes(dataset, ClassShaping(hierarchy=ANIMALS))
    assert columns(result.dataset) == {"cat": [1, 0, -1], "dog": [-1, 0, 0], "animal": [1, 0, -1], "pet": [1, 0, -1]}
    assert result.notes[0] == "the hierarchy adds 2 classes: 'animal', 'pet'"
    assert list(shaped(dataset, hierarchy=ANIMALS, classes=("pet", "cat"))) == ["pet", "cat"]


def test_a_circle_is_named():
    with pytest.raises(UsageError) as error:
        parents_first({"root": ("a",), "a": ("b",), "b": ("c",), "c": ("a",)})
    assert error.value.got in {"a -> b -> c -> a", "b -> c -> a -> b", "c -> a -> b -> c"}


NAMES = tuple("abcdef")
EDGES = st.sets(st.sampled_from([(x, y) for x in NAMES for y in NAMES if x < y]), max_size=8)


@given(EDGES, st.lists(st.lists(st.sampled_from((1, 0, -1)), min_size=4, max_size=4), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_after_a_hierarchy_no_child_contradicts_its_parent_and_a_second_time_changes_nothing(
    edges: set[tuple[str, str]], rows: list[list[int]]
):
    names, target_NC = NAMES[1:5], np.array(rows, np.int8)
    hierarchy = {parent: tuple(sorted(child for name, child in edges if name == parent)) for parent, _ in sorted(edges)}
    after, result_NC, _ = apply_hierarchy(names, target_NC, hierarchy)
    assert after[: len(names)] == names
    column = {name: result_NC[:, place] for place, name in enumerate(after)}
    for parent, child in edges:
        if parent in column and child in column:
            assert not ((column[child] == 1) & (column[parent] != 1)).any()
            assert not ((column[parent] == 0) & (column[child] != 0)).any()
    known_NC = target_NC == 1
    assert (result_NC[:, : len(names)][known_NC] == 1).all(), "what is present stays present"
    again = apply_hierarchy(after, result_NC, hierarchy)
    assert again[0] == after
    assert (again[1] == result_NC).all()


@given(st.lists(st.lists(st.sampled_from((1, 0, -1)), min_size=3, max_size=3), min_size=1, max_size=5))
@settings(max_examples=30, deadline=None)
def test_merging_in_two_steps_is_merging_at_once(rows: list[list[int]]):
    target_NS = np.array(rows, np.int8)
    two = np.stack([merged_target(target_NS[:, :2]), target_NS[:, 2]], axis=1)
    assert (merged_target(two) == merged_target(target_NS)).all()
    assert (merged_target(target_NS[:, ::-1]) == merged_target(target_NS)).all()
