"""`export_model`: a checkpoint as a folder of graphs that were run and compared before it is there."""

import json
import math
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from polytag import files
from polytag.contracts import Dataset
from polytag.data.images.stored import is_image_there
from polytag.data.write.images import require_new
from polytag.export.gate import Answers, compared
from polytag.export.graphs import Graphs, graphs_of
from polytag.export.readme import readme
from polytag.export.selftest import write_selftest
from polytag.models.checkpoint import Checkpoint
from polytag.models.checkpoint_files import EXPORT
from polytag.models.exported import IMAGE, PIXELS, README, SELFTEST, Checked, Exported, sha256
from polytag.predictions.table import read_parquet_predictions
from polytag.runs.folder import RunFolder

_NUM_VALIDATION = 200
_MADE_BY = ("polytag", "torch", "onnx", "onnxscript", "onnxruntime")


def export_model(
    model: Checkpoint | Path | str,
    out: Path | str,
    *,
    check: Dataset | None = None,
    on_image: Callable[[int], None] = lambda num_images: None,
) -> Exported:
    """Write a checkpoint, or a run's best, as ONNX graphs; returns what was written.

    The graphs are run first, on generated images and on those of `check`, by default up to 200 validation images of the run, and
    compared with the checkpoint. `on_image` is called after each image that was compared, with the number of all. Raises
    ExportError, and writes nothing, where a logit differs by more than 0.001 or any decision, and where the network cannot be
    exported; RunError where `out` exists; PredictionsError where the run's predictions cannot be read.
    """
    checkpoint = model if isinstance(model, Checkpoint) else Checkpoint.read(model)
    out = Path(out)
    require_new(out)
    paths = _validation_images(checkpoint.folder.parent) if check is None else check.paths
    of = "the run's validation" if check is None else check.source
    graphs = graphs_of(checkpoint, metadata=_metadata(checkpoint))
    checked, answers = compared(checkpoint, graphs, paths=paths, of=of, on_image=on_image)
    return _write(checkpoint, graphs, checked, answers, out=out)


def _validation_images(run: Path) -> Sequence[Path]:
    """Validation images of a run that are still there, evenly from all of them; none where there is no run."""
    predictions = RunFolder(path=run).predictions
    if not predictions.is_file():
        return ()
    paths = [Path(path) for path in read_parquet_predictions(predictions).image_paths if path]
    there = [path for path in paths if is_image_there(path)]
    return there[:: max(1, math.ceil(len(there) / _NUM_VALIDATION))]


def _metadata(checkpoint: Checkpoint) -> dict[str, str]:
    """What each graph says of itself, in its metadata."""
    return {
        "polytag.checkpoint": checkpoint.id,
        "polytag.calibration": checkpoint.calibration_id,
        "polytag.classes": json.dumps(list(checkpoint.label_set)),
        "polytag.thresholds": json.dumps(list(checkpoint.thresholds)),
    }


def _write(checkpoint: Checkpoint, graphs: Graphs, checked: Checked, answers: Answers, *, out: Path) -> Exported:
    contents = {PIXELS: graphs.pixels.SerializeToString(), IMAGE: graphs.image.SerializeToString()}
    made = Exported(
        folder=out,
        id=checkpoint.id,
        calibration_id=checkpoint.calibration_id,
        label_set=checkpoint.label_set,
        thresholds=checkpoint.thresholds,
        preprocessing=checkpoint.preprocessing,
        precision="fp32",
        sha256={name: sha256(content) for name, content in contents.items()},
        checked=checked,
        versions={name: version(name) for name in _MADE_BY},
    )

    def fill(fresh: Path) -> None:
        for name, content in contents.items():
            files.write_bytes(fresh / name, content)
        write_selftest(
            fresh / SELFTEST, logit_NC=answers.logit_NC, probability_NC=answers.probability_NC, present_NC=answers.present_NC
        )
        files.write_text(fresh / README, readme(made))
        files.write_text(fresh / EXPORT, made.text())

    out.parent.mkdir(parents=True, exist_ok=True)
    files.write_folder(out, fill, replace=False)
    return made
