"""polytag: multi-label image classification. Train, judge, inspect, predict.

The public names are below, imported when first used, so that `import polytag` does nothing and costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from polytag.extras import explaining_missing_extras

if TYPE_CHECKING:
    from polytag.contracts import Dataset, LabelSet, Predictions, Preprocessing
    from polytag.data.check import check
    from polytag.data.classes import ClassShaping
    from polytag.data.convert import convert
    from polytag.data.fetch.fetch import fetch
    from polytag.data.load import load_dataset
    from polytag.data.read_options import ReadOptions
    from polytag.errors import PolytagError
    from polytag.export.export import export_model
    from polytag.export.push import push_model
    from polytag.inference.feature_scores import predict_features
    from polytag.inference.predict import predict
    from polytag.inference.predictor import Predictor
    from polytag.metrics.arrays import evaluate, predictions_from_arrays
    from polytag.metrics.compare import compare
    from polytag.metrics.evaluate import evaluate_predictions
    from polytag.metrics.stream import StreamingAP
    from polytag.metrics.values import Metrics
    from polytag.models.checkpoint import Checkpoint
    from polytag.predictions.read import read_predictions
    from polytag.predictions.table import write_predictions
    from polytag.report.page import write_report
    from polytag.runs.recipe import BASELINE, FINETUNE, PROBE, Recipe
    from polytag.training.folds import resume_folds, train_folds
    from polytag.training.train import resume, train

__version__ = "0.1.0"

_HOMES = {
    "polytag.contracts": ("Dataset", "LabelSet", "Predictions", "Preprocessing"),
    "polytag.data.check": ("check",),
    "polytag.data.classes": ("ClassShaping",),
    "polytag.data.convert": ("convert",),
    "polytag.data.fetch.fetch": ("fetch",),
    "polytag.data.load": ("load_dataset",),
    "polytag.data.read_options": ("ReadOptions",),
    "polytag.errors": ("PolytagError",),
    "polytag.export.export": ("export_model",),
    "polytag.export.push": ("push_model",),
    "polytag.metrics.arrays": ("evaluate", "predictions_from_arrays"),
    "polytag.metrics.compare": ("compare",),
    "polytag.metrics.evaluate": ("evaluate_predictions",),
    "polytag.metrics.stream": ("StreamingAP",),
    "polytag.models.checkpoint": ("Checkpoint",),
    "polytag.predictions.read": ("read_predictions",),
    "polytag.inference.predictor": ("Predictor",),
    "polytag.inference.feature_scores": ("predict_features",),
    "polytag.inference.predict": ("predict",),
    "polytag.predictions.table": ("write_predictions",),
    "polytag.report.page": ("write_report",),
    "polytag.metrics.values": ("Metrics",),
    "polytag.runs.recipe": ("FINETUNE", "PROBE", "BASELINE", "Recipe"),
    "polytag.training.folds": ("resume_folds", "train_folds"),
    "polytag.training.train": ("resume", "train"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "BASELINE",
    "FINETUNE",
    "PROBE",
    "Checkpoint",
    "ClassShaping",
    "Dataset",
    "LabelSet",
    "Metrics",
    "PolytagError",
    "Predictions",
    "Predictor",
    "Preprocessing",
    "ReadOptions",
    "Recipe",
    "StreamingAP",
    "check",
    "compare",
    "convert",
    "evaluate",
    "evaluate_predictions",
    "export_model",
    "fetch",
    "load_dataset",
    "predict",
    "predict_features",
    "predictions_from_arrays",
    "push_model",
    "read_predictions",
    "resume",
    "resume_folds",
    "train",
    "train_folds",
    "write_predictions",
    "write_report",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'polytag' has no attribute {name!r}")
    with explaining_missing_extras():
        return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
