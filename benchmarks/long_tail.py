"""Whether another order of images helps the long tail: a long-tailed part of voc-mini's training images, heads on frozen features.

Of the 17 classes that can be judged, the k-th keeps at most 100 * 20^(-k / 16) positives, in three orders of the classes by seed.
Class-balanced: each place of an epoch draws a class, then an image of it. Distribution-balanced adds the re-balanced weights of Wu
et al. 2020 (equations 3 to 5, alpha 0.1, beta 10, mu 0.2), by which a label counts less where its image is drawn for another class.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from losses_tried import train_head
from machine import VOC_MINI, write
from partial_labels import RECIPES, features
from polytag import load_dataset
from polytag.metrics.ap import average_precision

NUM_SEEDS = 3
Order = Callable[[int, torch.Generator], Tensor]


def long_tailed(target_NC: np.ndarray, classes: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows that are kept, and the classes from head to tail."""
    rng = np.random.default_rng(seed)
    ordered = rng.permutation(classes)
    limit_of = {column: 100 * 20 ** (-rank / (len(ordered) - 1)) for rank, column in enumerate(ordered)}
    count_of, rows = dict.fromkeys(ordered.tolist(), 0), []
    for row in rng.permutation(len(target_NC)):
        present = [column for column in ordered.tolist() if target_NC[row, column] == 1]
        if present and all(count_of[column] < limit_of[column] for column in present):
            rows.append(row)
            for column in present:
                count_of[column] += 1
    return np.array(rows), ordered


def class_balanced(target_NC: np.ndarray) -> Order:
    rows_of = [torch.from_numpy(np.flatnonzero(target_NC[:, column] == 1)) for column in range(target_NC.shape[1])]
    rows_of = [rows for rows in rows_of if len(rows)]

    def order(num_images: int, generator: torch.Generator) -> Tensor:
        columns = torch.randint(len(rows_of), (num_images,), generator=generator).tolist()
        return torch.stack([rows_of[column][torch.randint(len(rows_of[column]), (), generator=generator)] for column in columns])

    return order


def bce(logit_NC: Tensor, target_NC: Tensor, progress: float) -> Tensor:
    known = (target_NC >= 0).float()
    return (F.binary_cross_entropy_with_logits(logit_NC, target_NC.clamp(min=0), reduction="none") * known).sum() / known.sum()


def rebalanced(target_NC: np.ndarray) -> Callable[[Tensor, Tensor, float], Tensor]:
    rate_C = torch.from_numpy(1 / np.maximum((target_NC == 1).sum(axis=0), 1)).float()

    def loss(logit_NC: Tensor, target_NC: Tensor, progress: float) -> Tensor:
        drawn_N = ((target_NC == 1) * rate_C).sum(dim=1, keepdim=True).clamp(min=1e-6)
        weight_NC = 0.1 + torch.sigmoid(10 * (rate_C / drawn_N - 0.2)) * (target_NC >= 0)
        loss_NC = F.binary_cross_entropy_with_logits(logit_NC, target_NC.clamp(min=0), reduction="none")
        return (loss_NC * weight_NC * (target_NC >= 0)).mean()

    return loss


def main() -> None:
    if not VOC_MINI.is_dir():
        print("skipped: no voc-mini photographs beside this checkout (../shared)")
        return
    parts = features(RECIPES["tf_efficientnet_lite0"], load_dataset(VOC_MINI))
    (feature_ND, train_set), (score_MD, val_set) = parts["train"], parts["val"]
    classes = np.flatnonzero((val_set.target_NC == 1).sum(axis=0) >= 20)
    found: dict[str, list[list[float]]] = {}
    for seed in range(NUM_SEEDS):
        rows, ordered = long_tailed(train_set.target_NC, classes, seed=seed)
        target_NC = np.array(train_set.target_NC[rows])
        balanced = class_balanced(target_NC[:, classes])
        for name, loss, order in (
            ("uniform", bce, None),
            ("class-balanced", bce, balanced),
            ("distribution-balanced", rebalanced(target_NC), balanced),
            ("uniform, re-balanced weights", rebalanced(target_NC), None),
        ):
            logit_NC = train_head(feature_ND[rows], target_NC, score_MD, loss=loss, decay=0.5, seed=seed, epochs=20, order=order)
            ap_C = average_precision(val_set.target_NC, logit_NC)
            thirds = [float(ap_C[part].mean()) for part in np.array_split(ordered, 3)]
            found.setdefault(name, []).append([len(rows), float(ap_C[classes].mean()), *thirds])
            print(seed, name, found[name][-1], flush=True)
    columns = ("images", "mAP of 17 classes", "head", "middle", "tail")
    write(
        "long_tail",
        {
            "what": "voc-mini, long-tailed parts, heads by AdamW on features of tf_efficientnet_lite0, 20 epochs",
            **{name: dict(zip(columns, np.round(np.array(runs), 4).T.tolist(), strict=True)) for name, runs in found.items()},
        },
    )


if __name__ == "__main__":
    main()
