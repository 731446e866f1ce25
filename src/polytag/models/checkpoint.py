"""The Checkpoint folder: model.safetensors, config.json and README.md, which together suffice for prediction.

PyTorch is imported where weights are read or written: thresholds and calibration need config.json alone.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polytag import files
from polytag.calibration import Calibration, convert_thresholds
from polytag.contracts import LabelSet, Preprocessing
from polytag.errors import CheckpointError, UsageError
from polytag.models.backbone_args import check_backbone_args, check_backbone_name
from polytag.models.checkpoint_files import CONFIG, EXPORT, WEIGHTS, OpenFile, explained, open_file, open_together
from polytag.models.hub import local_folder
from polytag.own_parts import FEATURES, OWN_BACKBONE, PartRecord, record_of
from polytag.parsing import MAX_JSON_BYTES, parse_json, small_text
from polytag.plain import WrongValue, from_plain

if TYPE_CHECKING:
    from torch import Tensor, nn

CONFIG_VERSION = 1
HUB_KEY = "polytag"
"""Under which config.json has the same values in a repository of the hub, beside timm's."""
CARD = "README.md"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained model on disk: the content of `config.json`. `load_model` reads the weights.

    folder          its path
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
        config, calibration, thresholds, weights = _read_config(folder)
        if backbone is not None:
            _require_same_backbone(config.own_backbone, backbone, where=folder)
        return cls(
            folder=folder,
            backbone=config.backbone,
            backbone_args=config.backbone_args,
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


@dataclass(frozen=True, kw_only=True)
class _Config:
    """config.json without its calibration: the names, kinds and sizes of its values."""

    version: int
    backbone: str
    backbone_args: dict[str, object]
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    thresholds: tuple[float, ...]
    weights_sha256: str
    facts: Mapping[str, object]
    num_features: int | None = None
    unit_length: bool = False
    own_backbone: PartRecord | None = None

    def __post_init__(self):
        check_backbone_name(self.backbone)
        check_backbone_args(self.backbone_args)
        if (self.backbone == OWN_BACKBONE) != (self.own_backbone is not None):
            raise WrongValue("backbone", self.backbone, expected=f"{OWN_BACKBONE} where there is own_backbone, and only there")
        if (self.backbone == FEATURES) != (self.num_features is not None):
            raise WrongValue("backbone", self.backbone, expected=f"{FEATURES} where there is num_features, and only there")
        if self.num_features is not None and not 1 <= self.num_features <= 10_000_000:
            raise WrongValue("num_features", self.num_features, expected="1 to 10,000,000")
        _check_thresholds(self.thresholds, num_classes=len(LabelSet(names=self.classes)))
        if not re.fullmatch("[0-9a-f]{64}", self.weights_sha256):
            raise WrongValue("weights_sha256", self.weights_sha256, expected="64 hexadecimal digits")


def _check_thresholds(thresholds: Sequence[float], *, num_classes: int) -> None:
    if len(thresholds) != num_classes or not all(0 <= threshold <= 1 for threshold in thresholds):
        raise WrongValue("thresholds", thresholds, expected=f"{num_classes} probabilities, one for each class")


def _read_config(folder: Path) -> tuple[_Config, Calibration | None, tuple[float, ...], OpenFile | None]:
    """The checked config.json of a folder, its calibration, the thresholds after it, and the weights; raises CheckpointError."""
    path = folder / CONFIG
    try:
        file, weights = open_together(folder)
        content = file.read(at_most=MAX_JSON_BYTES + 1)
    except OSError as error:
        raise CheckpointError(
            "no checkpoint here",
            where=str(folder),
            got=error.strerror or str(error),
            expected=f"a folder with {CONFIG} and {WEIGHTS}, or a run folder with best/",
            next_step="`polytag train DATA` makes one",
        ) from error
    expected = f"a polytag checkpoint, version {CONFIG_VERSION}"
    with explained(f"{CONFIG} is not that of a checkpoint", path, expected=expected, error=CheckpointError):
        values = from_plain(dict, parse_json(small_text(content)))
        if "version" not in values and HUB_KEY in values:
            values = from_plain(dict, values[HUB_KEY], name=HUB_KEY)
        version = from_plain(int, values.get("version"), name="version")
        if version == CONFIG_VERSION:
            calibration = values.pop("calibration", None)  # absent from older checkpoints
            config = from_plain(_Config, values)
            return config, *_with_calibration(config, calibration), weights
    raise CheckpointError(
        "this checkpoint was made by another version of polytag",
        where=str(path),
        got=f"version {version}",
        expected=f"version {CONFIG_VERSION}",
        next_step="use the version of polytag that made it, or train again",
    )


def _with_calibration(config: _Config, stored: object) -> tuple[Calibration | None, tuple[float, ...]]:
    if stored is None:
        return None, config.thresholds
    values = from_plain(dict, stored, name="calibration")
    thresholds = from_plain(tuple[float, ...], values.pop("thresholds", None), name="calibration.thresholds")
    _check_thresholds(thresholds, num_classes=len(config.classes))
    calibration = Calibration.from_json(values)
    if len(calibration.maps) != len(config.classes):
        raise WrongValue("calibration.maps", calibration.maps, expected=f"one for each of {len(config.classes)} classes")
    return calibration, thresholds


def config_values(checkpoint: Checkpoint) -> dict[str, object]:
    """The content of config.json. The thresholds before calibration are there too, where version 0.1.0 reads them."""
    calibration, thresholds = checkpoint.calibration, checkpoint.thresholds
    return {
        "version": CONFIG_VERSION,
        "backbone": checkpoint.backbone,
        "backbone_args": dict(checkpoint.backbone_args),
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
