"""Images made on the spot, to compare an export on, and to check any client with."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from polytag import files

SIZES = ((320, 240), (97, 331), (640, 427), (64, 64), (500, 375), (1, 1), (1280, 96), (230, 231))
NUM_IN_FOLDER = 3
TOLERANCE = 1e-3  # of a logit, from one machine to another


def generated_images() -> list[Image.Image]:
    """Eight RGB images of different sizes: gradients, noise and shapes, always the same."""
    rng = np.random.default_rng(0)
    images: list[Image.Image] = []
    for width, height in SIZES:
        across, down = np.linspace(0, 1, width), np.linspace(0, 1, height)[:, None]
        ramp = np.stack([across + 0 * down, down + 0 * across, (across + down) / 2], axis=2)
        level = 255 * (0.25 + 0.5 * ramp) + rng.normal(0, 12, ramp.shape)
        image = Image.fromarray(level.clip(0, 255).astype(np.uint8))
        draw = ImageDraw.Draw(image)
        for _ in range(6):
            left, top = int(rng.integers(0, width)), int(rng.integers(0, height))
            right, bottom = left + int(rng.integers(1, width + 1)), top + int(rng.integers(1, height + 1))
            draw.ellipse((left, top, right, bottom), fill=tuple(rng.integers(0, 256, 3).tolist()))
        images.append(image)
    return images


def write_selftest(folder: Path, *, logit_NC: np.ndarray, probability_NC: np.ndarray, present_NC: np.ndarray) -> None:
    """The first generated images as PNG, and expected.json with the answers."""
    folder.mkdir()
    expected: list[dict[str, object]] = []
    for number, image in enumerate(generated_images()[:NUM_IN_FOLDER], start=1):
        content = io.BytesIO()
        image.save(content, "PNG")
        files.write_bytes(folder / f"{number}.png", content.getvalue())
        expected.append(
            {
                "file": f"{number}.png",
                "logit": logit_NC[number - 1].tolist(),
                "probability": probability_NC[number - 1].tolist(),
                "present": present_NC[number - 1].tolist(),
            }
        )
    text = json.dumps({"logit_tolerance": TOLERANCE, "images": expected}, indent=1)
    files.write_text(folder / "expected.json", text + "\n")
