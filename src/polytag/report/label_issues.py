"""Label issues as one HTML file: how many look wrong in each class, and the images, most suspicious first."""

import base64
import math
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from polytag import files
from polytag.metrics.label_issues import ClassLabelIssues, LabelIssue, LabelIssues
from polytag.report.ranking import MAX_CLASSES_IN_DETAIL
from polytag.report.rendering import environment_of
from polytag.report.thumbnails import pack_sheets
from polytag.text import whole_text

_THUMBNAIL_PX, _MANY_THUMBNAIL_PX, _MANY_IMAGES = 96, 64, 2500


@dataclass(frozen=True, kw_only=True)
class View:
    """A class as the page shows it; `number` is its place in the label set, `is_detailed` whether its images are shown."""

    number: int
    part: ClassLabelIssues
    is_detailed: bool

    @property
    def groups(self) -> tuple[tuple[str, tuple[LabelIssue, ...], float], ...]:
        """(kind, issues, estimated number) of the kinds that have a label issue; the estimate of unknown labels is their count."""
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
    more than 100 classes, images are shown of the 100 with the most suspicious label; the table holds all. An image that cannot be
    read is a grey tile with its id. The same input gives the same bytes.

    Raises RunError where the file cannot be written.
    """
    path = Path(path)
    listed = [part for part in found.classes if part.present or part.absent or part.unknown]
    listed.sort(key=lambda part: min((each.belief for each in part.issues), default=math.inf))
    detailed = {part.name for part in listed[:MAX_CLASSES_IN_DETAIL]}
    views = [
        View(number=found.label_set.index(part.name), part=part, is_detailed=part.name in detailed)
        for part in sorted(found.classes, key=_most_wrong_first)
    ]
    shown = [each for view in views if view.is_detailed for _, issues, _ in view.groups for each in issues]
    num_shown = len({each.row for each in shown})
    sheets = pack_sheets(
        [each.image_path for each in shown], size_px=_THUMBNAIL_PX if num_shown <= _MANY_IMAGES else _MANY_THUMBNAIL_PX
    )
    html = (
        environment_of(sheets, estimate=whole_text)
        .get_template("label_issues.html.j2")
        .render(
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
            sheets=[Markup(base64.b64encode(jpeg).decode()) for jpeg in sheets.jpegs],
            sheet_side_px=sheets.side_px,
        )
    )
    with files.saving(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(path, html.encode("utf-8", "replace"))  # a file name that is not Unicode may be an id
    return path


def _most_wrong_first(part: ClassLabelIssues) -> tuple[float, float]:
    """Classes with an estimate by how many labels look wrong, then the others by their most suspicious label."""
    wrong = part.wrong_present + part.wrong_absent
    most_suspicious = min((each.belief for each in part.issues), default=math.inf)
    return (math.inf if math.isnan(wrong) else -wrong, most_suspicious)


def _total(values: list[float]) -> float:
    """Sum of what could be estimated; NaN where nothing could."""
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) if defined else math.nan
