"""config.json of a checkpoint, read: the names, kinds, sizes and versions of its values. Imports no PyTorch."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from polytag.calibration import Calibration
from polytag.contracts import LabelSet, Preprocessing
from polytag.errors import CheckpointError
from polytag.models.backbone_args import check_backbone_args, check_backbone_name, check_head
from polytag.models.checkpoint_files import CONFIG, WEIGHTS, OpenFile, explained, open_together
from polytag.own_parts import FEATURES, OWN_BACKBONE, PartRecord
from polytag.parsing import MAX_JSON_BYTES, parse_json, small_text
from polytag.plain import WrongValue, from_plain

CONFIG_VERSION, LINEAR_VERSION = 2, 1
"""The second is that of a linear head, which every version of polytag reads."""
HUB_KEY = "polytag"
"""Under which config.json has the same values in a repository of the hub, beside timm's."""


@dataclass(frozen=True, kw_only=True)
class Config:
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
    head: str = "linear"
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
        check_head(self.head, backbone=self.backbone)
        if (self.head == "linear") != (self.version == LINEAR_VERSION):
            raise WrongValue("version", self.version, expected=f"{LINEAR_VERSION} for the head linear, else {CONFIG_VERSION}")
        _check_thresholds(self.thresholds, num_classes=len(LabelSet(names=self.classes)))
        if not re.fullmatch("[0-9a-f]{64}", self.weights_sha256):
            raise WrongValue("weights_sha256", self.weights_sha256, expected="64 hexadecimal digits")


def _check_thresholds(thresholds: Sequence[float], *, num_classes: int) -> None:
    if len(thresholds) != num_classes or not all(0 <= threshold <= 1 for threshold in thresholds):
        raise WrongValue("thresholds", thresholds, expected=f"{num_classes} probabilities, one for each class")


def read_config(folder: Path) -> tuple[Config, Calibration | None, tuple[float, ...], OpenFile | None]:
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
    expected = f"a polytag checkpoint, version {LINEAR_VERSION} or {CONFIG_VERSION}"
    with explained(f"{CONFIG} is not that of a checkpoint", path, expected=expected, error=CheckpointError):
        values = from_plain(dict, parse_json(small_text(content)))
        if "version" not in values and HUB_KEY in values:
            values = from_plain(dict, values[HUB_KEY], name=HUB_KEY)
        version = from_plain(int, values.get("version"), name="version")
        if version in (LINEAR_VERSION, CONFIG_VERSION):
            calibration = values.pop("calibration", None)  # absent from older checkpoints
            config = from_plain(Config, values)
            return config, *_with_calibration(config, calibration), weights
    raise CheckpointError(
        "this checkpoint was made by another version of polytag",
        where=str(path),
        got=f"version {version}",
        expected=f"version {LINEAR_VERSION} or {CONFIG_VERSION}",
        next_step="use the version of polytag that made it, or train again",
    )


def _with_calibration(config: Config, stored: object) -> tuple[Calibration | None, tuple[float, ...]]:
    if stored is None:
        return None, config.thresholds
    values = from_plain(dict, stored, name="calibration")
    thresholds = from_plain(tuple[float, ...], values.pop("thresholds", None), name="calibration.thresholds")
    _check_thresholds(thresholds, num_classes=len(config.classes))
    calibration = Calibration.from_json(values)
    if len(calibration.maps) != len(config.classes):
        raise WrongValue("calibration.maps", calibration.maps, expected=f"one for each of {len(config.classes)} classes")
    return calibration, thresholds
