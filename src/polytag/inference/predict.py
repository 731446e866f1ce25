"""`predict`: any images in, one result per image out, in constant memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polytag.contracts import LabelSet
from polytag.data.formats.listing import IMAGE_SUFFIXES, find_images, left_out_note
from polytag.errors import DataError
from polytag.inference.predictor import Predictor
from polytag.logits import sigmoid
from polytag.metrics.decisions import decide
from polytag.models.checkpoint import Checkpoint

_NO_SCORES = np.zeros(0, np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageResult:
    """The scores of one image, or the reason that it could not be read.

    path        of the image, in the form of the argument
    logit_C     float32; empty where `error` is not ""
    thresholds  probabilities, C
    error       reason, or ""
    """

    path: Path
    logit_C: np.ndarray
    label_set: LabelSet
    thresholds: tuple[float, ...]
    error: str = ""

    @property
    def probabilities(self) -> dict[str, float]:
        """Class name -> probability in [0, 1], highest logit first; empty where the image could not be read."""
        values = sigmoid(self.logit_C)
        names = self.label_set.names
        return {names[column]: float(values[column]) for column in np.argsort(-self.logit_C, kind="stable")}

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes whose probability is above their threshold, highest first; empty where the image could not be read."""
        if self.error:
            return ()
        is_predicted_C = decide(sigmoid(self.logit_C), threshold_C=np.asarray(self.thresholds))
        return tuple(self.label_set.names[column] for column in np.argsort(-self.logit_C, kind="stable") if is_predicted_C[column])


def list_images(paths: Sequence[str | Path]) -> list[Path]:
    """The files, and for a folder every image that training would find below it, sorted; raises DataError where there is none."""
    return find_listed(paths)[0]


def find_listed(paths: Sequence[str | Path]) -> tuple[list[Path], str]:
    """As `list_images`, and a sentence about what was left out of folders, or ""."""
    found: list[Path] = []
    left_out: list[str] = []
    for item in map(Path, paths):
        if item.is_dir():
            below = find_images(item)
            found += [item / name for name in below.images]
            left_out += [f"{item / name}" for name in below.left_out]
        else:
            found.append(item)
    if not found:
        raise DataError(
            "no images to predict on",
            where=", ".join(str(item) for item in paths),
            got=left_out_note(left_out),
            expected="image files (" + ", ".join(sorted(IMAGE_SUFFIXES)) + "), or folders that hold some",
        )
    return found, left_out_note(left_out)


def predict(
    model: str | Path | Checkpoint,
    images: str | Path | Sequence[str | Path],
    *,
    device: str = "auto",
    precision: str = "auto",
) -> Iterator[ImageResult]:
    """Score images with a checkpoint or run folder; yields one result per image, in order.

    An image that cannot be read, or whose scores are NaN or infinite, yields a result with an `error` and does not affect the
    others. Raises CheckpointError for a model
    that cannot be loaded and DataError where there is no image, before the first result.
    """
    checkpoint = model if isinstance(model, Checkpoint) else Checkpoint.read(model)
    paths = list_images([images] if isinstance(images, str | Path) else images)
    predictor = Predictor.load(checkpoint, device=device, precision=precision)
    return _results(predictor, paths)


def _results(predictor: Predictor, paths: list[Path]) -> Iterator[ImageResult]:
    label_set, thresholds = predictor.checkpoint.label_set, predictor.checkpoint.thresholds
    for scored in predictor.score_files(paths):
        logits = {int(row): logit_C for row, logit_C in zip(scored.rows, scored.output_ND, strict=True)}
        errors = {row: error.what for row, error in scored.failures}
        for row in sorted(logits.keys() | errors.keys()):
            logit_C, error = logits.get(row, _NO_SCORES), errors.get(row, "")
            if not np.isfinite(logit_C).all():
                logit_C, error = _NO_SCORES, "the model gives no finite score for it"
            yield ImageResult(path=paths[row], logit_C=logit_C, label_set=label_set, thresholds=thresholds, error=error)
