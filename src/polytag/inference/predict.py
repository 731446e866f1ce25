"""`predict`: any images in, one result per image out, in constant memory."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polytag.contracts import Dataset, LabelSet
from polytag.data.images.augment import views
from polytag.inference.images import Images, local_images
from polytag.inference.listing import opened
from polytag.inference.scorers import Scorer, scorer_of
from polytag.logits import sigmoid
from polytag.metrics.decisions import decide
from polytag.models.checkpoint import Checkpoint
from polytag.models.exported import Exported, read_model

_NO_SCORES = np.zeros(0, np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageResult:
    """The scores of one image, or the reason that it could not be read.

    path        of the image, in the form of the argument; an address is text
    logit_C     float32; empty where `error` is not ""
    thresholds  probabilities, C
    error       reason, or ""
    """

    path: Path | str
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


def list_images(paths: Sequence[str | Path]) -> list[Path | str]:
    """The files; for a folder every image that training would find below it, sorted; for a file that holds images those inside.

    A folder without a single image file stands for the tar, zip, Arrow, Parquet and video files below it. Raises DataError where
    there is none, AnnotationError for such a file that cannot be read.
    """
    with opened([str(path) for path in paths], every_seconds=1.0) as (images, _):
        return list(images.names)


def predict(
    model: str | Path | Checkpoint | Exported,
    images: str | Path | Sequence[str | Path] | Dataset,
    *,
    device: str = "auto",
    precision: str = "auto",
    every_seconds: float = 1.0,
    backbone: Any = None,
) -> Iterator[ImageResult]:
    """Score images (files, folders, addresses, or those of a Dataset) with a checkpoint, run or export folder; one result per
    image, in order. Of a video it is a frame every `every_seconds`.

    `backbone` is the module or the factory that a model with a backbone of your own was trained with.
    An image that cannot be read, or whose scores are NaN or infinite, yields a result with an `error` and does not affect the
    others. An export is scored on the processor by the fastest engine that is installed, without torch. Raises CheckpointError or
    ExportError for a model that cannot be loaded, UsageError for a device or precision that it has not, and DataError where there
    is no image, before the first result.
    """
    if backbone is not None:
        model = Checkpoint.read(model.folder if isinstance(model, Checkpoint | Exported) else model, backbone=backbone)
    model = read_model(model) if isinstance(model, str | Path) else model
    if isinstance(images, Dataset):
        return score_images(model, scorer_of(model, device=device, precision=precision), local_images(images.paths))
    sources = [str(image) for image in ([images] if isinstance(images, str | Path) else images)]
    with ExitStack() as stack:
        found, _ = stack.enter_context(opened(sources, every_seconds=every_seconds))
        scorer = scorer_of(model, device=device, precision=precision)
        return _until_closed(score_images(model, scorer, found), stack.pop_all())


def _until_closed(results: Iterator[ImageResult], stack: ExitStack) -> Iterator[ImageResult]:
    with stack:
        yield from results


def score_images(model: Checkpoint | Exported, scorer: Scorer, images: Images) -> Iterator[ImageResult]:
    """One result per image, in order, in constant memory. Raises FetchError where a store of images fails."""
    label_set, thresholds = model.label_set, model.thresholds
    for scored in scorer.score_rows(len(images), lambda row: views(images.read(row), model.preprocessing)):
        logits = {int(row): logit_C for row, logit_C in zip(scored.rows, scored.output_ND, strict=True)}
        errors = {row: error.what for row, error in scored.failures}
        for row in sorted(logits.keys() | errors.keys()):
            logit_C, error = logits.get(row, _NO_SCORES), errors.get(row, "")
            if not np.isfinite(logit_C).all():
                logit_C, error = _NO_SCORES, "the model gives no finite score for it"
            yield ImageResult(path=images.names[row], logit_C=logit_C, label_set=label_set, thresholds=thresholds, error=error)
