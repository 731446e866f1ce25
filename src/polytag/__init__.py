"""polytag: multi-label image classification. Train, judge, look, ship.

The public names are below, imported when first used, so that `import polytag` does nothing and costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from polytag.extras import explaining_missing_extras

if TYPE_CHECKING:
    from polytag.contracts import Dataset, LabelSet, Predictions, Preprocessing
    from polytag.data.check import check
    from polytag.data.convert import convert
    from polytag.data.fetch import fetch
    from polytag.data.load import ReadOptions, load_dataset
    from polytag.errors import PolytagError
    from polytag.metrics.arrays import evaluate, predictions_from_arrays
    from polytag.metrics.compare import compare
    from polytag.metrics.evaluate import judge_predictions
    from polytag.metrics.stream import StreamingAP
    from polytag.models.checkpoint import Checkpoint
    from polytag.prediction.foreign import read_scores
    from polytag.prediction.inference import Predictor
    from polytag.prediction.pictures import predict
    from polytag.prediction.table import read_predictions, write_predictions
    from polytag.report.page import write_report
    from polytag.scores import Scores
    from polytag.training.recipes import FINETUNE, PROBE, VELOCITY, Recipe
    from polytag.training.train import resume, train

__version__ = "0.1.0"

_HOMES = {
    "polytag.contracts": ("Dataset", "LabelSet", "Predictions", "Preprocessing"),
    "polytag.data.check": ("check",),
    "polytag.data.convert": ("convert",),
    "polytag.data.fetch": ("fetch",),
    "polytag.data.load": ("ReadOptions", "load_dataset"),
    "polytag.errors": ("PolytagError",),
    "polytag.metrics.arrays": ("evaluate", "predictions_from_arrays"),
    "polytag.metrics.compare": ("compare",),
    "polytag.metrics.evaluate": ("judge_predictions",),
    "polytag.metrics.stream": ("StreamingAP",),
    "polytag.models.checkpoint": ("Checkpoint",),
    "polytag.prediction.foreign": ("read_scores",),
    "polytag.prediction.inference": ("Predictor",),
    "polytag.prediction.pictures": ("predict",),
    "polytag.prediction.table": ("read_predictions", "write_predictions"),
    "polytag.report.page": ("write_report",),
    "polytag.scores": ("Scores",),
    "polytag.training.recipes": ("FINETUNE", "PROBE", "VELOCITY", "Recipe"),
    "polytag.training.train": ("resume", "train"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "FINETUNE", "PROBE", "VELOCITY", "Checkpoint", "Dataset", "LabelSet", "PolytagError", "Predictions", "Predictor",
    "Preprocessing", "ReadOptions", "Recipe", "Scores", "StreamingAP", "check", "compare", "convert", "evaluate", "fetch",
    "judge_predictions", "load_dataset", "predict", "predictions_from_arrays", "read_predictions", "read_scores", "resume",
    "train", "write_predictions", "write_report",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'polytag' has no attribute {name!r}")
    with explaining_missing_extras():
        return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
