"""`measure_model`: how fast one model scores on this machine; an export without PyTorch."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from polytag.bench.images import write_images
from polytag.data.images.augment import NUM_VIEWS, views
from polytag.data.images.read import read_image
from polytag.inference.scorers import Scorer, scorer_of
from polytag.machine import num_cores, processor
from polytag.models.checkpoint import Checkpoint
from polytag.models.exported import Exported

BATCH_SIZES = (1, 16)


@dataclass(frozen=True, kw_only=True)
class ModelSpeed:
    """The result of `measure_model`.

    load_before                 load average of the machine before the measurement
    load_seconds                from the folder to the first answer
    milliseconds                batch size -> median milliseconds of one core for an image, of images that are decoded already
    scored_images_per_second    of all cores, of images that are decoded already
    predict_images_per_second   of all cores, from JPEG files of 500 x 375 px to scores
    """

    processor: str
    num_cores: int
    load_before: float
    engine: str
    precision: str
    image_size_px: int
    num_views: int
    load_seconds: float
    milliseconds: dict[int, float]
    scored_images_per_second: float
    predict_images_per_second: float

    def to_json(self) -> dict[str, object]:
        """The JSON object of `polytag bench MODEL --json`."""
        return asdict(self)


def measure_model(
    model: Checkpoint | Exported,
    *,
    engine: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    seconds: float = 2.0,
    note: Callable[[str], None] = lambda what: None,
) -> ModelSpeed:
    """Measure a model, with `seconds` for each of four numbers; `note` receives the name of each. Raises as `scorer_of` does."""
    load_before = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    preprocessing = model.preprocessing
    with tempfile.TemporaryDirectory() as folder:
        paths = write_images(Path(folder))
        ready = [views(read_image(path), preprocessing) for path in paths]
        note("loading")
        started = time.perf_counter()
        scorer = scorer_of(model, engine=engine, device=device, precision=precision)
        scorer.logits_of(ready[0][None])
        load_seconds = time.perf_counter() - started
        note("one core")
        milliseconds = {size: _milliseconds(scorer, np.stack(ready[:size]), seconds=seconds) for size in BATCH_SIZES}
        note("all cores")
        scored = _images_per_second(scorer, ready.__getitem__, num_images=len(paths), seconds=seconds)
        note("from files")
        predicted = _images_per_second(
            scorer, lambda row: views(read_image(paths[row]), preprocessing), num_images=len(paths), seconds=seconds
        )
    return ModelSpeed(
        processor=processor(),
        num_cores=num_cores(),
        load_before=round(load_before, 2),
        engine=scorer.engine,
        precision=scorer.precision,
        image_size_px=preprocessing.image_size_px,
        num_views=NUM_VIEWS[preprocessing.crops],
        load_seconds=load_seconds,
        milliseconds=milliseconds,
        scored_images_per_second=scored,
        predict_images_per_second=predicted,
    )


def _milliseconds(scorer: Scorer, pixels_NVHWC: np.ndarray, *, seconds: float) -> float:
    """Of an image, by one core: in a thread of its own, as everywhere that a scorer is used."""

    def work() -> float:
        return statistics.median(_times(lambda: scorer.logits_of(pixels_NVHWC), seconds=seconds))

    with ThreadPoolExecutor(1, initializer=scorer.prepare_thread) as pool:
        return 1000 * pool.submit(work).result() / len(pixels_NVHWC)


def _images_per_second(scorer: Scorer, read: Callable[[int], np.ndarray], *, num_images: int, seconds: float) -> float:
    """Of all cores, in passes over so many images as take about `seconds`; the first pass, which says how many, does not count."""
    started = time.perf_counter()
    _score_all(scorer, read, num_images, num_images)
    num_passes = max(1, round(seconds / (time.perf_counter() - started)))
    started = time.perf_counter()
    _score_all(scorer, read, num_passes * num_images, num_images)
    return num_passes * num_images / (time.perf_counter() - started)


def _score_all(scorer: Scorer, read: Callable[[int], np.ndarray], num_rows: int, num_images: int) -> None:
    for _ in scorer.score_rows(num_rows, lambda row: read(row % num_images)):
        pass


def _times(work: Callable[[], object], *, seconds: float) -> list[float]:
    """Of the runs within `seconds`, at least three, after one that does not count."""
    work()
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return times
