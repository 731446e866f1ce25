"""Round trips through every format that can be written, and what each cannot hold."""

import csv
import os
import string
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from polytag.contracts import Dataset, LabelSet
from polytag.data.convert import TABLES, TARGETS, convert
from polytag.data.groups import SOURCE
from polytag.data.images.container import OpenFile
from polytag.data.images.parquet_pages import chunks_of
from polytag.data.images.stored import open_image
from polytag.data.load import load_dataset
from polytag.data.read_options import ReadOptions
from polytag.errors import AnnotationError, DataError, RunError, UsageError


def rows_of(dataset, by="path"):
    """{(split, image's bytes or id): {class: target}}: what must survive, whatever the order of rows and classes."""
    keys = [content_of(path) for path in dataset.paths] if by == "content" else dataset.ids
    return {
        (split, key): dict(zip(dataset.label_set, target_C, strict=True))
        for split, key, target_C in zip(dataset.split_N, keys, dataset.target_NC.tolist(), strict=True)
    }


def content_of(path):
    with open_image(path) as file:
        return file.read()


def make(folder, *, names, splits, targets, ids=None):
    """A data set of images that differ, lying in a folder beside the output."""
    ids = ids or [f"pic {number}.JPG" for number in range(len(splits))]
    paths = [folder / f"images/{number}.JPG" for number in range(len(splits))]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(paths):
        path.write_bytes(b"image %d" % number)
    return Dataset(
        ids=tuple(ids),
        paths=tuple(paths),
        target_NC=np.array(targets).reshape(len(splits), len(names)),
        split_N=tuple(splits),
        label_set=LabelSet(names=tuple(names)),
        source="a test",
    )


class_names = st.lists(
    st.text(string.ascii_letters + string.digits + " _-,;|\"'é漢.()", min_size=1, max_size=12).filter(
        lambda name: name.strip() and not name.startswith(".") and name not in ("id", "file_name", "split")
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda name: "".join(name.lower().split()),  # names that differ in capitals or spaces only are asked about
)


printable = st.characters(exclude_categories=("C", "Z", "M"), include_characters=" \u00a0\u3000\u0301")
printable_names = st.lists(
    st.text(printable, min_size=1, max_size=8).filter(
        lambda name: name == unicodedata.normalize("NFC", name.strip()) and name not in ("id", "file_name", "split")
    ),
    min_size=1,
    max_size=4,
    unique_by=str.casefold,
)
any_id = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8).filter(str.strip)
any_ids = st.lists(any_id, min_size=1, max_size=4, unique=True)


@settings(max_examples=60)
@given(data=st.data(), names=printable_names, ids=any_ids, to=st.sampled_from(("csv", "parquet")))
@example(data=None, names=["animal;mammal;cat;felis", "a,b", "fold", "is_x", 'q"', "index", "labels"], ids=[" a", "a "], to="csv")
@example(data=None, names=["'", "sep=;", "-1"], ids=["a\rb", "\n", '"', "\ufeff", "="], to="csv")
def test_tables_hold_any_printable_class_and_any_id(tmp_path_factory, data, names, ids, to):
    """What polytag writes it reads back, without a doubt or a note, whatever the names are."""
    folder = tmp_path_factory.mktemp("any")
    num = len(ids) * len(names)
    draw = data.draw if data else lambda strategy: [1, 0, -1] * num
    targets = draw(st.lists(st.sampled_from([1, 0, -1]), min_size=num, max_size=num))[:num]
    before = make(folder, names=names, splits=["train"] * len(ids), targets=targets, ids=ids)
    after = load_dataset(convert(before, folder / "out", to=to), options=ReadOptions(strict=True))
    assert (after.ids, list(after.paths), after.fingerprint) == (before.ids, list(before.paths), before.fingerprint)


@settings(max_examples=30)
@given(data=st.data(), names=class_names, divided=st.booleans(), to=st.sampled_from(TARGETS))
def test_round_trip(tmp_path_factory, data, names, divided, to):
    """Ids (of tables), splits, classes in their order and every target, unknown ones too, come back as they went."""
    folder = tmp_path_factory.mktemp("round")
    names = names if to in ("csv", "parquet") else [name.strip() for name in names]  # where spaces are left out
    num = data.draw(st.integers(1, 8))
    splits = data.draw(st.lists(st.sampled_from(["train", "val", "test"]), min_size=num, max_size=num)) if divided else [""] * num
    targets = data.draw(st.lists(st.sampled_from([1, 0, -1]), min_size=num * len(names), max_size=num * len(names)))
    before = make(folder, names=names, splits=splits, targets=targets)
    after = load_dataset(convert(before, folder / "out", to=to))
    assert rows_of(after, "content") == rows_of(before, "content")
    assert after.label_set.names == (tuple(sorted(names)) if to == "voc" else tuple(names))
    if to in ("csv", "parquet"):
        assert (after.ids, after.paths, after.fingerprint) == (before.ids, before.paths, before.fingerprint)


@pytest.mark.parametrize("to", ["csv", "parquet"])
def test_groups_come_back(tmp_path, to):
    """Names that need quoting and an image without a group; read without the option, the column is an error that names it."""
    groups = ("a,b", 'a"b', "", "0")
    before = replace(make(tmp_path, names=["cat"], splits=[""] * 4, targets=[1, 0, 1, -1]), group_N=groups)
    out = convert(before, tmp_path / "out", to=to, group_column="patient")
    after = load_dataset(out, options=ReadOptions(group_column="patient"))
    assert (after.group_N, after.label_set.names, rows_of(after)) == (groups, ("cat",), rows_of(before))
    with pytest.raises(AnnotationError, match="patient"):
        load_dataset(out)
    with pytest.raises(UsageError, match="the groups of the images have no column to be written into"):
        convert(before, tmp_path / "lost", to=to)
    folders = convert(load_dataset(out, options=ReadOptions(group_column="patient")), tmp_path / "x", to=to, group_column=SOURCE)
    assert load_dataset(folders).label_set.names == ("cat",)


def test_groups_that_cannot_be_written(tmp_path):
    data = replace(make(tmp_path, names=["cat"], splits=[""], targets=[1]), group_N=("p",))
    with pytest.raises(UsageError) as refused:
        convert(data, tmp_path / "out", to="voc", group_column="patient")
    assert (
        str(refused.value)
        == "the format voc has no column of groups\n  got: groups of 'patient'\n  expected: csv or parquet, which have one"
    )
    for name in ("cat", "split"):
        with pytest.raises(DataError) as twice:
            convert(data, tmp_path / "out.csv", to="csv", group_column=name)
        assert str(twice.value) == (
            "the column of groups has the name of another column of the table\n"
            f"  where: a test\n  got: {name!r}\n  expected: another name\n"
            "  next: rename the column, or keep the groups in a table by image id: --columns FILE"
        )


@pytest.mark.parametrize("to", ["csv", "hf"])
def test_real_photographs_survive_conversion_and_back(real_voc, tmp_path, to):
    before = load_dataset(real_voc)
    after = load_dataset(convert(load_dataset(convert(before, tmp_path / "there", to=to)), tmp_path / "back", to="voc"))
    assert rows_of(after, "content") == rows_of(before, "content")
    if to in ("csv", "parquet", "voc"):
        assert [path.name for path in after.paths] == [path.name for path in before.paths]


@pytest.fixture
def small(tmp_path):
    return make(tmp_path, names=["dog", "cat"], splits=["train", "train", "val"], targets=[[1, 0], [-1, 1], [0, 0]])


def test_voc_lists_are_those_of_the_devkit(small, tmp_path):
    out = convert(small, tmp_path / "VOC2012", to="voc")
    main = out / "ImageSets/Main"
    assert sorted(path.name for path in main.iterdir()) == [
        "cat_train.txt", "cat_trainval.txt", "cat_val.txt", "dog_train.txt", "dog_trainval.txt", "dog_val.txt",
        "train.txt", "trainval.txt", "val.txt",
    ]  # fmt: skip
    assert (main / "dog_train.txt").read_text() == "pic_0  1\npic_1  0\n"
    assert (main / "dog_trainval.txt").read_text() == "pic_0  1\npic_1  0\npic_2 -1\n"
    assert (main / "train.txt").read_text() == "pic_0\npic_1\n"
    assert sorted(path.name for path in (out / "JPEGImages").iterdir()) == ["pic_0.jpg", "pic_1.jpg", "pic_2.jpg"]


def test_images_are_linked_not_copied_where_the_disk_allows(small, tmp_path):
    out = convert(small, tmp_path / "VOC2012", to="voc")
    assert os.path.samefile(out / "JPEGImages/pic_0.jpg", small.paths[0])


def test_images_behind_symbolic_links_arrive_whole(small, tmp_path):
    real = small.paths[0].rename(tmp_path / "real.jpg")
    small.paths[0].symlink_to("../real.jpg")
    out = convert(small, tmp_path / "deep/er/VOC2012", to="voc")
    assert (out / "JPEGImages/pic_0.jpg").read_bytes() == real.read_bytes()


def test_ids_that_a_voc_list_cannot_hold_are_made_words_of_their_own(tmp_path):
    ids = ["a/x 1.jpg", "a_x 1.jpg", "b\n2", "A/x 1.png", "..."]
    before = make(tmp_path, names=["cat"], splits=["train"] * 5, targets=[1, 0, 1, 0, -1], ids=ids)
    after = load_dataset(convert(before, tmp_path / "out", to="voc"))
    assert after.ids == ("a_x_1", "a_x_1-2", "b_2", "A_x_1-3", "image")
    assert rows_of(after, "content") == rows_of(before, "content")


def test_one_image_in_two_splits_stays_one_image(tmp_path):
    before = make(tmp_path, names=["cat"], splits=["train", "val"], targets=[1, 1], ids=["a", "a"])
    before = Dataset(
        ids=before.ids, paths=[before.paths[0]] * 2, target_NC=before.target_NC, split_N=before.split_N,
        label_set=before.label_set, source="a test",
    )  # fmt: skip
    for to in TARGETS:
        after = load_dataset(convert(before, tmp_path / to, to=to))
        assert after.split_N == ("train", "val")
        assert [content_of(path) for path in after.paths] == [b"image 0", b"image 0"]
    assert (tmp_path / "voc/ImageSets/Main/trainval.txt").read_text() == "a\n"


def test_the_csv_is_what_any_reader_of_csv_expects(small, tmp_path):
    out = convert(small, tmp_path / "tables", to="csv")
    assert out == tmp_path / "tables/labels.csv"
    with open(out, newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [
            ["id", "file_name", "split", "dog", "cat"],
            ["pic 0.JPG", "../images/0.JPG", "train", "1", "0"],
            ["pic 1.JPG", "../images/1.JPG", "train", "", "1"],
            ["pic 2.JPG", "../images/2.JPG", "val", "0", "0"],
        ]


def test_the_parquet_has_small_integers_and_nulls(small, tmp_path):
    table = pq.read_table(convert(small, tmp_path / "mine.parquet", to="parquet"))
    assert [str(field.type) for field in table.schema] == ["string", "string", "string", "int8", "int8"]
    assert table.to_pydict()["dog"] == [1, None, 0]


def test_classes_called_like_the_columns_that_are_looked_for(tmp_path):
    """A table of ours is known by its first three columns: a class may be called "label" or "image"."""
    before = make(tmp_path, names=["label", "image", "index", " tag "], splits=["train"], targets=[1, 0, -1, 1])
    for to in ("csv", "parquet"):
        after = load_dataset(convert(before, tmp_path / to, to=to))
        assert after.fingerprint == before.fingerprint


# ---- bad input ----


def message(*args, kind=DataError, **named):
    with pytest.raises(kind) as error:
        convert(*args, **named)
    return str(error.value)


def test_an_unknown_target(small, tmp_path):
    assert message(small, tmp_path / "out", to="kitti", kind=UsageError) == (
        "unknown format to convert to\n  got: 'kitti'\n  expected: one of csv, parquet, voc, coco, imagefolder, hf, webdataset"
    )


@pytest.mark.parametrize(("to", "name"), [("voc", "out"), ("csv", "out/labels.csv"), ("parquet", "out/labels.parquet")])
def test_an_output_in_use(small, tmp_path, to, name):
    convert(small, tmp_path / "out", to=to)
    before = sorted(path for path in tmp_path.rglob("*"))
    assert message(small, tmp_path / "out", to=to, kind=RunError) == (
        f"the output exists already\n  where: {tmp_path}/{name}\n  expected: a new name, or an empty folder\n"
        "  next: choose another name, or remove it; nothing is overwritten"
    )
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_splits_that_voc_has_no_lists_for(tmp_path):
    data = make(tmp_path, names=["cat"], splits=["train", "fold1"], targets=[1, 0])
    assert message(data, tmp_path / "out", to="voc") == (
        "VOC has no lists for these splits\n  where: a test\n  got: 'train', 'fold1'\n"
        "  expected: train, val and test; or trainval and test; or no split at all\n"
        "  next: convert to csv or parquet, which hold any split"
    )


def test_splits_that_coco_has_no_file_for(tmp_path):
    data = make(tmp_path, names=["cat"], splits=["train", ""], targets=[1, 0])
    assert message(data, tmp_path / "out", to="coco") == (
        "COCO has no file for these splits\n  where: a test\n  got: 'train', ''\n"
        "  expected: train, val and test; or no split at all\n  next: convert to csv or parquet, which hold any split"
    )


@pytest.mark.parametrize("name", ["fish/seafood", ".hidden", "a\\b"])
def test_class_names_that_no_file_can_have(tmp_path, name):
    data = make(tmp_path, names=["cat", name], splits=["train"], targets=[1, 0])
    assert message(data, tmp_path / "out", to="voc") == (
        f"a class name that cannot be part of a file name, as VOC needs\n  where: a test\n  got: {name!r}\n"
        "  expected: no slash, and no full stop at the start\n  next: rename the class, or convert to csv or parquet"
    )
    assert load_dataset(convert(data, tmp_path / "out.csv", to="csv")).label_set.names == ("cat", name)


def test_an_image_that_is_gone_leaves_nothing_behind(small, tmp_path):
    small.paths[1].unlink()
    assert message(small, tmp_path / "out", to="voc") == (
        f"an image does not exist\n  where: {small.paths[1]}\n  expected: the file that existed when the data were read"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images"]


HOSTILE_SPLITS = ["../evil", "{}/evil", "a/b", "..", "a\\..\\b", "C:x", "a\0b", "\x1b[2J", ".hidden", "data", "my-train"]


@pytest.mark.parametrize("split", HOSTILE_SPLITS)
def test_splits_that_become_no_name_of_a_file(tmp_path, split):
    """What a stranger's table calls a split writes nothing outside of the output, and no split is lost or becomes another."""
    split = split.format(tmp_path)
    data = make(tmp_path / "in", names=["cat"], splits=["train", split], targets=[1, 0])
    for to in TARGETS:
        if to in TABLES:
            assert rows_of(load_dataset(convert(data, tmp_path / to, to=to))) == rows_of(data)
        else:
            text = message(data, tmp_path / "out", to=to)
            assert "for these splits" in text or "after these splits" in text
            assert f"got: 'train', {split!r}" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["in", *TABLES])


def test_shards_hold_the_names_of_folds(tmp_path):
    data = make(tmp_path, names=["cat"], splits=["fold1", "fold2", "a b", "CON"], targets=[1, 0, -1, 1])
    assert rows_of(load_dataset(convert(data, tmp_path / "out", to="hf"))) == rows_of(data)


def test_a_split_that_is_too_long_for_the_disk(tmp_path):
    data = make(tmp_path / "in", names=["cat"], splits=["x" * 300], targets=[1])
    assert "File name too long" in message(data, tmp_path / "out", to="hf", kind=RunError)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("split", ["Train", "validation", " val", "x ", "nan"])
def test_splits_that_are_read_as_others(tmp_path, split):
    data = make(tmp_path, names=["cat"], splits=["val", split], targets=[1, 0])
    for to in TARGETS:
        assert message(data, tmp_path / "out", to=to).startswith("the name of a split is read back as another\n")


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["a", "a "], "a class name that is read back as another"),
        (["e\u0301"], "a class name that is read back as another"),
        (["\ufeffa"], "a class name that is read back as another"),
        (["A", "a"], "class names that differ only in capitals or spaces"),
    ],
)
def test_class_names_that_only_our_own_tables_hold(tmp_path, names, what):
    data = make(tmp_path, names=names, splits=["train"], targets=[1] * len(names))
    for to in ("voc", "coco", "hf", "webdataset"):
        text = message(data, tmp_path / "out", to=to)
        assert text.startswith(what + "\n")
        assert text.endswith("next: rename a class, or convert to csv or parquet, which hold any name")
    for to in ("csv", "parquet", "imagefolder"):
        assert rows_of(load_dataset(convert(data, tmp_path / to, to=to)), "content") == rows_of(data, "content")


@pytest.mark.parametrize("to", TARGETS)
def test_images_with_odd_names(tmp_path, to):
    names = (
        " a.jpg",
        "b\nc.jpg",
        "d;e,f.jpg",
        "\"q'.jpg",
        "g\\h.jpg",
        ".i.jpg",
        "%20.jpg",
        "j.tar/k.jpg",
        "l.m.jpg",
        "L.m.jpg",
        "noending",
    )
    data = make(tmp_path, names=["x", "y"], splits=["train"] * len(names), targets=[1, 0] * len(names), ids=names)
    paths = [tmp_path / "odd" / name for name in names]
    for old, new in zip(data.paths, paths, strict=True):
        new.parent.mkdir(parents=True, exist_ok=True)
        old.rename(new)
    data = replace(data, paths=paths)
    after = load_dataset(convert(data, tmp_path / "out", to=to))
    assert rows_of(after, "content") == rows_of(data, "content")
    if to in ("csv", "parquet"):
        assert (after.ids, list(after.paths)) == (names, paths)
    if to == "hf":
        assert after.ids == names


def test_two_images_that_are_one_file(tmp_path):
    data = make(tmp_path / "in", names=["x"], splits=["train"] * 2, targets=[1, 0], ids=["a", "b"])
    data = replace(data, paths=[data.paths[0]] * 2)
    for to in ("voc", "coco", "imagefolder", "webdataset"):
        assert message(data, tmp_path / "out", to=to) == (
            f"two images of a split are one file\n  where: a test\n  got: 'a' and 'b', both {data.paths[0]}\n"
            "  expected: a file for each image\n  next: join their labels; or convert to csv, parquet or hf, which hold both"
        )
    for to in (*TABLES, "hf"):
        assert rows_of(load_dataset(convert(data, tmp_path / to, to=to))) == rows_of(data)


def test_the_keys_of_samples_end_at_a_full_stop_and_stay_apart(tmp_path):
    data = make(tmp_path, names=["x"], splits=["train"] * 3, targets=[1, 0, 1], ids=["a.b", "a_b-2", "a_b"])
    assert rows_of(load_dataset(convert(data, tmp_path / "out", to="webdataset")), "content") == rows_of(data, "content")


def test_the_images_of_shards_lie_as_they_are(small, tmp_path):
    """One read an image, in any order."""
    (path, _) = sorted(convert(small, tmp_path / "out", to="hf").rglob("*.parquet"))
    columns = [pq.read_metadata(path).row_group(0).column(number) for number in range(4)]
    assert {column.path_in_schema: column.compression for column in columns} == {
        "id": "UNCOMPRESSED", "image.bytes": "UNCOMPRESSED", "image.path": "UNCOMPRESSED", "labels.list.element": "SNAPPY"
    }  # fmt: skip
    (chunk,) = chunks_of(OpenFile(path), 1)
    assert chunk.is_plain


@pytest.mark.parametrize("to", ["csv", "parquet", "imagefolder"])
def test_a_class_called_like_a_column(tmp_path, to):
    data = make(tmp_path, names=["split"], splits=["train"], targets=[1])
    assert message(data, tmp_path / "out", to=to) == (
        "a class has the name of a column of the table\n  where: a test\n  got: 'split'\n"
        "  expected: class names other than id, file_name, split"
    )


def test_a_folder_that_cannot_be_made(small, tmp_path):
    (tmp_path / "file").write_text("")
    assert message(small, tmp_path / "file" / "out", to="csv", kind=RunError) == (
        f"the output folder cannot be created\n  where: {tmp_path}/file/out\n  got: Not a directory\n  expected: a folder"
    )


def test_a_relative_output(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert convert(small, Path("x.csv"), to="csv") == tmp_path / "x.csv"
