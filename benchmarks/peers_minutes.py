"""`polytag train --minutes M` beside fastai, Hugging Face's Trainer and LightlyTrain: minutes, weights and images are the same.

    python benchmarks/peers_minutes.py [--sides fastai transformers lightlytrain polytag] [--minutes 1 3] [--settings default ...]
        [--seeds 0] [--clock processor|wall]

A peer trains on voc-mini's 874 training images, then scores the 874 validation images, and `polytag.compare` judges the scores.
Unknown labels are left out there; peers, which have no notion of them, learn them as absent. How many images pass in M minutes
comes from seconds an image, the difference of two short trainings: `--clock wall` on a quiet machine; `--clock processor`, M
minutes of every core with one thread, on a machine that others use. Not counted, in favour of the peers: imports, start, the
validation that they make between epochs (8 images here), final scoring. polytag's minutes hold everything.

SETTINGS has the settings of each peer. Peers are installed into environments of their own under `--peers`. Runs are kept one by
one in results/peers_minutes.json, and what is there is not run again without `--again`. Scores lie in `--scores`; each run of a
peer is compared with polytag's of the same minutes and seed where both are there, and polytag's with its own of fewer minutes.
"""

import argparse
import itertools
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from machine import RESULTS, SHARED, VOC_MINI, write
from polytag import compare, read_predictions
from polytag.contracts import Predictions
from polytag.data.load import load_dataset
from polytag.machine import num_cores
from polytag.metrics.evaluate import evaluate_predictions
from polytag.predictions.table import write_predictions
from speed import peer_python, version_of

HERE = Path(__file__).parent
MINUTES = (1.0, 3.0, 10.0, 30.0)
LITE0, LITE2 = "tf_efficientnet_lite0", "tf_efficientnet_lite2"
PACKAGES = {"fastai": "fastai", "transformers": "transformers", "lightlytrain": "lightly-train"}
ALSO = {"transformers": ["accelerate"]}  # which the Trainer needs
FASTAI = {"size_px": 224, "batch_size": 64, "learning_rate": 2e-3}
TRAINER = {"size_px": 224, "batch_size": 8, "learning_rate": 5e-5}
LIGHTLY = {"size_px": 224, "batch_size": 16, "learning_rate": 3e-4}
POLYTAG = {
    "default": ["--minutes", "{minutes}"],
    "probe": ["--recipe", "probe", "--backbone", LITE2, "--image-size", "384"],  # what a quiet minute planned
}
SETTINGS = {
    "fastai": {
        "default": {"backbone": LITE0, **FASTAI},
        "tutorial rate": {"backbone": LITE0, **FASTAI, "batch_size": 16, "learning_rate": 3e-2},
        "frozen, no augmentation": {
            "backbone": LITE2, **FASTAI, "batch_size": 16, "learning_rate": 5e-3, "frozen": True, "augment": False,
        },
        "no augmentation": {"backbone": LITE0, **FASTAI, "batch_size": 16, "learning_rate": 5e-3, "augment": False},
    },
    "transformers": {
        "default": {"backbone": LITE0, **TRAINER},
        "rate 1e-3": {"backbone": LITE0, **TRAINER, "learning_rate": 1e-3},
        "lite2, rate 1e-3": {"backbone": LITE2, **TRAINER, "learning_rate": 1e-3},
        "lite2 frozen, rate 1e-2": {"backbone": LITE2, **TRAINER, "learning_rate": 1e-2, "frozen": True},
    },
    "lightlytrain": {
        "default": {"backbone": LITE0, **LIGHTLY},
        "rate 1e-3": {"backbone": LITE0, **LIGHTLY, "learning_rate": 1e-3, "warmup_share": 0.1},
        "lite2, rate 1e-3": {"backbone": LITE2, **LIGHTLY, "learning_rate": 1e-3, "warmup_share": 0.1},
        "lite2 frozen, rate 1e-2": {"backbone": LITE2, **LIGHTLY, "learning_rate": 1e-2, "frozen": True},
    },
}  # fmt: skip


def training(side: str, job: dict, options: argparse.Namespace) -> dict:
    """What the side prints of one training; it runs alone in its environment, with one thread where processor seconds count."""
    python = peer_python(side, options.peers, packages=[PACKAGES[side], *ALSO.get(side, ())])
    if python is None:
        raise RuntimeError(f"{PACKAGES[side]} cannot be installed into {options.peers / side}")
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} if options.clock == "processor" else {}
    offline = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": "", "LIGHTLY_TRAIN_EVENTS_DISABLED": "1"}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "job.json"
        path.write_text(json.dumps(job))
        command = [str(python), str(HERE / "peers_minutes_side.py"), side, str(path)]
        environment = os.environ | threads | offline | {"TMPDIR": name}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return json.loads(done.stdout.splitlines()[-1])


def job_of(setting: dict, seed: int) -> dict:
    """Images, labels and weights of a training, without how much of it."""
    dataset = load_dataset(VOC_MINI)
    train, val = dataset.split("train"), dataset.split("val")
    return {
        "paths": [str(path.resolve()) for path in train.paths],
        "targets": (train.target_NC == 1).astype(int).tolist(),
        "val_paths": [str(path.resolve()) for path in val.paths],
        "classes": list(dataset.label_set),
        "backbone": setting["backbone"],
        "weights": str((SHARED / "weights" / f"{setting['backbone']}.safetensors").resolve()),
        "setting": setting,
        "seed": seed,
    }


def rate(side: str, setting: dict, *, frozen: bool, kept: dict, options: argparse.Namespace) -> float:
    """Seconds a training image, by the difference of a training of one batch or two and one of some more."""
    what = {name: value for name, value in setting.items() if name in ("backbone", "size_px", "batch_size", "augment")}
    key = " ".join([side, *(f"{name}={value}" for name, value in what.items()), "frozen" if frozen else "whole", options.clock])
    if key not in kept["seconds_an_image"]:
        batch = setting["batch_size"]
        few, more = batch * max(1, 16 // batch), batch * max(2, 64 // batch)
        counts = [{"frozen_images": number * frozen, "trained_images": number * (not frozen)} for number in (few, more)]
        found = training(side, job_of(setting, 0) | {"amounts": counts, "scores": None}, options)
        took = [each[options.clock] for each in found["seconds"]]
        kept["seconds_an_image"][key] = (took[1] - took[0]) / (more - few)
        keep(kept)
    return kept["seconds_an_image"][key]


def amounts(side: str, setting: dict, seconds: float, *, num_images: int, seconds_an_image) -> dict[str, int]:
    """How many images pass with a frozen backbone and without.

    fastai's `fine_tune` has a frozen epoch first; where less than half a whole one would follow, all the time goes to frozen ones.
    """
    if not setting.get("frozen") and side != "fastai":
        return {"frozen_images": 0, "trained_images": int(seconds / seconds_an_image(frozen=False))}
    frozen = int(seconds / seconds_an_image(frozen=True))
    if not setting.get("frozen") and frozen > num_images:
        trained = int((seconds - num_images * seconds_an_image(frozen=True)) / seconds_an_image(frozen=False))
        if trained >= num_images / 2:
            return {"frozen_images": num_images, "trained_images": trained}
    return {"frozen_images": frozen, "trained_images": 0}


def peer(side: str, name: str, minutes: float, seed: int, *, kept: dict, options: argparse.Namespace) -> dict:
    """One run of a peer; its scores go into `--scores`."""
    setting = SETTINGS[side][name]
    cores = num_cores() if options.clock == "processor" else 1
    job = job_of(setting, seed)
    budget = 60 * minutes * cores
    amount = amounts(
        side, setting, budget, num_images=len(job["paths"]),
        seconds_an_image=lambda frozen: rate(side, setting, frozen=frozen, kept=kept, options=options),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        found = training(side, job | {"amounts": [amount], "scores": f"{folder}/scores.npy"}, options)
        logit_NC = np.load(f"{folder}/scores.npy")
    dataset = load_dataset(VOC_MINI)
    val = dataset.split("val")
    source = f"{side} {name}, {minutes:g} minutes, seed {seed}"
    table = Predictions(ids=val.ids, logit_NC=logit_NC, target_NC=val.target_NC, label_set=dataset.label_set, source=source)
    write_predictions(table, scores_file(options, side, name, minutes, seed))
    share = found["seconds"][0][options.clock] / budget
    return {"setting": setting, **amount, "share_of_time": round(share, 3), "threads": found["threads"]}


def polytag(name: str, minutes: float, seed: int, *, options: argparse.Namespace) -> dict:
    """`polytag train` from a cold start, with the weights of both backbones where it looks for them."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "cache" / "weights").mkdir(parents=True)
        for backbone in (LITE0, LITE2):
            shutil.copy(SHARED / "weights" / f"{backbone}.safetensors", place / "cache" / "weights")
        words = [word.format(minutes=minutes) for word in POLYTAG[name]]
        command = [
            sys.executable,
            "-m",
            "polytag",
            "train",
            str(VOC_MINI),
            *words,
            "--seed",
            str(seed),
            "--output",
            str(place / "run"),
        ]
        started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True, env=os.environ | {"POLYTAG_CACHE": str(place / "cache")})
        seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        header = json.loads((place / "run" / "best" / "config.json").read_text())
        plan = place / "run" / "plan.json"
        epochs = round(json.loads(plan.read_text())["epochs"], 2) if plan.is_file() else 0
        shutil.copy(place / "run" / "predictions-val.parquet", scores_file(options, "polytag", name, minutes, seed))
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    setting = {"backbone": header["backbone"], "head": header.get("head", "linear"), "epochs": epochs}
    setting["size_px"] = header["preprocessing"]["image_size_px"]
    return {"setting": setting, "share_of_time": round(seconds / (60 * minutes), 3), "processor_seconds": round(processor, 1)}


def scores_file(options: argparse.Namespace, side: str, name: str, minutes: float, seed: int) -> Path:
    options.scores.mkdir(parents=True, exist_ok=True)
    words = "-".join(name.replace(",", "").split())
    return options.scores / f"{side}-{words}-{minutes:g}-{seed}.parquet"


def compared(run: dict, *, options: argparse.Namespace) -> dict:
    """A run with the mAP of polytag minus its own, of the same minutes and of the probe, where the files of scores are there."""
    theirs = scores_file(options, run["side"], run["name"], run["minutes"], run["seed"])
    ours = {
        "polytag_minus_this": scores_file(options, "polytag", "default", run["minutes"], run["seed"]),
        "polytag_probe_minus_this": scores_file(options, "polytag", "probe", 1, run["seed"]),
    }
    if run["side"] != "polytag" and theirs.is_file():
        run |= {key: difference(theirs, path) for key, path in ours.items() if path.is_file()}
    if run["side"] == "polytag" and run["name"] == "default" and theirs.is_file():
        fewer = {
            minutes: scores_file(options, "polytag", "default", minutes, run["seed"])
            for minutes in MINUTES
            if minutes < run["minutes"]
        }
        run["minus_fewer_minutes"] = {f"{minutes:g}": difference(path, theirs) for minutes, path in fewer.items() if path.is_file()}
    return run


def difference(first: Path, second: Path) -> dict[str, float]:
    """mAP of the second file of scores minus that of the first, paired, on the images that both have: one minute draws fewer."""
    found = compare(read_predictions(first), read_predictions(second), names=("first", "second"), intersect=True).pairs[0]
    values = {"value": found.value, "low": found.low, "high": found.high, "p": found.p}
    return {name: round(value, 4) for name, value in values.items()}


def keep(kept: dict) -> None:
    kept["runs"].sort(key=lambda run: (run["minutes"], run["side"], run["name"], run["seed"]))
    write("peers_minutes", {name: value for name, value in kept.items() if name != "machine"})


def one(side: str, name: str, minutes: float, seed: int, *, kept: dict, options: argparse.Namespace) -> None:
    run = {"side": side, "name": name, "minutes": minutes, "seed": seed, "load_before": round(os.getloadavg()[0], 2)}
    if side == "polytag":
        run |= {"clock": "wall"} | polytag(name, minutes, seed, options=options)
    else:
        run |= {"clock": options.clock} | peer(side, name, minutes, seed, kept=kept, options=options)
        python = peer_python(side, options.peers, packages=[PACKAGES[side], *ALSO.get(side, ())])
        assert python is not None
        kept["versions"][side] = version_of(python, PACKAGES[side])
    mean_ap = evaluate_predictions(read_predictions(scores_file(options, side, name, minutes, seed))).mean_ap
    run |= {"mAP": round(mean_ap.value, 4), "low": round(mean_ap.low, 4), "high": round(mean_ap.high, 4)}
    kept["runs"] = [other for other in kept["runs"] if identity(other) != identity(run)] + [run]
    keep(kept)


def identity(run: dict) -> tuple:
    return run["side"], run["name"], run["minutes"], run["seed"]


def failure(kept: dict, options: argparse.Namespace) -> None:
    """What LightlyTrain says to timm's EfficientNets as it is installed, without the line that repairs it."""
    if "lightlytrain" in options.sides and "lightlytrain as installed" not in kept:
        setting = SETTINGS["lightlytrain"]["default"]
        amount = {"frozen_images": 0, "trained_images": setting["batch_size"]}
        job = job_of(setting | {"unrepaired": True}, 0) | {"amounts": [amount], "scores": None}
        try:
            kept["lightlytrain as installed"] = f"trains: {training('lightlytrain', job, options)}"
        except RuntimeError as error:
            kept["lightlytrain as installed"] = str(error)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", nargs="+", default=[*SETTINGS, "polytag"])
    parser.add_argument("--minutes", nargs="+", type=float, default=[1.0, 3.0])
    parser.add_argument("--settings", nargs="+", help="names of SETTINGS and POLYTAG; default: all of each side")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--clock", choices=["processor", "wall"], default="wall")
    parser.add_argument("--again", action="store_true", help="run again what the result file already has")
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "polytag-peers")
    parser.add_argument("--scores", type=Path, default=Path(tempfile.gettempdir()) / "polytag-peers" / "scores")
    options = parser.parse_args()
    if not VOC_MINI.is_dir():
        print("skipped: no voc-mini photographs beside this checkout (../shared)")
        return
    path = RESULTS / "peers_minutes.json"
    kept = json.loads(path.read_text()) if path.is_file() else {"versions": {}, "seconds_an_image": {}, "runs": []}
    for minutes, seed, side in itertools.product(options.minutes, options.seeds, options.sides):
        for name in SETTINGS[side] if side != "polytag" else POLYTAG:
            done = (side, name, minutes, seed) in [identity(run) for run in kept["runs"]]
            wanted = name in (options.settings or [name]) and (name != "probe" or minutes == 1)
            if wanted and (options.again or not done):
                one(side, name, minutes, seed, kept=kept, options=options)
    failure(kept, options)
    kept["runs"] = [compared(run, options=options) for run in kept["runs"]]
    keep(kept)


if __name__ == "__main__":
    main()
