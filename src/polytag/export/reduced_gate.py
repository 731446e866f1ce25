"""The gate of reduced precision: on labelled images, few decisions change and mAP stays, or nothing is written.

Shapes: N labelled images that can be read, C classes.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polytag.data.images.augment import views
from polytag.data.images.read import read_image
from polytag.errors import ExportError
from polytag.export.engine_graphs import EngineGraph
from polytag.export.images import ComparedImages
from polytag.inference.onnx_scorer import OnnxScorer
from polytag.inference.openvino_scorer import OpenVinoScorer
from polytag.inference.predictor import Predictor
from polytag.inference.scorers import Scorer
from polytag.logits import sigmoid
from polytag.metrics.ap import mean_average_precision
from polytag.metrics.decisions import decide
from polytag.models.checkpoint import Checkpoint
from polytag.models.exported import Checked

MAX_SHARE_CHANGED = 0.005
MAX_MAP_DIFFERENCE = 0.005
MIN_LABELLED = 500


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """Images that can be read and have a known label, and what the checkpoint says of them in float32."""

    checkpoint: Checkpoint
    paths: Sequence[Path]
    target_NC: np.ndarray
    logit_NC: np.ndarray
    of: str


def reference_of(checkpoint: Checkpoint, images: ComparedImages) -> Reference:
    """Score the images with the checkpoint; raises ExportError where fewer than `MIN_LABELLED` are labelled and can be read."""
    known = np.flatnonzero((images.target_NC >= 0).any(axis=1)).tolist()
    paths = [images.paths[row] for row in known]
    rows, logit_NC = _scores(Predictor.load(checkpoint, device="cpu", precision="fp32"), paths, checkpoint)
    target_NC = images.target_NC[known][rows]
    of_checkpoint = mean_average_precision(target_NC, logit_NC) if len(rows) else math.nan
    if len(rows) < MIN_LABELLED or math.isnan(of_checkpoint):
        raise ExportError(
            "int8 is not judged on these images, so nothing is written",
            where=str(checkpoint.folder),
            got=f"{len(rows):,} labelled images that can be read, of {images.of}"
            + (", no class with both labels" if len(rows) and math.isnan(of_checkpoint) else ""),
            expected=f"at least {MIN_LABELLED:,}, with a class that is present in some and absent in others",
            next_step="give more labelled images with --check DATA, or leave --int8 out",
        )
    return Reference(
        checkpoint=checkpoint, paths=[paths[row] for row in rows], target_NC=target_NC, logit_NC=logit_NC, of=images.of
    )


def first_that_passes(graphs: Iterable[Callable[[], EngineGraph]], reference: Reference) -> tuple[EngineGraph, Checked]:
    """The first of these graphs that stays within the limits; raises ExportError, with the numbers of each, where none does."""
    refused: list[str] = []
    engine = ""
    for make in graphs:
        graph = make()
        checked, engine = compared_with(graph, reference), graph.engine
        share, difference = _differences(checked)
        if share <= MAX_SHARE_CHANGED and difference <= MAX_MAP_DIFFERENCE:
            return graph, checked
        refused.append(
            f"{share:.2%} of {checked.decisions:,} decisions and mAP {checked.mAP:.4f} instead of {checked.mAP_of_checkpoint:.4f} "
            f"({graph.quantized.partition(';')[0]})"
        )
    raise ExportError(
        f"int8 for {engine} answers too differently from the checkpoint, so nothing is written",
        where=str(reference.checkpoint.folder),
        got=f"on {len(reference.paths):,} images: " + "; ".join(refused),
        expected=f"at most {MAX_SHARE_CHANGED:.1%} of the decisions, and {MAX_MAP_DIFFERENCE:g} of mAP",
        next_step="leave --int8 out, or give more images with --check DATA if these are few",
    )


def compared_with(graph: EngineGraph, reference: Reference) -> Checked:
    """What a graph answers on these images, beside the checkpoint."""
    contents = tuple(graph.contents.values())
    num_classes = len(reference.checkpoint.label_set)
    make = OpenVinoScorer if graph.engine == "openvino" else OnnxScorer
    scorer = make(*contents, num_classes=num_classes, precision=graph.precision, where=graph.name)
    rows, logit_NC = _scores(scorer, reference.paths, reference.checkpoint)
    own_NC, target_NC = reference.logit_NC[rows], reference.target_NC[rows]
    threshold_C = np.asarray(reference.checkpoint.thresholds)
    before_NC, after_NC = (decide(sigmoid(each_NC), threshold_C=threshold_C) for each_NC in (own_NC, logit_NC))
    return Checked(
        images=len(rows),
        of=f"{len(rows)} of {reference.of}",
        decisions=int(before_NC.size),
        max_logit_difference=float(np.abs(logit_NC - own_NC).max()),
        decisions_changed=int((before_NC != after_NC).sum()),
        mAP=mean_average_precision(target_NC, logit_NC),
        mAP_of_checkpoint=mean_average_precision(target_NC, own_NC),
    )


def _differences(checked: Checked) -> tuple[float, float]:
    """The share of decisions that changed, and the difference in mAP."""
    assert checked.mAP is not None
    assert checked.mAP_of_checkpoint is not None
    return checked.decisions_changed / checked.decisions, abs(checked.mAP - checked.mAP_of_checkpoint)


def _scores(scorer: Scorer, paths: Sequence[Path], checkpoint: Checkpoint) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the images that can be read, and their logits."""
    scored = [
        each
        for each in scorer.score_rows(len(paths), lambda row: views(read_image(paths[row]), checkpoint.preprocessing))
        if len(each.rows)
    ]
    if not scored:
        return np.zeros(0, np.int64), np.zeros((0, len(checkpoint.label_set)), np.float32)
    return np.concatenate([each.rows for each in scored]), np.concatenate([each.output_ND for each in scored])
