"""Images inside files against loose ones: decoding the same photographs from a folder, a tar, an Arrow and two Parquet files.

The sides take turns in one process, one thread, warm page cache, in the order of the file and shuffled. `read_image` is all that is
timed: opening, reading and decoding, in seconds of the processor, which other programs on the machine disturb least. Ratios are to
the loose files of the same turn; above 1 is faster.

    .venv/bin/python benchmarks/stored_images.py
"""

import random
import resource
import statistics
import tarfile
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from machine import VOC_MINI, write
from polytag.data.images.read import read_image
from polytag.data.images.stored import stored_places

NUM_IMAGES, NUM_TURNS = 200, 9


def copies(folder: Path, images: list[Path]) -> dict[str, list[Path]]:
    """The paths of the same images on each side."""
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
    }
    return {"loose": images} | {
        side: [folder / name / place for place in stored_places(folder / name)] for side, name in sides.items()
    }


def seconds(paths: list[Path]) -> float:
    started = time.process_time()
    for path in paths:
        read_image(path)
    return time.process_time() - started


def main() -> None:
    images = sorted((VOC_MINI / "JPEGImages").glob("*.jpg"))[:NUM_IMAGES]
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
    result["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    for order in ("in order", "shuffled"):
        print(order, result[order])
    write("stored_images", result)


def summary(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3)}


if __name__ == "__main__":
    main()
