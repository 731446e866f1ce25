"""Tables paired by id and name, and the whole message where they cannot be."""

from dataclasses import replace

import numpy as np
import pytest

from polytag.contracts import LabelSet, Predictions
from polytag.errors import PredictionsError
from polytag.metrics.pairing import pair


def table(ids: str, classes: tuple[str, ...] = ("cat", "dog"), *, target_NC: list[list[int]] | None = None) -> Predictions:
    """Logits that identify their image and class: a letter's number, and a tenth for a dog."""
    columns = {"cat": 0.0, "dog": 0.1, "elk": 0.2, "fox": 0.3, "gnu": 0.4, "hen": 0.5}
    return Predictions(
        ids=tuple(ids),
        logit_NC=np.array([[ord(name) + columns[label] for label in classes] for name in ids]),
        target_NC=np.array(target_NC) if target_NC else np.array([[ord(name) % 2] * len(classes) for name in ids]),
        label_set=LabelSet(names=classes),
        image_paths=tuple(f"{name}.jpg" for name in ids),
    )


def message(*tables: Predictions, names: tuple[str, ...] = ("one", "two"), intersect: bool = False) -> str:
    with pytest.raises(PredictionsError) as error:
        pair(tables, names=names, intersect=intersect)
    return str(error.value)


def test_order_does_not_matter():
    paired = pair([table("abc"), table("cab", ("dog", "cat"))], names=("one", "two"))
    one, two = paired.tables
    assert two.ids == one.ids == ("a", "b", "c")
    assert two.label_set == one.label_set == LabelSet(names=("cat", "dog"))
    assert two.image_paths == ("a.jpg", "b.jpg", "c.jpg")
    assert np.array_equal(two.logit_NC, one.logit_NC)
    assert (paired.num_images_left_out, paired.classes_left_out, paired.num_labels_left_out) == ((0, 0), ((), ()), 0)


def test_given_probabilities_are_paired_too():
    probability_NC = np.array([[0.1, 0.2], [0.3, 0.4]])
    given = replace(table("ab", ("dog", "cat")), scale="probability", given_probability_NC=probability_NC)
    paired = pair([table("ba"), given], names=("one", "two"))
    assert paired.tables[1].probability_NC.tolist() == [[0.4, 0.3], [0.2, 0.1]]


def test_other_images_are_refused_with_examples():
    assert message(table("abcdefg"), table("gfhi")) == (
        "the runs have different images\n"
        "  where: one and two\n"
        "  got: 5 only in one: a, b, c, ...; 2 only in two: h, i\n"
        "  expected: the same images, in any order\n"
        "  next: give --intersect to compare on the 2 images that all runs have"
    )
    assert message(table("abc"), table("cba"), table("ab"), names=("one", "two", "three")) == (
        "the runs have different images\n"
        "  where: one and three\n"
        "  got: 1 only in one: c\n"
        "  expected: the same images, in any order\n"
        "  next: give --intersect to compare on the 2 images that all runs have"
    )


def test_other_classes_are_refused_with_examples():
    assert message(table("ab"), table("ab", ("dog", "elk", "fox", "gnu", "hen"))) == (
        "the runs have different classes\n"
        "  where: one and two\n"
        "  got: 1 only in one: cat; 4 only in two: elk, fox, gnu, ...\n"
        "  expected: the same classes, in any order\n"
        "  next: give --intersect to compare on the 1 class that all runs have"
    )


def test_other_labels_are_refused_with_examples():
    one = table("abc", target_NC=[[1, 0], [0, 1], [-1, 1]])
    assert message(one, table("cba", target_NC=[[0, 1], [0, 0], [1, 0]])) == (
        "the runs disagree on 2 labels of 2 images\n"
        "  where: one and two\n"
        "  got: 'b', class 'dog': present in one, absent in two; 'c', class 'cat': unknown in one, absent in two\n"
        "  expected: the same labels for all runs\n"
        "  next: give --truth DATA to evaluate all runs on the labels of one data set, or --intersect to leave those labels out"
    )
    three = table("abc", target_NC=[[0, 1], [1, 0], [-1, 1]])
    assert message(one, one, three, names=("one", "two", "three")).splitlines()[:3] == [
        "the runs disagree on 4 labels of 2 images",
        "  where: one, two and three",
        "  got: 'a', class 'cat': present in one, absent in three; 'a', class 'dog': absent in one, present in three; "
        "'b', class 'cat': absent in one, present in three; ...",
    ]
    assert message(table("a", target_NC=[[1, 0]]), table("a", target_NC=[[1, 1]])).startswith(
        "the runs disagree on 1 label of 1 image\n"
    )


def test_intersecting_keeps_what_all_have_and_counts_the_rest():
    one = table("abcd", ("cat", "dog", "elk"), target_NC=[[1, 0, 1], [0, 1, 1], [1, 1, 0], [0, 0, 0]])
    two = table("xdcb", ("fox", "dog", "cat"), target_NC=[[1, 1, 1], [0, 0, 1], [1, 1, 1], [1, 1, -1]])
    paired = pair([one, two], names=("one", "two"), intersect=True)
    assert [each.ids for each in paired.tables] == [("b", "c", "d")] * 2
    assert [each.label_set.names for each in paired.tables] == [("cat", "dog")] * 2
    assert paired.num_images_left_out == (1, 1)
    assert paired.classes_left_out == (("elk",), ("fox",))
    assert paired.num_labels_left_out == 2  # b: cat absent or unknown; d: cat absent or present
    for each in paired.tables:
        assert each.target_NC.tolist() == [[-1, 1], [1, 1], [-1, 0]]
        assert each.logit_NC == pytest.approx(np.array([[98, 98.1], [99, 99.1], [100, 100.1]]))


@pytest.mark.parametrize("intersect", [False, True])
def test_nothing_in_common_is_an_error(intersect: bool):
    assert message(table("abcd"), table("xy"), intersect=intersect) == (
        "the runs have no image in common\n  where: one and two\n  got: one: a, b, c, ...; two: x, y\n"
        "  expected: the same images, by id"
    )
    assert message(table("ab"), table("ab", ("elk", "fox")), intersect=intersect) == (
        "the runs have no class in common\n  where: one and two\n  got: one: cat, dog; two: elk, fox\n"
        "  expected: the same classes, by name"
    )


def test_no_known_label_is_an_error():
    unknown = table("ab", target_NC=[[-1, -1], [-1, -1]])
    assert message(unknown, unknown) == (
        "no label of these predictions is known: there is nothing to compare on\n"
        "  where: one and two\n  expected: at least one known label\n"
        "  next: give --truth DATA, the labelled data set that the images are from"
    )
