"""Groups of dependent images: where they are read from, that no split divides them, and how well labels are divided even so."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.model_selection import StratifiedGroupKFold

from polytag.contracts import Dataset, LabelSet
from polytag.data.check import check
from polytag.data.groups import divided_groups, group_numbers
from polytag.data.load import load_dataset
from polytag.data.read_options import ReadOptions
from polytag.data.splits import large_group_note, with_validation_split
from polytag.errors import AnnotationError, DataError, PolytagError, UsageError


def dataset(target_NC, group_N, split_N=()) -> Dataset:
    target_NC = np.asarray(target_NC, np.int8)
    ids = tuple(str(number) for number in range(len(target_NC)))
    return Dataset(
        ids=ids,
        paths=tuple(Path(f"/{name}.jpg") for name in ids),
        target_NC=target_NC,
        split_N=tuple(split_N) or ("",) * len(ids),
        label_set=LabelSet(names=tuple(f"c{c}" for c in range(target_NC.shape[1]))),
        source="a test",
        group_N=tuple(map(str, group_N)),
    )


def grouped(seed: int, *, num_groups: int = 60, num_classes: int = 12) -> Dataset:
    """Groups of 2 to 50 images whose labels resemble each other, and classes from rare to frequent."""
    rng = np.random.default_rng(seed)
    group_N = np.repeat(np.arange(num_groups), 1 + rng.geometric(1 / 8, num_groups))
    logit_C = np.log(np.geomspace(0.01, 0.5, num_classes))
    logit_GC = logit_C + rng.normal(0, 1.5, (num_groups, num_classes))
    order = rng.permutation(len(group_N))
    target_NC = rng.random((len(group_N), num_classes)) < 1 / (1 + np.exp(-logit_GC[group_N]))
    return dataset(target_NC[order], group_N[order])


# ---- reading


def labels(folder: Path, text: str, name: str = "labels.csv") -> Path:
    folder.mkdir(exist_ok=True)
    for letter in "abcd":
        Image.new("RGB", (8, 8)).save(folder / f"{letter}.png")
    (folder / name).write_text(text)
    return folder


def groups(data: Path, column: str = "patient", **options) -> tuple[str, ...]:
    return load_dataset(data, options=ReadOptions(group_column=column, **options)).group_N


def test_a_column_of_a_table_of_label_lists(tmp_path: Path):
    data = labels(tmp_path, "file_name,labels,patient\na.png,cat, 7 \nb.png,dog,\nc.png,,7\n")
    assert groups(data) == ("7", "", "7")
    assert load_dataset(data).group_N == ("", "", "")


def test_a_column_of_groups_is_no_class(tmp_path: Path):
    """Without the option it is ignored, because its cells are no labels."""
    data = labels(tmp_path, "file_name,cat,patient,dog\na.png,1,p1,0\nb.png,0,p2,1\n")
    read = load_dataset(data, options=ReadOptions(group_column="patient"))
    assert (read.label_set.names, read.group_N) == (("cat", "dog"), ("p1", "p2"))
    assert dict(load_dataset(data).interpretation.found)["ignored"] == "'patient'"


def test_a_column_that_was_added_to_a_table_of_polytag(tmp_path: Path):
    data = labels(tmp_path, "id,file_name,split,cat,patient\n1,a.png,train,1,p1\n2,b.png,val,0,p1\n")
    read = load_dataset(data, options=ReadOptions(group_column="patient"))
    assert (read.ids, read.label_set.names, read.group_N) == (("1", "2"), ("cat",), ("p1", "p1"))


def test_parquet_json_lines_and_a_table_for_each_split(tmp_path: Path):
    labels(tmp_path / "p", "")
    (tmp_path / "p" / "labels.csv").unlink()
    columns = {"file_name": ["a.png", "b.png"], "labels": [["cat"], []], "patient": pa.array([3, None])}
    pq.write_table(pa.table(columns), tmp_path / "p" / "labels.parquet")
    assert groups(tmp_path / "p") == ("3", "")
    lines = [{"file_name": "a.png", "labels": ["cat"], "patient": "p"}, {"file_name": "b.png", "labels": []}]
    labels(tmp_path / "j", "\n".join(map(json.dumps, lines)), "metadata.jsonl")
    assert groups(tmp_path / "j") == ("p", "")
    labels(tmp_path / "s", "file_name,labels,patient\na.png,cat,p1\n", "train.csv")
    labels(tmp_path / "s", "file_name,labels,patient\nb.png,cat,p1\n", "val.csv")
    read = load_dataset(tmp_path / "s", options=ReadOptions(group_column="patient"))
    assert divided_groups(read) == {"p1": {"train": 1, "val": 1}}


def test_another_table_by_id_and_the_folder(tmp_path: Path):
    for place in ("cat/one.png", "cat/two.png", "dog/three.png"):
        (tmp_path / "data" / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "data" / place)
    table = tmp_path / "patients.csv"
    table.write_text("id,patient\ndog/three.png,p1\ncat/one.png,p1\nelsewhere.png,p9\n")
    assert groups(tmp_path / "data", columns_file=str(table)) == ("p1", "", "p1")
    assert groups(tmp_path / "data", "source") == tuple(str(tmp_path / "data" / label) for label in ("cat", "cat", "dog"))


def failure(kind: type[PolytagError], call, *arguments, **named) -> str:
    with pytest.raises(kind) as error:
        call(*arguments, **named)
    return str(error.value)


def test_groups_that_cannot_be_read(tmp_path: Path):
    data = labels(tmp_path / "data", "file_name,labels,patient\na.png,cat,\nb.png,dog, \n")
    assert failure(AnnotationError, groups, data, "patent").startswith("the table has no such column\n")
    assert failure(DataError, groups, data) == (
        f"no image has a value in the column of groups\n  where: csv {data}, column 'patient'\n  expected: a value for some images"
    )
    table = tmp_path / "t.csv"
    table.write_text("id,patient\nx.png,1\n")
    named = {"columns_file": str(table)}
    assert "got: 'patent' (did you mean 'patient'?)" in failure(UsageError, groups, data, "patent", **named)
    assert failure(AnnotationError, groups, data, **named).startswith("no image is in the table of columns\n")
    table.write_text("id,patient\na.png,\n")
    assert failure(DataError, groups, data, **named).startswith("no image has a value in the column of groups\n")
    assert failure(UsageError, ReadOptions, **named).startswith("a table of columns, none of which is used\n")


def test_annotations_without_columns(tmp_path: Path):
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / label / "1.png")
    assert failure(UsageError, groups, tmp_path) == (
        f"these annotations have no columns to group images by\n  where: folder {tmp_path}\n  got: the column 'patient'\n"
        "  expected: a table by image id that has it; or 'source', the folder of each image\n"
        "  next: give --columns FILE, a CSV, Parquet or JSON Lines file with a column of image ids"
    )


# ---- splits


@st.composite
def small_data(draw) -> Dataset:
    num_images = draw(st.integers(2, 40))
    group_N = draw(st.lists(st.sampled_from(["", "a", "b", "c", "d"]), min_size=num_images, max_size=num_images))
    group_N[:2] = "a", "b"
    bits = draw(st.lists(st.sampled_from([1, 0, -1]), min_size=3 * num_images, max_size=3 * num_images))
    return dataset(np.reshape(bits, (num_images, 3)), group_N)


@given(data=small_data(), fraction=st.floats(0.05, 0.95), seed=st.integers(0, 3))
def test_laws(data: Dataset, fraction: float, seed: int):
    """No group is divided; neither part is empty; names of groups, and the order of images within them, do not matter."""
    after = with_validation_split(data, fraction=fraction, seed=seed)
    assert set(after.split_N) == {"train", "val"}
    assert not divided_groups(after)
    assert after.group_N == data.group_N
    renamed = dataset(data.target_NC, [group and f"x{group}" for group in data.group_N])
    assert with_validation_split(renamed, fraction=fraction, seed=seed).split_N == after.split_N
    number_N = group_numbers(data)
    by_group = np.argsort(number_N, kind="stable")
    assert with_validation_split(data.take(by_group), fraction=fraction, seed=seed).split_N == tuple(
        after.split_N[row] for row in by_group
    )


@given(data=small_data(), seed=st.integers(0, 3))
def test_groups_of_one_image_each_are_images(data: Dataset, seed: int):
    alone = dataset(data.target_NC, [""] * len(data))
    named = dataset(data.target_NC, range(len(data)))
    assert with_validation_split(alone, seed=seed).split_N == with_validation_split(named, seed=seed).split_N


def misses(data: Dataset, is_val_N: np.ndarray) -> float:
    """How far the positives of a class in validation are from a fifth of all, as a share of that fifth; mean over classes."""
    positive_NC = data.target_NC == 1
    wanted_C = 0.2 * np.maximum(positive_NC.sum(axis=0), 1)
    return float(np.mean(np.abs(positive_NC[is_val_N].sum(axis=0) - wanted_C) / wanted_C))


def by_chance(data: Dataset, rng: np.random.Generator) -> np.ndarray:
    """Groups in a random order, as long as a fifth of the images is not exceeded."""
    number_N = group_numbers(data)
    size_G = np.bincount(number_N)
    order = rng.permutation(len(size_G))
    return np.isin(number_N, order[np.cumsum(size_G[order]) <= 0.2 * len(data)])


def by_sklearn(data: Dataset, seed: int) -> np.ndarray:
    """A fold of StratifiedGroupKFold, which takes one label per image: its rarest."""
    total_C = data.target_NC.sum(axis=0)
    rarest_N = [min(np.flatnonzero(target_C), key=lambda c: total_C[c], default=-1) for target_C in data.target_NC]
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(data.target_NC, rarest_N, data.group_N)
    return np.isin(np.arange(len(data)), next(iter(folds))[1])


@pytest.mark.filterwarnings("ignore:The least populated class")
def test_labels_are_divided_better_than_by_chance_and_by_a_grouped_split_of_one_label():
    mine, chance, other = [], [], []
    for seed in range(20):
        data = grouped(seed)
        after = with_validation_split(data, seed=seed)
        assert not divided_groups(after)
        mine.append(misses(data, np.array(after.split_N) == "val"))
        chance.append(misses(data, by_chance(data, np.random.default_rng(seed))))
        other.append(misses(data, by_sklearn(data, seed)))
    assert np.mean(mine) < np.mean(chance) / 2.5
    assert np.mean(mine) < np.mean(other) / 1.5


def test_real_photographs_in_scenes(real_voc: Path):
    """voc-mini in invented groups of 1 to 12 neighbours, of which similar ones share labels."""
    data = load_dataset(real_voc)
    order = np.lexsort(data.target_NC.T)
    rng = np.random.default_rng(0)
    group_N = np.repeat(np.arange(len(data)), rng.integers(1, 13, len(data)))[: len(data)]
    scenes = dataset(data.target_NC[order] == 1, group_N)
    is_val_N = np.array(with_validation_split(scenes).split_N) == "val"
    assert is_val_N.mean() == pytest.approx(0.2, abs=0.005)
    assert misses(scenes, is_val_N) < np.mean([misses(scenes, by_chance(scenes, rng)) for _ in range(5)]) / 4


def test_a_single_group_cannot_be_divided():
    assert failure(DataError, with_validation_split, dataset([[1], [0]], ["p", "p"])) == (
        "all images are in a single group\n  where: a test\n  got: 2 images in group 'p'\n"
        "  expected: two groups or more: the images of a group stay in one split"
    )


def test_a_group_larger_than_the_split():
    """The large one is for training, and validation gets what is left; the user is told."""
    data = dataset(np.tile([[1], [0]], (10, 1)), ["big"] * 14 + ["b"] * 3 + ["c"] * 3)
    after = with_validation_split(data)
    assert set(after.split("val").group_N) in ({"b"}, {"c"})
    assert large_group_note(data) == (
        "the largest group, 'big', has 14 of 20 images, more than the 4 of a validation split: labels and sizes cannot be divided "
        "in proportion"
    )
    assert large_group_note(dataset(data.target_NC, [""] * 20)) == ""


# ---- data check


def test_a_patient_in_two_splits_is_found(tmp_path: Path):
    rows = [("a", "train", "p1"), ("b", "train", "p2"), ("c", "val", "p1"), ("d", "val", "")]
    text = "".join(f"{name}.png,{int(name in 'ac')},{split},{patient}\n" for name, split, patient in rows)
    data = labels(tmp_path, "file_name,cat,split,patient\n" + text)
    found = check(load_dataset(data, options=ReadOptions(group_column="patient")), read_images=False)
    assert found.can_train
    assert found.divided_groups == {"p1": {"train": 1, "val": 1}}
    sentence = "1 group of dependent images is in more than one split, so validation scores are too high: p1 (1 train, 1 val)"
    assert sentence in found.warnings
    assert found.to_json()["divided_groups"] == found.divided_groups
    without = load_dataset(data, options=ReadOptions(class_columns=("cat",)))
    assert check(without, read_images=False).divided_groups is None


def test_a_large_group_and_a_single_one_are_found_before_training():
    many = dataset(np.tile([[1], [0]], (10, 1)), ["big"] * 14 + list("bcdefg"))
    assert large_group_note(many) in check(many, read_images=False).warnings
    alone = dataset([[1], [0], [1]], ["p"] * 3)
    assert check(alone, read_images=False).problems == ("all images are in a single group",)
