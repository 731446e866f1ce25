"""The gate of an export: its graphs answer as the checkpoint does, or nothing is written."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from polytag.data.images.augment import views
from polytag.data.images.read import read_image
from polytag.errors import ExportError, ImageError
from polytag.export.selftest import generated_images
from polytag.inference.predictor import Predictor
from polytag.logits import sigmoid
from polytag.metrics.decisions import decide
from polytag.models.checkpoint import Checkpoint
from polytag.models.exported import Checked

MAX_LOGIT_DIFFERENCE = 1e-3
Answer = Callable[[Image.Image, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""(an image, its views uint8 V x S x S x 3) -> logit, probability and present, C each."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What a graph says of the generated images, N x C each."""

    logit_NC: np.ndarray
    probability_NC: np.ndarray
    present_NC: np.ndarray


@dataclass(kw_only=True)
class _Tally:
    """Of one graph."""

    largest: float = 0.0
    num_changed: int = 0


def compared(
    checkpoint: Checkpoint,
    answer_of: dict[str, Answer],
    *,
    paths: Sequence[Path],
    of: str,
    on_image: Callable[[int], None] = lambda num_images: None,
) -> tuple[dict[str, Checked], Answers]:
    """Run each graph and the checkpoint itself, in float32, on the generated images and on those of `paths` that can be read.

    `answer_of` has the graphs by name. Raises ExportError, with the numbers, where a logit differs by more than
    `MAX_LOGIT_DIFFERENCE`, or a decision. Returns what was compared of each, and what the first says of the generated images.
    """
    predictor = Predictor.load(checkpoint, device="cpu", precision="fp32")
    threshold_C = np.asarray(checkpoint.thresholds)
    generated = generated_images()
    first: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    tallies = {name: _Tally() for name in answer_of}
    num_images = 0
    for image in images_of(generated, paths):
        view = views(image, checkpoint.preprocessing)
        logit_C = predictor.logits_of(view[None])[0]
        present_C = decide(sigmoid(logit_C), threshold_C=threshold_C)
        for number, (name, answer) in enumerate(answer_of.items()):
            found = answer(image, view)
            difference = float(np.abs(found[0] - logit_C).max())
            tallies[name].largest = max(tallies[name].largest, difference if np.isfinite(difference) else np.inf)
            tallies[name].num_changed += int((found[2] != present_C).sum())
            if number == 0 and num_images < len(generated):
                first.append(found)
        num_images += 1
        on_image(len(generated) + len(paths))
    num_decisions = num_images * len(threshold_C)
    _require_same(tallies, num_images=num_images, num_decisions=num_decisions, where=str(checkpoint.folder))
    num_others = num_images - len(generated)
    described = f"{len(generated)} generated" + (f", {num_others} of {of}" if num_others else "")
    checked = {
        name: Checked(
            images=num_images,
            of=described,
            decisions=num_decisions,
            max_logit_difference=tally.largest,
            decisions_changed=tally.num_changed,
        )
        for name, tally in tallies.items()
    }
    logit_NC, probability_NC, present_NC = (np.stack(values) for values in zip(*first, strict=True))
    return checked, Answers(logit_NC=logit_NC, probability_NC=probability_NC, present_NC=present_NC)


def _require_same(tallies: dict[str, _Tally], *, num_images: int, num_decisions: int, where: str) -> None:
    for name, tally in tallies.items():
        if tally.largest > MAX_LOGIT_DIFFERENCE or tally.num_changed:
            raise ExportError(
                "an exported graph does not answer as the checkpoint does, so nothing is written",
                where=where,
                got=f"{name} on {num_images:,} images: a logit by {tally.largest:.2g}, "
                f"and {tally.num_changed:,} of {num_decisions:,} decisions",
                expected=f"at most {MAX_LOGIT_DIFFERENCE:g}, and no decision",
                next_step="report it with the backbone's name; predict with the checkpoint itself meanwhile",
            )


def images_of(generated: Sequence[Image.Image], paths: Sequence[Path]) -> Iterator[Image.Image]:
    """The generated images, then those of `paths` that can be read."""
    yield from generated
    for path in paths:
        try:
            yield read_image(path)
        except ImageError:
            continue
