"""An export answers as its checkpoint does, in any program; what does not is never written."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from polytag.cli.main import main
from polytag.contracts import Dataset, LabelSet, Predictions, Preprocessing
from polytag.errors import CheckpointError, ExportError, RunError, UsageError
from polytag.export.export import export_model
from polytag.export.graphs import Graphs
from polytag.export.selftest import generated_images
from polytag.inference.predict import predict
from polytag.models.checkpoint import Checkpoint
from polytag.models.exported import Exported
from polytag.predictions.table import write_predictions


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    for number, image in enumerate(generated_images()):
        image.save(folder / f"{number}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def exported(checkpoint: Checkpoint, images: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Exported:
    num_images, num_classes = len(images), len(checkpoint.label_set)
    dataset = Dataset(
        ids=tuple(path.name for path in images),
        paths=images,
        target_NC=np.zeros((num_images, num_classes), np.int8),
        split_N=("",) * num_images,
        label_set=checkpoint.label_set,
        source="some images",
    )
    return export_model(checkpoint, tmp_path_factory.mktemp("exports") / "small", check=dataset)


def test_the_folder_says_what_was_compared(exported: Exported, checkpoint: Checkpoint):
    assert sorted(path.name for path in exported.folder.iterdir()) == [
        "README.md", "export.json", "image.onnx", "pixels.onnx", "selftest",
    ]  # fmt: skip
    read = Exported.read(exported.folder)
    assert read == exported
    assert (read.id, read.label_set, read.thresholds) == (checkpoint.id, checkpoint.label_set, checkpoint.thresholds)
    assert (read.checked.images, read.checked.decisions, read.checked.decisions_changed) == (16, 48, 0)
    assert read.checked.of == "8 generated, 8 of some images"
    assert 0 < read.checked.max_logit_difference < 1e-4


def test_an_export_predicts_as_its_checkpoint_does(exported: Exported, checkpoint: Checkpoint, images: list[Path], tmp_path: Path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    paths = [*images, broken]
    own = list(predict(checkpoint, paths, device="cpu", precision="fp32"))
    other = list(predict(exported.folder, paths))
    assert [result.labels for result in other] == [result.labels for result in own]
    assert [result.error for result in other] == [result.error for result in own]
    assert max(np.abs(a.logit_C - b.logit_C).max() for a, b in zip(own[:-1], other[:-1], strict=True)) < 1e-4


def test_torch_is_not_imported(exported: Exported, images: list[Path]):
    script = (
        "import sys; from polytag.cli.main import main; sys.argv = ['polytag', 'predict', *sys.argv[1:]]; main();"
        "assert not {'torch', 'timm', 'onnx'} & set(sys.modules), sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script, exported.folder, *images[:2]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2


def test_the_python_of_its_readme_runs_and_the_selftest_is_what_it_answers(exported: Exported):
    text = (exported.folder / "README.md").read_text()
    script = text.partition("```python\n")[2].partition("```")[0]
    expected = json.loads((exported.folder / "selftest" / "expected.json").read_text())["images"][0]
    done = subprocess.run(
        [sys.executable, "-c", script, f"selftest/{expected['file']}"], capture_output=True, text=True, cwd=exported.folder
    )
    assert done.returncode == 0, done.stderr
    names = [name for name, here in zip(exported.label_set, expected["present"], strict=True) if here]
    assert [name for name, _ in eval(done.stdout)] == names


def test_ten_views(checkpoint: Checkpoint, tmp_path: Path):
    several = replace(checkpoint, preprocessing=Preprocessing(image_size_px=32, fit="crop", crops="ten"))
    made = export_model(several, tmp_path / "out")
    assert made.checked.max_logit_difference < 1e-4


@pytest.fixture
def made_before(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graphs of `exported`, which exporting again takes: it takes seconds to make them."""
    graphs = Graphs(pixels=onnx.load(exported.folder / "pixels.onnx"), image=onnx.load(exported.folder / "image.onnx"))
    monkeypatch.setattr("polytag.export.export.graphs_of", lambda *_, **__: graphs)


@pytest.mark.usefixtures("made_before")
def test_what_answers_differently_is_not_written(checkpoint: Checkpoint, tmp_path: Path):
    other = replace(checkpoint, thresholds=(0.2, 0.9, 0.1))
    with pytest.raises(ExportError) as caught:
        export_model(other, tmp_path / "out")
    assert caught.value.what == "the exported graphs do not answer as the checkpoint does, so nothing is written"
    assert "of 48 decisions" in caught.value.got
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_stays(checkpoint: Checkpoint, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="the output exists already"):
        export_model(checkpoint, tmp_path)


@pytest.mark.usefixtures("made_before")
def test_the_validation_images_of_a_run_are_compared(checkpoint: Checkpoint, images: list[Path], tmp_path: Path):
    """Those that are still there."""
    run = tmp_path / "run"
    shutil.copytree(checkpoint.folder, run / "best")
    scores = np.zeros((len(images) + 1, len(checkpoint.label_set)), np.float32)
    paths = (*map(str, images), str(tmp_path / "gone.png"))
    predictions = Predictions(
        ids=paths, logit_NC=scores, target_NC=scores.astype(np.int8), label_set=checkpoint.label_set, image_paths=paths
    )
    write_predictions(predictions, run / "predictions-val.parquet")
    for model in (run, run / "best"):
        assert export_model(model, tmp_path / model.name / "out").checked.of == "8 generated, 8 of the run's validation"


@pytest.mark.usefixtures("made_before")
def test_the_command(checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "argv", ["polytag", "export", str(checkpoint.folder), str(tmp_path / "out")])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    assert "no decision of 24 changed" in capsys.readouterr().out.replace("\n", " ")


def test_another_device_or_precision_is_refused(exported: Exported, images: list[Path]):
    with pytest.raises(UsageError, match="in its own precision"):
        next(predict(exported, images, device="cuda"))
    with pytest.raises(UsageError, match="--precision"):
        next(predict(exported, images, precision="bf16"))


def test_an_export_of_an_export(exported: Exported, tmp_path: Path):
    with pytest.raises(CheckpointError, match="an export is no checkpoint"):
        export_model(exported.folder, tmp_path / "out")


def test_another_class_list(exported: Exported):
    with pytest.raises(CheckpointError, match="another class list"):
        exported.require_labels(LabelSet(names=("cat",)))


# ---- folders of strangers ----


@pytest.fixture
def copied(exported: Exported, tmp_path: Path) -> Path:
    for name in ("export.json", "pixels.onnx"):
        (tmp_path / name).write_bytes((exported.folder / name).read_bytes())
    return tmp_path


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.update(version=2),
        lambda values: values.update(classes=["cat", "cat", "dog"]),
        lambda values: values.update(thresholds=[0.5]),
        lambda values: values.update(thresholds=[0.5, 0.5, 7]),
        lambda values: values.update(checkpoint="../../etc"),
        lambda values: values.update(engine="pickle"),
        lambda values: values.update(precision="int8"),
        lambda values: values.update(files={"pixels.onnx": "0"}),
        lambda values: values.update(files=["pixels.onnx"]),
        lambda values: values["preprocessing"].update(image_size_px=10**9),
        lambda values: values["preprocessing"].update(crops="all"),
        lambda values: values["checked"].update(images="many"),
        lambda values: values.update(run="rm -rf /"),
        lambda values: values.pop("classes"),
    ],
)
def test_a_wrong_value_is_one_clear_error(copied: Path, change: Callable[[dict[str, Any]], object]):
    values = json.loads((copied / "export.json").read_text())
    change(values)
    (copied / "export.json").write_text(json.dumps(values))
    with pytest.raises(ExportError, match=r"export\.json is not that of an export"):
        Exported.read(copied)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b'{"version": 1}', b"[" * 100_000])
def test_what_is_no_json(copied: Path, content: bytes):
    (copied / "export.json").write_bytes(content)
    with pytest.raises(ExportError):
        Exported.read(copied)


def test_a_damaged_graph(copied: Path, images: list[Path]):
    graph = bytearray((copied / "pixels.onnx").read_bytes())
    graph[len(graph) // 2] ^= 1
    (copied / "pixels.onnx").write_bytes(graph)
    with pytest.raises(ExportError, match="a graph of the export is damaged"):
        next(predict(copied, images))
    (copied / "pixels.onnx").unlink()
    with pytest.raises(ExportError, match="cannot be read"):
        next(predict(copied, images))


def replaced(folder: Path, graph: bytes) -> Path:
    """The folder with this graph, and its SHA-256 in export.json."""
    values = json.loads((folder / "export.json").read_text())
    (folder / "pixels.onnx").write_bytes(graph)
    values["files"]["pixels.onnx"] = hashlib.sha256(graph).hexdigest()
    (folder / "export.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize("place", ["secret.bin", "../secret.bin", "{}/secret.bin"])
def test_no_file_is_read_that_a_graph_names(
    copied: Path, images: list[Path], place: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
):
    """By itself, ONNX Runtime reads the first: what lies in the working folder, or below it."""
    folder = tmp_path_factory.mktemp("working")
    (folder / "inside").mkdir()
    for target in (folder, folder / "inside"):
        (target / "secret.bin").write_bytes(bytes(12))
    monkeypatch.chdir(folder / "inside")
    model = onnx.load(copied / "pixels.onnx")
    numbers = onnx.TensorProto(name="secret", data_type=onnx.TensorProto.FLOAT, dims=[3])
    numbers.data_location = onnx.TensorProto.EXTERNAL
    numbers.external_data.add(key="location", value=place.format(folder))
    model.graph.initializer.append(numbers)
    model.graph.node.append(onnx.helper.make_node("Identity", ["secret"], ["logit_of_a_file"]))
    with pytest.raises(ExportError, match="ONNX Runtime cannot run the graph"):
        next(predict(replaced(copied, model.SerializeToString()), images))


def test_a_graph_of_other_classes_or_outputs(copied: Path, images: list[Path]):
    def changed(change: Callable[[onnx.ModelProto], object]) -> Path:
        model = onnx.load(exported_graph)
        change(model)
        return replaced(copied, model.SerializeToString())

    exported_graph = copied / "whole.onnx"
    exported_graph.write_bytes((copied / "pixels.onnx").read_bytes())
    without = changed(lambda model: model.graph.output.pop(0))
    with pytest.raises(ExportError, match="ONNX Runtime cannot run the graph"):
        next(predict(without, images))

    def cut(model: onnx.ModelProto) -> None:
        """Leave one class in "logit"."""
        node = next(node for node in model.graph.node if "logit" in node.output)
        node.output[0] = "all"
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.int64), "first"))
        model.graph.node.append(onnx.helper.make_node("Gather", ["all", "first"], ["logit"], axis=1))
        for other in model.graph.node:
            other.input[:] = ["all" if name == "logit" else name for name in other.input]
        model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1

    with pytest.raises(ExportError, match="the graph gives scores of another shape"):
        next(predict(changed(cut), images))


def test_what_is_no_graph(copied: Path, images: list[Path]):
    with pytest.raises(ExportError, match="ONNX Runtime cannot run the graph"):
        next(predict(replaced(copied, b"no graph"), images))
