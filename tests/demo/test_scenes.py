"""The demo's images: a sound VOC devkit, the same bytes each time, with what makes real data hard. No constant is pinned here."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from polytag.contracts import Dataset
from polytag.data.check import check
from polytag.data.images.read import read_image
from polytag.data.load import load_dataset, recognise
from polytag.data.read_options import ReadOptions
from polytag.demo.scenes import CLASSES, write_scenes
from polytag.errors import RunError, UsageError

SIZE_PX = 48


@pytest.fixture(scope="module")
def devkit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes") / "scenes", num_train=160, num_val=80, size_px=SIZE_PX)


@pytest.fixture(scope="module")
def dataset(devkit: Path) -> Dataset:
    return load_dataset(devkit)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_is_read_as_a_voc_devkit_from_its_root_or_its_release(devkit: Path, dataset: Dataset):
    assert devkit.parts[-2:] == ("VOCdevkit", "VOC2012")
    assert recognise(devkit) == recognise(devkit.parents[1]) == "voc"
    assert load_dataset(devkit.parents[1]).fingerprint == dataset.fingerprint
    assert set(dataset.label_set) == set(CLASSES)
    assert {name: len(dataset.split(name)) for name in dataset.splits} == {"train": 160, "val": 80}


def test_training_can_start_and_no_image_stands_in_both_splits(dataset: Dataset):
    found = check(dataset)
    assert (found.problems, found.warnings) == ((), ())
    assert (found.unreadable, found.in_two_splits, found.duplicates) == ((), (), ())


def test_every_image_has_the_size_that_was_asked_for(dataset: Dataset):
    assert {read_image(path).size for path in dataset.paths[::20]} == {(SIZE_PX, SIZE_PX)}


def test_what_makes_real_data_hard_is_there(dataset: Dataset):
    """Several labels at once, rare classes that can still be judged, and labels that nobody can be sure of."""
    present_C = (dataset.target_NC == 1).sum(axis=0)
    assert present_C.min() < 0.5 * np.median(present_C)
    for split in ("train", "val"):
        assert ((dataset.split(split).target_NC == 1).sum(axis=0) > 0).all()
    assert len(set((dataset.target_NC == 1).sum(axis=1))) >= 3
    assert 0 < (dataset.target_NC == -1).mean() < 0.1


def test_difficult_marks_are_the_unknown_labels(devkit: Path, dataset: Dataset):
    positive, negative = (load_dataset(devkit, options=ReadOptions(difficult=kind)) for kind in ("positive", "negative"))
    unknown = dataset.target_NC == -1
    np.testing.assert_array_equal(positive.target_NC, np.where(unknown, 1, dataset.target_NC))
    np.testing.assert_array_equal(negative.target_NC, np.where(unknown, 0, dataset.target_NC))


def test_the_xml_says_what_the_lists_say_and_boxes_lie_in_the_image(devkit: Path, dataset: Dataset):
    for name, target_C in zip(dataset.ids, dataset.target_NC, strict=True):
        root = ET.parse(devkit / "Annotations" / f"{name}.xml").getroot()
        assert root.findtext("filename") == f"{name}.jpg"
        certain: dict[str, bool] = {}
        for item in root.iter("object"):
            label = item.findtext("name", "")
            certain[label] = certain.get(label, False) or item.findtext("difficult") == "0"
            left, top, right, bottom = (int(item.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax"))
            assert 1 <= left <= right <= SIZE_PX
            assert 1 <= top <= bottom <= SIZE_PX
        expected = {label: value == 1 for label, value in zip(dataset.label_set, target_C, strict=True) if value != 0}
        assert certain == expected


def test_the_same_arguments_give_the_same_bytes_and_another_seed_others(tmp_path: Path):
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        write_scenes(tmp_path / name, num_train=6, num_val=4, size_px=SIZE_PX, seed=seed)
    one, same, other = (contents(tmp_path / name) for name in ("one", "same", "other"))
    assert one == same
    assert one.keys() == other.keys()
    assert all(one[name] != other[name] for name in one if name.endswith(".jpg"))


def test_the_first_scenes_of_more_are_the_same_scenes(tmp_path: Path):
    few = write_scenes(tmp_path / "few", num_train=5, num_val=3, size_px=SIZE_PX)
    many = write_scenes(tmp_path / "many", num_train=9, num_val=4, size_px=SIZE_PX)
    for folder in ("JPEGImages", "Annotations"):
        first, more = contents(few / folder), contents(many / folder)
        assert (len(first), len(more)) == (8, 13)
        assert first == {name: more[name] for name in first}


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path):
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "mine").write_text("precious")
    with pytest.raises(RunError) as error:
        write_scenes(tmp_path / "scenes", num_train=1, num_val=1)
    assert str(error.value) == (
        f"the folder for the scenes exists already\n  where: {tmp_path / 'scenes'}\n"
        "  expected: a new folder, because nothing is overwritten\n"
        "  next: use the scenes in it, name another folder, or remove this one"
    )
    assert contents(tmp_path) == {"scenes/mine": b"precious"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_train": 0}, "num_train out of range\n  got: 0\n  expected: at least 1"),
        ({"num_val": -2}, "num_val out of range\n  got: -2\n  expected: at least 1"),
        ({"size_px": 31}, "size_px out of range\n  got: 31\n  expected: at least 32"),
    ],
)
def test_counts_and_sizes_that_make_no_scenes(tmp_path: Path, options: dict[str, int], message: str):
    with pytest.raises(UsageError) as error:
        write_scenes(tmp_path / "scenes", **options)
    assert str(error.value) == message
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_leaves_nothing(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError) as error:
        write_scenes(tmp_path / "file" / "scenes", num_train=1, num_val=1, size_px=SIZE_PX)
    assert str(error.value) == (
        f"could not save scenes\n  where: {tmp_path / 'file' / 'scenes'}\n  got: Not a directory\n"
        "  expected: a folder that can be written"
    )
