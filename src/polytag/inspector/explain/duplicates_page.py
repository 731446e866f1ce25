"""Builds the page of near duplicates: groups with their images side by side, leakage first, and its effect on mAP."""

from urllib.parse import urlencode

import numpy as np

from polytag.contracts import PRESENT
from polytag.inspector.browse.service import InspectorService
from polytag.inspector.explain.contexts import DuplicateGroup, DuplicateImage, DuplicateLabel, DuplicatesPage, LeakageEffect
from polytag.inspector.explain.duplicate_search import (
    DuplicateRows,
    DuplicateSearch,
    SearchedImages,
    contradicted_columns,
    leaked_rows,
)
from polytag.inspector.explain.jobs import Jobs
from polytag.metrics.ap import mean_over_defined
from polytag.metrics.leakage import evaluate_without_leakage

PAGE_SIZE = 30


def duplicates_page(
    service: InspectorService, search: DuplicateSearch, *, against: int = 0, jobs: Jobs, show: str, offset: int
) -> DuplicatesPage:
    """Return the groups from an offset on, those across splits first, then those with contradicting labels.

    `show` is "splits" or "labels" for these alone, "" for all; `against` is the place of the compared run. A visit begins the
    search where it is short.
    """
    if search.found() is None:
        search.start()
    is_running = search.is_running  # before what it found: a search that ends in between is found
    found = search.found()
    images = search.images
    is_across = {group.rows: len({images.split_M[row] for row in group.rows}) > 1 for group in found.groups} if found else {}
    contradicted = {group.rows: contradicted_columns(images.target_MC[list(group.rows)]) for group in found.groups} if found else {}
    chosen = [
        group
        for group in (found.groups if found else ())
        if (show != "splits" or is_across[group.rows]) and (show != "labels" or contradicted[group.rows])
    ]
    chosen.sort(key=lambda group: (not is_across[group.rows], not contradicted[group.rows], group.rows))
    is_leaked_N = np.isin(
        np.arange(len(service.inspection.predictions)), leaked_rows(images, found, split=service.inspection.split)
    )
    has_effect = bool(is_leaked_N.any() and not is_leaked_N.all())
    effect = _effect(service, is_leaked_N, jobs=jobs) if has_effect else None
    status = "found" if found else "running" if is_running else "waiting"
    return DuplicatesPage(
        run=service.run(against),
        status=status,
        num_images=len(images),
        num_done=search.num_done,
        failure=search.failure,
        num_unread=found.num_unread if found else 0,
        num_flat=found.num_flat if found else 0,
        num_groups=len(is_across),
        num_across=sum(is_across.values()),
        num_contradictory=sum(bool(columns) for columns in contradicted.values()),
        num_leaked=int(is_leaked_N.sum()),
        is_pending=status == "running" or (has_effect and effect is None),
        effect=effect,
        show=show,
        groups=[
            _shown(service, images, group, is_across=is_across[group.rows], columns=contradicted[group.rows])
            for group in chosen[offset : offset + PAGE_SIZE]
        ],
        total=len(chosen),
        offset=offset,
        page_size=PAGE_SIZE,
    )


def _shown(
    service: InspectorService, images: SearchedImages, group: DuplicateRows, *, is_across: bool, columns: list[int]
) -> DuplicateGroup:
    near = f"another version{group.orientation}; {group.bits} of 64 bits of the hash differ"
    return DuplicateGroup(
        images=[_image(service, images, row, columns=columns) for row in group.rows],
        difference="the same file content" if group.is_exact else near,
        is_across=is_across,
        is_contradictory=bool(columns),
    )


def _image(service: InspectorService, images: SearchedImages, row: int, *, columns: list[int]) -> DuplicateImage:
    run_row, data_row, target_C = int(images.run_row_M[row]), int(images.data_row_M[row]), images.target_MC[row]
    shown = sorted({*np.flatnonzero(target_C == PRESENT).tolist(), *(column for column in columns if target_C[column] >= 0)})
    is_of_run = run_row >= 0
    return DuplicateImage(
        id=images.ids[row],
        split=images.split_M[row],
        thumbnail=f"/thumbnails/{run_row}?v={service.inspection.version}" if is_of_run else f"/data/{data_row}/thumbnail",
        link="/image?" + urlencode({"id": images.ids[row]}) if is_of_run else "",
        labels=[
            DuplicateLabel(
                name=images.names[column], is_present=bool(target_C[column] == PRESENT), is_contradicted=column in columns
            )
            for column in shown
        ],
    )


def _effect(service: InspectorService, is_leaked_N: np.ndarray, *, jobs: Jobs) -> LeakageEffect | None:
    """The effect of leakage on mAP; None where none remains without it, and while it is computed."""
    inspection = service.inspection
    without = jobs.answer(
        ("leakage", is_leaked_N.tobytes()),
        lambda: evaluate_without_leakage(inspection.predictions, is_leaked_N, groups=inspection.groups),
    )
    if without is None:
        return None
    return LeakageEffect(
        value=mean_over_defined(service.evaluation.ap_C),
        without=without.metrics.mean_ap.value,
        difference=without.difference.value,
        low=without.difference.low,
        high=without.difference.high,
    )
