"""Batches: every image once, in order, whatever the threads do; a broken one is left out and named."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polytag.data.images.batches import Batch, batches_of
from polytag.data.images.read import read_image


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    made = []
    for row in range(11):
        path = tmp_path / f"{row}.png"
        Image.new("RGB", (8, 8), (row, row, row)).save(path)
        made.append(path)
    return made


def prepare(image: Image.Image) -> np.ndarray:
    return np.asarray(image)[None]


def batches(
    paths: list[Path],
    rows: Sequence[int],
    *,
    batch_size: int,
    num_threads: int,
    num_ahead: int = 3,
    prepare: Callable[[Image.Image], np.ndarray] = prepare,
) -> Iterator[Batch]:
    def read(row: int) -> np.ndarray:
        return prepare(read_image(paths[row]))

    return batches_of(rows, batch_size=batch_size, read=read, num_threads=num_threads, num_ahead=num_ahead)


@pytest.mark.parametrize("num_threads", [1, 4])
@pytest.mark.parametrize("num_ahead", [1, 7])
def test_order_and_content_do_not_depend_on_threads(paths, num_threads, num_ahead):
    rows = [5, 3, 9, 0, 1, 10, 2]
    out = list(batches(paths, rows, batch_size=3, num_threads=num_threads, num_ahead=num_ahead))
    assert [batch.rows.tolist() for batch in out] == [[5, 3, 9], [0, 1, 10], [2]]
    for batch in out:
        assert batch.pixels_NVHWC.shape == (len(batch.rows), 1, 8, 8, 3)
        assert batch.pixels_NVHWC[:, 0, 0, 0, 0].tolist() == batch.rows.tolist()


def test_broken_and_missing_images_are_left_out_and_named(paths):
    paths[1].write_bytes(paths[1].read_bytes()[:40])
    paths[2].unlink()
    (first, second) = batches(paths, range(4), batch_size=2, num_threads=2)
    assert (first.rows.tolist(), second.rows.tolist()) == ([0], [3])
    assert [(row, Path(error.where).name) for row, error in first.failures + second.failures] == [(1, "1.png"), (2, "2.png")]


def test_a_batch_of_broken_images_is_empty_and_not_an_end(paths):
    for path in paths[:2]:
        path.write_bytes(b"")
    sizes = [len(batch.rows) for batch in batches(paths, range(4), batch_size=2, num_threads=2)]
    assert sizes == [0, 2]


def test_an_error_of_ours_is_not_swallowed(paths):
    def wrong(image: Image.Image) -> np.ndarray:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(batches(paths, range(4), batch_size=2, prepare=wrong, num_threads=2))


def test_leaving_early_stops_the_threads(paths):
    import threading

    iterator = batches(paths, range(11), batch_size=1, num_threads=3)
    next(iterator)
    iterator.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("polytag-image")]
