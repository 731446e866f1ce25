"""An export answers as its checkpoint does, in any program; what does not is never written."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from polytag.cli.main import main
from polytag.contracts import LabelSet, Predictions, Preprocessing
from polytag.data.images.augment import views
from polytag.data.images.read import read_image
from polytag.errors import CheckpointError, ExportError, RunError, UsageError
from polytag.export.export import export_model
from polytag.export.graphs import Graphs
from polytag.inference.predict import predict
from polytag.inference.scorers import scorer_of
from polytag.models.checkpoint import Checkpoint
from polytag.models.exported import Exported
from polytag.predictions.table import write_predictions


def test_the_folder_says_what_was_compared(exported: Exported, checkpoint: Checkpoint):
    assert sorted(path.name for path in exported.folder.iterdir()) == [
        "README.md", "export.json", "image.onnx", "openvino", "pixels.onnx", "selftest",
    ]  # fmt: skip
    read = Exported.read(exported.folder)
    assert read == exported
    assert (read.id, read.label_set, read.thresholds) == (checkpoint.id, checkpoint.label_set, checkpoint.thresholds)
    assert list(read.files) == ["image.onnx", "pixels.onnx", "openvino/pixels.xml", "openvino/pixels.bin"]
    for name, file in read.files.items():
        assert file.sha256 == hashlib.sha256((exported.folder / name).read_bytes()).hexdigest()
        assert (file.engine, file.precision) == ("onnx" if name.endswith(".onnx") else "openvino", "fp32")
        assert (file.checked.images, file.checked.decisions, file.checked.decisions_changed) == (16, 48, 0)
        assert file.checked.of == "8 generated, 8 of some images"
        assert 0 < file.checked.max_logit_difference < 1e-4


def test_no_file_of_it_names_a_folder_of_this_machine(exported: Exported):
    """PyTorch's exporter writes the paths of its source, and of timm's, into every node."""
    for path in exported.folder.rglob("*"):
        assert path.is_dir() or not [word for word in (sys.prefix, "site-packages") if word.encode() in path.read_bytes()], path


def test_an_export_predicts_as_its_checkpoint_does(exported: Exported, checkpoint: Checkpoint, images: list[Path], tmp_path: Path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    paths = [*images, broken]
    own = list(predict(checkpoint, paths, device="cpu", precision="fp32"))
    for engine in ("onnx", "openvino"):
        scorer = scorer_of(Exported.read(exported.folder), engine=engine)
        assert (scorer.engine, scorer.precision) == (engine, "fp32")
        scored = list(scorer.score_rows(len(paths), lambda row: views(read_image(paths[row]), checkpoint.preprocessing)))
        assert [row for each in scored for row, _ in each.failures] == [len(images)]
        logit_NC = np.concatenate([each.output_ND for each in scored if len(each.rows)])
        assert np.abs(logit_NC - np.stack([result.logit_C for result in own[:-1]])).max() < 1e-4
    other = list(predict(exported.folder, paths))
    assert [result.labels for result in other] == [result.labels for result in own]
    assert [result.error for result in other] == [result.error for result in own]


def test_torch_is_not_imported(exported: Exported, images: list[Path]):
    script = (
        "import sys; from polytag.cli.main import main; sys.argv = ['polytag', 'predict', *sys.argv[1:]]; main();"
        "assert not {'torch', 'timm', 'onnx'} & set(sys.modules), sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script, exported.folder, *images[:2]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2


@pytest.mark.parametrize("number", [1, 2], ids=["onnx", "openvino"])
def test_the_python_of_its_readme_runs_and_the_selftest_is_what_it_answers(exported: Exported, number: int):
    text = (exported.folder / "README.md").read_text()
    script = text.split("```python\n")[number].partition("```")[0]
    expected = json.loads((exported.folder / "selftest" / "expected.json").read_text())["images"][0]
    done = subprocess.run(
        [sys.executable, "-c", script, f"selftest/{expected['file']}"], capture_output=True, text=True, cwd=exported.folder
    )
    assert done.returncode == 0, done.stderr
    names = [name for name, here in zip(exported.label_set, expected["present"], strict=True) if here]
    assert [name for name, _ in eval(done.stdout)] == names


def test_ten_views(checkpoint: Checkpoint, tmp_path: Path):
    several = replace(checkpoint, preprocessing=Preprocessing(image_size_px=32, fit="crop", crops="ten"))
    made = export_model(several, tmp_path / "out", to=("openvino", "onnx"))
    assert len(made.files) == 4
    assert all(file.checked.max_logit_difference < 1e-4 for file in made.files.values())


@pytest.fixture
def made_before(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graphs of `exported`, which exporting again takes: it takes seconds to make them."""
    pixels, image = (onnx.load(exported.folder / name) for name in ("pixels.onnx", "image.onnx"))
    graphs = Graphs(network=onnx.ModelProto(), pixels=pixels, image=image)
    monkeypatch.setattr("polytag.export.export.graphs_of", lambda *_, **__: graphs)


@pytest.mark.usefixtures("made_before")
def test_what_answers_differently_is_not_written(checkpoint: Checkpoint, tmp_path: Path):
    other = replace(checkpoint, thresholds=(0.2, 0.9, 0.1))
    with pytest.raises(ExportError) as caught:
        export_model(other, tmp_path / "out")
    assert caught.value.what == "an exported graph does not answer as the checkpoint does, so nothing is written"
    assert re.fullmatch(r"image.onnx on 8 images: a logit by \S+, and \d+ of 24 decisions", caught.value.got)
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
        made = export_model(model, tmp_path / model.name / "out")
        assert made.files["image.onnx"].checked.of == "8 generated, 8 of the run's validation"


@pytest.mark.usefixtures("made_before")
def test_the_command(checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "argv", ["polytag", "export", str(checkpoint.folder), str(tmp_path / "out")])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    assert "no decision of 24 changed" in capsys.readouterr().out.replace("\n", " ")


def test_another_device_or_precision_is_refused(exported: Exported, images: list[Path]):
    with pytest.raises(UsageError, match="computes on the processor"):
        next(predict(exported, images, device="cuda"))
    for precision in ("bf16", "int8"):
        with pytest.raises(UsageError, match="does not hold this precision") as caught:
            next(predict(exported, images, precision=precision))
        assert caught.value.expected == "auto or fp32"
    with pytest.raises(UsageError, match="does not hold this engine in fp32") as caught:
        scorer_of(exported, engine="torch")
    assert caught.value.expected == "auto or onnx or openvino"


def test_the_fastest_engine_that_is_installed_scores(exported: Exported, monkeypatch: pytest.MonkeyPatch):
    assert scorer_of(exported).engine == "onnx"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert scorer_of(exported).engine == "openvino"
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ModuleNotFoundError) as caught:
        scorer_of(exported, engine="openvino")
    assert caught.value.name == "openvino"
    with pytest.raises(ModuleNotFoundError):
        scorer_of(exported)


def test_threads_side_by_side_answer_as_one(exported: Exported):
    """Each has a request of its own: one that they shared would mix their answers."""
    scorer = scorer_of(exported, engine="openvino")
    pixels_NVHWC = np.random.default_rng(0).integers(0, 256, (24, 1, 32, 32, 3), dtype=np.uint8)
    alone_NC = scorer.logits_of(pixels_NVHWC)
    with ThreadPoolExecutor(8) as pool:
        each = list(pool.map(lambda row: scorer.logits_of(pixels_NVHWC[row : row + 1]), [*range(24)] * 4))
    assert np.allclose(np.concatenate(each), np.tile(alone_NC, (4, 1)), atol=1e-5)


def test_nothing_is_reported_of_what_openvino_and_nncf_do(
    exported: Exported, images: list[Path], watched: Callable[..., str], tmp_path: Path
):
    """Both report their use as they are imported: to their maker, with a number that they keep in the user's folder."""
    script = f"""
from polytag.inference.openvino_scorer import without_telemetry
from polytag.cli.main import main
with without_telemetry():
    import nncf
sys.argv = ["polytag", "predict", {str(exported.folder)!r}, {str(images[0])!r}]
try:
    main()
except SystemExit as end:
    assert end.code in (None, 0), end.code
import numpy as np
from polytag.inference.scorers import scorer_of
from polytag.models.exported import Exported
scorer_of(Exported.read({str(exported.folder)!r}), engine="openvino").logits_of(np.zeros((1, 1, 32, 32, 3), np.uint8))
assert {{"openvino", "onnxruntime"}} <= set(sys.modules)
"""
    said = watched("", script, home=tmp_path, allowed=["/sbin/ldconfig"])  # which torch asks
    assert said.rstrip().endswith("EVENTS []"), said
    assert list(tmp_path.iterdir()) == []
    reporting = watched("", "import openvino", home=tmp_path)  # what would have been seen
    assert "socket" in reporting or list(tmp_path.iterdir()), reporting


def test_an_export_of_an_export(exported: Exported, tmp_path: Path):
    with pytest.raises(CheckpointError, match="an export is no checkpoint"):
        export_model(exported.folder, tmp_path / "out")


def test_another_class_list(exported: Exported):
    with pytest.raises(CheckpointError, match="another class list"):
        exported.require_labels(LabelSet(names=("cat",)))


# ---- folders of strangers ----


@pytest.fixture
def copied(exported: Exported, tmp_path: Path) -> Path:
    """With ONNX's graph alone."""
    values = json.loads((exported.folder / "export.json").read_text())
    values["files"] = {"pixels.onnx": values["files"]["pixels.onnx"]}
    (tmp_path / "export.json").write_text(json.dumps(values))
    (tmp_path / "pixels.onnx").write_bytes((exported.folder / "pixels.onnx").read_bytes())
    return tmp_path


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.update(version=1),
        lambda values: values.update(classes=["cat", "cat", "dog"]),
        lambda values: values.update(thresholds=[0.5]),
        lambda values: values.update(thresholds=[0.5, 0.5, 7]),
        lambda values: values.update(checkpoint="../../etc"),
        lambda values: values["files"]["pixels.onnx"].update(engine="pickle"),
        lambda values: values["files"]["pixels.onnx"].update(engine="openvino"),
        lambda values: values["files"]["pixels.onnx"].update(precision="int8"),
        lambda values: values["files"]["pixels.onnx"].update(sha256="0"),
        lambda values: values["files"]["pixels.onnx"].update(checked=None),
        lambda values: values["files"]["pixels.onnx"]["checked"].update(images="many"),
        lambda values: values["files"]["pixels.onnx"]["checked"].update(mAP="high"),
        lambda values: values["files"].update({"../pixels.onnx": values["files"]["pixels.onnx"]}),
        lambda values: values["files"].update({"/etc/passwd": values["files"]["pixels.onnx"]}),
        lambda values: values.update(files={"pixels.onnx": "0"}),
        lambda values: values.update(files=["pixels.onnx"]),
        lambda values: values["preprocessing"].update(image_size_px=10**9),
        lambda values: values["preprocessing"].update(crops="all"),
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
    with pytest.raises(ExportError, match="a file of the export is damaged"):
        next(predict(copied, images))
    (copied / "pixels.onnx").unlink()
    with pytest.raises(ExportError, match="cannot be read"):
        next(predict(copied, images))


def replaced(folder: Path, graph: bytes, *, name: str = "pixels.onnx") -> Path:
    """The folder with this graph, and its SHA-256 in export.json."""
    values = json.loads((folder / "export.json").read_text())
    (folder / name).write_bytes(graph)
    values["files"][name]["sha256"] = hashlib.sha256(graph).hexdigest()
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


OPENVINO = ("openvino/pixels.xml", "openvino/pixels.bin")


@pytest.fixture
def copied_openvino(exported: Exported, tmp_path: Path) -> Path:
    """With OpenVINO's graph alone."""
    values = json.loads((exported.folder / "export.json").read_text())
    values["files"] = {name: values["files"][name] for name in OPENVINO}
    (tmp_path / "export.json").write_text(json.dumps(values))
    shutil.copytree(exported.folder / "openvino", tmp_path / "openvino")
    return tmp_path


def test_both_files_of_openvino_are_compared_before_either_is_parsed(copied_openvino: Path, images: list[Path]):
    for name in OPENVINO:
        whole = (copied_openvino / name).read_bytes()
        changed = bytearray(whole)
        changed[len(whole) // 2] ^= 1
        for content in (whole[:-100], bytes(changed)):
            (copied_openvino / name).write_bytes(content)
            with pytest.raises(ExportError, match="a file of the export is damaged"):
                next(predict(copied_openvino, images))
        (copied_openvino / name).unlink()
        with pytest.raises(ExportError, match="cannot be read"):
            next(predict(copied_openvino, images))
        (copied_openvino / name).write_bytes(whole)
    next(predict(copied_openvino, images))


def test_numbers_that_are_cut(copied_openvino: Path, images: list[Path]):
    """With the SHA-256 of what is left: OpenVINO itself refuses them."""
    numbers = (copied_openvino / OPENVINO[1]).read_bytes()
    for rest in (numbers[: len(numbers) // 2], numbers[:-4], b""):
        with pytest.raises(ExportError, match="OpenVINO cannot run the graph"):
            next(predict(replaced(copied_openvino, rest, name=OPENVINO[1]), images))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('type="Convolution" version="opset1"', 'type="Convolution" version="strange"', 1),
        lambda text: text.replace('type="Convolution"', 'type="OfStrangers"', 1),
        lambda text: text.replace('offset="0"', 'offset="99999999999"', 1),
        lambda text: re.sub(r'(offset="\d+") size="', r'\1 size="99999999', text, count=1),
        lambda text: text.replace("<net ", '<!DOCTYPE net [<!ENTITY secret SYSTEM "file:///etc/passwd">]><net ', 1)[
            : len(text) // 2
        ],
        lambda text: text.replace("<?xml", " <?xml", 1),
        lambda text: "<?xml",
        lambda text: "",
    ],
)
def test_a_strangers_ir(copied_openvino: Path, images: list[Path], change: Callable[[str], str]):
    """Operations of another kind, numbers outside the file, another format than OpenVINO's own."""
    text = (copied_openvino / OPENVINO[0]).read_text()
    assert change(text) != text
    with pytest.raises(ExportError, match="OpenVINO cannot run the graph"):
        next(predict(replaced(copied_openvino, change(text).encode(), name=OPENVINO[0]), images))


def test_openvino_reads_no_onnx_in_place_of_its_own(exported: Exported, copied_openvino: Path, images: list[Path]):
    """It would find the reader by the content, and that of ONNX opens the files that a graph names."""
    graph = (exported.folder / "pixels.onnx").read_bytes()
    with pytest.raises(ExportError, match="OpenVINO cannot run the graph") as caught:
        next(predict(replaced(copied_openvino, graph, name=OPENVINO[0]), images))
    assert caught.value.got == "it does not begin with <?xml"


def test_an_ir_of_other_outputs(copied_openvino: Path, images: list[Path]):
    text = (copied_openvino / OPENVINO[0]).read_text()
    renamed = text.replace('names="logit"', 'names="another"')
    assert renamed != text
    with pytest.raises(ExportError, match="OpenVINO cannot run the graph"):
        next(predict(replaced(copied_openvino, renamed.encode(), name=OPENVINO[0]), images))


@pytest.mark.parametrize("names", [("nowhere",), ("onnx", "Onnx"), ()])
def test_an_unknown_engine(checkpoint: Checkpoint, tmp_path: Path, names: tuple[str, ...]):
    with pytest.raises(UsageError, match="unknown engine to export to"):
        export_model(checkpoint, tmp_path / "out", to=names)
    assert list(tmp_path.iterdir()) == []
