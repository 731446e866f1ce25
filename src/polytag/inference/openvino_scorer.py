"""Scores images with an export's graph in OpenVINO, without torch."""

import contextlib
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np

from polytag.data.images.augment import NUM_VIEWS
from polytag.data.images.batches import Batch, batches_of
from polytag.errors import ExportError
from polytag.inference.parallel import in_parallel
from polytag.inference.scored import Scored
from polytag.machine import num_cores
from polytag.models.exported import PIXELS_OF, Exported

BATCH_SIZE = 8  # a core's, as of ONNX Runtime
_BEGINS = b"<?xml"  # anything else OpenVINO would read as another program's format, which may name files


class OpenVinoScorer:
    """An export as a `Scorer`; each core computes a batch of its own."""

    engine = "openvino"

    def __init__(self, graph: bytes, numbers: bytes, *, num_classes: int, precision: str, where: str):
        """Raises ExportError for a graph that cannot be run."""
        self.precision = precision
        self._where, self._num_classes = where, num_classes
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

    def prepare_thread(self) -> None:
        """Nothing to do: each thread has a request of its own, which computes on one core."""

    def logits_of(self, pixels_NVHWC: np.ndarray) -> np.ndarray:
        """See `Scorer`; raises ExportError where the graph fails, or gives scores of another shape."""
        pixels = pixels_NVHWC[:, 0] if pixels_NVHWC.shape[1] == 1 else pixels_NVHWC
        with explained(self._where):
            if not hasattr(self._own, "request"):
                self._own.request = self._model.create_infer_request()
            self._own.request.infer({"pixels": np.ascontiguousarray(pixels)})
            logit_NC = np.array(self._own.request.get_tensor("logit").data)  # a copy: the next call writes into it
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
