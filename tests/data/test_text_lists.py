"""Text lists of images with their labels, as PaddleClas, datumaro, MMPretrain and people write them."""

from pathlib import Path

import pytest

from polytag import ReadOptions, load_dataset
from polytag.data.formats.recognise import recognise
from polytag.errors import AnnotationError, DataError

COMMUNITY = Path(__file__).parents[2] / "../shared/cases/community"
NAMES = "cat\ndog\ntraffic light\n"


@pytest.fixture
def listed(tmp_path, write, add_images):
    """A list beside three images, with class names or without."""
    add_images(tmp_path, "a.jpg", "images/b.jpg", "train/c (1).jpg")

    def write_list(text: str, names: str = "", *, file: str = "list.txt", names_file: str = "label_list.txt") -> Path:
        if names:
            write(tmp_path / names_file, names)
        return write(tmp_path / file, text)

    return write_list


def refused(data: Path, **options: object) -> str:
    with pytest.raises(DataError) as error:
        load_dataset(data, options=ReadOptions(**options))  # pyright: ignore[reportArgumentType]
    return str(error.value)


def test_paddleclas(listed, tmp_path, labels):
    listed("a.jpg\t0,1,1\nimages/b.jpg\t0,0,0\n", "0 cat\n1 dog\n2 traffic light\n", file="multilabel_train_list.txt")
    listed("c (1).jpg\t1,0,0\n", file="multilabel_val_list.txt")
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {("train", "a.jpg"): "dog traffic light", ("train", "images/b.jpg"): "", ("val", "c (1).jpg"): "cat"}
    assert dict(dataset.interpretation.found) == {
        "images": "the lines of multilabel_train_list.txt, multilabel_val_list.txt",
        "split": "the names of the lists",
        "labels": "a 0 or 1 for each class of label_list.txt",
    }


@pytest.mark.parametrize("names_file", ["synsets.txt", "classes.txt", "labels.txt", "class_names.txt", "flowers_label_list.txt"])
def test_numbers_of_classes(listed, tmp_path, labels, names_file):
    listed('a.jpg 2 0\nimages/b.jpg \n"c (1).jpg" 1\n', NAMES, file="train.txt", names_file=names_file)
    expected = {("train", "a.jpg"): "cat traffic light", ("train", "images/b.jpg"): "", ("train", "c (1).jpg"): "dog"}
    assert labels(load_dataset(tmp_path)) == expected
    assert load_dataset(tmp_path).label_set.names == ("cat", "dog", "traffic light")


def test_numbers_from_one_need_a_list_that_says_so(listed, tmp_path, labels):
    path = listed("a.jpg 1 3\nb.jpg 2\n", NAMES)
    assert refused(tmp_path) == (
        f"a number without a class\n  where: {path}:1\n  got: 3\n  expected: 0 to 2, for the 3 names in {tmp_path}/label_list.txt\n"
        "  next: number the lines of that file, such as '1 cat', if the numbers do not start at 0"
    )
    listed("a.jpg 1 3\nb.jpg 2\n", "1: cat\n2: dog\n3: traffic light\n")
    assert labels(load_dataset(tmp_path)) == {("", "a.jpg"): "cat traffic light", ("", "b.jpg"): "dog"}


def test_names_without_endings_as_an_older_datumaro_writes_them(listed, tmp_path, labels):
    listed("a 2 0\nb\n", NAMES, file="val.txt", names_file="synsets.txt")
    assert labels(load_dataset(tmp_path)) == {("val", "a"): "cat traffic light", ("val", "b"): ""}


@pytest.mark.parametrize(
    "text",
    [
        "a.jpg cat dog\nb.jpg\ntrain/c (1).jpg dog\n",
        "a.jpg\tcat,dog\nb.jpg\t\ntrain/c (1).jpg\tdog\n",
        "a.jpg\tcat\tdog\nb.jpg\ntrain/c (1).jpg\tdog\n",
        "a.jpg, cat, dog\nb.jpg,\ntrain/c (1).jpg, dog\n",
        "a.jpg cat|dog\r\nb.jpg\r\ntrain\\c (1).jpg dog\r\n",
    ],
)
def test_names_however_they_are_divided(listed, tmp_path, labels, text):
    path = listed(text)
    expected = {("", "a.jpg"): "cat dog", ("", "b.jpg"): "", ("", "train/c (1).jpg"): "dog"}
    assert labels(load_dataset(tmp_path)) == expected == labels(load_dataset(path))
    assert recognise(tmp_path) == recognise(path) == "text"


def test_a_list_under_the_name_of_a_list_of_classes(listed, tmp_path, labels):
    listed("a.jpg cat dog\nb.jpg dog\n", file="labels.txt")
    assert labels(load_dataset(tmp_path)) == {("", "a.jpg"): "cat dog", ("", "b.jpg"): "dog"}
    listed("a.jpg 0 1\nb.jpg 1\n", "cat\ncat\n", file="labels.txt")
    assert refused(tmp_path).startswith("a class name is given twice\n")
    listed("notes\n", file="labels.txt")
    with pytest.raises(DataError, match="no annotations were recognised"):
        recognise(tmp_path)


def test_a_list_in_the_folder_of_each_split(listed, tmp_path, labels, add_images):
    add_images(tmp_path, "train/a.jpg", "val/a.jpg")
    listed("a.jpg 0 1\n", NAMES, file="train/labels.txt", names_file="train/classes.txt")
    listed("a.jpg 2\n", file="val/labels.txt")
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {("train", "a.jpg"): "cat dog", ("val", "a.jpg"): "traffic light"}
    assert [path.parent.name for path in dataset.paths] == ["train", "val"]


def test_names_with_spaces(listed, tmp_path, labels):
    listed("a.jpg\ttraffic light,dog\nb.jpg\tcat\n")
    assert labels(load_dataset(tmp_path)) == {("", "a.jpg"): "dog traffic light", ("", "b.jpg"): "cat"}
    path = listed("a.jpg dog;red, green\nb.jpg cat,x\n")
    assert refused(tmp_path) == (
        f"the separator of the labels is ambiguous\n  where: {path}:1\n  got: ';' and ','\n  expected: one of them\n"
        "  next: set the option separator, such as --separator ','"
    )
    assert load_dataset(tmp_path, options=ReadOptions(separator=";")).label_set.names == ("cat,x", "dog", "red, green")


def test_a_row_of_answers_needs_names(listed, tmp_path):
    path = listed("a.jpg 0 1 1\nb.jpg 1 0 0\n")
    assert refused(tmp_path) == (
        f"a 0 or 1 for each class, and no names for them\n  where: {path}:1\n  got: 3 numbers\n"
        "  expected: a list of 3 class names beside it, one in a line\n"
        "  next: write the names of the classes, in their order, into label_list.txt in the same folder"
    )
    listed("a.jpg 0 1 1\nb.jpg 1 0 0\n", "cat\ndog\n")
    assert "  got: 3 numbers, and 2 names in label_list.txt\n" in refused(tmp_path)


def test_two_classes_may_be_answers_or_numbers(listed, tmp_path, labels):
    path = listed("a.jpg 0 1\nb.jpg 1 0\n", "cat\ndog\n")
    assert refused(tmp_path) == (
        f"labels that may be numbers of classes, or a 0 or 1 for each class\n  where: {path}:1\n  got: '0 1'\n"
        "  expected: one of the two for the 2 classes of label_list.txt\n"
        "  next: write the names of the classes in the list; or read a 0 or 1 for each class with --yes"
    )
    dataset = load_dataset(tmp_path, options=ReadOptions(accept_doubts=True))
    assert labels(dataset) == {("", "a.jpg"): "dog", ("", "b.jpg"): "cat"}
    listed("a.jpg 0 1\nb.jpg 1 1\n")
    assert labels(load_dataset(tmp_path)) == {("", "a.jpg"): "dog", ("", "b.jpg"): "cat dog"}


def test_minus_one_is_unknown_beside_a_zero_and_refused_without(listed, tmp_path, labels):
    listed("a.jpg 0 1 -1\nb.jpg 1 0 0\n", NAMES)
    assert labels(load_dataset(tmp_path)) == {("", "a.jpg"): "dog ?traffic light", ("", "b.jpg"): "cat"}
    path = listed("a.jpg -1 1 -1\nb.jpg 1 -1 -1\n", NAMES)
    assert refused(tmp_path) == (
        f"1 and -1, but never 0: -1 may be absent or unknown\n  where: {path}:1\n  got: '-1 1 -1'\n"
        "  expected: 1 (present), 0 (absent), -1 (unknown)\n  next: write 0 where -1 means absent"
    )


@pytest.mark.parametrize("text", ["a.jpg\nb.jpg\n", "a.jpg is blurred\nso is the other\n", "cat\ndog\n", ""])
def test_other_text_is_no_list(listed, tmp_path, text):
    listed(text, file="notes.txt")
    with pytest.raises(DataError, match="no annotations were recognised"):
        recognise(tmp_path)


def test_a_line_without_an_image(listed, tmp_path):
    path = listed("a.jpg cat\nb.jpg dog\n\nnothing here\n")
    with pytest.raises(AnnotationError) as error:
        load_dataset(path)
    assert str(error.value) == (
        f"a line without an image\n  where: {path}:4\n  got: 'nothing here'\n  expected: the name of an image, then its labels"
    )


@pytest.mark.parametrize("name", ["paddleclas", "dm-imagenet_txt"])
def test_the_lists_of_the_community(name, labels):
    if not COMMUNITY.is_dir():
        pytest.skip("no ../shared/cases/community beside this checkout")
    dataset = load_dataset(COMMUNITY / name)
    assert len(dataset) == 100
    assert labels(dataset)["train", "2007_002268.jpg"] == "cat dog sofa"
    assert labels(dataset)["val", "2007_000333.jpg"] == ""


def test_lists_that_are_no_splits_are_told_or_asked_about(listed, tmp_path, labels):
    listed("a.jpg cat\n", file="train.txt")
    listed("images/b.jpg dog\n", file="holdout.txt")
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {("train", "a.jpg"): "cat"}
    assert dataset.interpretation.notes == ("left out, because their names are no splits: holdout.txt",)
    (tmp_path / "train.txt").rename(tmp_path / "mine.txt")
    assert refused(tmp_path) == (
        f"several lists of images with labels, and none is named after a split\n  where: {tmp_path}\n"
        "  got: holdout.txt, mine.txt\n  expected: one list, or lists named train, val and test\n"
        f"  next: give the file itself, such as {tmp_path / 'holdout.txt'}; or read holdout.txt alone with --yes"
    )


@pytest.mark.parametrize(
    ("lists", "splits"),
    [
        ("trainval test", ("trainval", "test")),
        ("trainval", ("", "")),
        ("train val trainval", ("train", "val")),
        ("train trainval", ("train", "trainval")),
    ],
)
def test_trainval_is_undivided_and_repeats_nothing(listed, tmp_path, labels, lists, splits):
    """Of lists called trainval and test, test alone was once read."""
    lines = {"train": "a.jpg cat\n", "val": "images/b.jpg dog\n", "test": "images/b.jpg dog\n"}
    both = "a.jpg cat\n" if lists == "trainval test" else lines["train"] + lines["val"]
    for name in lists.split():
        listed(lines.get(name, both), file=f"{name}.txt")
    dataset = load_dataset(tmp_path)
    assert {id: split for split, id in labels(dataset)} == dict(zip(("a.jpg", "images/b.jpg"), splits, strict=True))
    assert len(dataset) == 2


def test_an_empty_line_would_shift_the_numbers_of_the_classes(listed, tmp_path):
    listed("a.jpg 1\n", "cat\n\ndog\n")
    assert refused(tmp_path).startswith(f"an empty line among the class names\n  where: {tmp_path / 'label_list.txt'}:2\n")


def test_numbers_and_an_empty_list_of_classes(tmp_path: Path):
    (tmp_path / "a.jpg").write_text("")
    (tmp_path / "classes.txt").write_text("\n")
    (tmp_path / "train_list.txt").write_text("a.jpg 1\n")
    with pytest.raises(AnnotationError, match="an empty list of classes"):
        load_dataset(tmp_path)


def test_a_number_of_thousands_of_digits_has_no_class(tmp_path: Path):
    (tmp_path / "a.jpg").write_text("")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    (tmp_path / "train_list.txt").write_text(f"a.jpg {'0' * 5000}\n")
    with pytest.raises(AnnotationError, match="a number without a class"):
        load_dataset(tmp_path)
