"""MLflow: a run of the experiment in $MLFLOW_EXPERIMENT_NAME, at $MLFLOW_TRACKING_URI or in MLflow's own default place."""

import os
import time
from collections.abc import Mapping
from importlib import import_module

from polytag.runs.folder import RunFolder
from polytag.training.tracking.contents import Params

_MAX_METRICS, _MAX_PARAMS = 1000, 100  # of one request
_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # a server that is gone keeps a training waiting for seconds, and not for minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class MlflowTracker:
    """A Tracker."""

    name = "mlflow"

    def __init__(self):
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)
        import_module("mlflow")  # no extra of a checkout, so no checker knows its types
        self._entities = import_module("mlflow.entities")
        self._client_of = import_module("mlflow.tracking").MlflowClient
        self._error = import_module("mlflow.exceptions").MlflowException

    def open(self, run: RunFolder, *, name: str, tracker_id: str) -> str:
        self._client = self._client_of()
        if tracker_id and self._is_there(tracker_id):
            self._id = tracker_id
            self._client.update_run(tracker_id, status="RUNNING")
        else:
            self._id = self._client.create_run(self._experiment(), run_name=name).info.run_id
        return self._id

    def describe(self, params: Params) -> None:
        known = self._client.get_run(self._id).data.params  # of before a resume: MLflow lets none be changed
        found = [self._entities.Param(name, str(value)) for name, value in params.items() if name not in known]
        for start in range(0, len(found), _MAX_PARAMS):
            self._client.log_batch(self._id, params=found[start : start + _MAX_PARAMS])

    def log(self, numbers: Mapping[str, float], *, epoch: int) -> None:
        self._log(numbers, step=epoch)

    def result(self, numbers: Mapping[str, float]) -> None:
        self._log(numbers, step=0)

    def close(self, *, is_finished: bool) -> None:
        self._client.set_terminated(self._id, status="FINISHED" if is_finished else "KILLED")

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "polytag"
        found = self._client.get_experiment_by_name(name)
        return found.experiment_id if found is not None else self._client.create_experiment(name)

    def _is_there(self, tracker_id: str) -> bool:
        """Whether the tracker has this run; another place has others."""
        try:
            return self._client.get_run(tracker_id).info.lifecycle_stage == "active"
        except self._error as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def _log(self, numbers: Mapping[str, float], *, step: int) -> None:
        now = int(time.time() * 1000)
        metrics = [self._entities.Metric(name, number, now, step) for name, number in numbers.items()]
        for start in range(0, len(metrics), _MAX_METRICS):
            self._client.log_batch(self._id, metrics=metrics[start : start + _MAX_METRICS])
