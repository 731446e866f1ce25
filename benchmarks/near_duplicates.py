"""What the search for near duplicates finds: versions of 300 photographs of voc-mini, planted among all 1,748; and its speed.

Each version is made from the decoded image and written as a JPEG of quality 75 unless the name says otherwise; the search sees
all photographs and the versions, and is asked for pairs of the two. A pair is right where it joins a version with its own image.
Speed is that of 100,000 made-up images of smooth noise, one in ten a noisier version of another: from small copies to pairs.
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from machine import VOC_MINI, write
from polytag import load_dataset
from polytag.data.duplicates.hash_search import candidate_pairs
from polytag.data.duplicates.near_duplicates import SAME_DETAIL, fingerprints_of, near_pairs, small_copy
from polytag.data.duplicates.views import RADIUS, VIEW_RADIUS, VIEWS
from polytag.data.images.read import read_image

NUM_PLANTED = 300
SEPIA = (0.393, 0.769, 0.189, 0, 0.349, 0.686, 0.168, 0, 0.272, 0.534, 0.131, 0)


def saved(image: Image.Image, *, kind: str = "JPEG", quality: int = 75) -> Image.Image:
    file = io.BytesIO()
    image.save(file, kind, quality=quality)
    return Image.open(io.BytesIO(file.getvalue())).convert("RGB")


def resized(image: Image.Image, scale: float) -> Image.Image:
    width, height = (max(8, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def cropped(image: Image.Image, share: float, rng: np.random.Generator) -> Image.Image:
    """Both sides shorter by this share, somewhere inside."""
    width, height = (round(side * (1 - share)) for side in image.size)
    left, top = (int(rng.integers(0, side - part + 1)) for side, part in zip(image.size, (width, height), strict=True))
    return image.crop((left, top, left + width, top + height))


def tinted(image: Image.Image, red: float, green: float, blue: float) -> Image.Image:
    return image.convert("RGB", (red, 0, 0, 0, 0, green, 0, 0, 0, 0, blue, 0))


def watermarked(image: Image.Image) -> Image.Image:
    """White letters, half transparent, a sixth of the height."""
    mark = Image.new("L", image.size, 0)
    font = ImageFont.load_default(max(10, image.height // 6))
    ImageDraw.Draw(mark).text((0.1 * image.width, 0.42 * image.height), "STOCK PHOTO", fill=128, font=font)
    return Image.composite(Image.new("RGB", image.size, "white"), image, mark)


def captioned(image: Image.Image) -> Image.Image:
    """A box over 35% of the width and 15% of the height."""
    with_box = image.copy()
    box = (0.65 * image.width, 0.85 * image.height, image.width, image.height)
    ImageDraw.Draw(with_box).rectangle(box, fill=(20, 20, 20))
    return with_box


def versions(rng: np.random.Generator) -> dict[str, Callable[[Image.Image], Image.Image]]:
    return {
        "JPEG of quality 30": lambda image: saved(image, quality=30),
        "WebP of quality 40": lambda image: saved(image, kind="WEBP", quality=40),
        "half the size": lambda image: saved(resized(image, 0.5)),
        "a quarter of the size": lambda image: saved(resized(image, 0.25)),
        "one and a half times the size": lambda image: saved(resized(image, 1.5)),
        "brighter by a fifth": lambda image: saved(image.point(lambda level: min(255, round(level * 1.2)))),
        "without colour": lambda image: saved(image.convert("L").convert("RGB")),
        "mirrored": lambda image: saved(ImageOps.mirror(image)),
        "mirrored at half the size": lambda image: saved(resized(ImageOps.mirror(image), 0.5)),
        "cropped by 2%": lambda image: saved(cropped(image, 0.02, rng)),
        "cropped by 5%": lambda image: saved(cropped(image, 0.05, rng)),
        "cropped by 8%": lambda image: saved(cropped(image, 0.08, rng)),
        "cropped by 10%": lambda image: saved(cropped(image, 0.10, rng)),
        "cropped by 15%": lambda image: saved(cropped(image, 0.15, rng)),
        "sepia": lambda image: saved(image.convert("RGB", SEPIA)),
        "warmer: red by 1.2, blue by 0.8": lambda image: saved(tinted(image, 1.2, 1.0, 0.8)),
        "warmer: red by 1.3, blue by 0.7": lambda image: saved(tinted(image, 1.3, 1.0, 0.7)),
        "colder: red by 0.85, blue by 1.2": lambda image: saved(tinted(image, 0.85, 1.0, 1.2)),
        "colours stronger by 1.6": lambda image: saved(ImageEnhance.Color(image).enhance(1.6)),
        "colours weaker by 0.3": lambda image: saved(ImageEnhance.Color(image).enhance(0.3)),
        "contrast by 1.4": lambda image: saved(ImageEnhance.Contrast(image).enhance(1.4)),
        "gamma 1.6": lambda image: saved(image.point(lambda level: round(255 * (level / 255) ** 1.6))),
        "watermark across the middle": lambda image: saved(watermarked(image)),
        "black caption in a corner": lambda image: saved(captioned(image)),
        "white border of 3%": lambda image: saved(ImageOps.expand(image, round(0.03 * max(image.size)), "white")),
        "black border of 10%": lambda image: saved(ImageOps.expand(image, round(0.1 * max(image.size)), "black")),
        "bars to a square": lambda image: saved(ImageOps.pad(image, (max(image.size),) * 2, color="black")),
        "turned by 1 degree": lambda image: saved(image.rotate(1, Image.Resampling.BICUBIC)),
        "turned by 3 degrees": lambda image: saved(image.rotate(-3, Image.Resampling.BICUBIC)),
        "turned by 5 degrees": lambda image: saved(image.rotate(5, Image.Resampling.BICUBIC)),
        "turned by a quarter": lambda image: saved(image.transpose(Image.Transpose.ROTATE_90)),
        "turned by a half": lambda image: saved(image.transpose(Image.Transpose.ROTATE_180)),
        "upside down": lambda image: saved(ImageOps.flip(image)),
    }


def quality() -> dict[str, object]:
    dataset = load_dataset(VOC_MINI)
    images = [read_image(path) for path in dict.fromkeys(dataset.paths)]
    copies = [small_copy(image) for image in images]
    alone = near_pairs(fingerprints_of(copies))
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(images), NUM_PLANTED, replace=False)
    found: dict[str, object] = {}
    all_right = all_found = 0
    for name, version in versions(rng).items():
        planted = [small_copy(version(images[row])) for row in chosen]
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
        "num_images": len(images),
        "num_planted_of_each": NUM_PLANTED,
        "versions": found,
        "precision_over_all": round(all_right / all_found, 4),
        "pairs_among_the_photographs_themselves": len(alone),
    }


def made_up(num_images: int) -> tuple[list[bytes], int]:
    """Small copies of noise whose power falls with the frequency, as that of photographs does; the last tenth are versions."""
    rng = np.random.default_rng(1)
    num_versions = num_images // 10
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(32), np.fft.rfftfreq(32), indexing="ij"))
    power = (1 / np.maximum(frequency, 1 / 32) ** 1.3).astype(np.float32)
    copies: list[bytes] = []
    for _ in range(num_images - num_versions):
        grey = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(32, 32)).astype(np.float32)) * power, (32, 32))
        copies.append((128 + 45 * (grey - grey.mean()) / grey.std()).clip(0, 255).astype(np.uint8).tobytes() + bytes([128]) * 128)
    for row in rng.choice(len(copies), num_versions, replace=False).tolist():
        grey = np.frombuffer(copies[row], np.uint8)[: 32 * 32] + rng.normal(0, 4, 32 * 32)
        copies.append(grey.clip(0, 255).astype(np.uint8).tobytes() + bytes([128]) * 128)
    return copies, num_versions


def speed(num_images: int, *, turns: int) -> dict[str, object]:
    copies, num_versions = made_up(num_images)
    seconds: dict[str, list[float]] = {
        "fingerprints": [],
        "candidates": [],
        "near_pairs": [],
        "in_all": [],
        "in_all_of_processor": [],
    }
    num_pairs = num_candidates = 0
    for _ in range(turns):
        started, processor = time.perf_counter(), time.process_time()
        fingerprints = fingerprints_of(copies)
        made = time.perf_counter()
        num_pairs = len(near_pairs(fingerprints))
        done, processor = time.perf_counter(), time.process_time() - processor
        num_candidates = len(candidate_pairs(fingerprints.hash_RV, radius_V=[view.radius for view in VIEWS]))
        seconds["candidates"].append(time.perf_counter() - done)
        seconds["fingerprints"].append(made - started)
        seconds["near_pairs"].append(done - made)
        seconds["in_all"].append(done - started)
        seconds["in_all_of_processor"].append(processor)
    return {
        "num_images": num_images,
        "num_versions": num_versions,
        "num_candidates": num_candidates,
        "num_pairs_found": num_pairs,
        "turns": turns,
        "seconds": {
            name: {"median": round(statistics.median(each), 2), "low": round(min(each), 2), "high": round(max(each), 2)}
            for name, each in seconds.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    result: dict[str, object] = {
        "radius_bits": RADIUS,
        "view_radius_bits": VIEW_RADIUS,
        "num_views": len(VIEWS),
        "same_detail": SAME_DETAIL,
    }
    if VOC_MINI.is_dir():
        result["quality"] = quality()
    else:
        print("no voc-mini photographs beside this checkout (../shared): only speed")
    result["speed"] = speed(options.images, turns=options.turns)
    write("near_duplicates", result)


if __name__ == "__main__":
    main()
