"""The trackers by name."""

from collections.abc import Callable, Sequence

from polytag.errors import UsageError
from polytag.training.tracking.callback import Tracker, TrackingCallback
from polytag.training.tracking.mlflow import MlflowTracker
from polytag.training.tracking.tensorboard import TensorBoardTracker
from polytag.training.tracking.wandb import WandbTracker

TRACKERS: dict[str, Callable[[], Tracker]] = {
    "tensorboard": TensorBoardTracker,
    "mlflow": MlflowTracker,
    "wandb": WandbTracker,
}


def tracking(names: Sequence[str], *, note: Callable[[str], None]) -> list[TrackingCallback]:
    """A callback for each tracker, once. Raises UsageError for an unknown one, ModuleNotFoundError where its library is missing."""
    unknown = [name for name in names if name not in TRACKERS]
    if unknown:
        raise UsageError("unknown tracker", where="--track", got=", ".join(map(repr, unknown)), expected=", ".join(TRACKERS))
    return [TrackingCallback(TRACKERS[name](), note=note) for name in dict.fromkeys(names)]
