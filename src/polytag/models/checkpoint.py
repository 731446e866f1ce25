"""The Checkpoint folder: model.safetensors, config.json and README.md, which together suffice for prediction.

PyTorch is imported where weights are read or written: thresholds and calibration need config.json alone.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polytag import files
from polytag.calibration import Calibration, convert_thresholds
from polytag.contracts import LabelSet, Preprocessing
from polytag.errors import CheckpointError, PolytagError
from polytag.models.checkpoint_files import CONFIG, WEIGHTS, OpenFile, open_file, open_together

if TYPE_CHECKING:
    from torch import Tensor, nn

CONFIG_VERSION = 1
CARD = "README.md"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained model on disk: the content of `config.json`. `load_model` reads the weights.

    folder          its path
    thresholds      C probabilities, after calibration, above which a class is present
    calibration     the map that corrects the model's logits, or None
    weights_sha256  of model.safetensors, checked at every load, because safetensors loads flipped bits silently
    facts           about the training, for display
    weights         model.safetensors as it was when config.json was read: `load_model` reads these weights even where training has
                    saved others since
    """

    folder: Path
    backbone: str
    backbone_args: Mapping[str, object] = field(default_factory=dict)
    preprocessing: Preprocessing
    label_set: LabelSet
    thresholds: tuple[float, ...]
    weights_sha256: str
    facts: Mapping[str, object] = field(default_factory=dict)
    calibration: Calibration | None = None
    weights: OpenFile | None = field(default=None, compare=False, repr=False)

    @property
    def id(self) -> str:
        """The first 16 digits of the weights' SHA-256, which identify the model in predictions."""
        return self.weights_sha256[:16]

    @classmethod
    def read(cls, folder: Path | str) -> "Checkpoint":
        """Read `config.json` of a checkpoint folder, or of a run folder's `best`; raises CheckpointError."""
        folder = Path(folder)
        if not (folder / CONFIG).is_file() and (folder / "best").is_dir():
            folder = folder / "best"
        path = folder / CONFIG
        try:
            file, weights = open_together(folder)
            config = json.loads(file.read().decode())
            version = config["version"]
            if version == CONFIG_VERSION:
                label_set = LabelSet(names=tuple(config["classes"]))
                calibration, thresholds = _calibration(config, num_classes=len(label_set))
                return cls(
                    folder=folder,
                    backbone=config["backbone"],
                    backbone_args=config["backbone_args"],
                    preprocessing=_preprocessing(config["preprocessing"]),
                    label_set=label_set,
                    thresholds=thresholds,
                    weights_sha256=config["weights_sha256"],
                    facts=config["facts"],
                    calibration=calibration,
                    weights=weights,
                )
        except OSError as error:
            raise CheckpointError(
                "no checkpoint here",
                where=str(folder),
                got=error.strerror or str(error),
                expected=f"a folder with {CONFIG} and {WEIGHTS}, or a run folder with best/",
                next_step="`polytag train DATA` makes one",
            ) from error
        except (ValueError, KeyError, TypeError, PolytagError) as error:
            raise CheckpointError(
                f"{CONFIG} is not that of a checkpoint",
                where=str(path),
                got=f"{type(error).__name__}: {str(error).splitlines()[0]}",
                expected=f"a polytag checkpoint, version {CONFIG_VERSION}",
            ) from error
        raise CheckpointError(
            "this checkpoint was made by another version of polytag",
            where=str(path),
            got=f"version {version}",
            expected=f"version {CONFIG_VERSION}",
            next_step="use the version of polytag that made it, or train again",
        )

    def load_model(self) -> "nn.Module":
        """The model with these weights, strictly loaded, in evaluation mode, channels last; raises CheckpointError."""
        import torch

        from polytag.models.backbone import check_tensors, create_backbone, parse_tensors

        path = self.folder / WEIGHTS
        tensors = parse_tensors(self._content_of_weights(path), where=str(path))
        model = create_backbone(
            self.backbone,
            num_classes=len(self.label_set),
            backbone_args=self.backbone_args,
            image_size_px=self.preprocessing.image_size_px,
        )
        check_tensors(tensors, model.state_dict(), where=str(path))
        model.load_state_dict(tensors)
        return model.eval().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  the stub lacks it

    def _content_of_weights(self, path: Path) -> bytes:
        try:
            content = (self.weights or open_file(path)).read()
        except OSError as error:
            raise CheckpointError(
                "the weights file does not exist" if isinstance(error, FileNotFoundError) else "the weights file cannot be read",
                where=str(path),
                got="" if isinstance(error, FileNotFoundError) else error.strerror or str(error),
                expected="a safetensors file",
                next_step="copy the checkpoint again, or train again",
            ) from error
        if (digest := _sha256(content)) != self.weights_sha256:
            raise CheckpointError(
                "the weights are damaged",
                where=str(path),
                got=f"SHA-256 {digest[:16]}",
                expected=self.id,
                next_step="copy the checkpoint again, or train again",
            )
        return content

    def require_labels(self, label_set: LabelSet) -> None:
        """Raises CheckpointError unless the model has these classes in this order."""
        if self.label_set.fingerprint != label_set.fingerprint:
            raise CheckpointError(
                "the checkpoint is of another class list",
                where=str(self.folder),
                got=", ".join(self.label_set),
                expected=", ".join(label_set),
                next_step="use the data that the model was trained on, or train a model on these classes",
            )


def save_checkpoint(
    folder: Path,
    *,
    tensors: Mapping[str, "Tensor"],
    backbone: str,
    backbone_args: Mapping[str, object],
    preprocessing: Preprocessing,
    label_set: LabelSet,
    thresholds: tuple[float, ...],
    facts: Mapping[str, object],
    card: Callable[[str], str],
) -> Checkpoint:
    """Write a whole Checkpoint folder, replacing an existing one; `card` returns README.md for the checkpoint's id.

    Raises RunError where the disk is full; an existing folder is then unchanged.
    """
    import safetensors.torch

    content = safetensors.torch.save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})
    checkpoint = Checkpoint(
        folder=folder,
        backbone=backbone,
        backbone_args=dict(backbone_args),
        preprocessing=preprocessing,
        label_set=label_set,
        thresholds=thresholds,
        weights_sha256=_sha256(content),
        facts=dict(facts),
    )
    config = {
        "version": CONFIG_VERSION,
        "backbone": backbone,
        "backbone_args": checkpoint.backbone_args,
        "preprocessing": asdict(preprocessing),
        "classes": list(label_set),
        "thresholds": list(thresholds),
        "calibration": None,
        "weights_sha256": checkpoint.weights_sha256,
        "facts": checkpoint.facts,
    }

    def fill(fresh: Path) -> None:
        files.write_bytes(fresh / WEIGHTS, content)
        files.write_text(fresh / CONFIG, json.dumps(config, indent=2) + "\n")
        files.write_text(fresh / CARD, card(checkpoint.id))

    files.write_folder(folder, fill)
    return checkpoint


def update_checkpoint(checkpoint: Checkpoint, *, thresholds: Sequence[float], calibration: Calibration | None) -> Checkpoint:
    """Write new thresholds and a new calibration into config.json, whole or not at all; the weights and the id do not change.

    `thresholds` are probabilities after calibration. They are stored with the calibration, and also, converted to probabilities
    before it, where version 0.1.0 reads them: that version has no calibration and makes the same decisions.
    Raises RunError where the file cannot be written.
    """
    assert len(thresholds) == len(checkpoint.label_set)
    path = checkpoint.folder / CONFIG
    config = json.loads(path.read_text())
    config["thresholds"] = list(convert_thresholds(thresholds, undo=calibration))
    config["calibration"] = None if calibration is None else {**calibration.to_json(), "thresholds": list(thresholds)}
    files.write_text(path, json.dumps(config, indent=2) + "\n")
    return replace(checkpoint, thresholds=tuple(thresholds), calibration=calibration)


def _calibration(config: Mapping[str, Any], *, num_classes: int) -> tuple[Calibration | None, tuple[float, ...]]:
    """The calibration, None in older checkpoints, and the thresholds after it."""
    values = config.get("calibration")
    calibration = None if values is None else Calibration.from_json(values)
    thresholds = tuple(map(float, config["thresholds"] if values is None else values["thresholds"]))
    if len(thresholds) != num_classes or not all(0 <= threshold <= 1 for threshold in thresholds):
        raise ValueError(f"thresholds that are not {num_classes} probabilities")
    if calibration is not None and len(calibration.maps) != num_classes:
        raise ValueError(f"a calibration of {len(calibration.maps)} classes, not {num_classes}")
    return calibration, thresholds


def _preprocessing(config: Mapping[str, object]) -> Preprocessing:
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}
    return Preprocessing(**values)  # pyright: ignore[reportArgumentType]  a wrong type is a ValueError or TypeError, reported above


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
