"""Does a change of the code's shape leave every result as it was? Hashes of the weights and scores of three seeded runs.

    python benchmarks/same_bits.py --source SRC_BEFORE --name before
    python benchmarks/same_bits.py --name after

Each run is a whole `polytag` process over the source tree named by `--source` (default: this checkout), with an empty cache and a
fixed number of threads. Results of all names stand side by side in benchmarks/results/same_bits.json, and differences end the
script with status 1. Same bits are promised at one thread count on one kind of processor: run both names on the same machine.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from safetensors.numpy import load_file

from machine import RESULTS, VOC_MINI, WEIGHTS, write

HERE = Path(__file__).resolve().parents[1] / "src"
VOC_MINI_RUN = (
    "train", str(VOC_MINI), "--backbone", "mobilenetv2_100", "--backbone-arg", "pad_type=same", "--weights", str(WEIGHTS),
)  # fmt: skip
RUNS = {
    "demo": ("demo",),
    "probe, 128 px": (*VOC_MINI_RUN, "--recipe", "probe", "--image-size", "128"),
    "finetune, 96 px, 2 epochs": (*VOC_MINI_RUN, "--recipe", "finetune", "--image-size", "96", "--epochs", "2"),
}


def hash_weights(path: Path) -> str:
    """SHA-256 over the tensors: names, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(path).items()):
        digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode() + tensor.tobytes())
    return digest.hexdigest()[:16]


def hash_scores(path: Path) -> str:
    """SHA-256 over every column of float32 lists or numbers in a predictions file, whatever the columns are called."""
    digest = hashlib.sha256()
    table = pq.read_table(path)
    for column in table.columns:
        if "float" in str(column.type):
            digest.update(np.array(column.to_pylist(), dtype=np.float32).tobytes())
    return digest.hexdigest()[:16]


def one(arguments: tuple[str, ...], *, source: Path, threads: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        variables = {
            "PYTHONPATH": str(source),
            "POLYTAG_CACHE": str(Path(folder) / "cache"),
            "OMP_NUM_THREADS": str(threads),
        }
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "polytag", *arguments, "--output", str(output)],
            check=True,
            env=os.environ | variables,
            stdout=subprocess.DEVNULL,
        )
        seconds = time.perf_counter() - started
        run = output / "run" if (output / "run").is_dir() else output
        metrics = json.loads((run / "metrics.json").read_text())
        return {
            "best": hash_weights(run / "best" / "model.safetensors"),
            "last": hash_weights(run / "last" / "model.safetensors"),
            "scores": hash_scores(run / "predictions-val.parquet"),
            "mAP": metrics["mAP"]["value"],
            "seconds": round(seconds, 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=HERE, help="the folder that holds the package `polytag`")
    parser.add_argument("--name", default="after", help="what these results are called in the file")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    path = RESULTS / "same_bits.json"
    results = json.loads(path.read_text())["results"] if path.is_file() else {}
    results[options.name] = {}
    for name, arguments in RUNS.items():
        if str(VOC_MINI) in arguments and not VOC_MINI.is_dir():
            print(f"{name}: skipped: no voc-mini photographs beside this checkout (../shared)")
            continue
        results[options.name][name] = one(arguments, source=options.source.resolve(), threads=options.threads)
    write("same_bits", {"what": "seeded runs, hashes of weights and scores", "threads": options.threads, "results": results})
    kept = ("best", "last", "scores", "mAP")
    different = [
        f"{name} of {run}"
        for other in results.values()
        for run in other.keys() & results[options.name].keys()
        for name in kept
        if other[run][name] != results[options.name][run][name]
    ]
    print("different: " + ", ".join(different) if different else "the same bits")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
