"""Scores of images from a feature table, by a model that was trained on one: a linear classifier on the vectors."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from polytag.contracts import UNKNOWN, Dataset, Predictions
from polytag.data.feature_table import FeatureTable, open_feature_table
from polytag.errors import CheckpointError, PredictionsError
from polytag.inference.zero_shot import unit_length
from polytag.models.backbone import check_tensors, parse_tensors
from polytag.models.checkpoint import Checkpoint
from polytag.models.checkpoint_files import WEIGHTS


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureClassifier:
    """logit_NC = feature_ND @ weight_CD.T + bias_C, then the calibration, if the checkpoint has one.

    With `unit_length` of the checkpoint, vectors are divided by their length first.
    """

    checkpoint: Checkpoint
    weight_CD: torch.Tensor
    bias_C: torch.Tensor

    @classmethod
    def load(cls, checkpoint: Checkpoint) -> "FeatureClassifier":
        """Read the weights; raises CheckpointError for a model of images, and for damaged weights."""
        if checkpoint.num_features is None:
            raise CheckpointError(
                "this model takes images, not features",
                where=str(checkpoint.folder),
                got=f"the backbone {checkpoint.backbone}",
                expected="a model that was trained with --features",
                next_step="predict from images: polytag predict MODEL IMAGES",
            )
        where = str(checkpoint.folder / WEIGHTS)
        tensors = parse_tensors(checkpoint.read_weights(), where=where)
        num_classes = len(checkpoint.label_set)
        wanted = {"head.weight": torch.empty(num_classes, checkpoint.num_features), "head.bias": torch.empty(num_classes)}
        check_tensors(tensors, wanted, where=where)
        return cls(checkpoint=checkpoint, weight_CD=tensors["head.weight"].float(), bias_C=tensors["head.bias"].float())

    def require_size(self, table: FeatureTable) -> None:
        """Raises PredictionsError for vectors of another length than those of the training."""
        if table.num_features != self.checkpoint.num_features:
            raise PredictionsError(
                "the features are not those that the model was trained on",
                where=str(table.path),
                got=f"{table.num_features:,} numbers for each image",
                expected=f"{self.checkpoint.num_features:,}",
                next_step="compute them with the network that the training's features came from",
            )

    def logits_of(self, feature_ND: np.ndarray) -> np.ndarray:
        """float32 N x C, calibrated; raises CheckpointError where one is not finite."""
        if self.checkpoint.unit_length:
            feature_ND = unit_length(feature_ND)
        logit_NC = (torch.from_numpy(feature_ND) @ self.weight_CD.T + self.bias_C).numpy()
        next_step = "look at the size of the features: they are far from those of the training"
        return self.checkpoint.calibrated(logit_NC, next_step=next_step)

    def score_table(self, table: FeatureTable) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
        """The ids and the logits of a table's rows, a part at a time. Raises as `require_size`, `logits_of` and the table do."""
        self.require_size(table)
        first = 0
        for feature_ND in table.batches():
            yield table.ids[first : first + len(feature_ND)], self.logits_of(feature_ND)
            first += len(feature_ND)

    def score_dataset(self, dataset: Dataset, feature_ND: np.ndarray) -> Predictions:
        """Predictions of a data set whose features these are, row by row, with its truth."""
        return Predictions(
            ids=dataset.ids,
            logit_NC=self.logits_of(feature_ND),
            target_NC=dataset.target_NC,
            label_set=dataset.label_set,
            image_paths=tuple(str(path) for path in dataset.paths),
            checkpoint_id=self.checkpoint.id,
            source=dataset.source,
            calibration=self.checkpoint.calibration_id,
            absent_means=dataset.absent_means,
        )


def predict_features(model: str | Path | Checkpoint, features: str | Path) -> Predictions:
    """Score every row of a feature table with a model that was trained on one; the labels are unknown.

    Raises CheckpointError for another model, DataError for a table that cannot be read, PredictionsError for vectors of another
    length.
    """
    checkpoint = model if isinstance(model, Checkpoint) else Checkpoint.read(model)
    classifier, table = FeatureClassifier.load(checkpoint), open_feature_table(features)
    logit_NC = np.concatenate([logits for _, logits in classifier.score_table(table)])
    return Predictions(
        ids=table.ids,
        logit_NC=logit_NC,
        target_NC=np.full(logit_NC.shape, UNKNOWN, np.int8),
        label_set=checkpoint.label_set,
        image_paths=table.ids,
        checkpoint_id=checkpoint.id,
        source=str(table.path),
        calibration=checkpoint.calibration_id,
    )
