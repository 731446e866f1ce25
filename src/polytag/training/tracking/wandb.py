"""Weights & Biases: a run of the project in $WANDB_PROJECT; with WANDB_MODE=offline in files that `wandb sync` sends later."""

import os
import secrets
import threading
from collections.abc import Mapping
from importlib import import_module

from polytag.errors import UsageError
from polytag.runs.folder import RunFolder
from polytag.training.tracking.contents import Params

_INIT_SECONDS, _FINISH_SECONDS = 30, 60


class WandbTracker:
    """A Tracker. Raises UsageError, when it is made, where nobody is logged in."""

    name = "wandb"

    def __init__(self):
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self._wandb = wandb = import_module("wandb")  # no extra of a checkout, so no checker knows its types
        if os.environ.get("WANDB_MODE", "online") != "online":
            return
        try:
            wandb.login()
        except wandb.errors.UsageError as error:
            raise UsageError(
                "Weights & Biases does not know who you are",
                where="--track wandb",
                got=str(error),
                next_step="`wandb login`, or set WANDB_MODE=offline to send the run later",
            ) from error
        except wandb.errors.Error:  # no answer: `open` tries again, and tells
            pass

    def open(self, run: RunFolder, *, name: str, tracker_id: str) -> str:
        tracker_id = tracker_id or secrets.token_hex(4)
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "polytag",
            name=name,
            id=tracker_id,
            resume="allow",
            reinit="create_new",
            settings=self._wandb.Settings(console="off", silent=True, init_timeout=_INIT_SECONDS),
        )
        return tracker_id

    def describe(self, params: Params) -> None:
        self._run.config.update(dict(params), allow_val_change=True)

    def log(self, numbers: Mapping[str, float], *, epoch: int) -> None:
        self._run.log({**numbers, "epoch": epoch}, step=epoch)

    def result(self, numbers: Mapping[str, float]) -> None:
        self._run.summary.update(dict(numbers))

    def close(self, *, is_finished: bool) -> None:
        """Waits a minute at most for what is still to be sent."""
        ending = threading.Thread(target=self._run.finish, kwargs={"exit_code": 0 if is_finished else 1}, daemon=True)
        ending.start()
        ending.join(_FINISH_SECONDS)
        if ending.is_alive():
            raise TimeoutError(f"not everything was sent; `wandb sync {self._run.settings.sync_dir}` sends it")
