"""Parts of any shares, folds, and parts by time: laws, an independent oracle, what stays together, and what cannot be divided."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from polytag.contracts import Dataset, LabelSet
from polytag.data.divide import divided, divided_by_time, require_shares, with_folds
from polytag.data.stratify import part_sizes, stratified_parts
from polytag.data.times import parse_times
from polytag.errors import AnnotationError, DataError, PolytagError, UsageError


def dataset(target_NC, *, split_N=(), group_N=(), ids=()) -> Dataset:
    target_NC = np.asarray(target_NC, np.int8)
    ids = tuple(ids) or tuple(str(number) for number in range(len(target_NC)))
    return Dataset(
        ids=ids,
        paths=tuple(Path(f"/{name}.jpg") for name in ids),
        target_NC=target_NC,
        split_N=tuple(split_N) or ("",) * len(ids),
        label_set=LabelSet(names=tuple(f"c{c}" for c in range(target_NC.shape[1]))),
        source="a test",
        group_N=tuple(map(str, group_N)),
    )


def uneven(seed: int, *, num_images: int = 800, num_classes: int = 12) -> np.ndarray:
    """Classes from rare to frequent."""
    return (np.random.default_rng(seed).random((num_images, num_classes)) < np.geomspace(0.01, 0.5, num_classes)).astype(np.int8)


def failure(call, *arguments, kind: type[PolytagError] = DataError, **named) -> str:
    with pytest.raises(kind) as error:
        call(*arguments, **named)
    return str(error.value)


# ---- parts of given shares


@settings(max_examples=25)
@given(
    target_NC=hnp.arrays(np.int8, st.tuples(st.integers(4, 50), st.integers(1, 5)), elements=st.sampled_from([1, 0, -1])),
    shares=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    num_groups=st.integers(4, 60),
    seed=st.integers(0, 3),
)
def test_laws(target_NC, shares, num_groups, seed):
    """No part is empty, no group is divided, only the split changes, and the same seed gives the same parts."""
    share_of = {f"part {number}": share / sum(shares) for number, share in enumerate(shares)}
    group_N = np.random.default_rng(seed).integers(0, num_groups, len(target_NC))
    before = dataset(target_NC, group_N=group_N)
    if len(set(group_N)) < len(shares):
        assert failure(divided, before, share_of=share_of).startswith("too few images to divide\n")
        return
    after = divided(before, share_of=share_of, seed=seed)
    assert set(after.split_N) == set(share_of)
    assert len(set(zip(group_N, after.split_N, strict=True))) == len(set(group_N))
    assert (after.ids, after.paths, after.target_NC.tolist()) == (before.ids, before.paths, target_NC.tolist())
    assert after.split_N == divided(before, share_of=share_of, seed=seed).split_N


def test_sizes_are_whole_and_none_is_zero():
    assert part_sizes(10, (0.8, 0.2)) == [8, 2]
    assert part_sizes(100, (0.29, 0.71)) == [29, 71]
    assert part_sizes(7, (0.2,) * 5) == [2, 2, 1, 1, 1]
    assert part_sizes(4, (0.97, 0.01, 0.01, 0.01)) == [1, 1, 1, 1]


def test_every_class_is_in_proportion_in_every_part():
    """Within one image for the rare classes, which a random division misses by far."""
    target_NC, share_P = uneven(0, num_images=2000), (0.6, 0.2, 0.1, 0.1)
    part_N = stratified_parts(target_NC, number_N=np.arange(2000), share_P=share_P, seed=0)
    total_C = target_NC.sum(axis=0)
    count_PC = np.stack([target_NC[part_N == part].sum(axis=0) for part in range(4)])
    assert np.abs(count_PC - np.outer(share_P, total_C))[:, total_C < 100].max() <= 1.5
    assert np.abs(np.bincount(part_N) / 2000 - share_P).max() < 0.002


def test_no_less_even_than_the_package_iterative_stratification():
    """The oracle, another implementation of the algorithm; benchmarks/splits.py compares 20 sets."""
    oracle = pytest.importorskip("iterstrat.ml_stratifiers", reason="the package iterative-stratification is not installed")
    ours, theirs = [], []
    for seed in range(5):
        target_NC, share_P = uneven(seed), np.full(5, 0.2)
        for found, part_N in (
            (ours, stratified_parts(target_NC, number_N=np.arange(len(target_NC)), share_P=share_P, seed=seed)),
            (theirs, oracle.IterativeStratification(target_NC.astype(bool), share_P, np.random.RandomState(seed))),
        ):
            count_PC = np.stack([target_NC[part_N == part].sum(axis=0) for part in range(5)])
            found.append(np.abs(count_PC / target_NC.sum(axis=0) - 0.2).mean())
    assert np.mean(ours) <= np.mean(theirs) + 1e-9


def test_other_splits_keep_their_images():
    target_NC = uneven(1, num_images=60)
    split_N = ("train",) * 30 + ("val",) * 10 + ("test",) * 15 + ("",) * 5
    after = divided(dataset(target_NC, split_N=split_N), share_of={"train": 0.5, "val": 0.5})
    assert [name == "test" for name in after.split_N] == [name == "test" for name in split_N]
    assert set(after.split_N) == {"train", "val", "test"}
    assert abs(after.split_N.count("val") - 22.5) <= 1.5
    assert failure(divided, dataset([[1], [0]], split_N=("a", "b")), share_of={"train": 0.5, "val": 0.5}) == (
        "there is no image to divide\n  where: a test\n  got: the splits 'a', 'b'\n"
        "  expected: images without a split, or in 'train', 'val'\n"
        "  next: name the parts after the splits that are to be divided anew"
    )


@pytest.mark.parametrize("share_of", [{"train": 1.0}, {"train": 0.8, "val": 0.1}, {"train": 1.2, "val": -0.2}, {}])
def test_shares_that_make_no_whole(share_of):
    message = failure(require_shares, share_of, kind=UsageError)
    assert message.startswith("the shares of the parts do not make a whole\n")
    assert message.endswith("that sum to 1, such as train=0.7,val=0.15,test=0.15")


def test_a_part_with_the_unusual_name_of_a_split():
    """Read back, "Validation" is val."""
    assert failure(require_shares, {"train": 0.8, "Validation": 0.2}, kind=UsageError) == (
        "an unusual name of a split\n  got: 'Validation'\n  expected: 'val'"
    )


def test_fewer_groups_than_parts():
    few = dataset([[1], [0], [1]], group_N=["a", "a", "b"])
    assert failure(divided, few, share_of={"train": 0.4, "val": 0.3, "test": 0.3}) == (
        "too few images to divide\n  where: a test\n  got: 2 groups, of 3 images\n  expected: at least one for each of 3 parts\n"
        "  next: divide into fewer parts or folds"
    )


# ---- folds


def test_folds_of_train_and_val_and_the_data_of_each():
    target_NC = uneven(2, num_images=90)
    folds = with_folds(dataset(target_NC, split_N=("train",) * 60 + ("val",) * 20 + ("test",) * 10), num_folds=4)
    assert (folds.is_made, folds.num_images) == (True, 80)
    assert folds.replaced == ("train", "val")
    assert folds.names == ("fold-1", "fold-2", "fold-3", "fold-4")
    in_val = [set(folds.fold(number).split("val").ids) for number in range(1, 5)]
    assert len(set.union(*in_val)) == sum(map(len, in_val)) == 80
    first = folds.fold(1)
    assert set(first.split("train").ids) == set.union(*in_val[1:])
    assert len(first.split("test")) == 10


def test_folds_that_the_annotations_name():
    """Such as a column of Kaggle's folds, or of hospitals; in natural order, and "test" is none."""
    split_N = ("10", "9", "1", "test", "9")
    folds = with_folds(dataset([[1], [0], [1], [0], [1]], split_N=split_N), num_folds=3)
    assert (folds.names, folds.is_made) == (("1", "9", "10"), False)
    assert folds.dataset.split_N == ("fold-3", "fold-2", "fold-1", "test", "fold-2")
    assert failure(with_folds, dataset([[1], [0]], split_N=("a", "b")), num_folds=3) == (
        "the annotations name another number of folds\n  where: a test\n  got: 'a', 'b'\n"
        "  expected: 3 splits, one for each fold; or train and val, or none, whose images are divided\n  next: give 2 folds"
    )


def test_an_image_in_two_folds_and_numbers_that_are_none():
    twice = dataset([[1], [0], [1]], split_N=("a", "b", "b"), ids=("x", "x", "y"))
    assert failure(with_folds, twice, num_folds=2) == (
        "1 image id is in two splits\n  where: a test\n  got: 'x'\n  expected: every image in one fold\n"
        "  next: remove the images from one of the splits; `polytag data check` lists them"
    )
    for number in (1, 0, 101):
        assert failure(with_folds, dataset([[1], [0]]), num_folds=number, kind=UsageError) == (
            f"the number of folds is out of range\n  got: {number}\n  expected: 2 to 100"
        )


# ---- by time


def test_the_earliest_images_come_first_and_equal_times_stay_together():
    data = dataset([[1], [0]] * 5)
    times = [5, 1, 1, 1, 2, 9, 8, 7, 1, 6]
    after = divided_by_time(data, time_N=np.array(times), share_of={"train": 0.5, "val": 0.3, "test": 0.2})
    found = {name: sorted(time for time, split in zip(times, after.split_N, strict=True) if split == name) for name in after.splits}
    assert found == {"train": [1, 1, 1, 1, 2], "val": [5, 6, 7], "test": [8, 9]}


@settings(max_examples=25)
@given(times=st.lists(st.integers(0, 9), min_size=6, max_size=30), num_parts=st.integers(2, 4), num_groups=st.integers(4, 30))
def test_no_group_of_a_part_ends_after_one_of_the_next(times, num_parts, num_groups):
    group_N = [number % num_groups for number in range(len(times))]
    data = dataset([[number % 2] for number in range(len(times))], group_N=group_N)
    share_of = {f"part {number}": 1 / num_parts for number in range(num_parts)}
    latest = {group: max(time for time, other in zip(times, group_N, strict=True) if other == group) for group in group_N}
    if len(set(latest.values())) < num_parts:
        assert failure(divided_by_time, data, time_N=np.array(times), share_of=share_of).startswith("too few images to divide\n")
        return
    split_N = divided_by_time(data, time_N=np.array(times), share_of=share_of).split_N
    parts = [{latest[group] for group, split in zip(group_N, split_N, strict=True) if split == name} for name in share_of]
    assert all(parts)
    assert all(max(part) < min(following) for part, following in pairwise(parts))


def test_times_as_they_are_written():
    def order(*cells: str) -> list[int]:
        return np.argsort(parse_times(cells, ids=[str(n) for n in range(len(cells))], where="a table")).tolist()

    assert order("2019", "1e3", "-4") == [2, 1, 0]
    assert order("2020-01-01", "2019:12:31 23:59:59", "2019-12-31T22:00:00-05:00", "2019-12-31") == [3, 1, 0, 2]


@pytest.mark.parametrize(("cells", "got"), [(("2020-01-01", "7"), "'7' for 'b'"), (("1", "nan"), "'nan' for 'b'")])
def test_what_is_no_time(cells, got):
    message = failure(parse_times, cells, ids=("a", "b"), where="a table, column 'when'", kind=AnnotationError)
    assert message == (
        f"a time cannot be read\n  where: a table, column 'when'\n  got: {got}\n"
        "  expected: dates such as 2019-05-28 or 2019-05-28T14:30:00 in all cells, or numbers in all\n"
        "  next: write the column in one of these ways"
    )


def test_an_image_without_a_time():
    assert failure(parse_times, ("1", "", ""), ids=("a", "b", "c"), where="a table", kind=AnnotationError) == (
        "2 images have no time\n  where: a table\n  got: nothing for 'b', 'c'\n  expected: a time for every image\n"
        "  next: fill the cells, or divide without --time"
    )
