"""Images inside files against loose ones: decoding the same photographs from a folder, a tar, an Arrow and three Parquet files.

The sides take turns in one process, one thread, warm page cache, in the order of the file and shuffled. `read_image` is all that is
timed: opening, reading and decoding, in seconds of the processor, which other programs on the machine disturb least. Ratios are to
the loose files of the same turn; above 1 is faster.

"larger than memory" is the worst case, a compressed Parquet file of which a third may be kept unpacked: shuffled as a whole, and in
the order of training (`data/images/order.py`), both with the sizes of real data divided by as much.

    .venv/bin/python benchmarks/stored_images.py
"""

import random
import resource
import statistics
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from machine import VOC_MINI, write
from polytag.contracts import Dataset, LabelSet
from polytag.data.convert import convert
from polytag.data.images import order as epochs
from polytag.data.images import parquet_file
from polytag.data.images.read import read_image
from polytag.data.images.stored import stored_places

NUM_IMAGES, NUM_TURNS = 200, 9
NUM_IMAGES_LARGE, NUM_TURNS_LARGE = 600, 5


def copies(folder: Path, images: list[Path]) -> dict[str, list[Path]]:
    """The paths of the same images on each side."""
    names = tuple(path.name for path in images)
    labels = np.zeros((len(names), 1), np.int8)
    one = LabelSet(names=("a",))
    convert(
        Dataset(ids=names, paths=images, target_NC=labels, split_N=("train",) * len(names), label_set=one, source=""),
        folder / "hf",
        to="hf",
    )
    with tarfile.open(folder / "a.tar", "w") as archive:
        for path in images:
            archive.add(path, path.name)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array([{"bytes": path.read_bytes(), "path": path.name} for path in images], kind)})
    with pa.OSFile(str(folder / "a.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=100)
    pq.write_table(table, folder / "plain.parquet", compression="none", use_dictionary=False, use_content_defined_chunking=True)
    pq.write_table(table, folder / "packed.parquet", row_group_size=100)
    sides = {
        "tar": "a.tar",
        "arrow stream": "a.arrow",
        "parquet, as datasets writes": "plain.parquet",
        "parquet, as pyarrow writes": "packed.parquet",
        "parquet, as data convert writes": "hf/data/train-00000-of-00001.parquet",
    }
    return {"loose": images} | {
        side: [folder / name / place for place in stored_places(folder / name)] for side, name in sides.items()
    }


def larger_than_memory(folder: Path, images: list[Path]) -> dict[str, object]:
    """Ratios to loose files of a compressed file of which a third fits into the memory that unpacked row groups may take."""
    packed = copies(folder, images)["parquet, as pyarrow writes"]
    num_bytes = (folder / "packed.parquet").stat().st_size
    parquet_file.max_kept_bytes = lambda: num_bytes // 3
    epochs.WINDOW_BYTES = num_bytes // 6
    blocks = epochs.blocks_of(packed)
    ratios: dict[str, list[float]] = {"shuffled as a whole": [], "in the order of training": []}
    for turn in range(NUM_TURNS_LARGE):
        plain = epochs.epoch_order(len(images), seed=0, epoch=turn)
        ordered = epochs.epoch_order(len(images), seed=0, epoch=turn, blocks=blocks)
        loose = seconds([images[row] for row in plain])
        for side, rows in zip(ratios, (plain, ordered), strict=True):
            ratios[side].append(loose / seconds([packed[row] for row in rows]))
    return {side: {"ratio_to_loose": summary(values), "n": NUM_TURNS_LARGE} for side, values in ratios.items()}


def seconds(paths: list[Path]) -> float:
    started = time.process_time()
    for path in paths:
        read_image(path)
    return time.process_time() - started


def main() -> None:
    all_images = sorted((VOC_MINI / "JPEGImages").glob("*.jpg"))
    images = all_images[:NUM_IMAGES]
    result: dict[str, object] = {"images": len(images), "mean_bytes": round(statistics.mean(p.stat().st_size for p in images))}
    with tempfile.TemporaryDirectory() as folder:
        sides = copies(Path(folder), images)
        for order in ("in order", "shuffled"):
            times: dict[str, list[float]] = {side: [] for side in sides}
            for turn in range(NUM_TURNS):
                rows = list(range(len(images)))
                if order == "shuffled":
                    random.Random(turn).shuffle(rows)
                for side in sorted(sides, key=lambda _: random.random()):
                    times[side].append(seconds([sides[side][row] for row in rows]))
            result[order] = {
                side: {
                    "images_per_processor_second": round(len(images) / statistics.median(took), 1),
                    "ratio_to_loose": summary([loose / own for loose, own in zip(times["loose"], took, strict=True)]),
                    "n": NUM_TURNS,
                }
                for side, took in times.items()
            }
    with tempfile.TemporaryDirectory() as folder:
        result["larger than memory"] = larger_than_memory(Path(folder), all_images[:NUM_IMAGES_LARGE])
    result["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    for order in ("in order", "shuffled", "larger than memory"):
        print(order, result[order])
    write("stored_images", result)


def summary(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3)}


if __name__ == "__main__":
    main()
