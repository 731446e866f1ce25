"""Builds the page of a run that trains."""

from collections.abc import Sequence
from pathlib import Path

from polytag.inspector.browse.answers import MeanAnswer, RunAnswer
from polytag.inspector.browse.epoch_curves import EpochChart, epoch_chart, line_of
from polytag.inspector.browse.service import InspectorService
from polytag.inspector.explain.worst import worst_examples
from polytag.inspector.live.contexts import LivePage
from polytag.inspector.live.progress import Progress
from polytag.runs.history import Row

_TAG_PX = 88


def live_page(path: Path, progress: Progress, *, service: InspectorService | None) -> LivePage:
    """Return the page; `service` answers about the scores of the best epoch so far, None without them."""
    return LivePage(
        run=service.run() if service is not None else _no_answer(path.resolve().name),
        progress=progress,
        path=str(path),
        loss_chart=_chart(progress.rows, "train_loss", "val_loss", what="Loss"),
        map_chart=_chart(progress.rows, "train_map", "val_map", what="Mean average precision"),
        worst=worst_examples(service) if service is not None else [],
        has_scores=service is not None,
    )


def _chart(rows: Sequence[Row], train_key: str, val_key: str, *, what: str) -> EpochChart | None:
    lines = [line_of(rows, val_key, tag="validation", is_main=True), line_of(rows, train_key, tag="training")]
    last = [f"{line.tag} {line.points[-1][1]:.3f} at epoch {line.points[-1][0]:.0f}" for line in lines if line.points]
    return epoch_chart(lines, description=f"{what} over the epochs: {', '.join(last)}", tag_px=_TAG_PX)


def _no_answer(name: str) -> RunAnswer:
    """The answer about a run without scores."""
    return RunAnswer(
        name=name, split="val", num_images=0, classes=[], has_probabilities=False, has_model=False, may_keep_thresholds=False,
        has_runs=False, num_unlabelled=0, mAP=MeanAnswer(value=None, num_classes=0), compared=None, mAP_compared=None, gain=None,
        num_gained=None, num_lost=None, num_shared=0, note="", is_evaluated=False, version="", columns={},
    )  # fmt: skip
