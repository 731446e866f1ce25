"""Corrections put into a data set: what changes, what does not, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytag.contracts import ABSENT, PRESENT, UNKNOWN, Dataset, LabelSet
from polytag.data.corrections import Change, Correction, apply_corrections
from polytag.errors import DataError


def small() -> Dataset:
    return Dataset(
        ids=("a", "b", "c", "a"),
        paths=tuple(Path(f"/{name}.jpg") for name in ("a", "b", "c", "a")),
        target_NC=np.array([[1, 0], [0, -1], [1, 1], [1, 0]]),
        split_N=("train", "train", "val", "val"),
        label_set=LabelSet(names=("cat", "dog")),
        source="small",
    )


def correct(split: str, image_id: str, class_name: str, label: int) -> Correction:
    return Correction(split=split, image_id=image_id, class_name=class_name, label=label)


def test_labels_that_differ_are_changes_and_others_are_not():
    dataset = small()
    corrected, changes = apply_corrections(
        dataset,
        [
            correct("val", "a", "dog", PRESENT),
            correct("", "b", "dog", ABSENT),
            correct("train", "a", "cat", PRESENT),  # as it is
            correct("train", "a", "dog", UNKNOWN),
        ],
    )
    assert corrected.target_NC.tolist() == [[1, -1], [0, 0], [1, 1], [1, 1]]
    assert changes == (
        Change(split="train", image_id="a", class_name="dog", before=ABSENT, after=UNKNOWN),
        Change(split="train", image_id="b", class_name="dog", before=UNKNOWN, after=ABSENT),
        Change(split="val", image_id="a", class_name="dog", before=ABSENT, after=PRESENT),
    )
    assert dataset.target_NC.tolist() == small().target_NC.tolist()
    assert (corrected.ids, corrected.split_N, corrected.source) == (dataset.ids, dataset.split_N, dataset.source)


def test_data_without_splits():
    dataset = small().take([0, 1])
    bare = Dataset(
        ids=dataset.ids,
        paths=dataset.paths,
        target_NC=dataset.target_NC,
        split_N=("", ""),
        label_set=dataset.label_set,
        source="bare",
    )
    assert apply_corrections(bare, [correct("", "a", "cat", ABSENT)])[1][0].split == ""


@pytest.mark.parametrize(
    ("corrections", "message"),
    [
        (
            [correct("train", "a", "cow", 1), correct("train", "a", "cow", 1)],
            "1 corrected class is not in the data set\n  where: small\n  got: 'cow'\n  expected: one of cat, dog\n"
            "  next: give the data set that was reviewed",
        ),
        (
            [correct("train", "c", "cat", 1), *(correct("", str(number), "cat", 1) for number in range(4))],
            "5 corrected images are not in the data set\n  where: small\n  got: 'c' in split 'train', '0', '1', ...\n"
            "  expected: ids such as 'a' in split 'train', 'b' in split 'train', 'c' in split 'val', ...\n"
            "  next: give the data set that was reviewed",
        ),
        (
            [correct("", "a", "cat", 0)],
            "1 corrected image is in several splits\n  where: small\n  got: 'a'; the first in 'train', 'val'\n"
            "  expected: the split in the correction, or ids in one split only\n"
            "  next: remove the image from one of the splits; `polytag data check` lists all such",
        ),
        (
            [correct("", "b", "cat", 0), correct("train", "b", "cat", 1)],
            "two corrections of one label disagree\n  where: small\n  got: 0 and 1 for class 'cat' of 'b'\n"
            "  expected: one correction per label",
        ),
        (
            [correct("train", "b", "cat", 2)],
            "a label outside 1, 0, -1\n  where: small\n  got: 2 in row 1, class 'cat'\n"
            "  expected: 1 (present), 0 (absent) or -1 (unknown)",
        ),
    ],
    ids=["class", "image", "several splits", "disagree", "label"],
)
def test_what_is_refused(corrections: list[Correction], message: str):
    with pytest.raises(DataError) as caught:
        apply_corrections(small(), corrections)
    assert str(caught.value) == message


@given(
    labels=st.dictionaries(
        st.tuples(st.sampled_from([("train", "a"), ("train", "b"), ("val", "c"), ("val", "a")]), st.sampled_from(["cat", "dog"])),
        st.sampled_from([1, 0, -1]),
    )
)
def test_afterwards_every_label_is_as_corrected_and_a_second_time_changes_nothing(labels: dict[tuple[tuple[str, str], str], int]):
    corrections = [correct(split, name, class_name, label) for ((split, name), class_name), label in labels.items()]
    corrected, changes = apply_corrections(small(), corrections)
    assert apply_corrections(corrected, corrections)[1] == ()
    back, _ = apply_corrections(corrected, [correct(c.split, c.image_id, c.class_name, c.before) for c in changes])
    assert back.fingerprint == small().fingerprint
    assert len(changes) == (corrected.target_NC != small().target_NC).sum()
