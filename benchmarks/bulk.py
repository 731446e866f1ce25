"""Many images: `polytag predict --output FOLDER/` beside Ray Data, and killed at random and before every file operation.

    python benchmarks/bulk.py [--turns N] [--kills N]

A probe of tf_efficientnet_lite0 is trained on voc-mini's training photographs at 256 px and exported; both sides score with its
`pixels.onnx` in ONNX Runtime. The images are Parquet files of 874 validation photographs each.

- Ray Data, whole process: read_parquet, decode and resize with Pillow in tasks, ONNX Runtime in an actor, write_parquet. One actor
  of one CPU: two of them take both CPUs, and then nothing is read (https://github.com/ray-project/ray/issues/44687). polytag: one
  command. In turn; the decisions of both sides are compared.
- Kills: a prediction of 60 photographs in 20 tar files, in a process of its own, is killed (SIGKILL) at a random time, and then
  run again to its end. Its files are then those of an undisturbed run, bit for bit; every image is there once.
- `kills.py`'s campaign for the same verb: a kill before every single file operation.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kills import Verb, results_of, tree
from kills import campaign as kill_campaign
from machine import RESULTS, SHARED, VOC_MINI, write
from polytag import load_dataset, read_predictions

NUM_COPIES, NUM_TARS, NUM_KILLED = 2, 20, 60
WEIGHTS = SHARED / "weights" / "tf_efficientnet_lite0.safetensors"
POLYTAG = (sys.executable, "-m", "polytag")

RAY_DATA = """
import io, logging, os, sys
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
import numpy as np
import ray
from PIL import Image

model, source, out, size_px = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])

def decoded(row):
    image = Image.open(io.BytesIO(row["image"])).convert("RGB").resize((size_px, size_px), Image.BICUBIC)
    return {"id": row["id"], "pixels": np.asarray(image)}

class Model:
    def __init__(self):
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ["THREADS"])
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def __call__(self, batch):
        (probability,) = self.session.run(["probability"], {"pixels": np.stack(batch["pixels"])})
        return {"id": batch["id"], "probability": probability}

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
         runtime_env={"env_vars": {"THREADS": os.environ["THREADS"]}})
ray.data.DataContext.get_current().enable_progress_bars = False
data = ray.data.read_parquet(source).map(decoded).map_batches(Model, batch_size=16, concurrency=1, num_cpus=1)
data.write_parquet(out)
"""


def exported(folder: Path) -> Path:
    """An export of a probe."""
    options = ["--recipe", "probe", "--backbone", "tf_efficientnet_lite0", "--weights", str(WEIGHTS), "--image-size", "256"]
    command = [*POLYTAG, "train", str(VOC_MINI), *options, "--output", str(folder / "run")]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    subprocess.run([*POLYTAG, "export", str(folder / "run"), str(folder / "export")], stdout=subprocess.DEVNULL, check=True)
    return folder / "export"


def make_parquet(folder: Path, paths: list[Path]) -> None:
    folder.mkdir()
    for copy in range(NUM_COPIES):
        table = pa.table({"id": [f"{copy}/{path.name}" for path in paths], "image": [path.read_bytes() for path in paths]})
        pq.write_table(table, folder / f"{copy}.parquet", compression="none", use_dictionary=False, row_group_size=100)


def make_tars(folder: Path, paths: list[Path]) -> None:
    folder.mkdir()
    for number in range(NUM_TARS):
        with tarfile.open(folder / f"{number:02}.tar", "w") as archive:
            for path in paths[number::NUM_TARS]:
                archive.add(path, path.name)


def seconds_of(command: list[str], out: Path, **environment: str) -> float:
    shutil.rmtree(out, ignore_errors=True)
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True, env={**os.environ, **environment})
    return time.perf_counter() - began


def beside_ray_data(folder: Path, export: Path, paths: list[Path], *, turns: int, peer: str) -> dict[str, object]:
    """Seconds of whole processes, in turn."""
    make_parquet(folder / "parquet", paths)
    (folder / "ray_data.py").write_text(RAY_DATA)
    own, other = folder / "own", folder / "other"
    ours = [*POLYTAG, "predict", str(export), str(folder / "parquet"), "--output", f"{own}/"]
    theirs = [peer, str(folder / "ray_data.py"), str(export / "pixels.onnx"), str(folder / "parquet"), str(other), "256"]
    seconds: dict[str, list[float]] = {"polytag": [], "ray_data, 1 thread an actor": [], "ray_data, 2 threads an actor": []}
    others = {name: str(threads) for threads, name in enumerate(list(seconds)[1:], start=1)}
    for turn in range(turns):
        seconds["polytag"].append(seconds_of(ours, own))
        for name, threads in others.items():
            seconds[name].append(seconds_of(theirs, other, THREADS=threads))
        print({name: round(values[-1], 1) for name, values in seconds.items()}, file=sys.stderr, flush=True)
        if turn == 0:  # the slower one is left out of the other turns
            others = dict([min(others.items(), key=lambda item: seconds[item[0]][0])])
    (best,) = others
    ratios = [theirs / ours for ours, theirs in zip(seconds["polytag"], seconds[best], strict=True)]
    return {
        "images": NUM_COPIES * len(paths),
        "turns": turns,
        "seconds": {name: spread(values) for name, values in seconds.items()},
        "polytag is faster than the better of the two": spread(ratios),
        "images_per_second_of_polytag": round(NUM_COPIES * len(paths) / statistics.median(seconds["polytag"]), 1),
        "decisions": decisions_of(own, other, num_images=len(paths)),
    }


def decisions_of(own: Path, other: Path, *, num_images: int) -> dict[str, int]:
    """How many of both sides' decisions at 0.5 differ."""
    ours, theirs = read_predictions(own), pq.read_table(other)
    row_of = {f"{copy}/{row}": number for number, (copy, row) in enumerate(map(_place_of, ours.ids))}
    names = {path.name: row for row, path in enumerate(sorted(load_dataset(VOC_MINI).split("val").paths))}
    present_NC = ours.probability_NC > 0.5
    differing = 0
    for name, probability_C in zip(theirs["id"].to_pylist(), theirs["probability"].to_pylist(), strict=True):
        copy, _, file = name.partition("/")
        row = row_of[f"{copy}/{names[file]}"]
        differing += int((present_NC[row] != [value > 0.5 for value in probability_C]).sum())
    return {
        "compared": int(present_NC.size),
        "rows_of_ray_data": len(theirs),
        "rows": num_images * NUM_COPIES,
        "differing": differing,
    }


def _place_of(name: str) -> tuple[str, str]:
    """ "…/1.parquet/image/17" as the copy and the row."""
    parts = name.split("/")
    return parts[-3].removesuffix(".parquet"), parts[-1]


def killed(folder: Path, export: Path, paths: list[Path], *, num_kills: int) -> dict[str, object]:
    """What is wrong after kills at random times, and after the same command again."""
    make_tars(folder / "tars", paths)
    wanted = {f"{folder}/tars/{number:02}.tar/{path.name}" for number in range(NUM_TARS) for path in paths[number::NUM_TARS]}

    def command(out: Path) -> list[str]:
        return [*POLYTAG, "predict", str(export), str(folder / "tars"), "--output", f"{out}/"]

    seconds = seconds_of(command(folder / "whole"), folder / "whole")
    reference = tree(folder / "whole")
    dice, faults, shards_there = random.Random(0), [], []
    while len(shards_there) < num_kills:
        out = folder / "killed"
        shutil.rmtree(out, ignore_errors=True)
        process = subprocess.Popen(command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(dice.uniform(0.2, 1) * seconds)
        process.kill()
        if process.wait() == 0:
            continue  # it was faster than the undisturbed run
        there = tree(out) if out.is_dir() else {}
        shards_there.append(len(there))
        faults += [f"{name} is not whole" for name, digest in there.items() if reference.get(name) != digest]
        subprocess.run(command(out), stdout=subprocess.DEVNULL, check=True)
        found = read_predictions(out)
        faults += ["other files"] * (tree(out) != reference)
        faults += ["temporary files"] * bool(list(out.glob(".*")))
        faults += ["an image twice"] * (len(set(found.ids)) != len(found.ids))
        faults += ["another set of images"] * (set(found.ids) != wanted)
        print(f"killed with {shards_there[-1]} of {NUM_TARS} shards there; faults so far: {faults}", file=sys.stderr, flush=True)
    return {
        "kills": num_kills,
        "shards": NUM_TARS,
        "images": len(wanted),
        "shards_there_after_a_kill": shards_there,
        "faults": faults,
    }


def spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 2), "min": round(min(values), 2), "max": round(max(values), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--export", type=Path, help="an export of the probe; without it, one is made")
    parser.add_argument("--images", type=int, default=874, help="in each Parquet file")
    parser.add_argument("--parts", nargs="+", default=["killed_before_every_file_operation", "killed_at_random", "beside_ray_data"])
    parser.add_argument("--peer", default=sys.executable, help="a Python that has Ray Data, which needs pandas, and ONNX Runtime")
    options = parser.parse_args()
    paths = sorted(load_dataset(VOC_MINI).split("val").paths)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        export = options.export.resolve() if options.export else exported(folder)
        result: dict[str, Any] = {"versions": {each: version(each) for each in ("ray", "onnxruntime", "pyarrow")}}
        parts: dict[str, Callable[[], object]] = {
            "killed_before_every_file_operation": lambda: results_of(["predict_many"], every_operation)["predict_many"],
            "killed_at_random": lambda: killed(folder, export, paths[:NUM_KILLED], num_kills=options.kills),
            "beside_ray_data": lambda: beside_ray_data(
                folder, export, paths[: options.images], turns=options.turns, peer=options.peer
            ),
        }
        for part, work in parts.items():
            if part in options.parts:
                result[part] = {"result": work(), "load_after": round(os.getloadavg()[0], 2)}
            elif (RESULTS / "bulk.json").exists():  # as it was measured before
                result[part] = json.loads((RESULTS / "bulk.json").read_text()).get(part)
    write("bulk", result)


def every_operation(verb: Verb, folder: Path) -> dict[str, object]:
    return kill_campaign(verb, folder, every=1)


if __name__ == "__main__":
    main()
