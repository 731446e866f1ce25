"""Time and memory of a probe on a feature table, in processes of their own: `polytag train LABELS --features TABLE`, then predict.

    python benchmarks/feature_table.py [--rows N] [--features D] [--classes C] [--runs R]

The table is random vectors of which some directions carry the labels; no image exists. It is written a part at a time, as Parquet
of float32 lists and as NPY of float64 with a list of ids. Memory is the peak of the resident set of each process.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from machine import write

_PART = 10_000


def write_tables(folder: Path, *, num_rows: int, num_features: int, num_classes: int) -> dict[str, Path]:
    """labels.csv, features.parquet and features.npy with features.txt."""
    rng = np.random.default_rng(0)
    direction_DC = rng.normal(size=(num_features, num_classes)) / num_features**0.5
    names = [f"c{column}" for column in range(num_classes)]
    schema = pa.schema([("id", pa.string()), ("embedding", pa.list_(pa.float32()))])
    array = np.lib.format.open_memmap(folder / "features.npy", mode="w+", dtype=np.float64, shape=(num_rows, num_features))
    with (
        pq.ParquetWriter(folder / "features.parquet", schema) as parquet,
        open(folder / "labels.csv", "w") as labels,
        open(folder / "features.txt", "w") as ids,
    ):
        labels.write(",".join(["id", "split", *names]) + "\n")
        for start in range(0, num_rows, _PART):
            rows = range(start, min(start + _PART, num_rows))
            part = rng.normal(size=(len(rows), num_features))
            array[start : rows.stop] = part
            present_NC = part @ direction_DC + 0.5 * rng.normal(size=(len(rows), num_classes)) > 1
            own = [f"{row:07}" for row in rows]
            parquet.write_table(pa.table({"id": own, "embedding": pa.array(list(part.astype(np.float32)), schema[1].type)}, schema))
            ids.writelines(f"{name}\n" for name in own)
            for name, row, present_C in zip(own, rows, present_NC, strict=True):
                labels.write(",".join([name, "val" if row % 5 == 0 else "train", *map(str, present_C.astype(int))]) + "\n")
    array.flush()
    return {"parquet, float32": folder / "features.parquet", "npy, float64": folder / "features.npy"}


def measured(*arguments: str) -> tuple[float, float]:
    """Seconds and peak megabytes of a polytag process."""
    script = (
        "import resource, sys\nfrom polytag.cli.main import main\n"
        "try:\n    main()\nfinally:\n    print('PEAK', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return time.monotonic() - started, int(done.stdout.split("PEAK ")[1].split()[0]) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=1024)
    parser.add_argument("--classes", type=int, default=5)
    parser.add_argument("--runs", type=int, default=1)
    given = parser.parse_args()
    found: dict[str, object] = {"rows": given.rows, "features": given.features, "classes": given.classes, "runs": given.runs}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tables = write_tables(folder, num_rows=given.rows, num_features=given.features, num_classes=given.classes)
        for kind, table in tables.items():
            results: dict[str, list[tuple[float, float]]] = {"train": [], "predict": []}
            for turn in range(given.runs):
                run = folder / f"run-{table.suffix[1:]}-{turn}"
                results["train"].append(
                    measured("train", str(folder / "labels.csv"), "--features", str(table), "--output", str(run))
                )
                scores = folder / f"{run.name}.parquet"
                results["predict"].append(measured("predict", str(run), "--features", str(table), "--output", str(scores)))
            found[kind] = {
                "table_megabytes": round(table.stat().st_size / 1e6, 1),
                **{
                    verb: {
                        "seconds": round(statistics.median(seconds for seconds, _ in values), 1),
                        "seconds_each": [round(seconds, 1) for seconds, _ in values],
                        "peak_megabytes": round(max(peak for _, peak in values)),
                    }
                    for verb, values in results.items()
                },
            }
            print(kind, found[kind], flush=True)
    write("feature_table", found)


if __name__ == "__main__":
    main()
