"""`export_model`: a checkpoint as a folder of graphs that were run and compared before it is there."""

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from polytag import files
from polytag.contracts import Dataset
from polytag.data.write.images import require_new
from polytag.errors import UsageError
from polytag.export.engine_graphs import EngineGraph, answer_of, onnx_graphs, openvino_graph
from polytag.export.executorch_program import answer_by_executorch, executorch_program
from polytag.export.gate import Answer, Answers, compared
from polytag.export.graphs import Graphs, graphs_of
from polytag.export.images import NUM_COMPARED, NUM_LABELLED, images_of_dataset, images_of_run, range_images, some
from polytag.export.quantization import WAYS, quantized
from polytag.export.readme import readme
from polytag.export.reduced_gate import first_that_passes, reference_of
from polytag.export.selftest import write_selftest
from polytag.export.web_folder import WEB, runtime_files, web_files
from polytag.models.checkpoint import Checkpoint
from polytag.models.checkpoint_files import EXPORT
from polytag.models.exported import IMAGE, PIXELS_OF, README, SELFTEST, Checked, Exported, ExportedFile, sha256

TARGETS = ("onnx", "openvino", "executorch")
_MADE_BY = ("polytag", "torch", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf", "executorch")


def export_model(
    model: Checkpoint | Path | str,
    out: Path | str,
    *,
    to: Sequence[str] = ("onnx",),
    int8: bool = False,
    check: Dataset | None = None,
    calibrate_on: Dataset | None = None,
    web: bool = False,
    on_image: Callable[[int], None] = lambda num_images: None,
    note: Callable[[str], None] = lambda what: None,
) -> Exported:
    """Write a checkpoint, or a run's best, as graphs for the engines of `to`: "onnx", "openvino", "executorch"; returns
    what was written.

    With `web`, the folder also has web/, a page that runs the graph `image` in a browser: ONNX Runtime Web is fetched for it from
    the npm registry, once.

    The graphs are run first, on generated images and on those of `check`, by default up to 200 validation images of the run, and
    compared with the checkpoint. With `int8` there are graphs in 8-bit integers as well. Their ranges are measured on some 300
    images of `calibrate_on`, by default the run's training images, and they are compared on the labelled images of `check`, by
    default up to 2,000 of the run's validation images: at least 500, on none of which ranges were measured.

    `on_image` is called after each image that was compared in fp32, with the number of all, `note` at each step. Raises
    ExportError, and writes nothing, where a logit differs by more than 0.001 or any decision, or in int8 more than 0.5 % of the
    decisions or 0.005 of mAP, and where the network cannot be exported; UsageError for another engine, or `web` without "onnx";
    RunError where `out` exists; PredictionsError where the run's predictions cannot be read; FetchError where ONNX Runtime Web
    cannot be fetched; with `int8` CheckpointError for a `check` of other classes and DataError where there are no images to
    measure ranges on.
    """
    targets = targets_of(to)
    if int8 and not any((each, "int8") in PIXELS_OF for each in targets):
        raise UsageError(
            "no graph for this engine has 8-bit integers", where="--int8", got=", ".join(targets), expected="onnx or openvino"
        )
    if web and "onnx" not in targets:
        raise UsageError(
            "a page for the browser runs the graph for ONNX Runtime", where="--web", got=", ".join(targets), expected="onnx"
        )
    checkpoint = model if isinstance(model, Checkpoint) else Checkpoint.read(model)
    out = Path(out)
    require_new(out)
    runtime = runtime_files() if web else {}  # before the work: it may fail
    if int8 and check is not None:
        checkpoint.require_labels(check.label_set)
    run = checkpoint.folder.parent
    images = images_of_run(run, classes=checkpoint.label_set) if check is None else images_of_dataset(check)
    labelled = some(images, NUM_LABELLED) if check is None else images
    ranges = range_images(run, calibrate_on, unlike=labelled.paths, preprocessing=checkpoint.preprocessing) if int8 else None
    note("making the graphs")
    graphs = graphs_of(checkpoint, metadata=_metadata(checkpoint))
    made, answer_by = _in_float32(checkpoint, graphs, targets)
    note("comparing")
    compare = some(images, NUM_COMPARED) if check is None else images
    checked, answers = compared(checkpoint, answer_by, paths=compare.paths, of=images.of, on_image=on_image)
    if ranges is not None:
        note("comparing, with labels")
        reference = reference_of(checkpoint, labelled)
        for engine in (each for each in targets if (each, "int8") in PIXELS_OF):
            note(f"int8 for {engine}")
            ways = [partial(quantized, checkpoint, graphs, way, engine=engine, images=ranges) for way in WAYS]
            graph, checked[PIXELS_OF[engine, "int8"][0]] = first_that_passes(ways, reference)
            made.append(graph)
    return _write(checkpoint, made, checked, answers, runtime=runtime, out=out)


def _in_float32(checkpoint: Checkpoint, graphs: Graphs, targets: Sequence[str]) -> tuple[list[EngineGraph], dict[str, Answer]]:
    """The graph of each engine, and how each answers, by its name."""
    made = onnx_graphs(graphs) if "onnx" in targets else []
    if "openvino" in targets:
        made.append(openvino_graph(graphs))
    answer_by = {each.name: answer_of(each) for each in made}
    if "executorch" in targets:
        program = executorch_program(checkpoint)
        made.append(program)
        answer_by[program.name] = answer_by_executorch(program.contents[program.name], name=program.name)
    return made, answer_by


def targets_of(names: Sequence[str]) -> tuple[str, ...]:
    """The engines to write for, once each; raises UsageError for another name, and for none."""
    unknown = [name for name in names if name not in TARGETS]
    if unknown or not names:
        raise UsageError(
            "unknown engine to export to", where="--to", got=repr(", ".join(unknown)), expected=f"some of {', '.join(TARGETS)}"
        )
    return tuple(dict.fromkeys(names))


def _metadata(checkpoint: Checkpoint) -> dict[str, str]:
    """What each graph says of itself, in its metadata."""
    return {
        "polytag.checkpoint": checkpoint.id,
        "polytag.calibration": checkpoint.calibration_id,
        "polytag.classes": json.dumps(list(checkpoint.label_set)),
        "polytag.thresholds": json.dumps(list(checkpoint.thresholds)),
    }


def _write(
    checkpoint: Checkpoint,
    made: Sequence[EngineGraph],
    checked: Mapping[str, Checked],
    answers: Answers,
    *,
    runtime: dict[str, bytes],
    out: Path,
) -> Exported:
    """The folder; with a `runtime`, its web/ too."""
    contents = {name: content for graph in made for name, content in graph.contents.items()}
    exported = Exported(
        folder=out,
        id=checkpoint.id,
        calibration_id=checkpoint.calibration_id,
        label_set=checkpoint.label_set,
        thresholds=checkpoint.thresholds,
        preprocessing=checkpoint.preprocessing,
        files={
            name: ExportedFile(
                engine=graph.engine,
                precision=graph.precision,
                sha256=sha256(content),
                checked=checked[graph.name],
                quantized=graph.quantized,
            )
            for graph in made
            for name, content in graph.contents.items()
        },
        versions=_versions(),
    )

    page = web_files(exported, image_graph=contents[IMAGE], runtime=runtime) if runtime else {}

    def fill(fresh: Path) -> None:
        for name, content in (contents | {f"{WEB}/{name}": content for name, content in page.items()}).items():
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            files.write_bytes(fresh / name, content)
        write_selftest(
            fresh / SELFTEST, logit_NC=answers.logit_NC, probability_NC=answers.probability_NC, present_NC=answers.present_NC
        )
        files.write_text(fresh / README, readme(exported))
        files.write_text(fresh / EXPORT, exported.text())

    out.parent.mkdir(parents=True, exist_ok=True)
    files.write_folder(out, fill, replace=False)
    return exported


def _versions() -> dict[str, str]:
    """Of what made the graphs, as far as it is installed."""
    found: dict[str, str] = {}
    for name in _MADE_BY:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
