"""Scores images with an export's graph in OpenVINO, without torch."""

import contextlib
import sys
import threading
from collections.abc import Generator
from typing import Any

import numpy as np

from polytag.data.images.augment import NUM_VIEWS
from polytag.errors import ExportError
from polytag.inference.graph_scorer import GraphScorer
from polytag.machine import num_cores
from polytag.models.exported import PIXELS_OF, Exported

_BEGINS = b"<?xml"  # anything else OpenVINO would read as another program's format, which may name files


class OpenVinoScorer(GraphScorer):
    """A graph in OpenVINO; each thread has a request of its own."""

    engine = "openvino"

    def __init__(self, graph: bytes, numbers: bytes, *, num_classes: int, precision: str, where: str):
        """Raises ExportError for a graph that cannot be run."""
        super().__init__(num_classes=num_classes, precision=precision, where=where)
        self._model = compiled(graph, numbers, precision=precision, where=where)
        self._own = threading.local()

    @classmethod
    def load(cls, exported: Exported, *, precision: str) -> "OpenVinoScorer":
        """Of an export that holds the graph; raises ExportError for one that is damaged or cannot be run."""
        graph, numbers = (exported.file(name) for name in PIXELS_OF["openvino", precision])
        where = str(exported.folder / PIXELS_OF["openvino", precision][0])
        made = cls(graph, numbers, num_classes=len(exported.label_set), precision=precision, where=where)
        # The first access to a tensor in a process, by two threads at once, has waited for ever: one holds Python's lock and needs
        # what the other has begun to make. So it is made here, by one.
        size_px, num_views = exported.preprocessing.image_size_px, NUM_VIEWS[exported.preprocessing.crops]
        made.logits_of(np.zeros((1, num_views, size_px, size_px, 3), np.uint8))
        return made

    def _run(self, pixels: np.ndarray) -> np.ndarray:
        with explained(self._where):
            if not hasattr(self._own, "request"):  # each thread has its own
                self._own.request = self._model.create_infer_request()
            self._own.request.infer({"pixels": np.ascontiguousarray(pixels)})
            return np.array(self._own.request.get_tensor("logit").data)  # a copy: the next call writes into it


def compiled(graph: bytes, numbers: bytes, *, precision: str, where: str) -> Any:
    """OpenVINO's model of an IR, from these bytes alone, for as many calls side by side as there are cores, one core each.

    "fp32" computes in float32: by itself OpenVINO takes bfloat16 on the processors that have it, and does so for what is float in
    "int8". Raises ExportError for what it cannot run.
    """
    core = openvino().Core()
    with explained(where):
        if not graph.startswith(_BEGINS):
            raise ValueError(f"it does not begin with {_BEGINS.decode()}")
        return core.compile_model(core.read_model(graph, numbers), "CPU", settings_of(precision))


def settings_of(precision: str) -> dict[str, Any]:
    """Of a compiled model."""
    exact = {"INFERENCE_PRECISION_HINT": "f32", "EXECUTION_MODE_HINT": "ACCURACY"}
    return {
        **(exact if precision == "fp32" else {}),
        "NUM_STREAMS": num_cores(),
        "INFERENCE_NUM_THREADS": num_cores(),
        "ENABLE_CPU_PINNING": False,  # the cores also decode images
    }


def openvino() -> Any:
    """The library. It and NNCF report their use to their maker as they are imported: with its package hidden they do not."""
    with without_telemetry():
        import openvino as library
    return library


@contextlib.contextmanager
def without_telemetry() -> Generator[None]:
    """What is imported meanwhile finds no package `openvino_telemetry`, and neither does what asks later, unless it was there."""
    before = sys.modules.get("openvino_telemetry")
    sys.modules["openvino_telemetry"] = None  # pyright: ignore[reportArgumentType]  documented: importing it then fails
    try:
        yield
    finally:
        if before is not None:
            sys.modules["openvino_telemetry"] = before


@contextlib.contextmanager
def explained(where: str) -> Generator[None]:
    """Raises ExportError for what OpenVINO cannot run."""
    try:
        yield
    except Exception as error:  # OpenVINO's are RuntimeError, ValueError and TypeError
        lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("Exception from")]
        raise ExportError(
            "OpenVINO cannot run the graph",
            where=where,
            got=lines[0] if lines else type(error).__name__,
            expected="a graph that `polytag export` wrote",
            next_step="export again, or install a newer OpenVINO",
        ) from error
