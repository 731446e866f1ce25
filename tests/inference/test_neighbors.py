"""Nearest neighbours: exact against scikit-learn, laws of distance, features from the cache, and speed."""

import copy
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from polytag.contracts import Dataset, LabelSet
from polytag.data.images.read import read_image
from polytag.errors import DataError
from polytag.inference import feature_cache
from polytag.inference.neighbors import NeighborIndex, build_index, image_feature, nearest, normalised
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
def index(predictor: Predictor, dataset: Dataset) -> NeighborIndex:
    return build_index(predictor, dataset)


def random_index(num_rows: int, *, num_features: int = 32, seed: int = 0) -> NeighborIndex:
    rng = np.random.default_rng(seed)
    feature_ND = rng.standard_normal((num_rows, num_features), dtype=np.float32)
    return NeighborIndex(
        ids=tuple(map(str, range(num_rows))),
        split_N=("train",) * num_rows,
        row_N=np.arange(num_rows),
        feature_ND=(feature_ND / np.linalg.norm(feature_ND, axis=1, keepdims=True)).astype(np.float16),
    )


def test_a_copy_is_nearest_at_distance_zero_and_the_image_itself_is_left_out(index: NeighborIndex):
    (position, distance), *others = nearest(index, index.feature_ND[0], k=5, without=("train", "0"))
    assert (index.split_N[position], index.ids[position]) == ("val", "29")
    assert distance == pytest.approx(0, abs=1e-6)
    assert all(0 < other < 2 for _, other in others)
    assert [distance for _, distance in others] == sorted(distance for _, distance in others)


def test_splits_are_searched_apart(index: NeighborIndex):
    in_val = np.array([split == "val" for split in index.split_N])
    assert {index.split_N[position] for position, _ in nearest(index, index.feature_ND[3], k=100, among_N=in_val)} == {"val"}
    assert len(nearest(index, index.feature_ND[3], k=100, among_N=in_val)) == 10
    assert nearest(index, index.feature_ND[3], k=3, among_N=np.zeros(30, bool)) == []
    assert in_val.sum() == 10


@pytest.mark.parametrize("num_rows", [1, 2, 300, 1024, 1025, 20_000])
def test_the_nearest_are_those_of_scikit_learn(num_rows: int):
    index = random_index(num_rows)
    query_D = np.random.default_rng(1).standard_normal(32).astype(np.float32)
    k = min(7, num_rows)
    oracle = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(index.feature_ND.astype(np.float64))
    expected_distance, expected_index = oracle.kneighbors(query_D[None].astype(np.float64))
    found = nearest(index, query_D, k=7)
    assert [position for position, _ in found] == expected_index[0].tolist()
    np.testing.assert_allclose([distance for _, distance in found], expected_distance[0], atol=1e-5)


@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 50), k=st.integers(1, 40))
def test_the_length_of_the_query_does_not_matter_and_fewer_are_a_prefix_of_more(scale: float, seed: int, k: int):
    index = random_index(30, seed=seed)
    query_D = np.random.default_rng(seed + 1).standard_normal(32)
    found = nearest(index, query_D, k=k)
    assert [position for position, _ in nearest(index, query_D * scale, k=k)] == [position for position, _ in found]
    assert nearest(index, query_D, k=40)[:k] == found


def test_ties_are_in_the_order_of_the_index_and_zeros_are_at_distance_one():
    index = replace(random_index(6), feature_ND=np.array([[0, 1]] * 3 + [[0, 0]] + [[1, 0]] * 2, np.float16))
    assert nearest(index, np.array([0, 2.0]), k=2) == [(0, 0.0), (1, 0.0)]
    assert nearest(index, np.array([0, 2.0]), k=6)[3:] == [(3, 1.0), (4, 1.0), (5, 1.0)]
    assert {distance for _, distance in nearest(index, np.zeros(2), k=6)} == {1.0}
    assert not normalised(np.zeros(3, np.float32)).any()
    assert not normalised(np.array([np.nan, 1])).any()


def test_an_image_by_itself_has_the_features_it_has_in_the_index(index: NeighborIndex, predictor: Predictor, dataset: Dataset):
    for row in range(29):
        alone_D = image_feature(predictor, read_image(dataset.paths[row]))
        (position, distance), *_ = nearest(index, alone_D, k=1, among_N=np.arange(30) == row)
        assert position == row
        # PyTorch before 2.11 rounds a batch of one differently from a batch of many
        assert distance < (1e-6 if torch.__version__ >= "2.11" else 1e-4)


def test_images_that_cannot_be_read_are_left_out(predictor: Predictor, dataset: Dataset, tmp_path: Path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    paths = (tmp_path / "missing.jpg", *dataset.paths[1:-1], tmp_path / "broken.png")
    done: list[int] = []
    index = build_index(predictor, replace(dataset, paths=paths), on_batch=done.append)
    assert index.ids == dataset.ids[1:-1]
    assert index.row_N.tolist() == list(range(1, 29))
    assert sum(done) == 30
    with pytest.raises(DataError, match="no image of the data set can be read"):
        build_index(predictor, replace(dataset.take([0]), paths=(tmp_path / "missing.jpg",)))


def test_whatever_on_batch_raises_ends_the_building(predictor: Predictor, dataset: Dataset):
    def stop(num_images: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(predictor, dataset, on_batch=stop)


# ---- the cache ----


def test_the_cache_gives_the_same_index(predictor: Predictor, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = build_index(predictor, dataset, folder=tmp_path / "cache")
    monkeypatch.setattr(feature_cache, "extract_features", None)
    done: list[int] = []
    relabelled = replace(dataset, target_NC=np.ones((30, 1), np.int8))  # labels change no feature
    again = build_index(predictor, relabelled, folder=tmp_path / "cache", on_batch=done.append)
    assert sum(done) == 30
    assert (again.ids, again.split_N) == (first.ids, first.split_N)
    np.testing.assert_array_equal(again.feature_ND, first.feature_ND)
    np.testing.assert_array_equal(again.row_N, first.row_N)


def test_another_model_another_preprocessing_and_a_changed_image_are_computed_again(
    predictor: Predictor, dataset: Dataset, tmp_path: Path
):
    def num_files() -> int:
        return len(list((tmp_path / "cache").iterdir()))

    def build(predictor: Predictor, dataset: Dataset) -> int:
        build_index(predictor, dataset, folder=tmp_path / "cache")
        return num_files()

    path = tmp_path / "0.png"
    path.write_bytes(dataset.paths[0].read_bytes())
    dataset = replace(dataset, paths=(path, *dataset.paths[1:]), split_N=("train",) * 30)  # a file for each split
    assert build(predictor, dataset) == 1
    assert build(predictor, dataset) == 1
    other = copy.deepcopy(predictor.model)
    with torch.no_grad():
        next(other.parameters()).add_(0.1)
    assert build(replace(predictor, model=other), dataset) == 2
    preprocessing = replace(predictor.checkpoint.preprocessing, fit="crop")
    assert build(replace(predictor, checkpoint=replace(predictor.checkpoint, preprocessing=preprocessing)), dataset) == 3
    assert build(predictor, dataset.take(range(29))) == 4
    os.utime(path, ns=(1, 1))
    assert build(predictor, dataset) == 5
    path.unlink()
    assert build(predictor, dataset) == 6


def test_a_hundred_thousand_images_are_searched_sooner_than_by_a_plain_product():
    index = random_index(100_000, num_features=512)
    query_D = index.feature_ND[5]
    nearest(index, query_D, k=1)  # the lengths are worked out once
    best = min(_seconds(lambda: nearest(index, query_D, k=12)) for _ in range(3))
    product = min(_seconds(lambda: index.feature_ND @ query_D) for _ in range(3))
    assert nearest(index, query_D, k=1)[0][0] == 5
    assert best < product  # in half precision, as the index is kept


def _seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def test_a_real_copy_in_other_words_is_nearest(predictor: Predictor, dataset: Dataset, index: NeighborIndex, tmp_path: Path):
    """Saved anew, as JPEG and a little smaller: still the nearest."""
    image = read_image(dataset.paths[5])
    image.resize((max(8, image.width * 9 // 10), max(8, image.height * 9 // 10)), Image.Resampling.BICUBIC).save(
        tmp_path / "again.jpg", quality=90
    )
    (position, distance), *_ = nearest(index, image_feature(predictor, read_image(tmp_path / "again.jpg")), k=3)
    assert index.ids[position] == "5"
    assert distance < 0.05
