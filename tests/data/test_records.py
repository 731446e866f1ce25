"""The end that formats share: records become a data set, images are found, and what was taken as what is told."""

import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from polytag import ReadOptions, load_dataset
from polytag.contracts import UNKNOWN
from polytag.data.formats.file_index import FileIndex
from polytag.data.formats.reading_log import ReadingLog
from polytag.data.formats.records import ReadingContext, Record, dataset_of
from polytag.errors import AnnotationError, DataError, UsageError


def context(folder: Path, *, accept_doubts: bool = False, further: tuple[str, ...] = ()) -> ReadingContext:
    log = ReadingLog(accept_doubts=accept_doubts)
    return ReadingContext(index=FileIndex(below=folder, log=log), log=log, further=further)


def record(image: str, *present: str, **others: object) -> Record:
    return Record(image=image, where="list.txt:1", present=present, **others)  # pyright: ignore[reportArgumentType]


def test_present_outweighs_unknown_and_both_outweigh_absent_in_any_order(tmp_path, add_images):
    add_images(tmp_path, "a.jpg", "b.jpg")
    records = [
        record("a.jpg", "cat", unknown=("cat", "dog"), absent=("cat", "dog", "cow"), others=UNKNOWN),
        record("b.jpg", absent=("cat",)),
        record("a.jpg", "cow"),
    ]
    for order in (records, records[::-1]):
        dataset = dataset_of(
            order, source=f"list {tmp_path}", context=context(tmp_path), join=True, declared=("cat", "dog", "cow", "x")
        )
        target_C = dict(zip(dataset.ids, dataset.target_NC.tolist(), strict=True))
        assert target_C["b.jpg"] == [0, 0, 0, 0]
        assert target_C["a.jpg"][:3] == [1, -1, 1]


def test_others_of_a_record_are_its_own(tmp_path, add_images):
    add_images(tmp_path, "a.jpg", "b.jpg")
    dataset = dataset_of(
        [record("a.jpg", "10", others=UNKNOWN), record("b.jpg", "9")], source="list", context=context(tmp_path, further=("2",))
    )
    assert dataset.label_set.names == ("2", "9", "10")
    np.testing.assert_array_equal(dataset.target_NC, [[-1, -1, 1], [0, 1, 0]])


def test_an_undeclared_class_and_a_second_row_are_refused(tmp_path, add_images):
    add_images(tmp_path, "a.jpg")
    with pytest.raises(AnnotationError) as error:
        dataset_of([record("a.jpg", "catt")], source="list", context=context(tmp_path), declared=("cat", "dog"))
    assert str(error.value) == (
        "a class that the annotations do not declare\n  where: list.txt:1\n  got: 'catt' (did you mean 'cat'?)\n"
        "  expected: one of cat, dog"
    )
    with pytest.raises(AnnotationError) as error:
        dataset_of([record("a.jpg", "cat"), record("a.jpg", "dog")], source="list", context=context(tmp_path))
    assert str(error.value) == (
        "an image is listed twice\n  where: list.txt:1\n  got: 'a.jpg', first in list.txt:1\n  expected: every image once\n"
        "  next: join the labels of an image into one entry"
    )


def test_images_anywhere_below_are_found_by_name_and_told(tmp_path, add_images):
    add_images(tmp_path, "images_001/images/a.png", "images_002/images/b.png", "one/c.png", "two/c.png")
    made = context(tmp_path)
    dataset = dataset_of([record("a.png", "x"), record("b", "x"), record("two/c.png")], source="list", context=made)
    assert [path.relative_to(tmp_path).as_posix() for path in dataset.paths] == [
        "images_001/images/a.png", "images_002/images/b.png", "two/c.png",
    ]  # fmt: skip
    assert made.log.interpretation("").notes == (
        f"images are found by their name below {tmp_path}, such as 'images_001/images/a.png' for 'a.png'",
    )
    with pytest.raises(AnnotationError, match="one id fits two images"):
        context(tmp_path).index.require("c.png", [], where="list.txt:1")
    index = context(tmp_path).index
    index.require("a.png", [], where="list.txt:1")
    with pytest.raises(AnnotationError, match="two listed images fit one file"):
        index.require("x/a.png", [], where="list.txt:2")


def test_an_image_missing_among_others_is_missing_even_if_its_name_is_elsewhere(tmp_path, add_images):
    add_images(tmp_path, "train/a.jpg", "val/b.jpg")
    folders = [str(tmp_path / "train")]
    index = context(tmp_path).index
    assert index.require("a.jpg", folders, where="list.txt:1") == tmp_path / "train/a.jpg"
    with pytest.raises(AnnotationError, match="a listed image does not exist"):
        index.require("b.jpg", folders, where="list.txt:2")
    index = context(tmp_path).index
    index.require("b.jpg", folders, where="list.txt:1")
    with pytest.raises(AnnotationError, match="some were found elsewhere by their name alone"):
        index.require("a.jpg", folders, where="list.txt:2")
    made = context(tmp_path, accept_doubts=True)
    made.index.require("b.jpg", folders, where="list.txt:1")
    made.index.require("a.jpg", folders, where="list.txt:2")
    assert made.log.interpretation("").notes[1] == (
        "accepted although some images are in the folders of the annotations, and some were found elsewhere by their name alone: "
        "'val/b.jpg' for 'b.jpg'"
    )


def test_another_unicode_form_or_letter_case_is_the_only_such_file(tmp_path, write):
    name = "Höhle.JPG"
    (tmp_path / unicodedata.normalize("NFD", name)).write_bytes(b"x")
    write(tmp_path / "labels.csv", f"file_name,labels\n{unicodedata.normalize('NFC', name).lower()},cave\n")
    dataset = load_dataset(tmp_path)
    assert dataset.paths[0].is_file()
    assert "differ in capitals or Unicode form only" in dataset.interpretation.notes[0]
    with pytest.raises(DataError) as error:
        load_dataset(tmp_path, options=ReadOptions(strict=True))
    assert error.value.what == "the annotations are not read strictly as they are"
    (tmp_path / unicodedata.normalize("NFD", name).lower()).write_bytes(b"x")
    with pytest.raises(AnnotationError, match="one id fits two images"):
        load_dataset(tmp_path)


def test_what_was_read_is_told(tmp_path, add_images, write):
    add_images(tmp_path, "a.jpg")
    write(tmp_path / "labels.csv", "Unnamed: 0,file_name,tags,split\n0,a.jpg,cat|dog,train\n")
    interpretation = load_dataset(tmp_path).interpretation
    assert interpretation.format == "csv"
    assert dict(interpretation.found) == {
        "images": "column 'file_name'", "labels": "column 'tags'", "split": "column 'split'", "ignored": "'Unnamed: 0'",
        "separator": "'|'",
    }  # fmt: skip


def test_strict_and_yes_exclude_each_other():
    with pytest.raises(UsageError, match="strict reading that accepts doubts"):
        ReadOptions(strict=True, accept_doubts=True)


def test_names_that_many_folders_share_are_found_in_linear_work(tmp_path, write):
    """Twice the folders cost twice the calls of functions, and not four times: counted, since times vary."""

    def num_calls(num_folders: int) -> int:
        root = tmp_path / str(num_folders)
        names = [f"data/{n}/image.jpg" for n in range(num_folders)]
        for name in names:
            write(root / "deeper" / name, "")
        index = context(root).index
        index.require(names[0], [], where="list.txt:1")
        counted = 0

        def count(frame: object, event: str, argument: object) -> None:
            nonlocal counted
            counted += event in ("call", "c_call")

        sys.setprofile(count)
        found = [index.require(name, [], where="list.txt:1") for name in names]
        sys.setprofile(None)
        assert found == [root / "deeper" / name for name in names]
        return counted

    assert num_calls(120) < 2.2 * num_calls(60)


def test_labels_without_images_are_read_without_a_search(tmp_path, add_images):
    """The id is the listed one, wherever an image of that name lies: scores are joined with labels by it."""
    add_images(tmp_path, "deeper/a.png")
    index = FileIndex(below=tmp_path, must_exist=False)
    assert index.require("a.png", [str(tmp_path / "images")], where="list.txt:1") == tmp_path / "images/a.png"
