"""How well the optimism of the best epoch is estimated: simulated epochs whose true values are known, and the estimate's excess.

In each setting, 300 images of 8 classes with 15% positives are scored by several "epochs" with a share of noise in common. The
true optimism is the mean excess of the best mAP over the expected mAP of that epoch at this number of images, from all draws.
Beside polytag's estimate stands Efron's (1983), which takes the values as the truth.
"""

import numpy as np

from machine import write
from polytag.contracts import LabelSet, Predictions
from polytag.metrics.ap import mean_average_precision
from polytag.metrics.optimism import optimism_of_best, replicate_map

NUM_IMAGES, NUM_CLASSES, NUM_DRAWS = 300, 8, 60
SETTINGS = {  # the strength of the labels in the scores of each epoch
    "10 epochs that know nothing": [0.0] * 10,
    "10 alike": [1.5] * 10,
    "30 alike": [1.7] * 30,
    "1 worse, 9 alike": [1.2] + [1.5] * 9,
    "10 that rise a little": list(np.linspace(1.4, 1.6, 10)),
    "10 that rise": list(np.linspace(1.0, 1.6, 10)),
    "2 nearly alike": [1.5, 1.55],
    "2, one far better": [1.0, 2.0],
}
NAMES = LabelSet(names=tuple(f"class {number}" for number in range(NUM_CLASSES)))


def draw(strengths: list[float], *, shared: float, rng: np.random.Generator) -> list[Predictions]:
    target_NC = (rng.random((NUM_IMAGES, NUM_CLASSES)) < 0.15).astype(np.int8)
    common = np.sqrt(shared) * rng.normal(size=target_NC.shape)
    own = [np.sqrt(1 - shared) * rng.normal(size=target_NC.shape) for _ in strengths]
    ids = tuple(map(str, range(NUM_IMAGES)))
    scores = [strength * target_NC + common + noise for strength, noise in zip(strengths, own, strict=True)]
    return [Predictions(ids=ids, logit_NC=score_NC.astype(np.float32), target_NC=target_NC, label_set=NAMES) for score_NC in scores]


def efron(value_E: np.ndarray, replicate_EB: np.ndarray) -> float:
    best_B = replicate_EB.argmax(axis=0)
    excess = (replicate_EB - replicate_EB.mean(axis=0)) - (value_E - value_E.mean())[:, None]
    return float(excess[best_B, np.arange(len(best_B))].mean())


def one(strengths: list[float], *, shared: float) -> dict[str, float]:
    rng = np.random.default_rng(0)
    value_DE, own, by_efron = [], [], []
    for _ in range(NUM_DRAWS):
        epochs = draw(strengths, shared=shared, rng=rng)
        value_DE.append([mean_average_precision(each.target_NC, each.logit_NC) for each in epochs])
        replicate_EB = np.stack([replicate_map(each) for each in epochs])
        own.append(optimism_of_best(np.array(value_DE[-1]), replicate_EB))
        by_efron.append(efron(np.array(value_DE[-1]), replicate_EB))
    value = np.array(value_DE)
    deviation = value - value.mean(axis=0)
    best = value.argmax(axis=1)
    true = deviation[np.arange(NUM_DRAWS), best] - deviation.mean(axis=1)
    return {
        "true": round(float(true.mean()), 4),
        "standard_error": round(float(true.std() / np.sqrt(NUM_DRAWS)), 4),
        "estimated": round(float(np.mean(own)), 4),
        "efron_1983": round(float(np.mean(by_efron)), 4),
    }


def main() -> None:
    found = {}
    for name, strengths in SETTINGS.items():
        for shared in (0.5, 0.95):
            found[f"{name}; {shared:.0%} of the noise in common"] = one(strengths, shared=shared)
            print(name, shared, found[f"{name}; {shared:.0%} of the noise in common"], flush=True)
    write("optimism", {"what": f"{NUM_IMAGES} images, {NUM_CLASSES} classes, {NUM_DRAWS} draws", "settings": found})


if __name__ == "__main__":
    main()
