"""Iterative stratification: laws, the paper's reason to be, and what cannot be trained on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from polytag.contracts import Dataset, LabelSet
from polytag.data.load import load_dataset
from polytag.data.splits import lacks_validation, require_trainable, with_validation_split
from polytag.errors import DataError, UsageError


def dataset(target_NC, split="", ids=None):
    target_NC = np.asarray(target_NC)
    ids = ids or tuple(str(number) for number in range(len(target_NC)))
    return Dataset(
        ids=ids,
        paths=tuple(Path(f"/{name}.jpg") for name in ids),
        target_NC=target_NC,
        split_N=(split,) * len(ids),
        label_set=LabelSet(names=tuple(f"c{c}" for c in range(target_NC.shape[1]))),
        source="a test",
    )


tables = hnp.arrays(np.int8, st.tuples(st.integers(2, 60), st.integers(1, 6)), elements=st.sampled_from([1, 0, -1]))


@given(target_NC=tables, fraction=st.floats(0.05, 0.95), seed=st.integers(0, 5))
def test_laws(target_NC, fraction, seed):
    """Only the split changes; both parts have images; the same seed gives the same; val is about as large as asked."""
    before = dataset(target_NC)
    after = with_validation_split(before, fraction=fraction, seed=seed)
    assert after.ids == before.ids
    assert after.paths == before.paths
    assert (after.target_NC == target_NC).all()
    assert set(after.split_N) == {"train", "val"}
    assert after.split_N == with_validation_split(before, fraction=fraction, seed=seed).split_N


def test_seeds_differ():
    data = dataset(np.random.default_rng(0).integers(0, 2, (100, 5)))
    assert with_validation_split(data, seed=0).split_N != with_validation_split(data, seed=1).split_N


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_every_class_is_shared_out_in_proportion_where_chance_would_not(fraction):
    """Rare classes: each one's validation share stays within one image of what was asked, which random division misses."""
    rng = np.random.default_rng(0)
    target_NC = (rng.random((2000, 12)) < np.geomspace(0.005, 0.5, 12)).astype(np.int8)
    total_C = target_NC.sum(axis=0)

    def worst(is_val_N):
        return np.abs(target_NC[is_val_N].sum(axis=0) - fraction * total_C) / np.sqrt(total_C)

    split_N = np.array(with_validation_split(dataset(target_NC), fraction=fraction).split_N)
    assert (split_N == "val").mean() == pytest.approx(fraction, abs=0.02)
    by_chance = np.mean([worst(rng.permutation(2000) < fraction * 2000).mean() for _ in range(20)])
    assert worst(split_N == "val").mean() < by_chance / 3
    rare = total_C < 40
    assert rare.any()
    assert (np.abs(target_NC[split_N == "val"].sum(axis=0) - fraction * total_C)[rare] <= 1).all()


def test_unknown_labels_do_not_count_as_positives():
    """The classes' positives decide: turning absent into unknown changes nothing."""
    target_NC = np.random.default_rng(1).integers(0, 2, (80, 4)).astype(np.int8)
    unknown_NC = np.where(target_NC == 0, -1, 1)
    assert with_validation_split(dataset(target_NC)).split_N == with_validation_split(dataset(unknown_NC)).split_N


def test_a_worked_example():
    """Ten images of a, of which two also show the rare b; half for validation: one b and five a each."""
    target_NC = np.array([[1, 1]] * 2 + [[1, 0]] * 8)
    for seed in range(10):
        val = with_validation_split(dataset(target_NC), fraction=0.5, seed=seed).split("val")
        assert val.target_NC.sum(axis=0).tolist() == [5, 1]


def test_real_photographs(real_voc):
    """A fifth of every class of voc-mini, within two images, whichever split it was in."""
    data = load_dataset(real_voc)
    whole = dataset(data.target_NC, ids=data.ids)
    val = with_validation_split(whole).split("val")
    assert np.abs((val.target_NC == 1).sum(axis=0) - 0.2 * (data.target_NC == 1).sum(axis=0)).max() <= 4
    assert len(val) == pytest.approx(0.2 * len(data), rel=0.05)


# ---- bad input ----


def message(call, *args, kind=DataError, **named):
    with pytest.raises(kind) as error:
        call(*args, **named)
    return str(error.value)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.2, 20, float("nan")])
def test_a_share_that_is_none(fraction):
    assert message(with_validation_split, dataset([[1], [0]]), fraction=fraction, kind=UsageError) == (
        f"a validation share outside 0 and 1\n  got: {fraction}\n  expected: more than 0 and less than 1"
    )


def test_data_with_splits():
    assert message(with_validation_split, dataset([[1], [0]], split="val")) == (
        "the annotations name splits already\n  where: a test\n  got: 'val'\n"
        "  expected: annotations without splits, or with train and test only"
    )


@pytest.mark.parametrize("undivided", ["train", "trainval", ""])
def test_a_missing_validation_split_is_made_of_the_training_images(undivided):
    """ChestX-ray14 and NUS-WIDE have official lists of training and test images only."""
    target_NC = np.random.default_rng(0).integers(0, 2, (40, 3))
    whole = dataset(target_NC)
    data = replace(whole, split_N=(undivided,) * 30 + ("test",) * 10)
    assert lacks_validation(data)
    after = with_validation_split(data)
    assert after.split_N[30:] == ("test",) * 10
    assert after.split_N[:30] == with_validation_split(whole.take(range(30))).split_N
    assert not lacks_validation(after)
    assert not lacks_validation(replace(whole, split_N=("test",) * 40))
    assert not lacks_validation(replace(whole, split_N=("train",) * 39 + ("vall",)))


def test_one_image():
    assert message(with_validation_split, dataset([[1]])) == (
        "too few images for a validation split\n  where: a test\n  got: 1\n  expected: 2 or more"
    )


def with_splits(*rows):
    return Dataset(
        ids=tuple(str(number) for number in range(len(rows))),
        paths=tuple(Path(f"/{number}.jpg") for number in range(len(rows))),
        target_NC=np.array([targets for _, targets in rows]),
        split_N=tuple(split for split, _ in rows),
        label_set=LabelSet(names=("cat", "dog")),
        source="a test",
    )


def test_trainable():
    require_trainable(with_splits(("train", [1, 0]), ("val", [0, 1])))


def test_training_images_need_no_negative_where_only_positives_are_labelled():
    dataset = with_splits(("train", [1, -1]), ("train", [-1, 1]), ("val", [0, 1]))
    require_trainable(replace(dataset, absent_means="unknown"))
    with pytest.raises(DataError, match="no class has a negative in split 'train'"):
        require_trainable(dataset)
    with pytest.raises(DataError, match="no class has a positive in split 'train'"):
        require_trainable(replace(with_splits(("train", [-1, -1]), ("val", [0, 1])), absent_means="unknown"))
    with pytest.raises(DataError, match="no class has a negative in split 'train'"):
        require_trainable(replace(with_splits(("train", [1, 1]), ("val", [0, 1])), absent_means="unknown"))


@pytest.mark.parametrize("missing", ["train", "val"])
def test_a_split_missing(missing):
    there = "val" if missing == "train" else "train"
    assert message(require_trainable, with_splits((there, [1, 0]))) == (
        f"the split '{missing}' is missing\n  where: a test\n  got: '{there}'\n  expected: images in split '{missing}'\n"
        "  next: add the split to the annotations; `polytag data check` shows what was read"
    )


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(("kind", "label"), [("positive", 0), ("negative", 1)])
def test_no_positive_or_no_negative_in_any_class(kind: str, label: int, split: str):
    """Of labels of one kind nothing can be learned: the AP of any scores would be 1."""
    rows = [(name, [label, -1] if name == split else [1, 0]) for name in ("train", "val", "val", "train")]
    assert message(require_trainable, with_splits(*rows)) == (
        f"no class has a {kind} in split '{split}'\n  where: a test\n"
        f"  got: 2 images with {2 * label} present, {2 - 2 * label} absent and 2 unknown labels\n"
        "  expected: present and absent labels: a class that every image has cannot be told from anything\n"
        "  next: `polytag data check` shows what was read; in a table 0 is absent and -1 is unknown; "
        "of folders, one for each class, there are at least two"
    )
