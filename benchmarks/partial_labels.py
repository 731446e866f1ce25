"""How much partial labels cost, and how much of it is won back: voc-mini, frozen features, labels removed at random.

Three ways to remove training labels: half of all are unknown; one positive an image is left and all else is unknown; a fifth of
the positives is labelled absent. Validation has its true labels. The second backbone was not looked at before the method was
fixed. Heads trained by other losses, on the features of the first, say which loss helps; LL-R's shares are also compared by
cross-validation of the training images.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from losses_tried import TRIED, EstimatedLabels, train_head
from machine import SHARED, VOC_MINI, WEIGHTS, write
from polytag import Dataset, Predictions, load_dataset
from polytag.allocator import keep_freed_memory
from polytag.inference.predictor import extract_features
from polytag.metrics.ap import mean_average_precision
from polytag.metrics.recipes import compare_recipes
from polytag.models.backbone import build_model
from polytag.models.device import choose_arithmetic
from polytag.runs.recipe import PROBE, Recipe
from polytag.training.label_policy import label_policy
from polytag.training.preprocessing import preprocessing_of

SEEDS = range(3)
RECIPES = {
    "tf_efficientnet_lite0": replace(
        PROBE, backbone="tf_efficientnet_lite0", weights=str(SHARED / "weights" / "tf_efficientnet_lite0.safetensors")
    ),
    "mobilenetv2_100": replace(PROBE, backbone="mobilenetv2_100", backbone_args={"pad_type": "same"}, weights=str(WEIGHTS)),
}


def half_unknown(dataset: Dataset, seed: int) -> Dataset:
    hidden = np.random.default_rng((seed, 7)).random(dataset.target_NC.shape) < 0.5
    return replace(dataset, target_NC=np.where(hidden, -1, dataset.target_NC).astype(np.int8), absent_means="unknown")


def one_positive(dataset: Dataset, seed: int) -> Dataset:
    rng, target_NC = np.random.default_rng((seed, 7)), np.full(dataset.target_NC.shape, -1, np.int8)
    for row, target_C in enumerate(dataset.target_NC):
        present = np.flatnonzero(target_C == 1)
        if len(present):
            target_NC[row, rng.choice(present)] = 1
    return replace(dataset, target_NC=target_NC, absent_means="unknown")


def fifth_missing(dataset: Dataset, seed: int) -> Dataset:
    missing = (dataset.target_NC == 1) & (np.random.default_rng((seed, 7)).random(dataset.target_NC.shape) < 0.2)
    return replace(dataset, target_NC=np.where(missing, 0, dataset.target_NC).astype(np.int8))


REMOVALS: dict[str, tuple[Callable[[Dataset, int], Dataset], str]] = {  # and the --loss that a user gives
    "half unknown": (half_unknown, "bce"),
    "one positive an image": (one_positive, "auto"),
    "a fifth of the positives missing": (fifth_missing, "ll-r"),
}


def features(recipe: Recipe, dataset: Dataset) -> dict[str, tuple[np.ndarray, Dataset]]:
    model = build_model(
        recipe.backbone, num_classes=len(dataset.label_set), backbone_args=recipe.backbone_args, image_size_px=256,
        weights=recipe.weights, note=print,
    )  # fmt: skip
    found: dict[str, tuple[np.ndarray, Dataset]] = {}
    for split in ("train", "val"):
        part = dataset.split(split)
        feature_ND, rows, _ = extract_features(
            model, part, preprocessing=preprocessing_of(recipe), arithmetic=choose_arithmetic("auto", "auto")
        )
        found[split] = feature_ND, part.take(rows)
    return found


def predictions_of(logit_NC: np.ndarray, dataset: Dataset) -> Predictions:
    return Predictions(
        ids=dataset.ids, logit_NC=logit_NC.astype(np.float32), target_NC=dataset.target_NC, label_set=dataset.label_set
    )


def probe_logits(feature_ND: np.ndarray, train_set: Dataset, score_MD: np.ndarray, *, loss: str, seed: int) -> np.ndarray:
    """By the probe of a run with this --loss."""
    policy = label_policy(train_set, loss=loss)
    probe, _ = policy.fit(feature_ND, group_N=np.arange(len(train_set)), seed=seed)
    return score_MD @ probe.weight_CD.numpy().T + probe.bias_C.numpy()


def probes(parts: dict[str, tuple[np.ndarray, Dataset]]) -> dict[str, object]:
    """mAP with all labels, as given and with what polytag does, and paired differences over seeds and images."""
    (feature_ND, train_set), (score_MD, val_set) = parts["train"], parts["val"]

    def scored(removed: Callable[[Dataset, int], Dataset], loss: str) -> list[Predictions]:
        return [
            predictions_of(probe_logits(feature_ND, removed(train_set, seed), score_MD, loss=loss, seed=seed), val_set)
            for seed in SEEDS
        ]

    def difference(first: list[Predictions], second: list[Predictions]) -> dict[str, float]:
        found = compare_recipes(first, second)
        return {"value": round(found.value, 4), "low": round(found.low, 4), "high": round(found.high, 4)}

    full = scored(lambda dataset, seed: dataset, "auto")
    result: dict[str, object] = {"all labels": _maps(full)}
    for name, (removed, loss) in REMOVALS.items():
        given = scored(removed, "bce")
        found: dict[str, object] = {"--loss bce": _maps(given), "below all labels": difference(given, full)}
        if loss != "bce":
            ours = scored(removed, loss)
            found[f"--loss {loss}"] = _maps(ours)
            found |= {"gained": difference(given, ours), "then below all labels": difference(ours, full)}
        result[name] = found
        print(name, result[name], flush=True)
    doubting = scored(lambda dataset, seed: dataset, "ll-r")
    result["ll-r on all labels"] = {"mAP": _maps(doubting), "below all labels": difference(doubting, full)}
    return result


def _maps(runs: list[Predictions]) -> list[float]:
    return [round(mean_average_precision(run.target_NC, run.logit_NC), 4) for run in runs]


def heads(parts: dict[str, tuple[np.ndarray, Dataset]], *, losses: tuple[str, ...]) -> dict[str, object]:
    """mAP on validation of heads trained by each loss, three seeds; and of LL-R's shares on folds of the training images."""
    (feature_ND, train_set), (score_MD, val_set) = parts["train"], parts["val"]
    mean_positives = float((train_set.target_NC == 1).sum(axis=1).mean())  # which ROLE is told, and no user knows
    result: dict[str, object] = {}
    removals = {name: removed for name, (removed, _) in REMOVALS.items() if name != "half unknown"}
    for name, removed in {**removals, "all labels": lambda dataset, seed: dataset}.items():
        rows: dict[str, object] = {}
        for loss_name in losses if name != "all labels" else ("bce", "ll-r, at most 5%", "two-way", "focal", "asl"):
            maps: list[float] = []
            for seed in SEEDS:
                target_NC = np.array(removed(train_set, seed).target_NC)
                loss = TRIED.get(loss_name) or EstimatedLabels(*target_NC.shape, mean_positives=mean_positives, seed=seed)
                logit_NC = train_head(feature_ND, target_NC, score_MD, loss=loss, decay=0.5, seed=seed)
                maps.append(round(mean_average_precision(val_set.target_NC, logit_NC), 4))
            rows[loss_name] = maps
            print(name, loss_name, maps, flush=True)
        result[name] = rows
    for name, removed in removals.items():
        for loss_name in ("bce", "ll-r, at most 2%", "ll-r, at most 5%", "ll-r, at most 10%"):
            value = cross_validated(feature_ND, train_set, np.array(removed(train_set, 0).target_NC), loss_name)
            result[f"{name}, {loss_name}, cross-validation of the training images"] = value
            print(name, loss_name, value, flush=True)
    return result


def cross_validated(feature_ND: np.ndarray, train_set: Dataset, target_NC: np.ndarray, loss_name: str) -> float:
    """mAP by the true labels of four folds, each scored by a head that learned the partial labels of the others."""
    fold_N = np.random.default_rng(0).permutation(len(train_set)) % 4
    logit_NC = np.zeros(target_NC.shape, np.float32)
    for fold in range(4):
        here = fold_N == fold
        logit_NC[here] = train_head(feature_ND[~here], target_NC[~here], feature_ND[here], loss=TRIED[loss_name], decay=0.5, seed=0)
    return round(mean_average_precision(train_set.target_NC, logit_NC), 4)


def main() -> None:
    keep_freed_memory()
    if not VOC_MINI.is_dir():
        print("skipped: no voc-mini photographs beside this checkout (../shared)")
        return
    dataset = load_dataset(VOC_MINI)
    result: dict[str, object] = {
        "what": "voc-mini, 874 training and 874 validation images, features at 256 px",
        "seeds": len(SEEDS),
    }
    of_backbones: dict[str, object] = {}
    for backbone, recipe in RECIPES.items():
        parts = features(recipe, dataset)
        losses = (*TRIED, "role") if backbone == "tf_efficientnet_lite0" else ("bce", "ll-r, at most 5%")
        of_backbones[backbone] = {"probe": probes(parts), "heads by AdamW": heads(parts, losses=losses)}
    write("partial_labels", {**result, **of_backbones})


if __name__ == "__main__":
    main()
