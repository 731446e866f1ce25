"""Graphs in 8-bit integers decide nearly as the checkpoint does on labelled images, or nothing is written."""

import json
import re
import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from polytag.cli.main import main
from polytag.contracts import Dataset, LabelSet, Predictions
from polytag.data.read_options import ReadOptions
from polytag.errors import CheckpointError, DataError, ExportError, PolytagError, UsageError
from polytag.export.engine_graphs import EngineGraph
from polytag.export.export import export_model
from polytag.export.images import images_of_dataset, images_of_run, range_images, some
from polytag.export.reduced_gate import Reference, first_that_passes, reference_of
from polytag.inference.predict import predict
from polytag.inference.predictor import Predictor
from polytag.inference.scorers import scorer_of
from polytag.models.checkpoint import Checkpoint
from polytag.models.exported import Exported
from polytag.predictions.table import write_predictions
from polytag.runs.args import RunArgs, write_args
from polytag.runs.folder import RunFolder
from polytag.runs.recipe import FINETUNE

INT8 = ("pixels-int8.onnx", "openvino/pixels-int8.xml", "openvino/pixels-int8.bin")


def coloured(folder: Path, num_images: int, *, seed: int) -> list[Path]:
    """Images of a few large squares of colour."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for row in range(num_images):
        Image.fromarray(rng.integers(0, 256, (3, 3, 3), dtype=np.uint8)).resize((36, 30)).save(folder / f"{row:04}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def labelled(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """520 images whose labels are mostly what the checkpoint decides, and some not; the last is no image."""
    paths = coloured(tmp_path_factory.mktemp("labelled") / "images", 520, seed=0)
    logit_NC = np.concatenate([each.output_ND for each in Predictor.load(checkpoint, device="cpu").score_files(paths)])
    noise_NC = np.random.default_rng(1).normal(0, np.abs(logit_NC).mean(), logit_NC.shape)
    paths[-1].write_bytes(b"no image")
    return Dataset(
        ids=tuple(path.name for path in paths),
        paths=paths,
        target_NC=(logit_NC + noise_NC > 0).astype(np.int8),
        split_N=("",) * len(paths),
        label_set=checkpoint.label_set,
        source="520 squares",
    )


@pytest.fixture(scope="module")
def for_ranges(labelled: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    paths = coloured(tmp_path_factory.mktemp("ranges") / "images", 40, seed=2)
    paths[7].write_bytes(b"no image")
    return replace(labelled.take(range(40)), paths=paths, source="40 others")


@pytest.fixture(scope="module")
def exported(checkpoint: Checkpoint, labelled: Dataset, for_ranges: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    out = tmp_path_factory.mktemp("exports") / "int8"
    return export_model(checkpoint, out, to=("onnx", "openvino"), int8=True, check=labelled, calibrate_on=for_ranges)


def test_the_folder_says_how_it_was_quantized_and_what_was_compared(exported: Exported):
    read = Exported.read(exported.folder)
    assert read == exported
    assert {name for name, file in read.files.items() if file.precision == "int8"} == set(INT8)
    for name in INT8:
        checked = read.files[name].checked
        assert (checked.images, checked.decisions, checked.of) == (519, 3 * 519, "519 of 520 squares")
        assert checked.decisions_changed <= 0.005 * checked.decisions
        assert checked.mAP is not None
        assert checked.mAP_of_checkpoint is not None
        assert 0.5 < checked.mAP_of_checkpoint < 1
        assert abs(checked.mAP - checked.mAP_of_checkpoint) <= 0.005
        assert checked.max_logit_difference > 1e-4
        assert re.fullmatch(
            r"NNCF, preset mixed, depthwise convolutions.* in float; ranges of 39 of 40 others", read.files[name].quantized
        )
    text = (exported.folder / "README.md").read_text()
    assert "519 images: 519 of 520 squares" in text


def test_the_weights_are_integers_with_a_scale_for_each_channel_and_the_decision_stays_in_float(exported: Exported):
    graph = onnx.load(exported.folder / "pixels-int8.onnx").graph
    of = {each.name: each for each in graph.initializer}
    scales = [of[node.input[1]] for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in of]
    assert any(len(scale.dims) == 1 and scale.dims[0] > 1 for scale in scales)
    outside = [node for node in graph.node if not any(name.startswith("n.") for name in (*node.input, *node.output))]
    assert {"Exp", "Greater"} <= {node.op_type for node in outside}
    assert not [node.op_type for node in outside if "Quantize" in node.op_type]


def test_precision_int8_takes_them_and_auto_is_exact(exported: Exported, checkpoint: Checkpoint, labelled: Dataset):
    paths = labelled.paths[:64]
    own_NC = np.stack([result.logit_C for result in predict(checkpoint, paths, device="cpu", precision="fp32")])

    def largest(precision: str) -> float:
        return max(np.abs(result.logit_C - own_C).max() for result, own_C in zip(
            predict(exported, paths, precision=precision), own_NC, strict=True
        ))  # fmt: skip

    assert largest("auto") == largest("fp32") < 1e-4 < largest("int8") < 1
    for engine in ("onnx", "openvino"):
        scorer = scorer_of(exported, engine=engine, precision="int8")
        assert (scorer.engine, scorer.precision) == (engine, "int8")


# ---- the gate ----


@pytest.fixture(scope="module")
def reference(checkpoint: Checkpoint, labelled: Dataset) -> Reference:
    return reference_of(checkpoint, images_of_dataset(labelled))


def test_what_decides_otherwise_is_refused_with_the_numbers_of_every_way(exported: Exported, reference: Reference):
    """As if the checkpoint had answered the opposite."""
    graph = EngineGraph(
        engine="onnx", precision="int8", contents={INT8[0]: exported.file(INT8[0])}, quantized="the first way; ranges of it"
    )
    opposite = replace(reference, logit_NC=-reference.logit_NC)
    with pytest.raises(ExportError) as caught:
        first_that_passes([lambda: graph, lambda: replace(graph, quantized="the second")], opposite)
    error = caught.value
    assert error.what == "int8 for onnx answers too differently from the checkpoint, so nothing is written"
    one = r"\d+\.\d\d% of 1,557 decisions and mAP 0\.\d{4} instead of 0\.\d{4}"
    assert re.fullmatch(rf"on 519 images: {one} \(the first way\); {one} \(the second\)", error.got)
    assert error.expected == "at most 0.5% of the decisions, and 0.005 of mAP"
    assert error.next_step.startswith("leave --int8 out")


def test_a_way_that_misses_leaves_its_place_to_the_next(exported: Exported, reference: Reference):
    made: list[str] = []

    def make(name: str) -> EngineGraph:
        made.append(name)
        return EngineGraph(engine="onnx", precision="int8", contents={INT8[0]: exported.file(name)}, quantized=name)

    graph, checked = first_that_passes([partial(make, INT8[0]), partial(make, "never made")], reference)
    assert (made, graph.quantized) == ([INT8[0]], INT8[0])
    assert checked == exported.files[INT8[0]].checked


@pytest.mark.parametrize("case", ["few", "unlabelled", "one kind of label"])
def test_too_few_labels_judge_nothing(checkpoint: Checkpoint, labelled: Dataset, for_ranges: Dataset, case: str, tmp_path: Path):
    target_NC = labelled.target_NC.copy()
    if case == "unlabelled":
        target_NC[:] = -1
    elif case == "one kind of label":
        target_NC[:] = 1
    check = replace(labelled, target_NC=target_NC) if case != "few" else labelled.take(range(400))
    with pytest.raises(ExportError, match="int8 is not judged on these images") as caught:
        reference_of(checkpoint, images_of_dataset(check))
    assert "--check DATA" in caught.value.next_step
    assert caught.value.got.startswith({"few": "400", "unlabelled": "0", "one kind of label": "519"}[case])


# ---- the images ----


def test_another_class_list_for_check(checkpoint: Checkpoint, labelled: Dataset, tmp_path: Path):
    other = replace(labelled, label_set=LabelSet(names=("cat", "dog", "bush")))
    with pytest.raises(CheckpointError, match="another class list"):
        export_model(checkpoint, tmp_path / "out", int8=True, check=other)
    assert list(tmp_path.iterdir()) == []


def test_no_image_is_compared_on_that_ranges_were_measured_on(labelled: Dataset, checkpoint: Checkpoint, tmp_path: Path):
    link = tmp_path / "link"
    link.symlink_to(labelled.paths[0].parent)
    again = replace(labelled, paths=[link / path.name for path in labelled.paths])
    ranges = partial(range_images, tmp_path, again, preprocessing=checkpoint.preprocessing)
    assert len(ranges(unlike=labelled.paths[:500]).views) == 19
    with pytest.raises(DataError, match="no images to measure the ranges of int8 on") as caught:
        ranges(unlike=labelled.paths)
    assert "520 images, 0 of which" in caught.value.got


def test_images_that_cannot_be_read_have_no_ranges(for_ranges: Dataset, checkpoint: Checkpoint, tmp_path: Path):
    broken = replace(for_ranges, paths=[for_ranges.paths[7]] * 40)
    with pytest.raises(DataError, match="none of 40 can be read"):
        range_images(tmp_path, broken, unlike=(), preprocessing=checkpoint.preprocessing)


def test_a_checkpoint_without_a_run_has_no_training_images(checkpoint: Checkpoint):
    with pytest.raises(DataError, match="int8 needs images to measure ranges on"):
        range_images(checkpoint.folder.parent, None, unlike=(), preprocessing=checkpoint.preprocessing)


def test_the_images_of_a_run(checkpoint: Checkpoint, colours: Path, tmp_path: Path):
    """Validation images to compare on, with labels; ranges from training images alone."""
    run = RunFolder(path=tmp_path)
    write_args(run, RunArgs(data=colours, options=ReadOptions(), recipe=FINETUNE))
    paths = tuple(str(path) for path in sorted((colours.parent / "images").iterdir())[48:])
    target_NC = np.random.default_rng(0).integers(-1, 2, (24, 3)).astype(np.int8)
    write_predictions(
        Predictions(
            ids=paths,
            logit_NC=np.zeros((24, 3), np.float32),
            target_NC=target_NC,
            label_set=checkpoint.label_set,
            image_paths=(*paths[:23], str(tmp_path / "gone.png")),
        ),
        run.predictions,
    )
    found = images_of_run(tmp_path, classes=checkpoint.label_set)
    assert [str(path) for path in found.paths] == list(paths[:23])
    assert np.array_equal(found.target_NC, target_NC[:23])
    few = some(found, 10)
    assert (len(few.paths), few.paths[0], few.paths[-1]) == (10, found.paths[0], found.paths[-1])
    ranges = range_images(tmp_path, None, unlike=found.paths, preprocessing=checkpoint.preprocessing)
    assert (len(ranges.views), ranges.of) == (48, "48 of the run's training images")


def test_a_split_val_is_compared_on_alone(labelled: Dataset):
    split = ("train",) * 400 + ("val",) * 120
    found = images_of_dataset(replace(labelled, split_N=split))
    assert (len(found.paths), found.of) == (120, "520 squares, val")


def test_options_that_do_not_go_together(
    checkpoint: Checkpoint, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    arguments = ["export", str(checkpoint.folder), str(tmp_path / "out"), "--calibrate-on", str(colours)]
    monkeypatch.setattr(sys, "argv", ["polytag", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "nothing is calibrated without --int8" in capsys.readouterr().err


# ---- folders of strangers ----


@pytest.mark.parametrize("name", INT8)
def test_damaged_graphs(exported: Exported, labelled: Dataset, name: str, tmp_path: Path):
    folder = tmp_path / "copy"
    shutil.copytree(exported.folder, folder)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1])
    engine = "onnx" if name.endswith(".onnx") else "openvino"
    with pytest.raises(ExportError, match="a file of the export is damaged"):
        scorer_of(Exported.read(folder), engine=engine, precision="int8")
    scorer_of(Exported.read(folder), engine=engine)  # the others are whole


@pytest.mark.parametrize("change", [{"quantized": 5}, {"quantized": "x" * 5000}, {"precision": "fp32"}, {"precision": "int4"}])
def test_wrong_values(exported: Exported, tmp_path: Path, change: dict[str, object]):
    values = json.loads((exported.folder / "export.json").read_text())
    values["files"][INT8[0]].update(change)
    (tmp_path / "export.json").write_text(json.dumps(values))
    with pytest.raises(PolytagError, match=r"export\.json is not that of an export"):
        Exported.read(tmp_path)


def test_a_folder_without_the_graph(exported: Exported, tmp_path: Path):
    values = json.loads((exported.folder / "export.json").read_text())
    del values["files"][INT8[2]]
    (tmp_path / "export.json").write_text(json.dumps(values))
    with pytest.raises(UsageError, match="does not hold this engine in int8") as caught:
        scorer_of(Exported.read(tmp_path), engine="openvino", precision="int8")
    assert caught.value.expected == "auto or onnx"


def test_evaluate_scores_a_data_set_with_an_export(
    exported: Exported, labelled: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The images that can be read, with the same numbers as the gate had."""
    lines = ['file_name,cat,dog,"big, old tree"']
    lines += [f"{path},{a},{b},{c}" for path, (a, b, c) in zip(labelled.paths, labelled.target_NC.tolist(), strict=True)]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    arguments = [str(exported.folder), "--images", str(tmp_path / "labels.csv"), "--precision", "int8"]
    monkeypatch.setattr(sys, "argv", ["polytag", "evaluate", *arguments, "--json", str(tmp_path / "metrics.json")])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    found = json.loads((tmp_path / "metrics.json").read_text())["mAP"]["value"]
    assert found == pytest.approx(exported.files["openvino/pixels-int8.xml"].checked.mAP, abs=1e-6)
