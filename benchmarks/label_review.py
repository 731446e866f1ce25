"""What a review of the most suspicious training labels is worth: mAP before and after, on the same clean validation images.

Wrong labels are planted in the training split: a fifth of every class's positives are made absent, and as many negatives, drawn at
random, present. A probe is trained on that; its training images are scored out-of-fold; a reviewer who knows the truth looks at
the K most suspicious labels, through the real review file; `labels export` writes the corrected data; a probe is trained on those.
Control: the same reviewer looks at K labels drawn at random. Also shown: a probe trained on the labels before anything was planted.

voc-mini with ImageNet's MobileNetV2 where it lies beside the checkout; always its twin on generated scenes, with a small network
that learned on other scenes of the same digits and is then frozen.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

os.environ |= {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "5000"}  # as the command does

from machine import RESULTS, VOC_MINI, WEIGHTS, write
from polytag import PROBE, Dataset, ReadOptions, Recipe, compare, convert, load_dataset, read_predictions, train
from polytag.allocator import keep_freed_memory
from polytag.contracts import ABSENT, PRESENT, Predictions
from polytag.demo.recipe import DEMO
from polytag.demo.scenes import write_scenes
from polytag.inference.out_of_fold import out_of_fold_of_run
from polytag.inspector.review.export import export_labels
from polytag.inspector.review.store import open_review, review_file_of
from polytag.metrics.label_issues import find_label_issues
from polytag.runs.folder import RunFolder

SHARE = 0.2
LOOKS = {"voc-mini": 700, "scenes": 300}  # labels that the reviewer looks at: about as many as are planted
VOC_PROBE = replace(PROBE, backbone="mobilenetv2_100", backbone_args={"pad_type": "same"}, weights=str(WEIGHTS))
Label = tuple[int, int]  # a row of the training split and a column


def plant(dataset: Dataset, *, seed: int) -> Dataset:
    """The data set with wrong labels in its split "train"."""
    rng = np.random.default_rng(seed)
    target_NC = dataset.target_NC.copy()
    is_train_N = np.array([split == "train" for split in dataset.split_N])
    for column in range(target_NC.shape[1]):
        present, absent = (np.flatnonzero(is_train_N & (dataset.target_NC[:, column] == value)) for value in (PRESENT, ABSENT))
        number = round(SHARE * len(present))
        for rows in (present, absent):
            chosen = rng.choice(rows, number, replace=False)
            target_NC[chosen, column] = 1 - target_NC[chosen, column]
    return replace(dataset, target_NC=target_NC)


def most_suspicious(scored: Predictions, number: int) -> list[Label]:
    found = find_label_issues(scored, top=len(scored))
    return [(each.row, scored.label_set.index(each.class_name)) for each in found.issues[:number]]


def at_random(scored: Predictions, number: int, *, seed: int) -> list[Label]:
    known = np.argwhere(scored.target_NC >= 0)
    chosen = np.random.default_rng((seed, 1)).choice(len(known), number, replace=False)
    return [(int(row), int(column)) for row, column in known[chosen]]


def review(run: Path, scored: Predictions, truth: Dataset, labels: list[Label]) -> None:
    """Write the truth about these labels into the run's review, as the inspector does."""
    row_of = {name: row for row, name in enumerate(truth.ids)}
    path = review_file_of(run)
    path.unlink(missing_ok=True)
    with open_review(path) as store:
        for row, column in labels:
            store.decide(
                split="train",
                image_id=scored.ids[row],
                class_name=truth.label_set.names[column],
                label=int(truth.target_NC[row_of[scored.ids[row]], column]),
                given=int(scored.target_NC[row, column]),
                reviewer="oracle",
            )


def trained(data: Path, recipe: Recipe, output: Path) -> Path:
    return train(data, recipe=recipe, output=output).folder.path


def predictions_of(run: Path) -> Predictions:
    return read_predictions(run / "predictions-val.parquet")


def against(before: Path, after: Path) -> dict[str, float]:
    """mAP of the later run minus the earlier one's, paired over the validation images."""
    found = compare(predictions_of(before), predictions_of(after), names=("before", "after"))
    mean = found.differences[0].mean
    return {"mAP": found.mean_aps[1].value, "difference": mean.value, "low": mean.low, "high": mean.high, "p": mean.p}


def one(dataset: Dataset, recipe: Recipe, *, clean: Path, num_looks: int, seed: int, folder: Path) -> dict[str, object]:
    planted = plant(dataset, seed=seed)
    wrong_NC = planted.target_NC != dataset.target_NC
    before = trained(convert(planted, folder / "planted.csv", to="csv"), recipe, folder / "before")
    scored, _ = out_of_fold_of_run(RunFolder(path=before))
    truth = dataset.split("train")
    started = time.perf_counter()
    result: dict[str, object] = {
        "seed": seed,
        "planted": int(wrong_NC.sum()),
        "before": {"mAP": compare(predictions_of(before), predictions_of(clean)).mean_aps[0].value},
        "clean": against(before, clean),
    }
    for name, labels in (
        ("review", most_suspicious(scored, num_looks)),
        ("random", at_random(scored, num_looks, seed=seed)),
    ):
        review(before, scored, truth, labels)
        exported = export_labels(before, folder / f"{name}.csv", options=ReadOptions())
        after = trained(exported.data, recipe, folder / name)
        result[name] = {"looks": len(labels), "wrong_labels_found": len(exported.changes), **against(before, after)}
    print(f"seed {seed}: {time.perf_counter() - started:.0f} s {result}", flush=True)
    return result


def over_seeds(data: Path, recipe: Recipe, *, num_looks: int, seeds: int, folder: Path) -> dict[str, object]:
    dataset = load_dataset(data)
    clean = trained(data, recipe, folder / "clean")
    runs = []
    for seed in range(seeds):
        place = folder / str(seed)
        place.mkdir()
        runs.append(one(dataset, recipe, clean=clean, num_looks=num_looks, seed=seed, folder=place))
    known = int((dataset.split("train").target_NC >= 0).sum())
    summary = {
        name: {
            key: {"mean": statistics.mean(values), "low": min(values), "high": max(values)}
            for key in ("wrong_labels_found", "mAP", "difference")
            if (values := [run[name][key] for run in runs if key in run[name]])
        }
        for name in ("before", "review", "random", "clean")
    }
    return {
        "images": {name: dataset.split_N.count(name) for name in ("train", "val")},
        "classes": len(dataset.label_set),
        "known_training_labels": known,
        "looks": num_looks,
        "n_seeds": seeds,
        "over_seeds": summary,
        "runs": runs,
    }


def scenes_probe(learned: Path | None, folder: Path) -> Recipe:
    """A probe over the network of the demo, which learned on 1,600 scenes that stand in no other part of this measurement."""
    learned = learned or trained(write_scenes(folder / "other-scenes", num_val=100, seed=1), DEMO, folder / "learned")
    return replace(
        PROBE,
        backbone=DEMO.backbone,
        backbone_args=DEMO.backbone_args,
        image_size_px=DEMO.image_size_px,
        weights=str(learned / "best" / "model.safetensors"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--learned", type=Path, help="a finished run of the demo's recipe on other scenes, in place of training one"
    )
    parser.add_argument("--only", choices=["voc-mini", "scenes"])
    options = parser.parse_args()
    keep_freed_memory()  # as the commands do
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for place in ("voc-mini", "scenes"):
            (folder / place).mkdir()
        if not VOC_MINI.is_dir():
            print("no voc-mini photographs beside this checkout (../shared): only the twin")
        elif options.only != "scenes":
            found = over_seeds(VOC_MINI, VOC_PROBE, num_looks=LOOKS["voc-mini"], seeds=options.seeds, folder=folder / "voc-mini")
            keep("voc-mini, mobilenetv2_100 (ImageNet), frozen", found)
        if options.only != "voc-mini":
            probe, scenes = scenes_probe(options.learned, folder), write_scenes(folder / "these-scenes", num_train=400)
            found = over_seeds(scenes, probe, num_looks=LOOKS["scenes"], seeds=options.seeds, folder=folder / "scenes")
            keep("generated scenes, resnet10t of other scenes, frozen", found)


def keep(name: str, found: dict[str, object]) -> None:
    """Add the result of one data set to the file, in the place of an earlier one of it."""
    path = RESULTS / "label_review.json"
    earlier = json.loads(path.read_text())["data"] if path.is_file() else {}
    what = "a review of the most suspicious training labels, by a reviewer who knows; mAP on clean validation labels"
    write("label_review", {"what": what, "share_of_positives_removed_and_added": SHARE, "data": earlier | {name: found}})


if __name__ == "__main__":
    main()
