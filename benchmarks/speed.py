"""How long until an answer, how fast training and prediction are; each side in turn, in a process of its own. Processor only.

answer      from a cold start to the validation mAP that the recipe `baseline` ends with: the probe, in turn with the plain loop
large       the same at VOC 2012's size with ResNet-18 (random weights: the arithmetic is the same): 5,717 and 5,823 images
training    ResNet-18 at 224 px: polytag, the plain loop, fastai, Hugging Face's Trainer, Lightning; share of the convolution peak
predict     `polytag predict` over a folder, in turn with eager float32 and Pillow; and the mAP of both

The plain loop is timed over some batches and scaled: `--batches`. Peers are installed into environments of their own under
`--peers`; one that cannot be installed is named in the result and left out.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from machine import RESULTS, VOC_MINI, WEIGHTS, describe
from polytag.data.load import load_dataset
from polytag.data.read_options import ReadOptions
from quiet import disturbances, undisturbed

HERE = Path(__file__).parent
POLYTAG = Path(sys.executable).with_name("polytag")
VELOCITY_MAP, VELOCITY_EPOCHS = 0.553, 20  # benchmarks/results/voc_mini.json
NETWORK = ["--backbone", "mobilenetv2_100", "--backbone-arg", "pad_type=same", "--weights", str(WEIGHTS)]
ANSWER_PX = 128
PEERS = {"fastai": ["fastai"], "transformers": ["transformers", "accelerate"], "lightning": ["lightning"]}


def spread(values: list[float]) -> dict[str, float]:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def in_process(command: list[str], **environment: str) -> dict:
    """What a side prints last, as JSON."""

    def run() -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | environment).stdout

    return json.loads(undisturbed(run).splitlines()[-1])


def side(*words: object) -> dict:
    return in_process([sys.executable, str(HERE / "speed_sides.py"), *map(str, words)])


def probe(data: Path, run: Path, *options: str) -> dict[str, float]:
    """As `one_probe`, on a machine that nobody disturbs."""
    return undisturbed(lambda: one_probe(data, run, *options))


def one_probe(data: Path, run: Path, *options: str) -> dict[str, float]:
    """`polytag train --recipe probe`: seconds until it prints the validation mAP, and until it ends; and the mAP.

    Nothing that an earlier run kept is used.
    """
    shutil.rmtree(run, ignore_errors=True)
    shutil.rmtree(run.with_suffix(".cache"), ignore_errors=True)
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "POLYTAG_CACHE": str(run.with_suffix(".cache"))}
    command = [str(POLYTAG), "train", str(data), "--recipe", "probe", "--output", str(run), *options]
    started, answered = time.perf_counter(), 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.split()[:1] == ["probe"] and not answered:
                answered = time.perf_counter() - started
    assert process.returncode == 0
    ended = time.perf_counter() - started
    value = json.loads((run / "metrics.json").read_text())["mAP"]["value"]
    return {"seconds_to_mAP": answered, "seconds_whole_command": ended, "mAP": value}


def plain_loop(found: dict[str, float], *, num_train: int, num_val: int) -> dict[str, float]:
    """20 epochs of training and of validation from measured seconds an image, and the imports."""
    train = VELOCITY_EPOCHS * num_train * found["train_seconds_an_image"]
    val = VELOCITY_EPOCHS * num_val * found["val_seconds_an_image"]
    return {**found, "training": train, "validation": val, "seconds": found["import_seconds"] + train + val}


def answer(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    ours, plain = [], []
    for turn in range(options.turns):
        found = side("plain-loop", VOC_MINI, "mobilenetv2_100", options.batches)
        plain.append(plain_loop(found, num_train=874, num_val=874))
        ours.append(probe(VOC_MINI, folder / f"answer-{turn}", *NETWORK, "--image-size", str(ANSWER_PX)))
        print(f"answer {turn + 1}: plain {plain[-1]['seconds']:.0f} s, probe {ours[-1]}", flush=True)
    return {
        "what": f"voc-mini, MobileNetV2: `baseline` as the plain loop (20 epochs, ends at mAP {VELOCITY_MAP}) against "
        f"`polytag train --recipe probe --image-size {ANSWER_PX}`, cold start",
        "arithmetic": "plain seconds = imports + 20 x (874 x seconds a training image + 874 x seconds a validation image), "
        f"measured over {options.batches} batches of 16",
        "n_turns": options.turns,
        "mAP_needed": VELOCITY_MAP,
        "mAP_reached": ours[-1]["mAP"],
        "plain": plain,
        "probe": ours,
        "ratio_to_mAP": spread([a["seconds"] / b["seconds_to_mAP"] for a, b in zip(plain, ours, strict=True)]),
        "ratio_whole_command": spread([a["seconds"] / b["seconds_whole_command"] for a, b in zip(plain, ours, strict=True)]),
    }


def large_set(folder: Path) -> Path:
    """5,717 training and 5,823 validation images of 500 x 375 px: voc-mini's, enlarged and again and again; as a CSV data set."""
    dataset = load_dataset(VOC_MINI, options=ReadOptions(difficult="negative"))
    (folder / "large").mkdir()
    lines, names = ["file_name,labels,split"], list(dataset.label_set)
    kept = {}
    for name, number in (("train", 5717), ("val", 5823)):
        part = dataset.split(name)
        for row in range(number):
            source = part.paths[row % len(part)]
            if source not in kept:
                kept[source] = folder / "large" / f"{name}-{row}.jpg"
                Image.open(source).convert("RGB").resize((500, 375)).save(kept[source], quality=92)
                path = kept[source]
            else:
                path = folder / "large" / f"{name}-{row}.jpg"
                os.link(kept[source], path)
            labels = "|".join(names[column] for column in np.flatnonzero(part.target_NC[row % len(part)] == 1))
            lines.append(f"large/{path.name},{labels},{name}")
    (folder / "large.csv").write_text("\n".join(lines) + "\n")
    return folder / "large.csv"


def large(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    data = large_set(folder)
    found = [side("plain-loop", data, "resnet18", options.batches)]
    ours = {px: probe(data, folder / f"large-{px}", "--weights", "random", "--image-size", str(px)) for px in (ANSWER_PX, 224)}
    found.append(side("plain-loop", data, "resnet18", options.batches))
    plain = [plain_loop(each, num_train=5717, num_val=5823) for each in found]
    return {
        "what": "VOC 2012's number and size of images (500 x 375, voc-mini's enlarged and repeated), ResNet-18 from random "
        "weights: the plain loop at 224 px against `polytag train --recipe probe --image-size ...`, measured whole; what mAP "
        "ImageNet's ResNet-18 would reach there was not measured, its weights not being at hand",
        "arithmetic": "plain seconds = imports + 20 x (5,717 x seconds a training image + 5,823 x seconds a validation image)",
        "n_turns": 1,
        "plain": plain,
        "probe": {
            f"{px} px": {
                **{key: value for key, value in each.items() if key != "mAP"},
                "ratio_to_mAP": spread([one["seconds"] / each["seconds_to_mAP"] for one in plain]),
                "ratio_whole_command": spread([one["seconds"] / each["seconds_whole_command"] for one in plain]),
            }
            for px, each in ours.items()
        },
    }


def peer_python(name: str, folder: Path, *, packages: list[str]) -> Path | None:
    """The interpreter of a peer's environment, made if it is not there; None where it cannot be had."""
    python = folder / name / "bin" / "python"
    if not python.is_file():
        uv = HERE.parent / ".tools" / "bin" / "uv"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "env": os.environ | {"PYTHONPATH": ""}}
        made = subprocess.run([str(uv), "venv", "--python", sys.executable, str(folder / name)], check=False, **quiet)
        install = [str(uv), "pip", "install", "--python", str(python), *packages, "timm", "torchvision", "pillow"]
        got = subprocess.run(install, check=False, **quiet)
        if made.returncode or got.returncode:
            return None
    return python


def version_of(python: Path, name: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({name!r}))"
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def training(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    dataset = load_dataset(VOC_MINI, options=ReadOptions(difficult="negative")).split("train").take(range(options.images))
    job = {"paths": [str(path.resolve()) for path in dataset.paths], "targets": dataset.target_NC.tolist()}
    job |= {"size_px": 224, "mean": [0.4589, 0.4355, 0.4032], "std": [0.2239, 0.2186, 0.2206]}
    (folder / "job.json").write_text(json.dumps(job))
    pythons = {"plain": Path(sys.executable)} | {name: peer_python(name, options.peers, packages=PEERS[name]) for name in PEERS}
    absent = [name for name, python in pythons.items() if python is None]
    rates: dict[str, list[float]] = {name: [] for name in ("polytag", *pythons) if name not in absent}
    details = []
    for turn in range(options.turns):
        for name, python in pythons.items():
            if python is not None:
                command = [str(python), str(HERE / "training_peers.py"), name, str(folder / "job.json")]
                rates[name].append(in_process(command)["images_per_second"])
        details.append(side("training", options.images))
        rates["polytag"].append(details[-1]["later_epochs"])
        print(f"training {turn + 1}: " + ", ".join(f"{name} {values[-1]:.1f}" for name, values in rates.items()), flush=True)
    return {
        "what": "ResNet-18, 224 px, batch 16, training, images a second; polytag: from the second epoch on; "
        "ratios are polytag's over each other's, turn by turn",
        "n_turns": options.turns,
        "images_a_turn": options.images,
        "versions": {name: version_of(python, name) for name, python in pythons.items() if python is not None and name in PEERS},
        "could_not_be_installed": absent,
        "images_per_second": {name: spread(values) for name, values in rates.items()},
        "ratio": {
            name: spread([ours / theirs for ours, theirs in zip(rates["polytag"], values, strict=True)])
            for name, values in rates.items()
            if name != "polytag"
        },
        "first_epoch_images_per_second": spread([each["first_epoch"] for each in details]),
        "step_alone_images_per_second": spread([each["step_alone"] for each in details]),
        "input_share_of_later_epochs": spread([each["input_share"] for each in details]),
        "bf16_convolution_peak_gflops": spread([each["peak_gflops"] for each in details]),
        "gflop_an_image": details[0]["gflop_an_image"],
        "share_of_peak": spread([each["share_of_peak"] for each in details]),
    }


def whole_predict(run: Path, images: list[str], output: Path) -> float:
    """Seconds of `polytag predict`."""
    started = time.perf_counter()
    command = [str(POLYTAG), "predict", str(run), *images, "--output", str(output)]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def predict(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    run, run_fp32 = folder / "predict-run", folder / "predict-run-fp32"
    one_probe(VOC_MINI, run, *NETWORK)
    one_probe(VOC_MINI, run_fp32, *NETWORK, "--precision", "fp32")
    images = [str(path) for path in load_dataset(VOC_MINI).split("val").paths]
    eager, ours, whole = [], [], []
    for turn in range(options.turns):
        eager.append(side("eager", run, VOC_MINI, folder / "eager.npy"))
        ours.append(side("fast", run, VOC_MINI, folder / "fast.npy"))
        whole.append(undisturbed(lambda: whole_predict(run, images, folder / "predictions.parquet")))
        print(f"predict {turn + 1}: eager {eager[-1]['images_per_second']:.1f}, polytag {ours[-1]}", flush=True)
    rate = "images_per_second"
    heads = {"fitted in bf16": (eager[-1], ours[-1])}
    heads["fitted in fp32"] = tuple(side(name, run_fp32, VOC_MINI, folder / f"{name}-fp32.npy") for name in ("eager", "fast"))
    return {
        "what": "voc-mini's 874 validation images, MobileNetV2 at 256 px: eager float32 in batches of 32 with Pillow, against "
        "polytag; images a second without the start of Python, and `polytag predict` whole",
        "n_turns": options.turns,
        "eager": spread([each[rate] for each in eager]),
        "polytag": spread([each[rate] for each in ours]),
        "ratio": spread([b[rate] / a[rate] for a, b in zip(eager, ours, strict=True)]),
        "whole_command_seconds": spread(whole),
        "mAP": {
            f"head {how}": {"eager": a["mAP"], "polytag": b["mAP"], "difference": b["mAP"] - a["mAP"]}
            for how, (a, b) in heads.items()
        },
        "scoring": ours[-1]["how"],
    }


PARTS = {"answer": answer, "training": training, "predict": predict, "large": large}


def keep(name: str, result: dict[str, object]) -> None:
    """Each part with the machine and the load it was measured under, in benchmarks/results/speed.json."""
    path = RESULTS / "speed.json"
    results = json.loads(path.read_text()) if path.is_file() else {}
    results[name] = {"machine": LOAD_BEFORE[name], **result, "processor_share_of_others": spread(disturbances)}
    path.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results[name], indent=2), flush=True)


LOAD_BEFORE: dict[str, dict[str, object]] = {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=", ".join(PARTS))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--batches", type=int, default=12, help="batches of 16 that the plain loop is timed over")
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "polytag-peers")
    options = parser.parse_args()
    if not VOC_MINI.is_dir():
        print("skipped: no voc-mini photographs beside this checkout (../shared)")
        return
    for name in options.parts:
        LOAD_BEFORE[name] = describe()
        disturbances.clear()
        with tempfile.TemporaryDirectory() as folder:
            keep(name, PARTS[name](Path(folder), options))


if __name__ == "__main__":
    main()
