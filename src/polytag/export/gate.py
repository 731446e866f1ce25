"""The gate of an export: its graphs answer as the checkpoint does, or nothing is written."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from polytag.data.images.augment import views
from polytag.data.images.read import read_image
from polytag.errors import ExportError, ImageError
from polytag.export.graphs import Graphs
from polytag.export.selftest import generated_images
from polytag.inference.onnx_scorer import run, session_of
from polytag.inference.predictor import Predictor
from polytag.logits import sigmoid
from polytag.machine import num_cores
from polytag.metrics.decisions import decide
from polytag.models.checkpoint import Checkpoint
from polytag.models.exported import IMAGE, PIXELS, Checked

MAX_LOGIT_DIFFERENCE = 1e-3


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What the graph `image` says of the generated images, N x C each."""

    logit_NC: np.ndarray
    probability_NC: np.ndarray
    present_NC: np.ndarray


def compared(
    checkpoint: Checkpoint, graphs: Graphs, *, paths: Sequence[Path], of: str, on_image: Callable[[int], None]
) -> tuple[Checked, Answers]:
    """Run both graphs and the checkpoint itself, in float32, on the generated images and on those of `paths` that can be read.

    Raises ExportError, with the numbers, where a logit differs by more than `MAX_LOGIT_DIFFERENCE`, or a decision.
    """
    predictor = Predictor.load(checkpoint, device="cpu", precision="fp32")
    sessions = {
        name: session_of(graph.SerializeToString(), where=name, num_threads=num_cores())
        for name, graph in ((PIXELS, graphs.pixels), (IMAGE, graphs.image))
    }
    threshold_C = np.asarray(checkpoint.thresholds)
    num_images, num_changed, largest = 0, 0, 0.0
    generated = generated_images()
    answers: list[list[np.ndarray]] = []
    for image in _images(generated, paths):
        logit_C = predictor.score_image(image)
        present_C = decide(sigmoid(logit_C), threshold_C=threshold_C)
        view = views(image, checkpoint.preprocessing)
        for name, inputs in (
            (PIXELS, {"pixels": view if len(view) == 1 else view[None]}),
            (IMAGE, {"image": np.asarray(image)}),
        ):
            found = [output[0] for output in run(sessions[name], ["logit", "probability", "present"], inputs, where=name)]
            difference = float(np.abs(found[0] - logit_C).max())
            largest = max(largest, difference if np.isfinite(difference) else np.inf)
            num_changed += int((found[2] != present_C).sum())
        if num_images < len(generated):
            answers.append(found)  # of the graph `image`, the last
        num_images += 1
        on_image(len(generated) + len(paths))
    num_decisions = num_images * len(threshold_C)
    if largest > MAX_LOGIT_DIFFERENCE or num_changed:
        raise ExportError(
            "the exported graphs do not answer as the checkpoint does, so nothing is written",
            where=str(checkpoint.folder),
            got=f"on {num_images:,} images: a logit by {largest:.2g}, and {num_changed:,} of {2 * num_decisions:,} decisions",
            expected=f"at most {MAX_LOGIT_DIFFERENCE:g}, and no decision",
            next_step="report it with the backbone's name; predict with the checkpoint itself meanwhile",
        )
    checked = Checked(
        images=num_images,
        of=f"{len(generated)} generated" + (f", {num_images - len(generated)} of {of}" if num_images > len(generated) else ""),
        decisions=num_decisions,
        max_logit_difference=largest,
        decisions_changed=num_changed,
    )
    logit_NC, probability_NC, present_NC = (np.stack(values) for values in zip(*answers, strict=True))
    return checked, Answers(logit_NC=logit_NC, probability_NC=probability_NC, present_NC=present_NC)


def _images(generated: Sequence[Image.Image], paths: Sequence[Path]) -> Iterator[Image.Image]:
    yield from generated
    for path in paths:
        try:
            yield read_image(path)
        except ImageError:
            continue
