"""The state of a run: everything that training changes, for a resume. Randomness has no state.

Every random choice comes from a generator seeded with (seed, epoch, step or image), so a killed run continues with the numbers
that it would have drawn.
"""

import io
import pickle
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from polytag import files
from polytag.errors import RunError

VERSION = 1


@dataclass(kw_only=True)
class State:
    """Training as it stands between two steps. The one value in polytag that changes in place: saved, it is a plain dict.

    epoch, step            the next step to take: epochs and steps before it are done (epoch counted from 1, step from 0)
    model, average         state dicts of the trained and of the averaged weights (the same object where there is no average)
    optimizer              its state dict
    best, best_map, best_epoch   the averaged weights of the best epoch so far
    rows                   results.csv so far
    epoch_logits, epoch_targets, epoch_loss_sum, epoch_num_images   of this epoch's steps so far, for its training loss and mAP
    epoch_seconds          of this epoch so far; failures: images that could not be read, name -> reason
    """

    data_fingerprint: str
    classes: list[str]
    epoch: int = 1
    step: int = 0
    model: dict[str, Tensor] = field(default_factory=dict)
    average: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, object] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_map: float = float("-inf")
    best_epoch: int = -1
    rows: list[dict[str, float]] = field(default_factory=list)
    epoch_logits: list[Tensor] = field(default_factory=list)
    epoch_targets: list[Tensor] = field(default_factory=list)
    epoch_loss_sum: float = 0.0
    epoch_num_images: int = 0
    epoch_seconds: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)
    num_threads: int = 0

    def begin_epoch_results(self) -> None:
        """Clear the results of this epoch's steps."""
        self.epoch_logits, self.epoch_targets, self.epoch_loss_sum, self.epoch_num_images = [], [], 0.0, 0


def save_state(path: Path, state: State) -> None:
    """Replace the state file, whole or not at all; raises RunError on a full disk, the previous state then being untouched."""
    content = io.BytesIO()
    shallow = {name: getattr(state, name) for name in State.__dataclass_fields__}
    torch.save({"version": VERSION, **shallow}, content)
    files.write_bytes(path, content.getbuffer())


def load_state(path: Path) -> State | None:
    """The state of a run, or None where the run was killed before its first; raises RunError for another version, or damage."""
    if not path.is_file():
        return None
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise RunError(
            "the saved state of the run is damaged",
            where=str(path),
            got=f"{path.stat().st_size} bytes that are no state",
            expected="the file that `polytag train` wrote",
            next_step="copy the run folder again, or start a new run",
        ) from error
    if values.pop("version") != VERSION:
        raise RunError(
            "the run was begun with another version of polytag", where=str(path), next_step="resume it with that version"
        )
    return State(**values)
