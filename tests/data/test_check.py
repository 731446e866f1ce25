"""What `data check` counts and says, on small data sets whose every fault is planted here."""

import json
import re
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polytag.contracts import Dataset, LabelSet
from polytag.data.check import check


def dataset(folder: Path, rows: list[tuple[str, str, list[int]]], *, classes=("cat", "dog")) -> Dataset:
    """Rows of (id, split, targets); an image of its own for each id, unless it is there already."""
    for number, (name, _, _) in enumerate(rows):
        path = folder / f"{name}.png"
        if not path.exists():
            Image.new("RGB", (8, 8), (number, 2 * number % 256, number // 256)).save(path)
    return Dataset(
        ids=tuple(name for name, _, _ in rows),
        paths=tuple(folder / f"{name}.png" for name, _, _ in rows),
        target_NC=np.array([targets for _, _, targets in rows]).reshape(len(rows), len(classes)),
        split_N=tuple(split for _, split, _ in rows),
        label_set=LabelSet(names=classes),
        source="a test",
    )


SOUND = [
    ("a", "train", [1, 0]),
    ("b", "train", [0, 1]),
    ("c", "train", [1, 1]),
    ("d", "train", [-1, 0]),
    ("e", "val", [1, 0]),
    ("f", "val", [0, 1]),
]


def test_sound_data(tmp_path):
    found = check(dataset(tmp_path, SOUND))
    assert found.can_train
    assert found.problems == ()
    assert found.warnings == ()
    assert found.to_json() == {
        "source": "a test",
        "interpretation": {"format": "", "found": {}, "notes": []},
        "can_train": True,
        "problems": [],
        "warnings": [],
        "num_images": 6,
        "num_classes": 2,
        "splits": {"train": 4, "val": 2},
        "classes": {
            "cat": {"train": {"present": 2, "absent": 1, "unknown": 1}, "val": {"present": 1, "absent": 1, "unknown": 0}},
            "dog": {"train": {"present": 2, "absent": 2, "unknown": 0}, "val": {"present": 1, "absent": 1, "unknown": 0}},
        },
        "unknown_share": 1 / 12,
        "labels_per_image": {"mean": 1.0, "num_images": {"0": 1, "1": 4, "2": 1}},
        "images_were_read": True,
        "unreadable": [],
        "duplicates": [],
        "in_two_splits": [],
        "divided_groups": None,
        "near_duplicates": None,
        "num_flat": None,
        "feature_duplicates": None,
    }


def test_counts_agree_with_counting_one_by_one(tmp_path):
    rng = np.random.default_rng(0)
    Image.new("RGB", (4, 4)).save(tmp_path / "one.png")
    num_images, splits = 200, ("train", "val", "test")
    target_NC = rng.integers(-1, 2, (num_images, 5))
    data = Dataset(
        ids=tuple(f"p{i}" for i in range(num_images)),
        paths=(tmp_path / "one.png",) * num_images,
        target_NC=target_NC,
        split_N=tuple(splits[i % 3] for i in range(num_images)),
        label_set=LabelSet(names=tuple("abcde")),
        source="",
    )
    found = check(data, read_images=False)
    for s, split in enumerate(found.splits):
        for c in range(5):
            for counted, value in ((found.present_SC, 1), (found.absent_SC, 0), (found.unknown_SC, -1)):
                expected = sum(1 for i in range(num_images) if data.split_N[i] == split and target_NC[i, c] == value)
                assert counted[s, c] == expected
    assert sum(found.labels_per_image.values()) == num_images == found.num_images
    assert sum(k * v for k, v in found.labels_per_image.items()) == found.present_SC.sum()
    assert np.all(found.present_SC + found.absent_SC + found.unknown_SC == np.array(found.num_images_S)[:, None])


def test_unreadable_images_are_named_and_do_not_stop_training(tmp_path):
    data = dataset(tmp_path, SOUND)
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "e.png").unlink()
    found = check(data)
    assert found.problems == ()
    assert found.warnings == (f"3 images cannot be read and will be skipped: {tmp_path}/a.png, {tmp_path}/b.png, {tmp_path}/e.png",)
    assert [(item.image.id, item.image.split) for item in found.unreadable] == [
        ("a", "train"),
        ("b", "train"),
        ("e", "val"),
    ]
    assert found.unreadable[1].reason == "the image is empty: 0 bytes"
    assert found.unreadable[2].reason == "the image is missing: no such file"
    assert found.to_json()["unreadable"][2] == {
        "id": "e",
        "split": "val",
        "path": f"{tmp_path}/e.png",
        "reason": "the image is missing: no such file",
    }


def test_no_readable_image_stops_training(tmp_path):
    data = dataset(tmp_path, SOUND)
    for name in "abcd":
        (tmp_path / f"{name}.png").write_bytes(b"not an image")
    assert check(data).problems == ("no image can be read in split 'train'",)


def test_unread_images_are_only_looked_for(tmp_path):
    data = dataset(tmp_path, [*SOUND, ("a", "val", [1, 0])])
    (tmp_path / "b.png").write_bytes(b"not an image")
    (tmp_path / "c.png").unlink()
    found = check(data, read_images=False)
    assert not found.images_were_read
    assert [item.image.id for item in found.unreadable] == ["c"]
    assert [[(image.id, image.split) for image in group] for group in found.in_two_splits] == [[("a", "train"), ("a", "val")]]
    assert found.duplicates == ()


def test_duplicates_and_images_in_two_splits(tmp_path):
    data = dataset(tmp_path, [*SOUND, ("copy-of-a", "train", [1, 0]), ("copy-of-e", "train", [0, 0]), ("b", "val", [0, 1])])
    shutil.copy(tmp_path / "a.png", tmp_path / "copy-of-a.png")
    shutil.copy(tmp_path / "e.png", tmp_path / "copy-of-e.png")
    found = check(data)
    named = [[(image.id, image.split) for image in group] for group in found.duplicates]
    assert named == [[("a", "train"), ("copy-of-a", "train")], [("e", "val"), ("copy-of-e", "train")]]
    named = [[(image.id, image.split) for image in group] for group in found.in_two_splits]
    assert named == [[("b", "train"), ("b", "val")], [("e", "val"), ("copy-of-e", "train")]]
    assert found.can_train
    assert found.warnings == (
        "2 images are in more than one split, so validation scores are too high: b, e",
        "2 images have several names with the same bytes: a = copy-of-a, e = copy-of-e",
        "1 of them has contradictory labels: e = copy-of-e",
    )


def test_two_images_that_share_an_id_in_two_splits_are_two_images(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "val").mkdir()
    for number, split in enumerate(("train", "val")):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / split / "001.png")
    data = Dataset(
        ids=("001", "001"),
        paths=(tmp_path / "train" / "001.png", tmp_path / "val" / "001.png"),
        target_NC=np.array([[1], [1]]),
        split_N=("train", "val"),
        label_set=LabelSet(names=("cat",)),
        source="",
    )
    assert check(data).in_two_splits == ()


def test_classes_without_positive_or_negative(tmp_path):
    rows = [("a", "train", [1, 0, 1]), ("b", "train", [1, 0, 0]), ("c", "val", [0, 1, 1]), ("d", "val", [0, 0, -1])]
    found = check(dataset(tmp_path, rows, classes=("cat", "dog", "horse")))
    assert found.problems == ()
    assert found.warnings == (
        "1 class has no positive in split 'train': dog",
        "1 class has no negative in split 'train': cat",
        "1 class has no positive in split 'val': cat",
        "1 class has no negative in split 'val': horse",
    )


def test_many_names_are_cut_short_in_sentences_and_whole_in_lists(tmp_path):
    data = dataset(tmp_path, SOUND + [(f"x{i}", "train", [1, 0]) for i in range(8)])
    for i in range(8):
        (tmp_path / f"x{i}.png").unlink()
    found = check(data)
    assert found.warnings == (
        "8 images cannot be read and will be skipped: " + ", ".join(f"{tmp_path}/x{i}.png" for i in range(5)) + " and 3 more",
    )
    assert len(found.unreadable) == 8


def test_images_of_which_nothing_is_known(tmp_path):
    found = check(dataset(tmp_path, [*SOUND, ("x", "train", [-1, -1])]))
    assert found.warnings == ("1 image has no known label and cannot be learned from",)


@pytest.mark.parametrize(
    ("rows", "problems"),
    [
        ([("a", "train", [1, 0]), ("b", "x", [1, 0])], ("the split 'val' is missing; there are: 'train', 'x'",)),
        ([("a", "train", [1, 0])], ("too few images for a validation split",)),
        ([("a", "train", [1, 0]), ("b", "train", [0, 1]), ("c", "test", [0, 0])], ()),
        ([("a", "val", [1, 0])], ("the split 'train' is missing; there are: 'val'",)),
        (
            [("a", "test", [1, 1])],
            ("the split 'train' is missing; there are: 'test'", "the split 'val' is missing; there are: 'test'"),
        ),
        ([("a", "train", [0, 0]), ("b", "val", [1, 0])], ("no class has a positive in split 'train'",)),
        ([("a", "train", [1, 0]), ("b", "val", [0, -1])], ("no class has a positive in split 'val'",)),
        (
            [("a", "train", [1, 1]), ("b", "val", [1, -1])],
            ("no class has a negative in split 'train'", "no class has a negative in split 'val'"),
        ),
        (
            [("a", "", [0, 0]), ("b", "", [-1, 0])],
            (
                "no class has a positive in split 'train', which training would make",
                "no class has a positive in split 'val', which training would make",
            ),
        ),
        ([("a", "", [1, 0])], ("too few images for a validation split",)),
        ([("a", "", [1, 0]), ("b", "", [0, 1])], ()),
        ([], ("there are no images",)),
    ],
)
def test_what_stops_training(rows, problems, tmp_path):
    found = check(dataset(tmp_path, rows))
    assert found.problems == problems
    assert found.can_train == (not problems)
    json.dumps(found.to_json(), allow_nan=False)


def test_each_file_is_read_once_and_told_once(tmp_path):
    told: list[int] = []
    check(dataset(tmp_path, [*SOUND, ("a", "val", [1, 0])]), on_image=lambda: told.append(1))
    assert len(told) == len(SOUND)


def test_the_number_of_threads_changes_nothing(tmp_path):
    data = dataset(tmp_path, [(f"p{i}", ("train", "val")[i % 2], [i % 2, 1]) for i in range(50)])
    (tmp_path / "p7.png").write_bytes(b"")
    assert check(data, num_threads=1).to_json() == check(data, num_threads=7).to_json()


def test_an_interruption_ends_soon_and_leaves_no_thread(tmp_path):
    data = dataset(tmp_path, [(f"p{i}", "train", [1, 0]) for i in range(300)])
    before = threading.active_count()

    def stop() -> None:
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        check(data, on_image=stop)
    assert time.monotonic() - start < 5
    assert threading.active_count() == before


def test_every_key_of_the_json_is_documented_and_every_documented_key_is_there(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "reference" / "data-check.md").read_text()
    page = page.partition("## The JSON file")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)
    assert documented == list(check(dataset(tmp_path, SOUND)).to_json())
