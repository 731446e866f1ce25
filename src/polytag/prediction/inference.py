"""The only inference loop: pictures -> logits. Training validates with it, `polytag predict` runs it, serving will."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from polytag.calibration import calibrated
from polytag.contracts import Dataset, Predictions, Preprocessing
from polytag.data.augment import views
from polytag.data.batches import batches
from polytag.errors import PictureError
from polytag.models.backbone import features, logits
from polytag.models.checkpoint import Checkpoint
from polytag.models.device import Arithmetic, choose_arithmetic, num_cores

BATCH_SIZE = 32


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """Outputs of a batch of pictures: rows (n), output_ND float32, and the (row, error) of pictures that could not be read."""

    rows: np.ndarray
    output_ND: np.ndarray
    failures: tuple[tuple[int, PictureError], ...]


def to_input(pixels_NHWC: Tensor, preprocessing: Preprocessing, device: str) -> Tensor:
    """uint8 n x S x S x 3 to normalised float32 n x 3 x S x S, channels last in memory, on the device."""
    mean = torch.tensor(preprocessing.mean, device=device) * 255
    std = torch.tensor(preprocessing.std, device=device) * 255
    return ((pixels_NHWC.to(device, non_blocking=True).float() - mean) / std).permute(0, 3, 1, 2)


def run(
    forward: Callable[[Tensor], Tensor],
    paths: Sequence[Path],
    *,
    preprocessing: Preprocessing,
    arithmetic: Arithmetic,
    batch_size: int = BATCH_SIZE,
) -> Iterator[Scored]:
    """Apply a function of normalised pictures to every path, in order, in bounded memory; views are averaged.

    `forward` maps n x 3 x S x S to n x D: a model's logits, or a backbone's features.
    """

    def fit(picture, row):
        return views(picture, preprocessing)

    ready = batches(paths, range(len(paths)), batch_size=batch_size, prepare=fit, num_threads=num_cores())
    for batch in ready:
        if not len(batch.rows):
            yield Scored(rows=batch.rows, output_ND=np.zeros((0, 0), np.float32), failures=batch.failures)
            continue
        output_ND = apply(forward, batch.pixels_NVHWC, preprocessing=preprocessing, arithmetic=arithmetic)
        yield Scored(rows=batch.rows, output_ND=output_ND, failures=batch.failures)


def apply(
    forward: Callable[[Tensor], Tensor], pixels_NVHWC: np.ndarray, *, preprocessing: Preprocessing, arithmetic: Arithmetic
) -> np.ndarray:
    """float32 N x D of N pictures as uint8 views of the input size, at least one; the outputs of a picture's views averaged."""
    num_pictures, num_views = pixels_NVHWC.shape[:2]
    pixels = torch.from_numpy(pixels_NVHWC.reshape(num_pictures * num_views, *pixels_NVHWC.shape[2:]))
    with torch.inference_mode(), arithmetic.autocast():
        output = forward(to_input(pixels, preprocessing, arithmetic.device))
    return output.float().reshape(num_pictures, num_views, -1).mean(dim=1).cpu().numpy()


def extract_features(
    model: nn.Module,
    dataset: Dataset,
    *,
    preprocessing: Preprocessing,
    arithmetic: Arithmetic,
    batch_size: int = BATCH_SIZE,
    on_batch: Callable[[int], None] = lambda num_pictures: None,
) -> tuple[np.ndarray, np.ndarray, tuple[tuple[int, PictureError], ...]]:
    """Pooled features of every picture that can be read: feature_ND float32, its rows, and the (row, error) of the others."""
    model.eval()
    rows: list[np.ndarray] = []
    outputs: list[np.ndarray] = []
    failures: list[tuple[int, PictureError]] = []

    def forward(pixels: Tensor) -> Tensor:
        return features(model, pixels)

    for scored in run(forward, dataset.paths, preprocessing=preprocessing, arithmetic=arithmetic, batch_size=batch_size):
        failures.extend(scored.failures)
        on_batch(len(scored.rows) + len(scored.failures))
        if len(scored.rows):
            rows.append(scored.rows)
            outputs.append(scored.output_ND)
    index = np.concatenate(rows) if rows else np.zeros(0, np.int64)
    return (np.concatenate(outputs) if outputs else np.zeros((0, 0), np.float32)), index, tuple(failures)


def score_dataset(
    model: nn.Module,
    dataset: Dataset,
    *,
    preprocessing: Preprocessing,
    arithmetic: Arithmetic,
    checkpoint_id: str = "",
    on_batch: Callable[[Scored], None] = lambda scored: None,
) -> Predictions:
    """Predictions of a model (in evaluation mode, on the device) over a data set; pictures that cannot be read are left out."""
    rows: list[np.ndarray] = []
    outputs: list[np.ndarray] = []
    for scored in run(lambda pixels: logits(model, pixels), dataset.paths, preprocessing=preprocessing, arithmetic=arithmetic):
        on_batch(scored)
        if len(scored.rows):
            rows.append(scored.rows)
            outputs.append(scored.output_ND)
    index = np.concatenate(rows) if rows else np.zeros(0, np.int64)
    kept = dataset.take(index)
    return Predictions(
        ids=kept.ids,
        logit_NC=np.concatenate(outputs) if outputs else np.zeros((0, len(dataset.label_set)), np.float32),
        target_NC=kept.target_NC,
        label_set=dataset.label_set,
        picture_paths=tuple(str(path) for path in kept.paths),
        checkpoint_id=checkpoint_id,
        source=dataset.source,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictor:
    """A checkpoint made ready to score: the model loaded once, on the chosen device."""

    checkpoint: Checkpoint
    model: nn.Module
    arithmetic: Arithmetic

    @classmethod
    def load(cls, checkpoint: Checkpoint, *, device: str = "auto", precision: str = "auto") -> "Predictor":
        """Load the weights; raises CheckpointError where they are damaged, UsageError for a device that is not there."""
        arithmetic = choose_arithmetic(device, precision)
        return cls(checkpoint=checkpoint, model=checkpoint.load_model().to(arithmetic.device), arithmetic=arithmetic)

    def score(self, dataset: Dataset) -> Predictions:
        """Predictions over a data set, calibrated if the checkpoint is; raises CheckpointError for another class list."""
        self.checkpoint.require_labels(dataset.label_set)
        predictions = score_dataset(
            self.model,
            dataset,
            preprocessing=self.checkpoint.preprocessing,
            arithmetic=self.arithmetic,
            checkpoint_id=self.checkpoint.id,
        )
        return calibrated(predictions, self.checkpoint.calibration)

    def score_picture(self, picture: Image.Image) -> np.ndarray:
        """float32 logits, C, of one upright RGB picture, calibrated if the checkpoint is."""
        logit_NC = apply(
            lambda pixels: logits(self.model, pixels),
            views(picture, self.checkpoint.preprocessing)[None],
            preprocessing=self.checkpoint.preprocessing,
            arithmetic=self.arithmetic,
        )
        calibration = self.checkpoint.calibration
        return (logit_NC if calibration is None else calibration.apply(logit_NC))[0]

    def score_files(self, paths: Sequence[Path]) -> Iterator[Scored]:
        """Logits of pictures, calibrated if the checkpoint is, batch by batch, in constant memory."""
        calibration = self.checkpoint.calibration
        for scored in run(
            lambda pixels: logits(self.model, pixels),
            paths,
            preprocessing=self.checkpoint.preprocessing,
            arithmetic=self.arithmetic,
        ):
            if calibration is None or not len(scored.rows):
                yield scored
            else:
                yield replace(scored, output_ND=calibration.apply(scored.output_ND))
