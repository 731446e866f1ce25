"""Scores images with an export's graph in ONNX Runtime, without torch."""

import contextlib
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from polytag.data.images.batches import Batch, batches_of
from polytag.errors import ExportError
from polytag.inference.parallel import in_parallel
from polytag.inference.scored import Scored
from polytag.machine import num_cores
from polytag.models.exported import PIXELS_OF, Exported

BATCH_SIZE = 8  # a core's: a few images are enough for all cores


class OnnxScorer:
    """An export as a `Scorer`; each core computes a batch of its own."""

    engine = "onnx"

    def __init__(self, graph: bytes, *, num_classes: int, precision: str, where: str):
        """Raises ExportError for a graph that cannot be run."""
        self.precision = precision
        self._where, self._num_classes = where, num_classes
        self._session = session_of(graph, where=where)

    @classmethod
    def load(cls, exported: Exported, *, precision: str) -> "OnnxScorer":
        """Of an export that holds the graph; raises ExportError for one that is damaged or cannot be run."""
        name = PIXELS_OF["onnx", precision][0]
        where = str(exported.folder / name)
        return cls(exported.file(name), num_classes=len(exported.label_set), precision=precision, where=where)

    def prepare_thread(self) -> None:
        """Nothing to do: a session computes in the thread that calls it."""

    def logits_of(self, pixels_NVHWC: np.ndarray) -> np.ndarray:
        """See `Scorer`; raises ExportError where the graph fails, or gives scores of another shape."""
        pixels = pixels_NVHWC[:, 0] if pixels_NVHWC.shape[1] == 1 else pixels_NVHWC
        (logit_NC,) = run(self._session, ["logit"], {"pixels": pixels}, where=self._where)
        if logit_NC.dtype != np.float32 or logit_NC.shape != (len(pixels), self._num_classes):
            raise ExportError(
                "the graph gives scores of another shape",
                where=self._where,
                got=f"{logit_NC.dtype} {logit_NC.shape}",
                expected=f"float32 {(len(pixels), self._num_classes)} (images, classes)",
                next_step="copy the folder again, or export again",
            )
        return logit_NC

    def score_rows(self, num_rows: int, read: Callable[[int], np.ndarray]) -> Iterator[Scored]:
        """See `Scorer`."""
        ready = batches_of(range(num_rows), batch_size=BATCH_SIZE, read=read, num_threads=num_cores())
        yield from in_parallel(self._score, ready, num_workers=num_cores())

    def _score(self, batch: Batch) -> Scored:
        logit_NC = self.logits_of(batch.pixels_NVHWC) if len(batch.rows) else np.zeros((0, 0), np.float32)
        return Scored(rows=batch.rows, output_ND=logit_NC, failures=batch.failures)


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
