"""The export folder: graphs that answer as a checkpoint does, and export.json, which says which and how. Imports no torch.

A folder is whole or absent. It may come from a stranger: every value of export.json is checked, and a graph is data for ONNX
Runtime, without operations of its own kinds.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from polytag.contracts import LabelSet, Preprocessing
from polytag.errors import ExportError
from polytag.models.checkpoint import Checkpoint, require_same_classes
from polytag.models.checkpoint_files import EXPORT, explained, open_file
from polytag.parsing import MAX_JSON_BYTES, parse_json, small_text
from polytag.plain import WrongValue, from_plain

EXPORT_VERSION = 1
PIXELS, IMAGE, SELFTEST, README = "pixels.onnx", "image.onnx", "selftest", "README.md"


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was compared with the checkpoint before the folder was written.

    images, decisions      their numbers; a decision is of one image and one class
    of                     what the images were
    max_logit_difference   the largest, of `pixels` and `image` graph
    decisions_changed      0, or the folder would not be there
    """

    images: int
    of: str
    decisions: int
    max_logit_difference: float
    decisions_changed: int


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An export on disk: the content of export.json.

    folder           its path
    id               the checkpoint's id, which predictions name
    calibration_id   of the calibration in the graphs, "" for none
    thresholds       C probabilities, after calibration, above which a class is present
    sha256           of each graph, by its name in the folder; checked when it is read
    versions         of the programs that made it, for display
    """

    folder: Path
    id: str
    calibration_id: str
    label_set: LabelSet
    thresholds: tuple[float, ...]
    preprocessing: Preprocessing
    precision: str
    sha256: Mapping[str, str]
    checked: Checked
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path | str) -> "Exported":
        """Read export.json of an export folder; raises ExportError."""
        folder = Path(folder)
        path = folder / EXPORT
        try:
            content = open_file(path).read(at_most=MAX_JSON_BYTES + 1)
        except OSError as error:
            raise ExportError(
                "no export here",
                where=str(folder),
                got=error.strerror or str(error),
                expected=f"a folder with {EXPORT}",
                next_step="`polytag export MODEL OUT` makes one",
            ) from error
        expected = f"a polytag export, version {EXPORT_VERSION}"
        with explained(f"{EXPORT} is not that of an export", path, expected=expected, error=ExportError):
            stored = from_plain(_Stored, parse_json(small_text(content)))
            return cls(
                folder=folder,
                id=stored.checkpoint,
                calibration_id=stored.calibration,
                label_set=LabelSet(names=stored.classes),
                thresholds=stored.thresholds,
                preprocessing=stored.preprocessing,
                precision=stored.precision,
                sha256=stored.files,
                checked=stored.checked,
                versions=stored.versions,
            )

    def graph(self, name: str) -> bytes:
        """A graph of the folder, checked against its SHA-256; raises ExportError."""
        path = self.folder / name
        try:
            content = open_file(path).read()
        except OSError as error:
            raise ExportError(
                "a graph of the export cannot be read", where=str(path), got=error.strerror or str(error), expected="an ONNX file"
            ) from error
        if (digest := sha256(content)) != self.sha256.get(name):
            raise ExportError(
                "a graph of the export is damaged",
                where=str(path),
                got=f"SHA-256 {digest[:16]}",
                expected=self.sha256.get(name, "none: export.json does not name it")[:48],
                next_step="copy the folder again, or export again",
            )
        return content

    def require_labels(self, label_set: LabelSet) -> None:
        """Raises CheckpointError unless the model has these classes in this order."""
        require_same_classes(self.label_set, label_set, where=self.folder)

    def text(self) -> str:
        """Of export.json."""
        values = _Stored(
            version=EXPORT_VERSION,
            checkpoint=self.id,
            calibration=self.calibration_id,
            classes=self.label_set.names,
            thresholds=self.thresholds,
            preprocessing=self.preprocessing,
            engine="onnx",
            precision=self.precision,
            files=self.sha256,
            checked=self.checked,
            versions=self.versions,
        )
        return json.dumps(asdict(values), indent=2, allow_nan=False) + "\n"


def read_model(folder: Path | str) -> Checkpoint | Exported:
    """An export folder, a checkpoint folder or a run folder; raises CheckpointError or ExportError."""
    return Exported.read(folder) if (Path(folder) / EXPORT).is_file() else Checkpoint.read(folder)


def sha256(content: bytes) -> str:
    """64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """export.json: the names, kinds and sizes of its values."""

    version: int
    checkpoint: str
    calibration: str
    classes: tuple[str, ...]
    thresholds: tuple[float, ...]
    preprocessing: Preprocessing
    engine: str
    precision: str
    files: Mapping[str, str]
    checked: Checked
    versions: Mapping[str, str]

    def __post_init__(self):
        if self.version != EXPORT_VERSION:
            raise WrongValue("version", self.version, expected=f"version {EXPORT_VERSION}: export again with this polytag")
        for name, allowed in (("engine", ("onnx",)), ("precision", ("fp32",))):
            if (value := getattr(self, name)) not in allowed:
                raise WrongValue(name, value, expected=" or ".join(map(repr, allowed)))
        for name, digits in (("checkpoint", self.checkpoint), ("calibration", self.calibration)):
            if not re.fullmatch("[0-9a-f]{16}", digits) and (digits or name == "checkpoint"):
                raise WrongValue(name, digits, expected="16 hexadecimal digits")
        if len(self.thresholds) != len(self.classes) or not all(0 <= value <= 1 for value in self.thresholds):
            raise WrongValue("thresholds", self.thresholds, expected=f"{len(self.classes)} probabilities, one for each class")
        for name, digest in self.files.items():
            if not re.fullmatch("[0-9a-f]{64}", digest):
                raise WrongValue(f"files.{name}", digest, expected="64 hexadecimal digits")
