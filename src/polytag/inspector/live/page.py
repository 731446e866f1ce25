"""Builds the page of a run that trains."""

from pathlib import Path

from polytag.inspector.browse.answers import MeanAnswer, RunAnswer
from polytag.inspector.browse.epoch_curves import training_charts
from polytag.inspector.browse.service import InspectorService
from polytag.inspector.explain.worst import worst_examples
from polytag.inspector.live.contexts import LivePage
from polytag.inspector.live.progress import Progress


def live_page(path: Path, progress: Progress, *, service: InspectorService | None) -> LivePage:
    """Return the page; `service` answers about the scores of the best epoch so far, None without them."""
    return LivePage(
        run=service.run() if service is not None else _no_answer(path.resolve().name),
        progress=progress,
        path=str(path),
        charts=training_charts(progress.rows),
        worst=worst_examples(service) if service is not None else [],
        has_scores=service is not None,
    )


def _no_answer(name: str) -> RunAnswer:
    """The answer about a run without scores."""
    return RunAnswer(
        name=name, split="val", num_images=0, classes=[], has_probabilities=False, has_model=False, has_text_search=False,
        may_keep_thresholds=False, has_runs=False, num_unlabelled=0, mAP=MeanAnswer(value=None, num_classes=0),
        compared_runs=[], compared=None, mAP_compared=None, gain=None, num_gained=None, num_lost=None, num_shared=0,
        note="", is_evaluated=False, version="", columns={},
    )  # fmt: skip
