"""What the residual attention of the head `csra` adds to a probe of `concat-pool`, by lambda; on voc-mini, in both directions.

    python benchmarks/attention.py [NAMES...] [--again]

The maps of a frozen backbone are computed once for both halves of the data. The probe is fitted on one half, and its logits for the
other are judged with attention of several lambdas: mAP and the paired difference from none with 95% intervals, and the mean binary
cross-entropy (NLL), with what attention adds on average left in and taken from the biases. What is in the result file is kept.
"""

import argparse
import json
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from machine import RESULTS, SHARED, VOC_MINI, write
from map_heads import maps_of
from partial_labels import RECIPES, predictions_of
from polytag import PROBE, Dataset, compare, load_dataset
from polytag.inference.probe import install_probe
from polytag.metrics.ap import mean_average_precision
from polytag.models import heads
from polytag.models.backbone import build_model
from polytag.models.heads import ConcatPool
from polytag.training.label_policy import label_policy

NAMES = {
    "tf_efficientnet_lite0, 256 px": replace(RECIPES["tf_efficientnet_lite0"], image_size_px=256),
    "mobilenetv2_100, 256 px": replace(RECIPES["mobilenetv2_100"], image_size_px=256),
    "tf_efficientnet_lite2, 384 px": replace(
        PROBE,
        backbone="tf_efficientnet_lite2",
        weights=str(SHARED / "weights" / "tf_efficientnet_lite2.safetensors"),
        image_size_px=384,
    ),
}
LAMBDAS = (0.05, 0.1, 0.2, 0.3, 0.5)


def measured(model: ConcatPool, first: tuple[Dataset, Tensor, np.ndarray], second: tuple[Dataset, Tensor, np.ndarray]) -> dict:
    """Fitted on the first half, judged on the second one."""
    train_set, train_maps, train_ND = first
    val_set, val_maps, val_ND = second
    probe, _ = label_policy(train_set, loss="auto").fit(train_ND, group_N=np.arange(len(train_set)), seed=0)
    install_probe(model, probe)
    with torch.inference_mode():
        linear_NC = model.classifier(torch.from_numpy(val_ND))
        added_NC, in_training_NC = (
            torch.cat([model.attention(part.float()) for part in maps.split(64)]) / heads._ATTENTION  # pyright: ignore[reportPrivateUsage]
            for maps in (val_maps, train_maps)
        )
    plain, found = predictions_of(linear_NC.numpy(), val_set), {"none": judged(linear_NC, val_set)}
    for share in LAMBDAS:
        logit_NC = linear_NC + share * added_NC
        difference = compare(plain, predictions_of(logit_NC.numpy(), val_set)).differences[0].mean
        found[f"{share:g}"] = judged(logit_NC, val_set) | {
            "minus none": {name: round(getattr(difference, name), 4) for name in ("value", "low", "high")},
            "NLL, balanced": judged(logit_NC - share * in_training_NC.mean(0), val_set)["NLL"],
        }
    return found


def judged(logit_NC: Tensor, dataset: Dataset) -> dict[str, float]:
    target_NC = torch.from_numpy(np.array(dataset.target_NC)).float()
    known = target_NC >= 0
    loss = binary_cross_entropy_with_logits(logit_NC[known], target_NC[known])
    return {"mAP": round(mean_average_precision(dataset.target_NC, logit_NC.numpy()), 4), "NLL": round(float(loss), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="such as 'mobilenetv2_100, 256 px'; by default all")
    parser.add_argument("--again", action="store_true", help="also what is in the result file")
    options = parser.parse_args()
    if not VOC_MINI.is_dir():
        print("skipped: no voc-mini photographs beside this checkout (../shared)")
        return
    path = RESULTS / "attention.json"
    kept = json.loads(path.read_text()) if path.is_file() else {}
    dataset = load_dataset(VOC_MINI)
    for name, recipe in NAMES.items():
        if (options.names and name not in options.names) or (name in kept and not options.again):
            continue
        model = build_model(
            recipe.backbone, num_classes=len(dataset.label_set), image_size_px=recipe.image_size_px, weights=recipe.weights,
            backbone_args=dict(recipe.backbone_args), note=print, head="csra",
        ).eval()  # fmt: skip
        assert isinstance(model, ConcatPool)
        train, val = (maps_of(dataset.split(split), model, recipe) for split in ("train", "val"))
        kept[name] = {"train to val": measured(model, train, val), "val to train": measured(model, val, train)}
        print(name, kept[name], flush=True)
        write("attention", {key: value for key, value in kept.items() if key != "machine"})


if __name__ == "__main__":
    main()
