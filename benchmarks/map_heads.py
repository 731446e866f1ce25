"""Heads on the places of a frozen backbone's maps, beside `concat-pool` by the probe; and BoostLU for partial labels.

    python benchmarks/map_heads.py [NAMES...] [--again] [--exchanged] [--backbone tf_efficientnet_lite2] [--size 384]

The maps of EfficientNet Lite 0 at 256 px on voc-mini, the last one and the expanded one, are computed once and kept in float16:
64 places of 2,432 channels; or those of another backbone and size. Heads with attention read 384 principal axes of the training
images' places. A head is trained alone, and added to the probe's logits: in training to the out-of-fold ones, so that it learns
what the probe misses on images that it has not seen. Rate and number of epochs are those of the best mAP of one fold of the
training images, held out. Three seeds each are then compared with the probe, paired, on the validation images, which decide
nothing. What is in the result file is kept.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from heads_tried import ATTENTION, HEADS_TRIED, Boosted, Inputs, Linear, Made, boosted_mean, known_labels, scores, training
from losses_tried import TRIED, Tried
from machine import RESULTS, SHARED, VOC_MINI, write
from partial_labels import SEEDS, one_positive, predictions_of
from polytag import PROBE, Dataset, Predictions, Recipe, load_dataset
from polytag.allocator import keep_freed_memory
from polytag.inference.predictor import run
from polytag.inference.probe import Probe, folds_of, standardisation
from polytag.metrics.ap import mean_average_precision
from polytag.metrics.recipes import compare_recipes
from polytag.models.backbone import build_model
from polytag.models.device import choose_arithmetic
from polytag.models.heads import ConcatPool
from polytag.training.label_policy import label_policy
from polytag.training.preprocessing import preprocessing_of

NUM_AXES, MOST_EPOCHS, PATIENCE = 384, 12, 3
RATES, ATTENTION_RATES = (3e-4, 1e-3), (1e-3, 3e-3)
ALPHAS = (1.0, 2.0, 5.0)  # 5 is the paper's
BOOSTED_EPOCHS, BOOSTED_RATE = 10, 2.6e-4  # those of polytag's own trained probe for so many features


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """Images of a split with what heads read of them; `feature_NF` is that of the probe, not standardised."""

    dataset: Dataset
    feature_NF: np.ndarray
    inputs: Inputs

    def take(self, rows: np.ndarray) -> "Images":
        inputs = {name: tensor[torch.from_numpy(rows)] for name, tensor in self.inputs.items()}
        return Images(dataset=self.dataset.take(rows), feature_NF=self.feature_NF[rows], inputs=inputs)

    def labelled(self, dataset: Dataset) -> "Images":
        return replace(self, dataset=dataset)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scale:
    """How features are standardised, as by the probe; `mean_columns` are the means of the maps' channels, `top` their maxima."""

    mean_F: Tensor
    scale_F: Tensor
    mean_columns: Tensor
    top: slice


def maps_of(dataset: Dataset, model: ConcatPool, recipe: Recipe) -> tuple[Dataset, Tensor, np.ndarray]:
    """The images that can be read, their maps N x D x h x w in float16, and the features of concat pooling."""
    found = list(
        run(
            lambda pixels: model.forward_features(pixels).flatten(1), dataset.paths,
            preprocessing=preprocessing_of(recipe), arithmetic=choose_arithmetic("auto", "auto"),
        )
    )  # fmt: skip
    found.sort(key=lambda scored: int(scored.rows[0]))
    flat = torch.cat([torch.from_numpy(scored.output_ND).half() for scored in found])
    assert recipe.image_size_px is not None
    side = recipe.image_size_px // 32
    map_NDhw = flat.unflatten(1, (model.num_features, side, side))
    with torch.inference_mode():
        feature_NF = torch.cat([model.forward_head(part.float(), pre_logits=True) for part in map_NDhw.split(64)]).numpy()
    return dataset.take(np.concatenate([scored.rows for scored in found])), map_NDhw, feature_NF


def prepared(splits: tuple[str, str], recipe: Recipe) -> tuple[Images, Images, Scale]:
    """The images of a split to train on and of one that judges, standardised by the former."""
    dataset = load_dataset(VOC_MINI)
    model = build_model(
        recipe.backbone,
        num_classes=len(dataset.label_set),
        image_size_px=recipe.image_size_px,
        weights=recipe.weights,
        note=print,
        head="concat-pool",
    ).eval()
    assert isinstance(model, ConcatPool)
    sets, maps, features = zip(*(maps_of(dataset.split(split), model, recipe) for split in splits), strict=True)
    mean_F, scale_F = standardisation(torch.from_numpy(features[0]))
    own, channels = model.num_own, model.num_features
    columns = torch.cat([torch.arange(own), torch.arange(own + channels, len(mean_F))])
    scale = Scale(mean_F=mean_F, scale_F=scale_F, mean_columns=columns, top=slice(own, own + channels))
    mean_D, scale_D = mean_F[columns, None], scale_F[columns, None]
    standard = [
        torch.cat([((part.flatten(2).float() - mean_D) / scale_D).transpose(1, 2).half() for part in each.split(64)])
        for each in maps
    ]
    axis_DK = principal_axes(standard[0])
    images = [
        Images(
            dataset=part, feature_NF=feature_NF,
            inputs={
                "maps": map_NPD, "places": torch.cat([each.float() @ axis_DK for each in map_NPD.split(64)]),
                "features": (torch.from_numpy(feature_NF) - mean_F) / scale_F,
            },
        )
        for part, feature_NF, map_NPD in zip(sets, features, standard, strict=True)
    ]  # fmt: skip
    return images[0], images[1], scale


def principal_axes(map_NPD: Tensor) -> Tensor:
    """D x K, of the places; along each the places of the training images have variance 1."""
    product, num_places = torch.zeros(map_NPD.shape[2], map_NPD.shape[2]), map_NPD.shape[0] * map_NPD.shape[1]
    for part in map_NPD.split(64):
        flat = part.flatten(0, 1).float()
        product += flat.T @ flat
    variance, axes = torch.linalg.eigh(product / num_places)  # the mean is 0 by standardisation
    print(f"{NUM_AXES} axes hold {variance[-NUM_AXES:].sum() / variance.sum():.3f} of the variance", flush=True)
    return axes[:, -NUM_AXES:] / variance[-NUM_AXES:].sqrt()


def targets_of(images: Images) -> np.ndarray:
    """What is learned: the labels, of one positive an image the others absent."""
    return np.array(label_policy(images.dataset, loss="auto").target_NC)


def probe_of(images: Images, *, seed: int) -> Probe:
    return label_policy(images.dataset, loss="auto").fit(images.feature_NF, group_N=np.arange(len(images.dataset)), seed=seed)[0]


def probe_scores(probe: Probe, images: Images) -> Tensor:
    return torch.from_numpy(images.feature_NF) @ probe.weight_CD.T + probe.bias_C


@dataclass(frozen=True, kw_only=True, eq=False)
class Bases:
    """Training images and others that are scored, each with the logits that a head is added to."""

    train: Images
    others: Images
    train_NC: Tensor
    other_NC: Tensor

    @classmethod
    def of(cls, train: Images, others: Images, probe: Probe | None) -> "Bases":
        """Those of the probe, for training images out of fold; without one the log-odds of the classes."""
        if probe is not None:
            out_of_fold = torch.from_numpy(probe.held_out_logit_NC)
            return cls(train=train, others=others, train_NC=out_of_fold, other_NC=probe_scores(probe, others))
        target_NC = targets_of(train)
        share_C = ((target_NC == 1).sum(axis=0) + 0.5) / ((target_NC >= 0).sum(axis=0) + 1)
        train_NC, other_NC = (
            torch.logit(torch.from_numpy(share_C).float()).repeat(len(each.dataset), 1) for each in (train, others)
        )
        return cls(train=train, others=others, train_NC=train_NC, other_NC=other_NC)

    def training(self, made: Made, *, rate: float, seed: int, epochs: int, loss: Tried = known_labels) -> Iterator[torch.nn.Module]:
        """See `heads_tried.training`."""
        target_NC = torch.from_numpy(targets_of(self.train)).float()
        return training(made, self.train.inputs, self.train_NC, target_NC, rate=rate, seed=seed, epochs=epochs, loss=loss)

    def scores(self, head: torch.nn.Module) -> np.ndarray:
        return scores(head, self.others.inputs, self.other_NC)


def chosen(made: Made, bases: Bases) -> tuple[float, int, dict[str, float]]:
    """Rate and epochs with the best mAP of the held-out images, and that mAP by rate. Heads with attention begin slowly."""
    best, by_rate = (-1.0, 0.0, 0), {}
    rates, patience = (RATES, PATIENCE) if made not in ATTENTION.values() else (ATTENTION_RATES, MOST_EPOCHS)
    for rate in rates:
        best_here, best_epoch = -1.0, 0
        for epoch, head in enumerate(bases.training(made, rate=rate, seed=0, epochs=MOST_EPOCHS), start=1):
            value = mean_average_precision(bases.others.dataset.target_NC, bases.scores(head))
            if value > best_here:
                best_here, best_epoch = value, epoch
            elif epoch >= best_epoch + patience:
                break
        by_rate[f"{rate:g}, {best_epoch} of {epoch} epochs"] = round(best_here, 4)
        best = max(best, (best_here, rate, best_epoch))
    return best[1], best[2], by_rate


def judged(made: Made, held_out: Bases, of_seeds: list[Bases], beside: dict[str, list[Predictions]]) -> dict[str, object]:
    """A head's choices on training images, its mAP on validation, and the paired differences from what is `beside` it."""
    rate, epochs, by_rate = chosen(made, held_out)
    started, runs = time.process_time(), list[Predictions]()
    for seed, bases in zip(SEEDS, of_seeds, strict=True):
        *_, head = islice(bases.training(made, rate=rate, seed=seed, epochs=epochs), epochs)
        runs.append(predictions_of(bases.scores(head), bases.others.dataset))
    seconds = (time.process_time() - started) / len(of_seeds)
    differences = {f"minus {name}": difference(others, runs) for name, others in beside.items()}
    if made is Linear:
        beside["linear, trained"] = runs
    at_start = mean_average_precision(held_out.others.dataset.target_NC, held_out.other_NC.numpy())
    return {
        "held out, of the start": round(at_start, 4),
        "held out by rate": by_rate,
        "mAP": maps(runs),
        **differences,
        "processor seconds of a training": round(seconds, 1),
    }


def maps(runs: list[Predictions]) -> list[float]:
    return [round(mean_average_precision(run.target_NC, run.logit_NC), 4) for run in runs]


def difference(first: list[Predictions], second: list[Predictions]) -> dict[str, float]:
    found = compare_recipes(first, second)
    return {"value": round(found.value, 4), "low": round(found.low, 4), "high": round(found.high, 4)}


def boosted_probe(probe: Probe, images: Images, scale: Scale, *, alpha: float, is_raw: bool) -> np.ndarray:
    """Logits of the probe whose class activation maps are boosted: of raw channels, or of their difference from the mean image."""
    weight_CD = probe.weight_CD[:, scale.mean_columns]
    mean_C = weight_CD @ scale.mean_F[scale.mean_columns]
    rest_NC = probe_scores(probe, images) - torch.from_numpy(images.feature_NF)[:, scale.mean_columns] @ weight_CD.T
    standard_CD = torch.where(torch.isinf(scale.scale_F[scale.mean_columns]), 0.0, weight_CD * scale.scale_F[scale.mean_columns])
    activation = [part.float() @ standard_CD.T + mean_C * is_raw for part in images.inputs["maps"].split(64)]
    boosted_NC = torch.cat([boosted_mean(each, alpha=alpha) for each in activation])
    return (boosted_NC + rest_NC + mean_C * (not is_raw)).numpy()


Removed = Callable[[Dataset, int], Dataset]


def boosted_in_scoring(train: Images, val: Images, scale: Scale, removed: Removed) -> dict[str, object]:
    """BoostLU on the fitted probe; alpha 1 is the probe. Held-out mAP is by the labels that are given."""
    rest, out = folds(train.labelled(removed(train.dataset, 0)))
    held_out, given_NC = probe_of(rest, seed=0), targets_of(out)
    probes = [probe_of(train.labelled(removed(train.dataset, seed)), seed=seed) for seed in SEEDS]
    plain = [predictions_of(probe_scores(probe, val).numpy(), val.dataset) for probe in probes]
    result: dict[str, object] = {"probe": maps(plain)}
    for is_raw in (True, False):
        for alpha in ALPHAS[1:]:
            value = mean_average_precision(given_NC, boosted_probe(held_out, out, scale, alpha=alpha, is_raw=is_raw))
            runs = [
                predictions_of(boosted_probe(probe, val, scale, alpha=alpha, is_raw=is_raw), val.dataset) for probe in probes
            ]  # fmt: skip
            result[f"alpha {alpha:g}, {'raw channels' if is_raw else 'channels less their mean'}"] = {
                "held out": round(value, 4), "mAP": maps(runs), "minus the probe": difference(plain, runs)
            }  # fmt: skip
    result["held out, of the probe"] = round(mean_average_precision(given_NC, probe_scores(held_out, out).numpy()), 4)
    return result


def boosted_in_training(train: Images, val: Images, scale: Scale, removed: Removed, loss: Tried) -> dict[str, object]:
    """Heads trained with BoostLU, beside the same head with alpha 1."""
    rest, out = folds(train.labelled(removed(train.dataset, 0)))
    given_NC, found, plain = targets_of(out), dict[str, object](), list[Predictions]()
    for alpha in ALPHAS:

        def made(inputs: Inputs, num_classes: int, alpha: float = alpha) -> torch.nn.Module:
            return Boosted(inputs, num_classes, alpha=alpha, top=scale.top)

        def scored(bases: Bases, seed: int, made: Made = made) -> np.ndarray:
            *_, head = bases.training(made, rate=BOOSTED_RATE, seed=seed, epochs=BOOSTED_EPOCHS, loss=loss)
            return bases.scores(head)

        value = mean_average_precision(given_NC, scored(Bases.of(rest, out, None), 0))
        parts = [train.labelled(removed(train.dataset, seed)) for seed in SEEDS]
        runs = [
            predictions_of(scored(Bases.of(part, val, None), seed), val.dataset) for seed, part in zip(SEEDS, parts, strict=True)
        ]
        plain = plain or runs
        found[f"alpha {alpha:g}"] = {"held out": round(value, 4), "mAP": maps(runs)}
        if runs is not plain:
            found[f"alpha {alpha:g}"] |= {"minus alpha 1": difference(plain, runs)}  # pyright: ignore[reportOperatorIssue]
        print(found, flush=True)
    return found


def folds(train: Images) -> tuple[Images, Images]:
    """Three quarters of the training images, and the rest, which is held out."""
    is_out_N = folds_of(np.arange(len(train.dataset)), seed=11) == 0
    return train.take(np.flatnonzero(~is_out_N)), train.take(np.flatnonzero(is_out_N))


REMOVED: dict[str, tuple[Removed, Tried]] = {
    "all labels": (lambda dataset, seed: dataset, known_labels),
    "one positive an image": (one_positive, TRIED["ll-r, at most 5%"]),
}


def measurements(splits: tuple[str, str], recipe: Recipe) -> dict[str, Callable[[], dict[str, object]]]:
    """What is measured, by name, each when it is asked for."""
    train, val, scale = prepared(splits, recipe)
    rest, out = folds(train)
    of_rest, probes = probe_of(rest, seed=0), [probe_of(train, seed=seed) for seed in SEEDS]
    reference = [predictions_of(probe_scores(probe, val).numpy(), val.dataset) for probe in probes]
    found: dict[str, Callable[[], dict[str, object]]] = {
        "concat-pool by the probe": lambda: {
            "held out": round(mean_average_precision(out.dataset.target_NC, probe_scores(of_rest, out).numpy()), 4),
            "mAP": maps(reference),
        }
    }
    for name, (removed, loss) in REMOVED.items():
        found[f"BoostLU in scoring, {name}"] = partial(boosted_in_scoring, train, val, scale, removed)
        found[f"BoostLU in training, {name}"] = partial(boosted_in_training, train, val, scale, removed, loss)
    for is_added in (True, False):
        held_out = Bases.of(rest, out, of_rest if is_added else None)
        of_seeds, beside = [Bases.of(train, val, probe if is_added else None) for probe in probes], {"the probe": reference}
        for name, made in (HEADS_TRIED | ATTENTION).items():
            found[f"{name}{', added to the probe' * is_added}"] = partial(judged, made, held_out, of_seeds, beside)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="such as 'CSRA'; by default all")
    parser.add_argument("--again", action="store_true", help="also what is in the result file")
    parser.add_argument("--exchanged", action="store_true", help="train on the validation images, and judge on the training images")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0", choices=["tf_efficientnet_lite0", "tf_efficientnet_lite2"])
    parser.add_argument("--size", type=int, default=256)
    options = parser.parse_args()
    if not VOC_MINI.is_dir():
        print("skipped: no voc-mini photographs beside this checkout (../shared)")
        return
    keep_freed_memory()
    recipe = replace(
        PROBE, backbone=options.backbone, weights=str(SHARED / "weights" / f"{options.backbone}.safetensors"),
        image_size_px=options.size,
    )  # fmt: skip
    path, key = RESULTS / "map_heads.json", "halves exchanged" if options.exchanged else "results"
    if (options.backbone, options.size) != ("tf_efficientnet_lite0", 256):
        key += f", {options.backbone}, {options.size} px"
    kept = json.loads(path.read_text()) if path.is_file() else {}
    known, splits = kept.setdefault(key, {}), ("val", "train") if options.exchanged else ("train", "val")
    for name, measure in measurements(splits, recipe).items():
        if (not options.names or name in options.names) and (options.again or name not in known):
            known[name] = measure()
            kept = {"what": "EfficientNet Lite 0 at 256 px, voc-mini, 874 and 874 images, 3 seeds"} | kept
            write("map_heads", {each: value for each, value in kept.items() if each != "machine"})


if __name__ == "__main__":
    main()
