"""The Checkpoint folder: model.safetensors, config.json and README.md, which together suffice for prediction.

PyTorch is imported where weights are read or written: thresholds and calibration need config.json alone.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from polytag import files
from polytag.calibration import Calibration, convert_thresholds
from polytag.contracts import LabelSet, Preprocessing
from polytag.errors import CheckpointError, UsageError
from polytag.models.checkpoint_config import CONFIG_VERSION, LINEAR_VERSION, read_config
from polytag.models.checkpoint_files import CONFIG, EXPORT, WEIGHTS, OpenFile, open_file
from polytag.models.hub import local_folder
from polytag.own_parts import PartRecord, record_of

if TYPE_CHECKING:
    from torch import Tensor, nn

CARD = "README.md"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained model on disk: the content of `config.json`. `load_model` reads the weights.

    folder          its path
    head            one of models.heads
    thresholds      C probabilities, after calibration, above which a class is present
    calibration     the map that corrects the model's logits, or None
    weights_sha256  of model.safetensors, checked at every load, because safetensors loads flipped bits silently
    facts           about the training, for display
    own_backbone    of a backbone of the user's own, what identifies it; `given_backbone` is that object, once somebody gave it
    num_features    of a model that takes feature tables in place of images, the length of their vectors
    unit_length     whether these are divided by their Euclidean length first
    weights         model.safetensors as it was when config.json was read: `load_model` reads these weights even where training has
                    saved others since
    """

    folder: Path
    backbone: str
    backbone_args: Mapping[str, object] = field(default_factory=dict)
    head: str = "linear"
    preprocessing: Preprocessing
    label_set: LabelSet
    thresholds: tuple[float, ...]
    weights_sha256: str
    facts: Mapping[str, object] = field(default_factory=dict)
    calibration: Calibration | None = None
    weights: OpenFile | None = field(default=None, compare=False, repr=False)
    num_features: int | None = None
    unit_length: bool = False
    own_backbone: PartRecord | None = None
    given_backbone: Any = field(default=None, compare=False, repr=False)

    @property
    def id(self) -> str:
        """The first 16 digits of the weights' SHA-256, which identify the model in predictions."""
        return self.weights_sha256[:16]

    @property
    def calibration_id(self) -> str:
        """The id of the calibration, "" for none."""
        return self.calibration.id if self.calibration else ""

    @classmethod
    def read(cls, folder: Path | str, *, backbone: Any = None) -> "Checkpoint":
        """Read `config.json` of a checkpoint folder, of a run folder's `best`, or of a repository of the hub: "hf://owner/name".

        `backbone` is the module or the factory that a model with a backbone of the user's own was trained with.
        The folder may come from a stranger: every value is checked, and nothing in it names a file, an address or code. Raises
        CheckpointError, also where the hub does not give it, and for another backbone.
        """
        folder = local_folder(folder)
        is_checkpoint = (folder / CONFIG).is_file()
        if not is_checkpoint and (folder / "best").is_dir():
            folder = folder / "best"
        elif not is_checkpoint and (folder / "fold-1" / "best").is_dir():
            raise CheckpointError(
                "a run of folds has a model for each of them",
                where=str(folder),
                got="fold-1, fold-2, ...",
                expected="a run or a checkpoint with one model",
                next_step=f"give a fold, such as {folder / 'fold-1'}, or train one model on all images, without --folds",
            )
        elif not is_checkpoint and (folder / EXPORT).is_file():
            raise CheckpointError(
                "an export is no checkpoint",
                where=str(folder),
                got=EXPORT,
                expected="a run or a checkpoint",
                next_step="give the run that it was made from; `polytag predict` takes the export itself",
            )
        config, calibration, thresholds, weights = read_config(folder)
        if backbone is not None:
            _require_same_backbone(config.own_backbone, backbone, where=folder)
        return cls(
            folder=folder,
            backbone=config.backbone,
            backbone_args=config.backbone_args,
            head=config.head,
            preprocessing=config.preprocessing,
            label_set=LabelSet(names=config.classes),
            thresholds=thresholds,
            weights_sha256=config.weights_sha256,
            facts=config.facts,
            calibration=calibration,
            weights=weights,
            num_features=config.num_features,
            unit_length=config.unit_length,
            own_backbone=config.own_backbone,
            given_backbone=backbone,
        )

    def load_model(self) -> "nn.Module":
        """The model with these weights, strictly loaded, in evaluation mode, channels last; raises CheckpointError."""
        import torch

        from polytag.models.backbone import parse_tensors, require_input_size

        path = self.folder / WEIGHTS
        self._require_backbone()
        tensors = parse_tensors(self.read_weights(), where=str(path))
        try:
            model = self._create(tensors, where=str(path))
            model.load_state_dict(tensors)
            require_input_size(model, backbone=self.backbone, image_size_px=self.preprocessing.image_size_px)
        except UsageError as error:
            raise CheckpointError(
                f"{CONFIG} describes no network that works",
                where=str(self.folder / CONFIG),
                got=f"{error.what}: {error.got}",
                expected=error.expected,
                next_step="copy the checkpoint again, or use the version of timm that made it",
            ) from error
        return model.eval().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  the stub lacks it

    def _create(self, tensors: "Mapping[str, Tensor]", *, where: str) -> "nn.Module":
        from polytag.models.backbone import create_for_tensors
        from polytag.models.own_backbone import create_own_for_tensors

        num_classes, size_px = len(self.label_set), self.preprocessing.image_size_px
        if self.own_backbone is not None:
            return create_own_for_tensors(self.given_backbone, tensors, where=where, num_classes=num_classes, image_size_px=size_px)
        return create_for_tensors(
            tensors,
            where=where,
            backbone=self.backbone,
            num_classes=num_classes,
            backbone_args=self.backbone_args,
            image_size_px=size_px,
            head=self.head,
        )

    def _require_backbone(self) -> None:
        if self.num_features is not None:
            raise CheckpointError(
                "this model takes features, not images",
                where=str(self.folder),
                got=f"a classifier on {self.num_features:,} features",
                expected="a model of images",
                next_step="polytag predict MODEL --features TABLE, or in Python predict_features(model, table)",
            )
        if self.own_backbone is not None and self.given_backbone is None:
            raise CheckpointError(
                "the backbone of this model is code of its user's own, which is not in its folder",
                where=str(self.folder),
                got="no backbone",
                expected=str(self.own_backbone),
                next_step="give it: Checkpoint.read(folder, backbone=...), or --parts FILE.py of predict and export; an export "
                "works without it",
            )

    def read_weights(self) -> bytes:
        """The content of model.safetensors, checked against its SHA-256; raises CheckpointError."""
        path = self.folder / WEIGHTS
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

    def calibrated(self, logit_NC: np.ndarray, *, next_step: str) -> np.ndarray:
        """Logits under the calibration; raises CheckpointError, with this next step, where one is not finite."""
        made_NC = logit_NC if self.calibration is None else self.calibration.apply(logit_NC)
        if not np.isfinite(made_NC).all():
            raise CheckpointError(
                "the model gives scores that are not finite",
                where=str(self.folder),
                expected="finite logits",
                next_step=next_step,
            )
        return made_NC

    def require_labels(self, label_set: LabelSet) -> None:
        """Raises CheckpointError unless the model has these classes in this order."""
        require_same_classes(self.label_set, label_set, where=self.folder)


def _require_same_backbone(recorded: PartRecord | None, backbone: Any, *, where: Path) -> None:
    given = record_of(backbone, with_weights=False)
    if recorded is None or recorded.digest != given.digest:
        raise CheckpointError(
            "the model has another backbone" if recorded else "the model has a backbone of timm",
            where=str(where),
            got=str(given),
            expected=str(recorded) if recorded else "no backbone",
            next_step="give the backbone that it was trained with" if recorded else "leave it out",
        )


def require_same_classes(own: LabelSet, wanted: LabelSet, *, where: Path) -> None:
    """Raises CheckpointError unless a model's classes are the wanted ones, in their order."""
    if own.fingerprint != wanted.fingerprint:
        raise CheckpointError(
            "the checkpoint is of another class list",
            where=str(where),
            got=", ".join(own),
            expected=", ".join(wanted),
            next_step="choose classes as for the training (--classes, --rename, --merge, --drop), or train on these",
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
    head: str = "linear",
    card: Callable[[str], str],
    num_features: int | None = None,
    unit_length: bool = False,
    own_backbone: PartRecord | None = None,
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
        head=head,
        preprocessing=preprocessing,
        label_set=label_set,
        thresholds=thresholds,
        weights_sha256=_sha256(content),
        facts=dict(facts),
        num_features=num_features,
        unit_length=unit_length,
        own_backbone=own_backbone,
    )

    def fill(fresh: Path) -> None:
        files.write_bytes(fresh / WEIGHTS, content)
        files.write_text(fresh / CONFIG, _config_text(checkpoint))
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
    made = replace(checkpoint, thresholds=tuple(thresholds), calibration=calibration)
    files.write_text(checkpoint.folder / CONFIG, _config_text(made))
    return made


def config_values(checkpoint: Checkpoint) -> dict[str, object]:
    """The content of config.json. The thresholds before calibration are there too, where version 0.1.0 reads them."""
    calibration, thresholds = checkpoint.calibration, checkpoint.thresholds
    head = {} if checkpoint.head == "linear" else {"head": checkpoint.head}
    return {
        "version": CONFIG_VERSION if head else LINEAR_VERSION,
        "backbone": checkpoint.backbone,
        "backbone_args": dict(checkpoint.backbone_args),
        **head,
        "preprocessing": asdict(checkpoint.preprocessing),
        "classes": list(checkpoint.label_set),
        "thresholds": list(convert_thresholds(thresholds, undo=calibration)),
        "calibration": None if calibration is None else {**calibration.to_json(), "thresholds": list(thresholds)},
        "weights_sha256": checkpoint.weights_sha256,
        "facts": dict(checkpoint.facts),
        **(
            {}
            if checkpoint.num_features is None
            else {"num_features": checkpoint.num_features, "unit_length": checkpoint.unit_length}
        ),
        **({"own_backbone": asdict(checkpoint.own_backbone)} if checkpoint.own_backbone else {}),
    }


def _config_text(checkpoint: Checkpoint) -> str:
    return json.dumps(config_values(checkpoint), indent=2, allow_nan=False) + "\n"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
