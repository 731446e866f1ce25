"""Scores images with an export's graph in ONNX Runtime, without torch."""

import contextlib
import os
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np

from polytag.errors import ExportError
from polytag.inference.graph_scorer import GraphScorer
from polytag.models.exported import PIXELS_OF, Exported


class OnnxScorer(GraphScorer):
    """A graph in ONNX Runtime."""

    engine = "onnx"

    def __init__(self, graph: bytes, *, num_classes: int, precision: str, where: str):
        """Raises ExportError for a graph that cannot be run."""
        super().__init__(num_classes=num_classes, precision=precision, where=where)
        self._session = session_of(graph, where=where)

    @classmethod
    def load(cls, exported: Exported, *, precision: str) -> "OnnxScorer":
        """Of an export that holds the graph; raises ExportError for one that is damaged or cannot be run."""
        name = PIXELS_OF["onnx", precision][0]
        where = str(exported.folder / name)
        return cls(exported.file(name), num_classes=len(exported.label_set), precision=precision, where=where)

    def _run(self, pixels: np.ndarray) -> np.ndarray:
        return run(self._session, ["logit"], {"pixels": pixels}, where=self._where)[0]


def session_of(graph: bytes, *, where: str, num_threads: int = 1) -> Any:
    """ONNX Runtime's session of a graph, on the processor; raises ExportError for what it cannot run.

    A graph may name files that hold its numbers. One that polytag wrote names none, and in a stranger's none is read.
    """
    onnxruntime = _library()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # whatever is fatal is an exception, too
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)  # no file is read
    with _explained(where):
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _library() -> Any:
    """ONNX Runtime, told to report nothing to its maker and to write no identifier of the machine into the home folder.

    From 1.32 on it does both on Linux unless this variable is set as it begins.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime


def run(session: Any, outputs: Sequence[str], inputs: Mapping[str, np.ndarray], *, where: str) -> list[np.ndarray]:
    """These outputs of a session; raises ExportError where the graph has none of that name, or fails."""
    with _explained(where):
        return session.run(list(outputs), dict(inputs))


@contextlib.contextmanager
def _explained(where: str) -> Generator[None]:
    try:
        yield
    except Exception as error:  # ONNX Runtime's exceptions have no common class of their own
        raise ExportError(
            "ONNX Runtime cannot run the graph",
            where=where,
            got=str(error).splitlines()[0] if str(error) else type(error).__name__,
            expected="a graph that `polytag export` wrote",
            next_step="export again, or install a newer ONNX Runtime",
        ) from error
