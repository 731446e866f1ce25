"""The graphs of an export as each engine loads them, and how each answers, before anything is written."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from polytag.export.gate import Answer
from polytag.export.graphs import Graphs
from polytag.inference.onnx_scorer import run, session_of
from polytag.inference.openvino_scorer import compiled, explained, openvino
from polytag.machine import num_cores
from polytag.models.exported import IMAGE, PIXELS, PIXELS_OF

_OUTPUTS = ("logit", "probability", "present")


@dataclass(frozen=True, kw_only=True, eq=False)
class EngineGraph:
    """A graph for one engine: the contents of its files by their names in the folder; `quantized` as in ExportedFile."""

    engine: str
    precision: str
    contents: Mapping[str, bytes]
    quantized: str = ""

    @property
    def name(self) -> str:
        """Of its first file."""
        return next(iter(self.contents))


def onnx_graphs(graphs: Graphs) -> list[EngineGraph]:
    """`image` and `pixels` for ONNX Runtime."""
    image, pixels = graphs.image.SerializeToString(), graphs.pixels.SerializeToString()
    return [
        EngineGraph(engine="onnx", precision="fp32", contents={name: content})
        for name, content in ((IMAGE, image), (PIXELS, pixels))
    ]


def openvino_graph(graphs: Graphs) -> EngineGraph:
    """`pixels` for OpenVINO, with all its numbers in float32; raises ExportError for what it cannot read."""
    with explained(PIXELS):
        contents = ir_of(openvino().Core().read_model(graphs.pixels.SerializeToString()))
    names = PIXELS_OF["openvino", "fp32"]
    return EngineGraph(engine="openvino", precision="fp32", contents=dict(zip(names, contents, strict=True)))


def answer_of(graph: EngineGraph) -> Answer:
    """How a graph in float32 answers; raises ExportError where its engine cannot run it."""
    contents = tuple(graph.contents.values())
    return _by_openvino(*contents, name=graph.name) if graph.engine == "openvino" else _by_onnx(*contents, name=graph.name)


def ir_of(model: object) -> tuple[bytes, bytes]:
    """The .xml and the .bin of a model of OpenVINO, which writes them to files only."""
    with tempfile.TemporaryDirectory(prefix="polytag-") as folder:
        place = Path(folder) / "graph.xml"
        openvino().save_model(model, place, compress_to_fp16=False)
        return place.read_bytes(), place.with_suffix(".bin").read_bytes()


def _by_onnx(content: bytes, *, name: str) -> Answer:
    session = session_of(content, where=name, num_threads=num_cores())

    def answer(image: Image.Image, view: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        inputs = {"image": np.asarray(image)} if name == IMAGE else {"pixels": view if len(view) == 1 else view[None]}
        logit_NC, probability_NC, present_NC = run(session, _OUTPUTS, inputs, where=name)
        return logit_NC[0], probability_NC[0], present_NC[0]

    return answer


def _by_openvino(graph: bytes, numbers: bytes, *, name: str) -> Answer:
    request = compiled(graph, numbers, precision="fp32", where=name).create_infer_request()

    def answer(_: Image.Image, view: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        with explained(name):
            request.infer({"pixels": view if len(view) == 1 else view[None]})
            logit_C, probability_C, present_C = (np.array(request.get_tensor(output).data[0]) for output in _OUTPUTS)
        return logit_C, probability_C, present_C.astype(bool)

    return answer
