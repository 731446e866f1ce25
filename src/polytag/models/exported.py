"""The export folder: graphs that answer as a checkpoint does, and export.json, which says which and how. Imports no torch.

A folder is whole or absent. It may come from a stranger: every value of export.json is checked, its files have the names that are
known here, and a graph is data for ONNX Runtime or OpenVINO, without operations of its own kinds.
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
from polytag.models.hub import local_folder
from polytag.parsing import MAX_JSON_BYTES, parse_json, small_text
from polytag.plain import WrongValue, from_plain

EXPORT_VERSION = 2
PIXELS, IMAGE, SELFTEST, README = "pixels.onnx", "image.onnx", "selftest", "README.md"
ENGINES, PRECISIONS = ("onnx", "openvino", "executorch"), ("fp32", "int8")
PIXELS_OF: Mapping[
    tuple[str, str], tuple[str, ...]
] = {  # (engine, precision): the files of the graph from resized images; of OpenVINO the graph and its numbers
    ("onnx", "fp32"): (PIXELS,),
    ("onnx", "int8"): ("pixels-int8.onnx",),
    ("openvino", "fp32"): ("openvino/pixels.xml", "openvino/pixels.bin"),
    ("openvino", "int8"): ("openvino/pixels-int8.xml", "openvino/pixels-int8.bin"),
    ("executorch", "fp32"): ("pixels.pte",),
}


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was compared with the checkpoint before the folder was written.

    images, decisions      their numbers; a decision is of one image and one class
    of                     what the images were
    max_logit_difference   the largest
    decisions_changed      0 in fp32, or the folder would not be there
    mAP, mAP_of_checkpoint of a reduced precision, on the images of these that are labelled
    """

    images: int
    of: str
    decisions: int
    max_logit_difference: float
    decisions_changed: int
    mAP: float | None = None
    mAP_of_checkpoint: float | None = None


@dataclass(frozen=True, kw_only=True)
class ExportedFile:
    """One file of an export that an engine loads.

    engine      of ENGINES
    precision   of PRECISIONS
    sha256      of its bytes, 64 hexadecimal digits; compared when it is read
    checked     what its graph answered
    quantized   of int8: how, and on which images its ranges were measured; "" for fp32
    """

    engine: str
    precision: str
    sha256: str
    checked: Checked
    quantized: str = ""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An export on disk: the content of export.json.

    folder           its path
    id               the checkpoint's id, which predictions name
    calibration_id   of the calibration in the graphs, "" for none
    thresholds       C probabilities, after calibration, above which a class is present
    files            of each graph, by its name in the folder
    versions         of the programs that made it, for display
    """

    folder: Path
    id: str
    calibration_id: str
    label_set: LabelSet
    thresholds: tuple[float, ...]
    preprocessing: Preprocessing
    files: Mapping[str, ExportedFile]
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
            values = parse_json(small_text(content))
            if isinstance(values, dict) and (version := values.get("version")) != EXPORT_VERSION:
                raise WrongValue("version", version, expected=f"version {EXPORT_VERSION}: export again with this polytag")
            stored = from_plain(_Stored, values)
            return cls(
                folder=folder,
                id=stored.checkpoint,
                calibration_id=stored.calibration,
                label_set=LabelSet(names=stored.classes),
                thresholds=stored.thresholds,
                preprocessing=stored.preprocessing,
                files=stored.files,
                versions=stored.versions,
            )

    def file(self, name: str) -> bytes:
        """A file that export.json names, compared with its SHA-256; raises ExportError."""
        path, named = self.folder / name, self.files.get(name)
        try:
            content = open_file(path).read()
        except OSError as error:
            raise ExportError(
                "a file of the export cannot be read",
                where=str(path),
                got=error.strerror or str(error),
                expected="a file that `polytag export` wrote",
                next_step="copy the folder again, or export again",
            ) from error
        digest = sha256(content)
        if named is None or digest != named.sha256:
            raise ExportError(
                "a file of the export is damaged",
                where=str(path),
                got=f"SHA-256 {digest[:16]}",
                expected=named.sha256[:16] if named else f"none: {EXPORT} does not name it",
                next_step="copy the folder again, or export again",
            )
        return content

    def has(self, engine: str, precision: str) -> bool:
        """Whether the folder holds the graph from resized images for this engine in this precision."""
        return all(name in self.files for name in PIXELS_OF[engine, precision])

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
            files=self.files,
            versions=self.versions,
        )
        return json.dumps(asdict(values), indent=2, allow_nan=False) + "\n"


def read_model(folder: Path | str) -> Checkpoint | Exported:
    """An export folder, a checkpoint folder or a run folder, or one of the first two on the hub.

    Raises CheckpointError or ExportError.
    """
    folder = local_folder(folder)
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
    files: Mapping[str, ExportedFile]
    versions: Mapping[str, str]

    def __post_init__(self):
        for name, digits in (("checkpoint", self.checkpoint), ("calibration", self.calibration)):
            if not re.fullmatch("[0-9a-f]{16}", digits) and (digits or name == "checkpoint"):
                raise WrongValue(name, digits, expected="16 hexadecimal digits")
        if len(self.thresholds) != len(self.classes) or not all(0 <= value <= 1 for value in self.thresholds):
            raise WrongValue("thresholds", self.thresholds, expected=f"{len(self.classes)} probabilities, one for each class")
        for name, file in self.files.items():
            for key, allowed in (("engine", ENGINES), ("precision", PRECISIONS)):
                if (value := getattr(file, key)) not in allowed:
                    raise WrongValue(f"files.{name}.{key}", value, expected=" or ".join(map(repr, allowed)))
            if not re.fullmatch("[0-9a-f]{64}", file.sha256):
                raise WrongValue(f"files.{name}.sha256", file.sha256, expected="64 hexadecimal digits")
            known = next((which for which, names in _NAMES.items() if name in names), None)
            if known != (file.engine, file.precision):
                raise WrongValue("files", name, expected="the names of the files that `polytag export` writes, each of its engine")


_NAMES = PIXELS_OF | {("onnx", "fp32"): (PIXELS, IMAGE)}
