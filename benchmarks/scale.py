"""The seconds and the memory that a list of 5,000,000 images and 1,000 classes takes: read, checked, split and written.

The list is a Parquet table of label lists, which names images in folders of 1,000; the images are empty files, whose names are
looked up and which are not opened. Every class is in an image by itself with a probability from 0.0002 to 0.02. One process does
all steps on one data set, as a program does; the peak is that of the process during the step, with the data set in it. Linux only.
"""

import argparse
import contextlib
import shutil
import time
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from machine import write
from polytag.data.check import check
from polytag.data.divide import divided
from polytag.data.load import load_dataset
from polytag.data.write.tables import write_parquet

NUM_CLASSES = 1000
IN_A_FOLDER = 1000
SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


def make_list(folder: Path, num_images: int) -> None:
    """Write labels.parquet and the empty files that it names."""
    rng = np.random.default_rng(0)
    share_C = np.geomspace(0.0002, 0.02, NUM_CLASSES)
    names = np.array([f"class {c:04d}" for c in range(NUM_CLASSES)])
    folder.mkdir(parents=True)
    with pq.ParquetWriter(
        folder / "labels.parquet", pa.schema([("image", pa.string()), ("labels", pa.list_(pa.string()))])
    ) as writer:
        for start in range(0, num_images, IN_A_FOLDER):
            place = folder / f"{start // IN_A_FOLDER:05d}"
            place.mkdir()
            images = [f"{place.name}/{row:08d}.jpg" for row in range(start, min(start + IN_A_FOLDER, num_images))]
            for image in images:
                (folder / image).touch()
            row_E, class_E = np.nonzero(rng.random((len(images), NUM_CLASSES), dtype=np.float32) < share_C)
            offsets = np.searchsorted(row_E, np.arange(len(images) + 1)).astype(np.int32)
            labels = pa.ListArray.from_arrays(pa.array(offsets), pa.array(names[class_E]))
            writer.write_table(pa.table({"image": images, "labels": labels}, schema=writer.schema))


@contextlib.contextmanager
def measured(name: str, steps: dict[str, dict[str, float]]) -> Generator[None]:
    """Keep what a step took."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    began, processor = time.perf_counter(), time.process_time()
    yield
    steps[name] = {
        "seconds": round(time.perf_counter() - began, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
        "peak_gb": round(_kilobytes("VmHWM") / 1e6, 2),
    }
    print(name, steps[name], flush=True)


def _kilobytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="a new folder, which is removed at the end")
    parser.add_argument("num_images", type=int, nargs="?", default=5_000_000)
    given = parser.parse_args()
    make_list(given.folder, given.num_images)
    steps: dict[str, dict[str, float]] = {}
    try:
        with measured("read", steps):
            dataset = load_dataset(given.folder)
        with measured("check", steps):
            result = check(dataset, read_images=False)
        assert result.num_images == given.num_images
        assert result.can_train, result.problems
        with measured("split", steps):
            dataset = divided(dataset, share_of=SHARES)
        assert set(dataset.splits) == set(SHARES)
        with measured("write", steps):
            write_parquet(dataset, given.folder / "written.parquet")
        written_mb = round((given.folder / "written.parquet").stat().st_size / 1e6)
    finally:
        shutil.rmtree(given.folder)
    write(
        "scale",
        {
            "images": given.num_images,
            "classes": NUM_CLASSES,
            "labels": int(result.present_SC.sum()),
            "steps": steps,
            "written_mb": written_mb,
        },
    )
