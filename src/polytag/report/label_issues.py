"""The page of label issues as one HTML file: how many labels of each class look wrong, and their images."""

import math
from dataclasses import dataclass
from pathlib import Path

from polytag.metrics.label_issues import ClassLabelIssues, LabelIssue, LabelIssues
from polytag.report.ranking import MAX_CLASSES_IN_DETAIL
from polytag.report.rendering import write_page
from polytag.report.thumbnails import pack_for_page
from polytag.text import whole_text


@dataclass(frozen=True, kw_only=True)
class ClassView:
    """A class on the page; `number` is its column in the label set, `is_detailed` whether its images are shown."""

    number: int
    part: ClassLabelIssues
    is_detailed: bool

    @property
    def groups(self) -> tuple[tuple[str, tuple[LabelIssue, ...], float], ...]:
        """(kind, issues, estimate) of the kinds with label issues; the estimate of unknown labels is their count."""
        part = self.part
        kinds = (
            ("present", part.present, part.wrong_present),
            ("absent", part.absent, part.wrong_absent),
            ("unknown", part.unknown, float(part.num_fill_in)),
        )
        return tuple(kind for kind in kinds if kind[1])


def write_label_issues(path: Path | str, found: LabelIssues, *, title: str) -> Path:
    """Write the page of label issues; returns `path`.

    Every listed image is embedded as a thumbnail of 96 pixels, or of 64 where there are more than 2,500, each image once. With
    more than 100 classes, images are shown for the 100 with the most suspicious labels; the table has all. An unreadable image is a
    grey tile with its id. The same input gives the same bytes.

    Raises RunError if the file cannot be written.
    """
    listed = [part for part in found.classes if part.present or part.absent or part.unknown]
    listed.sort(key=lambda part: min((each.belief for each in part.issues), default=math.inf))
    detailed = {part.name for part in listed[:MAX_CLASSES_IN_DETAIL]}
    views = [
        ClassView(number=found.label_set.index(part.name), part=part, is_detailed=part.name in detailed)
        for part in sorted(found.classes, key=_most_wrong_first)
    ]
    shown = [each for view in views if view.is_detailed for _, issues, _ in view.groups for each in issues]
    num_shown = len({each.row for each in shown})
    sheets = pack_for_page([each.image_path for each in shown], num_images=num_shown)
    return write_page(
        path,
        "label_issues.html.j2",
        sheets=sheets,
        filters={"estimate": whole_text},
        title=title,
        found=found,
        views=views,
        wrong_present=_total([part.wrong_present for part in found.classes]),
        wrong_absent=_total([part.wrong_absent for part in found.classes]),
        num_estimated=sum(not part.reason for part in found.classes),
        num_fill_in=sum(part.num_fill_in for part in found.classes),
        without=[part for part in found.classes if part.reason],
        max_detail=MAX_CLASSES_IN_DETAIL,
        num_shown=num_shown,
        num_missing=len({each.row for each in shown if each.image_path not in sheets.places}),
    )


def _most_wrong_first(part: ClassLabelIssues) -> tuple[float, float]:
    """Sort key: classes with an estimate by how many labels look wrong, then the others by their most suspicious label."""
    wrong = part.wrong_present + part.wrong_absent
    most_suspicious = min((each.belief for each in part.issues), default=math.inf)
    return (math.inf if math.isnan(wrong) else -wrong, most_suspicious)


def _total(values: list[float]) -> float:
    """The sum of the estimates; NaN without any."""
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) if defined else math.nan
