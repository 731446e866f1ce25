"""Scores images with an export's graph in ONNX Runtime, without torch."""

import os
from collections.abc import Iterator, Sequence
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

BATCH_SIZE = 8  # a core's; larger ones are no faster on a processor


class OnnxScorer:
    """An export that is ready to score; each core computes a batch of its own."""

    def __init__(self, exported: Exported):
        self._preprocessing = exported.preprocessing
        self._session = session_of(exported.graph(PIXELS), where=str(exported.folder / PIXELS))

    def score_files(self, paths: Sequence[Path]) -> Iterator[Scored]:
        """Calibrated logits of images, batch by batch, in constant memory."""
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
            logit_NC = logits(self._session, batch.pixels_NVHWC)
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
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common class of their own
        raise ExportError(
            "ONNX Runtime cannot run the graph",
            where=where,
            got=str(error).splitlines()[0] if str(error) else type(error).__name__,
            expected="a graph that `polytag export` wrote",
            next_step="export again, or install a newer ONNX Runtime",
        ) from error


def logits(session: Any, pixels_NVHWC: np.ndarray) -> np.ndarray:
    """float32 N x C of the views of N images, by the graph `pixels`."""
    pixels = pixels_NVHWC[:, 0] if pixels_NVHWC.shape[1] == 1 else pixels_NVHWC
    return session.run(["logit"], {"pixels": pixels})[0]
