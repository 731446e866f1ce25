"""polytag.yaml beside the data, lists of classes, hierarchies in files, and labels that are only positive, through load_dataset."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polytag.data.check import check
from polytag.data.class_files import read_class_list, read_hierarchy
from polytag.data.classes import ClassShaping
from polytag.data.load import load_dataset, load_labels
from polytag.data.read_options import ReadOptions
from polytag.data.settings import with_settings
from polytag.data.splits import require_trainable
from polytag.errors import AnnotationError, DataError, PolytagError

ROWS = "file_name,labels,split\na.jpg,cat|dog,train\nb.jpg,,train\nc.jpg,Cat,val\n"


@pytest.fixture
def album(tmp_path: Path, write: Any, add_images: Any) -> Path:
    """Label lists of the classes cat, Cat and dog."""
    write(tmp_path / "labels.csv", ROWS)
    add_images(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    return tmp_path


def refusal(album: Path, text: str) -> str:
    (album / "polytag.yaml").write_text(text)
    with pytest.raises(AnnotationError) as error:
        load_dataset(album)
    return str(error.value).replace(str(album), "ALBUM")


def test_names_that_differ_in_capitals_only_stop_the_reading(album: Path):
    with pytest.raises(DataError) as error:
        load_dataset(album)
    assert str(error.value) == (
        f"class names that differ only in capitals or spaces\n  where: csv {album}\n"
        "  got: 'Cat' (1 positive) and 'cat' (1 positive)\n"
        "  expected: one spelling for each class\n"
        "  next: --merge 'Cat=Cat,cat' makes them one; --rename 'cat=ANOTHER NAME' tells them apart; --yes keeps them as they are"
    )
    accepted = load_dataset(album, options=ReadOptions(accept_doubts=True))
    assert accepted.label_set.names == ("Cat", "cat", "dog")
    assert accepted.interpretation.notes[0].startswith(
        "accepted although class names that differ only in capitals or spaces: 'Cat'"
    )


def test_the_file_is_read_with_the_data_and_the_command_line_wins_key_by_key(album: Path, labels: Any):
    (album / "polytag.yaml").write_text("merge: {cat: [cat, Cat]}\nclasses: [dog, cat]\nabsent_means: unknown\n")
    dataset = load_dataset(album, options=ReadOptions(strict=True))
    assert dataset.label_set.names == ("dog", "cat")
    assert labels(dataset) == {("train", "a.jpg"): "dog cat", ("train", "b.jpg"): "?dog ?cat", ("val", "c.jpg"): "?dog cat"}
    assert ("settings", "polytag.yaml: merge, classes, absent_means") in dataset.interpretation.found
    assert dataset.interpretation.notes == (
        "'cat' is 'cat' (1 positive), 'Cat' (1 positive) merged: 2 positives",
        "absent means unknown: 50% of all labels are unknown",
    )
    chosen = load_dataset(album, options=ReadOptions(shaping=ClassShaping(classes=("cat",)), given=("classes", "absent_means")))
    assert (chosen.label_set.names, chosen.absent_means) == (("cat",), "absent")
    of_file = load_dataset(album / "labels.csv")
    assert of_file.fingerprint == dataset.fingerprint, "of a file, beside it"
    without = ReadOptions(settings="none", accept_doubts=True)
    assert load_dataset(album, options=without).label_set.names == ("Cat", "cat", "dog")
    recorded, _ = with_settings(ReadOptions(), album)
    (album / "polytag.yaml").unlink()
    assert load_dataset(album, options=recorded).fingerprint == dataset.fingerprint, "what a run records stands alone"


def test_labels_for_scores_are_shaped_and_spelled_as_the_scores_are(album: Path):
    (album / "polytag.yaml").write_text("rename: {hen: 'b\u00e9b\u00e9'}\nmerge: {cat: [cat, Cat]}\nmin_support: 2\ndrop: x*\n")
    decomposed = "be\N{COMBINING ACUTE ACCENT}be\N{COMBINING ACUTE ACCENT}"
    dataset = load_labels(album, classes=("cat", "dog", decomposed))
    assert sorted(dataset.label_set) == sorted(("cat", "dog", decomposed)), "no class of the scores is missing for lack of support"


def test_refusals_have_the_line_and_the_nearest_key(album: Path):
    assert refusal(album, "# ours\ndrop: [dog]\nrenames: {a: b}\n").startswith(
        "unknown setting\n  where: ALBUM/polytag.yaml:3\n  got: 'renames' (did you mean 'rename'?)\n  expected: one of format, diff"
    )
    assert refusal(album, "classes: [yes, dog]\n") == (
        "a setting of another kind\n  where: ALBUM/polytag.yaml:1\n  got: classes[0]: True\n"
        "  expected: text of at most 4,096 characters\n  next: put a name that is a number, yes or no in quotes"
    )
    assert refusal(album, "format: excel97\n").startswith("unknown format\n  where: ALBUM/polytag.yaml\n  got: 'excel97'")
    assert refusal(album, "- dog\n").startswith("not a file of settings\n  where: ALBUM/polytag.yaml\n  got: ['dog']")
    assert "polytag.yaml:3" in refusal(album, "drop:\n  - [\n")
    assert refusal(album, "hierarchy: {animal: 5}\n").startswith(
        "a hierarchy of classes cannot be read\n  where: ALBUM/polytag.yaml:1\n  got: 5 under 'animal'"
    )
    assert "got: drop: 'dgo' (did you mean 'dog'?)" in _usage(album, "drop: [dgo]\n")


def _usage(album: Path, text: str) -> str:
    (album / "polytag.yaml").write_text(text)
    with pytest.raises(PolytagError) as error:
        load_dataset(album)
    return str(error.value)


# fmt: off
PARTS = ("classes", "rename", "merge", "drop", "min_support", "hierarchy", "absent_means", "image_dirs", "x", ":", " ", "\n", "- ",
    "{", "}", "[", "]", ",", "cat", "dog", "Cat", "5", "yes", "null", "'", "*a", "&a", "!!int", "../..", "\t")
# fmt: on


@given(st.lists(st.sampled_from(PARTS), max_size=14))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_is_read_or_one_error(album: Path, parts: list[str]):
    (album / "polytag.yaml").write_text("".join(parts))
    with contextlib.suppress(PolytagError):
        load_dataset(album, options=ReadOptions(accept_doubts=True))


# ---- lists and hierarchies ----


def test_a_list_of_classes(tmp_path: Path, write: Any):
    assert read_class_list(write(tmp_path / "c.txt", "\ufeffdog\n\n cat \n")) == ("dog", "cat")
    with pytest.raises(AnnotationError, match=r"c.txt:3\n  got: 'dog', first in line 1"):
        read_class_list(write(tmp_path / "c.txt", "dog\ncat\ndog\n"))
    with pytest.raises(AnnotationError, match="a file cannot be read"):
        read_class_list(tmp_path / "none.txt")


def test_a_hierarchy_as_a_table_and_as_a_tree(tmp_path: Path, write: Any):
    tree = {"animal": {"pet": ["cat", "dog"], "cow": None}}
    expected = {"animal": ("pet", "cow"), "pet": ("cat", "dog")}
    for name, text in (
        ("h.csv", "parent,child\nanimal,pet\nanimal,cow\npet,cat\npet,dog\n"),
        ("h.tsv", "Child\tnote\tParent\npet\t\tanimal\ncow\t\tanimal\ncat\t\tpet\ndog\tx\tpet\n"),
        ("h.json", json.dumps(tree)),
        ("h.yaml", "animal:\n  pet: [cat, dog]\n  cow:\n"),
        ("i.yaml", "animal: [{pet: [cat, dog]}, cow]\n"),
    ):
        assert read_hierarchy(write(tmp_path / name, text)) == expected, name
    for name, text, what in (
        ("h.csv", "a,b\ncat,pet\n", "a hierarchy without the columns child and parent"),
        ("h.csv", "child,parent\ncat,\n", "half of a pair in a hierarchy"),
        ("h.csv", "child,parent\na,b\nb,a\n", "a hierarchy of classes with a circle"),
        ("h.yaml", "cat: animal\n", "a hierarchy of classes cannot be read"),
        ("h.txt", "", "unknown kind of hierarchy file"),
    ):
        with pytest.raises(AnnotationError) as error:
            read_hierarchy(write(tmp_path / name, text))
        assert error.value.what == what


# ---- labels that are only positive ----

UNKNOWN = ReadOptions(absent_means="unknown")


def test_what_nobody_gave_is_unknown_and_an_explicit_absence_stays(tmp_path: Path, write: Any, add_images: Any, labels: Any):
    add_images(tmp_path, "t/a.jpg", "t/b.jpg", "f/cat/1.jpg", "f/dog/2.jpg", "y/images/a.jpg", "y/images/b.jpg", "c/images/a.jpg")
    write(tmp_path / "t/labels.csv", "file_name,cat,dog\na.jpg,1,0\nb.jpg,,1\n")
    assert labels(load_dataset(tmp_path / "t", options=UNKNOWN)) == {("", "a.jpg"): "cat", ("", "b.jpg"): "?cat dog"}
    assert set(labels(load_dataset(tmp_path / "f", options=UNKNOWN)).values()) == {"cat ?dog", "?cat dog"}
    write(tmp_path / "y/classes.txt", "cat\ndog\n")
    write(tmp_path / "y/labels/a.txt", "0 0.5 0.5 1 1\n")
    assert set(labels(load_dataset(tmp_path / "y", options=UNKNOWN)).values()) == {"cat ?dog", "?cat ?dog"}
    boxes = [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}, {"image_id": 1, "category_id": 2, "bbox": [0, 0, 1, 1]}]
    categories = [{"id": number, "name": name} for number, name in ((1, "cat"), (2, "dog"), (3, "cow"))]
    coco = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": boxes, "categories": categories}
    write(tmp_path / "c/annotations.json", json.dumps(coco))
    options = ReadOptions(absent_means="unknown", small="negative", min_box_area_px=10)
    assert labels(load_dataset(tmp_path / "c", options=options)) == {("", "images/a.jpg"): "cat ?cow"}, (
        "a small box is absent by option"
    )


def test_without_a_negative_in_validation_training_is_refused_with_what_to_do(album: Path):
    options = ReadOptions(absent_means="unknown", shaping=ClassShaping(merge={"cat": ["cat", "Cat"]}))
    dataset = load_dataset(album, options=options)
    with pytest.raises(DataError) as error:
        require_trainable(dataset)
    assert error.value.what == "no class has a negative in split 'val'"
    assert error.value.next_step == (
        "absent means unknown here, so only an explicit absence is a negative, and without one no model can be validated: give "
        "validation images some (0 in a column of the class), or read the labels with --absent-means absent, which takes every "
        "label that nobody gave for absent"
    )
    problems = check(album, options=options, read_images=False).problems
    assert problems[0] == f"{error.value.what}: {error.value.next_step}"
