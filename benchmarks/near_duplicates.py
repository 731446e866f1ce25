"""What the search for near duplicates finds: versions of 300 photographs of voc-mini, planted among all 1,748; and its speed.

Each version is made from the decoded picture and written as a JPEG of quality 75 unless the name says otherwise; the search sees
all photographs and the versions, and is asked for pairs of the two. A pair is right where it joins a version with its own picture.
Speed is that of 100,000 made-up fingerprints whose hashes are spread as those of photographs are: bits that agree with probability
1/2, and one in ten a version of another.
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps

from machine import VOC_MINI, write
from polytag import load_dataset
from polytag.data.near_duplicates import (
    RADIUS,
    SAME_DETAIL,
    Fingerprints,
    candidate_pairs,
    fingerprints_of,
    near_pairs,
    small_copy,
)
from polytag.data.pictures import read_picture

NUM_PLANTED = 300


def saved(picture: Image.Image, *, kind: str = "JPEG", quality: int = 75) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, kind, quality=quality)
    return Image.open(io.BytesIO(file.getvalue())).convert("RGB")


def resized(picture: Image.Image, scale: float) -> Image.Image:
    width, height = (max(8, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def cropped(picture: Image.Image, share: float, rng: np.random.Generator) -> Image.Image:
    """Both sides shorter by this share, somewhere inside."""
    width, height = (round(side * (1 - share)) for side in picture.size)
    left, top = (int(rng.integers(0, side - part + 1)) for side, part in zip(picture.size, (width, height), strict=True))
    return picture.crop((left, top, left + width, top + height))


def versions(rng: np.random.Generator) -> dict[str, Callable[[Image.Image], Image.Image]]:
    return {
        "JPEG of quality 30": lambda picture: saved(picture, quality=30),
        "WebP of quality 40": lambda picture: saved(picture, kind="WEBP", quality=40),
        "half the size": lambda picture: saved(resized(picture, 0.5)),
        "a quarter of the size": lambda picture: saved(resized(picture, 0.25)),
        "one and a half times the size": lambda picture: saved(resized(picture, 1.5)),
        "brighter by a fifth": lambda picture: saved(picture.point(lambda level: min(255, round(level * 1.2)))),
        "without colour": lambda picture: saved(picture.convert("L").convert("RGB")),
        "mirrored": lambda picture: saved(ImageOps.mirror(picture)),
        "mirrored at half the size": lambda picture: saved(resized(ImageOps.mirror(picture), 0.5)),
        "cropped by 2%": lambda picture: saved(cropped(picture, 0.02, rng)),
        "cropped by 5%": lambda picture: saved(cropped(picture, 0.05, rng)),
        "cropped by 10%": lambda picture: saved(cropped(picture, 0.10, rng)),
    }


def quality() -> dict[str, object]:
    dataset = load_dataset(VOC_MINI)
    pictures = [read_picture(path) for path in dict.fromkeys(dataset.paths)]
    copies = [small_copy(picture) for picture in pictures]
    alone = near_pairs(fingerprints_of(copies))
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(pictures), NUM_PLANTED, replace=False)
    found: dict[str, object] = {}
    all_right = all_found = 0
    for name, version in versions(rng).items():
        planted = [small_copy(version(pictures[row])) for row in chosen]
        part_N = np.repeat([0, 1], [len(copies), NUM_PLANTED])
        pairs = near_pairs(fingerprints_of([*copies, *planted]), part_N=part_N)
        right_P = pairs.first_P == chosen[pairs.second_P - len(copies)]
        all_right, all_found = all_right + int(right_P.sum()), all_found + len(pairs)
        found[name] = {
            "recall": round(int(right_P.sum()) / NUM_PLANTED, 4),
            "pairs": len(pairs),
            "wrong_pairs": int((~right_P).sum()),
        }
    return {
        "num_pictures": len(pictures),
        "num_planted_of_each": NUM_PLANTED,
        "versions": found,
        "precision_over_all": round(all_right / all_found, 4),
        "pairs_among_the_photographs_themselves": len(alone),
    }


def speed(num_pictures: int, *, turns: int) -> dict[str, object]:
    rng = np.random.default_rng(1)
    num_versions = num_pictures // 10
    hash_N = rng.integers(0, 1 << 64, num_pictures, dtype=np.uint64)
    first = rng.choice(num_pictures - num_versions, num_versions, replace=False)
    flips = np.bitwise_or.reduce(np.uint64(1) << rng.integers(0, 64, (num_versions, 4), dtype=np.uint64), axis=1)
    hash_N[-num_versions:] = hash_N[first] ^ flips
    grey_NSS = rng.integers(0, 256, (num_pictures, 32, 32), dtype=np.uint8)
    grey_NSS[-num_versions:] = grey_NSS[first]
    colour_NTT2 = np.full((num_pictures, 8, 8, 2), 128, np.uint8)
    made = Fingerprints(hash_N=hash_N, grey_NSS=grey_NSS, colour_NTT2=colour_NTT2, is_flat_N=np.zeros(num_pictures, bool))
    copies = [grey.tobytes() + colour.tobytes() for grey, colour in zip(grey_NSS, colour_NTT2, strict=True)]
    seconds: dict[str, list[float]] = {"fingerprints": [], "candidates": [], "pairs": []}
    num_pairs = 0
    for _ in range(turns):
        started = time.perf_counter()
        fingerprints_of(copies)
        seconds["fingerprints"].append(time.perf_counter() - started)
        started = time.perf_counter()
        candidate_pairs(hash_N)
        seconds["candidates"].append(time.perf_counter() - started)
        started = time.perf_counter()
        num_pairs = len(near_pairs(made))
        seconds["pairs"].append(time.perf_counter() - started)
    return {
        "num_pictures": num_pictures,
        "num_versions": num_versions,
        "num_pairs_found": num_pairs,
        "turns": turns,
        "seconds": {
            name: {"median": round(statistics.median(each), 2), "low": round(min(each), 2), "high": round(max(each), 2)}
            for name, each in seconds.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    result: dict[str, object] = {"radius_bits": RADIUS, "same_detail": SAME_DETAIL}
    if VOC_MINI.is_dir():
        result["quality"] = quality()
    else:
        print("no voc-mini photographs beside this checkout (../shared): only speed")
    result["speed"] = speed(options.pictures, turns=options.turns)
    write("near_duplicates", result)


if __name__ == "__main__":
    main()
