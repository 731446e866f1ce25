"""What was tried in fine-tuning beside `finetune`: mixup, CutMix, RandAugment, SAM, other rates and crops, averages; on voc-mini.

    python benchmarks/training_tried.py [--variants mixup-area sam] [--seeds 0 1 2] [--size 192] [--epochs 4]

Each run is a whole training of EfficientNet Lite 0 in this process, by the recipe `finetune` with one thing changed: it starts from
the probe's head. It is compared with plain fine-tuning of the same seeds, over seeds and images; of one seed over images alone.
`mAP` is that of the best epoch, the probe included, which a user gets; `epochs` begin with the probe. Runs are kept one by one; a
run whose scores are in the folder `--scores` is not repeated.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms import v2

from machine import RESULTS, SHARED, VOC_MINI, write
from polytag import FINETUNE, Predictions, Recipe, compare, load_dataset, read_predictions, train
from polytag.inference.predictor import score_dataset
from polytag.metrics.ap import mean_average_precision
from polytag.metrics.recipes import compare_recipes
from polytag.models.checkpoint import Checkpoint
from polytag.models.device import choose_arithmetic
from polytag.predictions.table import write_predictions
from polytag.runs.folder import RunFolder
from polytag.training.callback import SilentCallback
from polytag.training.preprocessing import preprocessing_of
from polytag.training.step import Step

PLAIN = "plain"
Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
_plain_step = Step._add_gradients  # pyright: ignore[reportPrivateUsage]  what is tried goes around it


def mixed_targets(target_NC: Tensor, other_NC: Tensor, share: float, *, is_union: bool) -> Tensor:
    """By area: the shares of both; by union: what either image has. Unknown where either is."""
    both = torch.maximum(target_NC, other_NC) if is_union else share * target_NC + (1 - share) * other_NC
    return torch.where((target_NC < 0) | (other_NC < 0), -1.0, both)


def mixup(*, is_union: bool) -> Mix:
    """Zhang and others, ICLR 2018; alpha 0.2."""

    def mix(pixels: Tensor, target_NC: Tensor) -> tuple[Tensor, Tensor]:
        order, share = torch.randperm(len(pixels)), float(torch.distributions.Beta(0.2, 0.2).sample())
        return share * pixels + (1 - share) * pixels[order], mixed_targets(target_NC, target_NC[order], share, is_union=is_union)

    return mix


def cutmix(*, is_union: bool) -> Mix:
    """Yun and others, ICCV 2019; alpha 1, half of the batches."""

    def mix(pixels: Tensor, target_NC: Tensor) -> tuple[Tensor, Tensor]:
        if float(torch.rand(())) < 0.5:
            return pixels, target_NC
        order, side = torch.randperm(len(pixels)), pixels.shape[-1]
        cut = int(side * (1 - float(torch.rand(()))) ** 0.5)
        top, left = (int(torch.randint(0, side - cut + 1, ())) for _ in range(2))
        pixels = pixels.clone()
        pixels[:, :, top : top + cut, left : left + cut] = pixels[order][:, :, top : top + cut, left : left + cut]
        share = 1 - cut**2 / side**2
        return pixels, mixed_targets(target_NC, target_NC[order], share, is_union=is_union)

    return mix


def mixing(mix: Mix) -> Callable[..., tuple[Tensor, Tensor]]:
    def step(self: Step, inputs: tuple[Tensor, ...], target_NC: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        pixels, mixed_NC = mix(self.pixels(*inputs), target_NC.float())
        return _plain_step(replace(self, pixels=lambda: pixels), (), mixed_NC, scale)

    return step


def smaller(share: float) -> Mix:
    """Trained on smaller images than it is scored on (FixRes, Touvron and others, NeurIPS 2019)."""

    def mix(pixels: Tensor, target_NC: Tensor) -> tuple[Tensor, Tensor]:
        side = int(pixels.shape[-1] * share / 32 + 0.5) * 32
        return torch.nn.functional.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True), target_NC

    return mix


def sam(radius: float) -> Callable[..., tuple[Tensor, Tensor]]:
    """Sharpness-aware minimisation (Foret and others, ICLR 2021): the gradient of the worst weights nearby, two passes."""

    def step(self: Step, inputs: tuple[Tensor, ...], target_NC: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        pixels = self.pixels(*inputs)
        fixed = replace(self, pixels=lambda: pixels)
        result = _plain_step(fixed, (), target_NC, scale)
        weights = [each for each in self.model.parameters() if each.grad is not None]
        moves = [each.grad.clone() for each in weights if each.grad is not None]
        norm = torch.stack([each.norm() for each in moves]).norm() + 1e-12
        with torch.no_grad():
            for weight, move in zip(weights, moves, strict=True):
                weight.add_(move, alpha=float(radius / norm))
                weight.grad = None
        _plain_step(fixed, (), target_NC, scale)
        with torch.no_grad():
            for weight, move in zip(weights, moves, strict=True):
                weight.sub_(move, alpha=float(radius / norm))
        return result

    return step


STEPS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "mixup-area": mixing(mixup(is_union=False)),
    "mixup-union": mixing(mixup(is_union=True)),
    "cutmix-area": mixing(cutmix(is_union=False)),
    "cutmix-union": mixing(cutmix(is_union=True)),
    "sam": sam(0.05),
    "three quarters of the size": mixing(smaller(0.75)),
}
RECIPES: dict[str, dict[str, object]] = {
    PLAIN: {},
    "light": {"augment": "light"},
    "no augmentation": {"augment": "none"},
    "a third of the rates": {"head_lr": 2e-4 / 3, "backbone_lr": 1e-4 / 3},
    "three times the rates": {"head_lr": 6e-4, "backbone_lr": 3e-4},
    "finetune of 2026-11-27": {"head": "linear", "batch_norm": "batch", "head_lr": 2e-3, "backbone_lr": 3e-4},
}
HALFWAY = "halfway to the probe"
VARIANTS = (*RECIPES, HALFWAY, *STEPS, "randaugment")


@contextmanager
def changed(variant: str) -> Iterator[None]:
    Step._add_gradients = STEPS.get(variant, _plain_step)  # pyright: ignore[reportPrivateUsage]
    try:
        yield
    finally:
        Step._add_gradients = _plain_step  # pyright: ignore[reportPrivateUsage]


def one(variant: str, seed: int, scores: Path, options: argparse.Namespace) -> dict[str, object]:
    recipe = replace(
        FINETUNE, backbone=options.backbone, weights=str(SHARED / "weights" / f"{options.backbone}.safetensors"),
        image_size_px=options.size, epochs=options.epochs, precision=options.precision, seed=seed, **RECIPES.get(variant, {}),
    )  # fmt: skip
    # RandAugment (Cubuk and others, CVPR 2020) at its defaults, with the crop and mirror of `standard`
    randaugment = v2.Compose([v2.RandomResizedCrop(options.size, scale=(0.4, 1.0)), v2.RandomHorizontalFlip(), v2.RandAugment()])
    torch.manual_seed(seed)
    with changed(variant), tempfile.TemporaryDirectory() as folder:
        own = {"augment": randaugment} if variant == "randaugment" else {}
        run = train(VOC_MINI, recipe=recipe, output=Path(folder) / "run", callbacks=[SilentCallback()], **own)
        table = (run.folder.path / "predictions-val.parquet").read_bytes()
        rows = [line.split(",") for line in run.folder.results.read_text().splitlines()]
        if variant == PLAIN:
            write_predictions(
                halfway(run.folder, recipe, Path(folder)),
                scores.with_name(scores.name.replace(PLAIN, HALFWAY.replace(" ", "-"), 1)),
            )
    scores.write_bytes(table)
    column = rows[0].index("val_map")
    mean_ap = run.metrics.mean_ap.value
    return {"variant": variant, "seed": seed, "mAP": round(mean_ap, 4), "epochs": [float(row[column]) for row in rows[1:]]}


def halfway(run: RunFolder, recipe: Recipe, folder: Path) -> Predictions:
    """Scores of the mean of the last weights and those that the training began with (WiSE-FT, Wortsman and others, 2022)."""
    begun = train(VOC_MINI, recipe=replace(recipe, epochs=0), output=folder / "begun", callbacks=[SilentCallback()]).folder
    first, last = Checkpoint.read(begun.best).load_model(), Checkpoint.read(run.path / "last").load_model()
    values, model = first.state_dict(), last.state_dict()
    last.load_state_dict(
        {name: (value + values[name]) / 2 if value.is_floating_point() else value for name, value in model.items()}
    )
    arithmetic = choose_arithmetic(recipe.device, recipe.precision)
    return score_dataset(last, load_dataset(VOC_MINI).split("val"), preprocessing=preprocessing_of(recipe), arithmetic=arithmetic)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--backbone", default="tf_efficientnet_lite0", choices=["tf_efficientnet_lite0", "tf_efficientnet_lite2"])
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--scores", type=Path, default=Path(tempfile.gettempdir()) / "polytag-training-tried")
    options = parser.parse_args()
    if not VOC_MINI.is_dir():
        print("skipped: no voc-mini photographs beside this checkout (../shared)")
        return
    options.scores.mkdir(parents=True, exist_ok=True)
    path = RESULTS / "training_tried.json"
    kept = json.loads(path.read_text()) if path.is_file() else {"runs": [], "minus plain": {}}
    kept.pop("machine", None)
    for seed in options.seeds:
        for variant in options.variants:
            scores = scores_path(variant, seed, options)
            if variant == HALFWAY and scores.is_file():
                found = read_predictions(scores)
                run = {"variant": HALFWAY, "seed": seed, "mAP": round(mean_average_precision(found.target_NC, found.logit_NC), 4)}
            elif variant != HALFWAY and not scores.is_file():
                run = one(variant, seed, scores, options)
            else:
                continue
            run |= {"backbone": options.backbone, "size_px": options.size, "num_epochs": options.epochs}
            print(run, flush=True)
            kept["runs"] = [each for each in kept["runs"] if identity(each) != identity(run)] + [run]
            kept["minus plain"][f"{options.backbone}, {options.size} px, {options.epochs} epochs"] = {
                each: found for each in VARIANTS if (found := minus_plain(each, options)) is not None
            }
            write("training_tried", kept)


def scores_path(variant: str, seed: int, options: argparse.Namespace) -> Path:
    return options.scores / f"{variant.replace(' ', '-')}-{options.backbone}-{options.size}-{options.epochs}-{seed}.parquet"


def minus_plain(variant: str, options: argparse.Namespace) -> dict[str, float] | None:
    """The paired difference of what has run so far."""
    pairs = [[scores_path(each, seed, options) for seed in options.seeds] for each in (PLAIN, variant)]
    pairs = [pair for pair in zip(*pairs, strict=True) if all(path.is_file() for path in pair)]
    if variant == PLAIN or not pairs:
        return None
    first, second = ([read_predictions(path) for path in paths] for paths in zip(*pairs, strict=True))
    found = compare_recipes(first, second) if len(pairs) > 1 else compare(*first, *second).differences[0].mean
    return {"seeds": len(pairs), "value": round(found.value, 4), "low": round(found.low, 4), "high": round(found.high, 4)}


def identity(run: dict) -> tuple:
    return tuple(run[name] for name in ("variant", "seed", "backbone", "size_px", "num_epochs"))


if __name__ == "__main__":
    main()
