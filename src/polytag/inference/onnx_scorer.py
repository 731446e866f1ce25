"""Scores images with an export's graph in ONNX Runtime, without torch."""

import contextlib
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polytag.data.images.augment import views
from polytag.data.images.batches import Batch, batches_of
from polytag.data.images.read import read_image
from polytag.errors import ExportError
from polytag.inference.parallel import in_parallel
from polytag.inference.scored import Scored
from polytag.machine import num_cores
from polytag.models.exported import PIXELS, Exported

BATCH_SIZE = 8  # a core's: a few images are enough for all cores


class OnnxScorer:
    """An export that is ready to score; each core computes a batch of its own."""

    def __init__(self, exported: Exported):
        """Raises ExportError for a graph that is damaged or cannot be run."""
        self._preprocessing = exported.preprocessing
        self._where = str(exported.folder / PIXELS)
        self._num_classes = len(exported.label_set)
        self._session = session_of(exported.graph(PIXELS), where=self._where)

    def score_files(self, paths: Sequence[Path]) -> Iterator[Scored]:
        """Calibrated logits of images, batch by batch, in constant memory; raises ExportError where the graph fails."""
        ready = batches_of(
            range(len(paths)),
            batch_size=BATCH_SIZE,
            read=lambda row: views(read_image(paths[row]), self._preprocessing),
            num_threads=num_cores(),
        )
        yield from in_parallel(self._score, ready, num_workers=num_cores())

    def _score(self, batch: Batch) -> Scored:
        logit_NC = np.zeros((0, 0), np.float32)
        if len(batch.rows):
            pixels = batch.pixels_NVHWC
            (logit_NC,) = run(
                self._session, ["logit"], {"pixels": pixels[:, 0] if pixels.shape[1] == 1 else pixels}, where=self._where
            )
            if logit_NC.dtype != np.float32 or logit_NC.shape != (len(batch.rows), self._num_classes):
                raise ExportError(
                    "the graph gives scores of another shape",
                    where=self._where,
                    got=f"{logit_NC.dtype} {logit_NC.shape}",
                    expected=f"float32 {(len(batch.rows), self._num_classes)} (images, classes)",
                    next_step="copy the folder again, or export again",
                )
        return Scored(rows=batch.rows, output_ND=logit_NC, failures=batch.failures)


def session_of(graph: bytes, *, where: str, num_threads: int = 1) -> Any:
    """ONNX Runtime's session of a graph, on the processor; raises ExportError for what it cannot run.

    A graph may name files that hold its numbers. One that polytag wrote names none, and in a stranger's none is read.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # whatever is fatal is an exception, too
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)  # no file is read
    with _explained(where):
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


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
