"""A check of many images that is interrupted goes on where it was, and believes no damaged result of the first one."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polytag.contracts import Dataset, LabelSet
from polytag.data.cache import store
from polytag.data.cache.store import store_folder
from polytag.data.image_contents import read_contents
from polytag.data.label_counts import label_counts
from polytag.path_list import PathList

NUM_IMAGES = 1010  # more than a block


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("images")
    for number in range(NUM_IMAGES):
        Image.new("RGB", (1, 1), (number % 256, number // 256, 7)).save(folder / f"{number}.bmp")
    return [str(folder / f"{number}.bmp") for number in range(NUM_IMAGES)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))


def interrupted(paths: list[str], *, after: int) -> None:
    count = 0

    def on_image() -> None:
        nonlocal count
        count += 1
        if count > after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_contents(paths, near=False, on_image=on_image)


def test_an_interrupted_check_goes_on_and_a_complete_one_leaves_nothing(paths):
    whole = read_contents(paths, near=False)
    interrupted(paths, after=1003)
    (kept,) = store_folder().iterdir()
    kept.write_text(kept.read_text().replace(whole[paths[0]].sha256, "0" * 64))  # shows that the block is not read again
    seen: list[int] = []
    again = read_contents(paths, near=False, on_image=lambda: seen.append(1))
    assert len(seen) == NUM_IMAGES
    assert again.pop(paths[0]).sha256 == "0" * 64
    whole.pop(paths[0])
    assert again == whole
    assert not list(store_folder().iterdir())


def test_a_cache_without_room_keeps_nothing(paths, monkeypatch):
    monkeypatch.setattr(store, "SHARE_OF_DISK", 10**18)
    interrupted(paths, after=1003)
    assert not list(store_folder().iterdir())


@pytest.mark.parametrize("damage", ["", "[]", "[[1, 2]]", '[["a", "b", "%"]]', "\x00"])
def test_a_damaged_result_is_read_again(paths, damage):
    interrupted(paths, after=1003)
    (kept,) = store_folder().iterdir()
    kept.write_text(damage)
    assert read_contents(paths, near=False)[paths[0]].sha256 == hashlib.sha256(Path(paths[0]).read_bytes()).hexdigest()


def test_a_changed_image_is_read_again(paths, tmp_path):
    own = [*paths[:-1], str(tmp_path / "own.bmp")]
    own[0], own[-1] = own[-1], own[0]
    Image.new("RGB", (1, 1)).save(own[0])
    interrupted(own, after=1003)
    Path(own[0]).write_bytes(b"no image")
    assert "not an image" in read_contents(own, near=False)[own[0]].reason


def test_counts_equal_plain_counting():
    rng = np.random.default_rng(0)
    target_NC = rng.integers(-1, 2, size=(70_000, 3)).astype(np.int8)  # more than a block
    split_N = tuple(rng.choice(["val", "train", ""], size=len(target_NC)).tolist())
    names = tuple(map(str, range(len(target_NC))))
    dataset = Dataset(
        ids=names, paths=PathList(names), target_NC=target_NC, split_N=split_N, label_set=LabelSet(names=("a", "b", "c")), source=""
    )
    counts = label_counts(dataset)
    for s, split in enumerate(dataset.splits):
        own = target_NC[[name == split for name in split_N]]
        for count_SC, value in ((counts.present_SC, 1), (counts.absent_SC, 0), (counts.unknown_SC, -1)):
            np.testing.assert_array_equal(count_SC[s], (own == value).sum(axis=0))
    np.testing.assert_array_equal(counts.num_images_of_count, np.bincount((target_NC == 1).sum(axis=1)))
    assert counts.num_without_label == (target_NC == -1).all(axis=1).sum()


def test_a_path_list_is_a_sequence_of_paths():
    paths = PathList(["a/b", Path("c"), "d", "e"])
    assert paths == (Path("a/b"), Path("c"), Path("d"), Path("e"))
    assert paths == PathList(list(paths))
    assert paths != [Path("a/b")]
    assert paths[-1] == Path("e")
    assert paths[1:3] == [Path("c"), Path("d")]
    assert repr(paths) == "PathList(['a/b', 'c', 'd', ... 1 more])"
