"""Neighbours: exact against a plain computation, the file kept and refused, laws of distance, and speed."""

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from polytag.contracts import Dataset, LabelSet
from polytag.data.images.read import read_image
from polytag.errors import DataError
from polytag.inference.neighbors import (
    FeatureTable,
    build_features,
    features_key,
    image_feature,
    nearest,
    normalised,
    read_features,
    save_features,
)
from polytag.inference.predictor import Predictor
from polytag.models.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def predictor(checkpoint: Checkpoint) -> Predictor:
    return Predictor.load(checkpoint, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def dataset(images: list[Path]) -> Dataset:
    """30 images, the first 20 train; the last one is a copy of the first."""
    paths = (*images[:29], images[0])
    return Dataset(
        ids=tuple(str(row) for row in range(30)),
        paths=paths,
        target_NC=np.zeros((30, 1), np.int8),
        split_N=("train",) * 20 + ("val",) * 10,
        label_set=LabelSet(names=("x",)),
        source="test",
    )


@pytest.fixture(scope="module")
def table(predictor: Predictor, dataset: Dataset) -> FeatureTable:
    return build_features(predictor, dataset)


def random_table(num_rows: int, *, num_features: int = 32, seed: int = 0) -> FeatureTable:
    rng = np.random.default_rng(seed)
    feature_ND = rng.standard_normal((num_rows, num_features), dtype=np.float32)
    return FeatureTable(
        ids=tuple(map(str, range(num_rows))),
        split_N=("train",) * num_rows,
        row_N=np.arange(num_rows),
        feature_ND=(feature_ND / np.linalg.norm(feature_ND, axis=1, keepdims=True)).astype(np.float16),
        key="",
    )


def test_a_copy_is_nearest_at_distance_zero_and_the_image_itself_is_left_out(table: FeatureTable):
    (index, distance), *others = nearest(table, table.feature_ND[0], k=5, without=("train", "0"))
    assert (table.split_N[index], table.ids[index]) == ("val", "29")
    assert distance == pytest.approx(0, abs=1e-6)
    assert all(0 < other < 2 for _, other in others)
    assert [distance for _, distance in others] == sorted(distance for _, distance in others)


def test_splits_are_searched_apart(table: FeatureTable):
    in_val = np.array([split == "val" for split in table.split_N])
    assert {table.split_N[index] for index, _ in nearest(table, table.feature_ND[3], k=100, among_N=in_val)} == {"val"}
    assert len(nearest(table, table.feature_ND[3], k=100, among_N=in_val)) == 10
    assert nearest(table, table.feature_ND[3], k=3, among_N=np.zeros(30, bool)) == []
    assert in_val.sum() == 10


@pytest.mark.parametrize("num_rows", [1, 2, 300, 1024, 1025, 20_000])
def test_the_nearest_are_those_of_scikit_learn(num_rows: int):
    table = random_table(num_rows)
    query_D = np.random.default_rng(1).standard_normal(32).astype(np.float32)
    k = min(7, num_rows)
    oracle = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(table.feature_ND.astype(np.float64))
    expected_distance, expected_index = oracle.kneighbors(query_D[None].astype(np.float64))
    found = nearest(table, query_D, k=7)
    assert [index for index, _ in found] == expected_index[0].tolist()
    np.testing.assert_allclose([distance for _, distance in found], expected_distance[0], atol=1e-5)


@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 50), k=st.integers(1, 40))
def test_the_length_of_the_query_does_not_matter_and_fewer_are_a_prefix_of_more(scale: float, seed: int, k: int):
    table = random_table(30, seed=seed)
    query_D = np.random.default_rng(seed + 1).standard_normal(32)
    found = nearest(table, query_D, k=k)
    assert [index for index, _ in nearest(table, query_D * scale, k=k)] == [index for index, _ in found]
    assert nearest(table, query_D, k=40)[:k] == found


def test_ties_stand_in_table_order_and_zeros_are_at_distance_one():
    table = replace(random_table(6), feature_ND=np.array([[0, 1]] * 3 + [[0, 0]] + [[1, 0]] * 2, np.float16))
    assert nearest(table, np.array([0, 2.0]), k=2) == [(0, 0.0), (1, 0.0)]
    assert nearest(table, np.array([0, 2.0]), k=6)[3:] == [(3, 1.0), (4, 1.0), (5, 1.0)]
    assert {distance for _, distance in nearest(table, np.zeros(2), k=6)} == {1.0}
    assert not normalised(np.zeros(3, np.float32)).any()
    assert not normalised(np.array([np.nan, 1])).any()


def test_an_image_by_itself_has_the_features_it_has_in_the_table(table: FeatureTable, predictor: Predictor, dataset: Dataset):
    for row in (0, 7, 25):
        alone_D = image_feature(predictor, read_image(dataset.paths[row]))
        (index, distance), *_ = nearest(table, alone_D, k=1, among_N=np.arange(30) == row)
        assert index == row
        assert distance < 1e-4  # PyTorch 2.8 rounds a batch of one otherwise than a batch of many


def test_images_that_cannot_be_read_are_left_out(predictor: Predictor, dataset: Dataset, tmp_path: Path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    paths = (tmp_path / "missing.jpg", *dataset.paths[1:-1], tmp_path / "broken.png")
    done: list[int] = []
    table = build_features(predictor, replace(dataset, paths=paths), on_batch=done.append)
    assert table.ids == dataset.ids[1:-1]
    assert table.row_N.tolist() == list(range(1, 29))
    assert sum(done) == 30
    with pytest.raises(DataError, match="no image of the data set can be read"):
        build_features(predictor, replace(dataset.take([0]), paths=(tmp_path / "missing.jpg",)))


def test_whatever_on_batch_raises_ends_the_building(predictor: Predictor, dataset: Dataset):
    def stop(num_images: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_features(predictor, dataset, on_batch=stop)


# ---- the file ----


def test_the_file_gives_the_same_table_back(table: FeatureTable, predictor: Predictor, dataset: Dataset, tmp_path: Path):
    assert read_features(tmp_path / "cache", predictor, dataset) is None
    save_features(table, tmp_path / "cache")
    save_features(table, tmp_path / "cache")
    again = read_features(tmp_path / "cache", predictor, dataset)
    assert again is not None
    assert (again.ids, again.split_N, again.key) == (table.ids, table.split_N, table.key)
    np.testing.assert_array_equal(again.feature_ND, table.feature_ND)
    np.testing.assert_array_equal(again.row_N, table.row_N)
    relabelled = replace(dataset, target_NC=np.ones((30, 1), np.int8))
    assert read_features(tmp_path / "cache", predictor, relabelled) is not None  # labels change no feature


def test_another_model_another_preprocessing_and_a_changed_image_have_no_table(
    predictor: Predictor, dataset: Dataset, tmp_path: Path
):
    path = tmp_path / "0.png"
    path.write_bytes(dataset.paths[0].read_bytes())
    dataset = replace(dataset, paths=(path, *dataset.paths[1:]))
    save_features(build_features(predictor, dataset), tmp_path)
    assert read_features(tmp_path, predictor, dataset) is not None
    others = (
        replace(predictor.checkpoint, weights_sha256="0" * 64),
        replace(predictor.checkpoint, preprocessing=replace(predictor.checkpoint.preprocessing, fit="crop")),
    )
    for other in others:
        assert read_features(tmp_path, replace(predictor, checkpoint=other), dataset) is None
    assert read_features(tmp_path, predictor, dataset.take(range(29))) is None
    os.utime(path, ns=(1, 1))
    assert read_features(tmp_path, predictor, dataset) is None
    path.unlink()
    assert read_features(tmp_path, predictor, dataset) is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign", "other key", "rows outside"])
def test_a_damaged_file_is_no_file(table: FeatureTable, predictor: Predictor, dataset: Dataset, tmp_path: Path, damage: str):
    if damage == "rows outside":
        save_features(replace(table, row_N=table.row_N + 10), tmp_path)
    else:
        save_features(table, tmp_path)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    match damage:
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "flipped":
            content[len(content) // 2] ^= 0xFF
            path.write_bytes(content)
        case "empty":
            path.write_bytes(b"")
        case "foreign":
            path.write_bytes(b"not an archive at all")
        case "other key":
            path.unlink()
            save_features(replace(table, key="0" * 16), tmp_path)
            next(tmp_path.iterdir()).rename(path)
        case _:
            pass
    assert read_features(tmp_path, predictor, dataset) is None


def test_the_key_is_stable(predictor: Predictor, dataset: Dataset):
    assert features_key(predictor, dataset) == features_key(predictor, dataset)


def test_a_hundred_thousand_images_are_searched_in_well_under_a_second():
    table = random_table(100_000, num_features=512)
    query_D = table.feature_ND[5]
    nearest(table, query_D, k=1)  # the lengths are worked out once
    best = min(_seconds(lambda: nearest(table, query_D, k=12)) for _ in range(3))
    assert nearest(table, query_D, k=1)[0][0] == 5
    assert best < 0.5


def _seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def test_a_real_copy_in_other_words_is_nearest(predictor: Predictor, dataset: Dataset, table: FeatureTable, tmp_path: Path):
    """Saved anew, as JPEG and a little smaller: still the nearest."""
    image = read_image(dataset.paths[5])
    image.resize((max(8, image.width * 9 // 10), max(8, image.height * 9 // 10)), Image.Resampling.BICUBIC).save(
        tmp_path / "again.jpg", quality=90
    )
    (index, distance), *_ = nearest(table, image_feature(predictor, read_image(tmp_path / "again.jpg")), k=3)
    assert table.ids[index] == "5"
    assert distance < 0.05
