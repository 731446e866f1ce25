"""The state of a run: everything that training changes, for a resume. Randomness has no state.

Every random choice comes from a generator seeded with (seed, epoch, step or image), so a killed run continues with the numbers
that it would have drawn.
"""

import contextlib
import hashlib
import io
import zipfile
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_origin

import numpy as np
import torch
from torch import Tensor

from polytag import files
from polytag.errors import RunError
from polytag.metrics.optimism import NUM_REPLICATES, optimism_of_best
from polytag.runs.history import COLUMNS

VERSION = 4
_MAGIC = b"polytag state\n"
_DIGEST_BYTES = 32


@dataclass(kw_only=True)
class State:
    """Training as it stands between two steps. The one value in polytag that changes in place: saved, it is a plain dict.

    epoch, step            the next step to take: epochs and steps before it are done (epoch counted from 1, step from 0)
    model, average         state dicts of the trained and of the averaged weights (the same object where there is no average)
    optimizer              its state dict
    loss                   buffers of a loss of the user's own
    best, best_map, best_epoch   the averaged weights of the best epoch so far
    rows                   results.csv so far
    map_replicates         validation mAP of every epoch in bootstrap replicates (metrics.optimism)
    epoch_logits, epoch_targets, epoch_loss_sum, epoch_num_images   of this epoch's steps so far, for its training loss and mAP
    epoch_seconds          of this epoch so far; failures: images that could not be read, name -> reason
    ends, used_seconds     when training ends, as planned at which steps (training.pace), and the time that the run has taken so far
    stopped_after          the share of its time after which Ctrl-C ended the training early; 0: it did not
    """

    data_fingerprint: str
    classes: list[str]
    epoch: int = 1
    step: int = 0
    model: dict[str, Tensor] = field(default_factory=dict)
    average: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, object] = field(default_factory=dict)
    loss: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_map: float = float("-inf")
    best_epoch: int = -1
    rows: list[dict[str, float]] = field(default_factory=list)
    map_replicates: list[Tensor] = field(default_factory=list)
    epoch_logits: list[Tensor] = field(default_factory=list)
    epoch_targets: list[Tensor] = field(default_factory=list)
    epoch_loss_sum: float = 0.0
    epoch_num_images: int = 0
    epoch_seconds: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)
    num_threads: int = 0
    ends: list[tuple[int, int]] = field(default_factory=list)
    used_seconds: float = 0.0
    stopped_after: float = 0.0

    @property
    def optimism(self) -> float:
        """About how much too high the best epoch's validation mAP is, because it was chosen by it."""
        replicate_EB = np.array([each.numpy() for each in self.map_replicates])
        return optimism_of_best(np.array([row["val_map"] for row in self.rows]), replicate_EB) if self.rows else 0.0

    def begin_epoch_results(self) -> None:
        """Clear the results of this epoch's steps."""
        self.epoch_logits, self.epoch_targets, self.epoch_loss_sum, self.epoch_num_images = [], [], 0.0, 0


def save_state(path: Path, state: State) -> None:
    """Replace the state file, whole or not at all; raises RunError on a full disk, the previous state then being untouched.

    The file is a line, the SHA-256 of the rest, and what `torch.save` writes: PyTorch alone reads flipped bits silently.
    """
    saved = io.BytesIO()
    shallow = {name: getattr(state, name) for name in State.__dataclass_fields__}
    torch.save({"version": VERSION, **shallow}, saved)
    files.write_bytes(path, _MAGIC, hashlib.sha256(saved.getbuffer()).digest(), saved.getbuffer())


def load_state(path: Path) -> State | None:
    """The state of a run, or None where the run was killed before its first.

    Raises RunError for another version, and for a file that is damaged or holds no state of this program.
    """
    if not path.is_file():
        return None
    with _reading(path):
        with open(path, "rb") as file:
            magic, digest, content = file.read(len(_MAGIC)), file.read(_DIGEST_BYTES), file.read()
        if magic != _MAGIC or hashlib.sha256(content).digest() != digest:
            raise ValueError("a wrong checksum")
        if any(item.compress_type != zipfile.ZIP_STORED for item in zipfile.ZipFile(io.BytesIO(content)).infolist()):
            raise ValueError("compressed content")  # `torch.save` never compresses, and it could expand without limit
        values = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        version = values.pop("version")
    if version != VERSION:
        raise RunError(
            "the run was begun with another version of polytag", where=str(path), next_step="resume it with that version"
        )
    with _reading(path):
        _require_values_of_state(values, max_bytes=len(content))
        return State(**values)


@contextlib.contextmanager
def _reading(path: Path) -> Generator[None]:
    """Turn whatever a damaged or a stranger's file raises into a RunError."""
    try:
        yield
    except Exception as error:  # pickles and archives raise errors of many kinds
        raise RunError(
            "the saved state of the run is damaged",
            where=str(path),
            got=f"{path.stat().st_size} bytes that are no state",
            expected="the file that `polytag train` wrote",
            next_step="copy the run folder again, or start a new run",
        ) from error


def _require_values_of_state(values: dict[str, Any], *, max_bytes: int) -> None:
    """Raises an exception for values of another kind, and for tensors that claim more than the file holds."""
    for name, kind in State.__annotations__.items():
        kind = get_origin(kind) or kind
        if not isinstance(values[name], (int, float) if kind is float else kind):
            raise TypeError(f"{name} is not of kind {kind.__name__}")
    names, tensors = [*values["classes"]], [*values["epoch_logits"], *values["epoch_targets"], *values["map_replicates"]]
    for named in (values["model"], values["average"], values["best"], values["loss"]):
        names += named
        tensors += named.values()
    if not all(isinstance(name, str) for name in names):
        raise TypeError("a name that is not text")
    if not all(isinstance(tensor, Tensor) and tensor.numel() * tensor.element_size() <= max_bytes for tensor in tensors):
        raise ValueError("a tensor larger than the file")
    for end in values["ends"]:
        if not (isinstance(end, tuple) and len(end) == 2 and all(isinstance(step, int) for step in end)):
            raise TypeError("an end that is no pair of steps")
    numbers = [values[name] for name in ("epoch", "step", "num_threads", "epoch_num_images", "used_seconds", "stopped_after")]
    if min(*numbers, *(step for end in values["ends"] for step in end)) < 0:
        raise ValueError("a negative number")
    for row in values["rows"]:
        if not set(COLUMNS) <= set(row) or not all(isinstance(value, float | int) for value in row.values()):
            raise ValueError("a row of results.csv without its numbers")
    replicates = values["map_replicates"]
    kinds = {(each.dtype, tuple(each.shape)) for each in replicates}
    whole, none = (torch.float64, (NUM_REPLICATES,)), (torch.float64, (0,))  # none of a single group of images
    if len(replicates) != len(values["rows"]) or kinds not in (set(), {whole}, {none}):
        raise ValueError("replicates of other epochs")
    for results in (values["epoch_logits"], values["epoch_targets"]):
        if {tuple(tensor.shape[1:]) for tensor in results} - {(len(values["classes"]),)}:
            raise ValueError("results of another number of classes")
        if sum(map(len, results)) != values["epoch_num_images"]:
            raise ValueError("results of another number of images")


def require_same_model(state: State, weights: Mapping[str, Tensor], *, where: Path) -> None:
    """Raises RunError unless the state's weights have the names and shapes of the model's, which may be laid out on `meta`."""
    wanted = {name: tensor.shape for name, tensor in weights.items()}
    for named in (
        state.model,
        state.average,
        *([state.best] if state.best else []),
    ):  # there is no best before the first epoch's end
        if {name: tensor.shape for name, tensor in named.items()} != wanted:
            raise RunError(
                "the saved state is of another model",
                where=str(where),
                got=f"{len(named)} tensors of other names or shapes",
                expected=f"the {len(wanted)} tensors of the backbone in args.yaml",
                next_step="put args.yaml back as it was, or start a new run",
            )
