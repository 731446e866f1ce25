"""`polytag evaluate MODEL --images DATA`: scores of a labelled data set, made on the spot. Of an export without torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from polytag.cli.scores import as_in_training
from polytag.errors import PredictionsError, UsageError

if TYPE_CHECKING:
    from polytag.contracts import Dataset, Predictions
    from polytag.data.read_options import ReadOptions
    from polytag.models.checkpoint import Checkpoint
    from polytag.models.exported import Exported
    from polytag.predictions.read import LabelledPredictions


def scores_of_model(
    model: Path, data: Path, *, split: str | None, precision: str, options: "ReadOptions", errors: "Any"
) -> "tuple[LabelledPredictions, tuple[float, ...]]":
    """The scores of a split of a data set (by default of `val`, or all where it names none), and the model's thresholds.

    Raises CheckpointError or ExportError for a model that cannot be loaded or has other classes, DataError and UsageError for the
    data set and its split, PredictionsError where no image can be read or no label is known.
    """
    from polytag.cli.memory import keep_freed_memory_on_cpu
    from polytag.data.load import load_labels
    from polytag.models.checkpoint import Checkpoint
    from polytag.models.exported import read_model
    from polytag.predictions.read import LabelledPredictions

    loaded = read_model(model)
    dataset = load_labels(data, options=as_in_training(options, model), classes=loaded.label_set.names, need_images=True)
    loaded.require_labels(dataset.label_set)
    if split is not None or "val" in dataset.split_N:
        dataset = dataset.split("val" if split is None else split)
    if isinstance(loaded, Checkpoint):
        keep_freed_memory_on_cpu("auto")
    predictions = _scored(loaded, dataset, precision=precision, errors=errors)
    if not (predictions.target_NC >= 0).any():
        raise PredictionsError("no label of these images is known", where=str(data), expected="at least one known label")
    return LabelledPredictions(predictions=predictions), loaded.thresholds


def _scored(model: "Checkpoint | Exported", dataset: "Dataset", *, precision: str, errors: "Any") -> "Predictions":
    """Of the images that can be read; the others are printed."""
    import numpy as np

    from polytag.cli.progress import progress_bar
    from polytag.contracts import Predictions
    from polytag.inference.predict import predict

    rows: list[int] = []
    logits: list[np.ndarray] = []
    with progress_bar(errors) as progress:
        results = progress.track(predict(model, dataset, precision=precision), total=len(dataset), description="scoring")
        for row, result in enumerate(results):
            if result.error:
                errors.print(f"{result.path}: {result.error}", highlight=False, markup=False, soft_wrap=True)
            else:
                rows.append(row)
                logits.append(result.logit_C)
    if not rows:
        raise PredictionsError("none of the images can be read", where=dataset.source, expected="at least one image")
    scored = dataset.take(np.array(rows))
    return Predictions(
        ids=scored.ids,
        logit_NC=np.stack(logits),
        target_NC=scored.target_NC,
        label_set=dataset.label_set,
        image_paths=tuple(str(path) for path in scored.paths),
        checkpoint_id=model.id,
        source=dataset.source,
        calibration=model.calibration_id,
        absent_means=dataset.absent_means,
    )


def require_images(**options: object) -> None:
    """Raise UsageError for an option that only scoring has, without --images."""
    given = [f"--{name}" for name, value in options.items() if value is not None]
    if given:
        raise UsageError("this is for scoring a model", where=", ".join(given), expected="--images DATA, and a model to score it")
