"""Exports a selection: a table of scores and labels, a data set, and one HTML file with the images."""

import base64
import csv
import io
from collections.abc import Iterable, Iterator
from importlib.resources import files as package_files

import numpy as np
from markupsafe import Markup

from polytag.contracts import Dataset
from polytag.data.write.tables import csv_of
from polytag.errors import ImageError, UsageError
from polytag.inspector.browse.answers import RankingParameters
from polytag.inspector.browse.pages import environment
from polytag.inspector.browse.service import InspectorService, NotThere
from polytag.inspector.browse.thumbnails import Thumbnails
from polytag.inspector.selection.selected import Selection, reviewed_targets, selected_rows
from polytag.inspector.words import BOND_TEXT
from polytag.text import UNDEFINED, cell

MAX_IMAGES_IN_FILE = 500
_BLOCK = 1_000  # rows of a table that are made at a time
_STYLES = (("polytag.report", "templates/palette.css"), ("polytag.inspector", "static/shared/inspector.css"))


def score_table(service: InspectorService, selection: Selection) -> Iterator[str]:
    """Return the lines of a CSV table, some at a time: id, tags, note where there is one, and score and label of every class.

    The labels are those of the review. polytag reads the table back as scores of another program. Raises as `selected_rows` does.
    """
    rows = selected_rows(service, selection)
    target_nC = reviewed_targets(service, rows)
    predictions, split = service.inspection.predictions, service.inspection.split
    score = "prob" if predictions.has_probabilities else "score"
    names = predictions.label_set.names

    notes = service.store.batches.notes_of(split, [predictions.ids[row] for row in rows.tolist()])

    def lines() -> Iterator[str]:
        header = [f"{kind}_{name}" for kind in (score, "true") for name in names]
        yield _csv([["id", "tags", *(["note"] if notes else []), *header]])
        for start in range(0, len(rows), _BLOCK):
            taken = predictions.take(rows[start : start + _BLOCK])
            tags = service.store.batches.tags_of(split, taken.ids)
            score_nC = taken.probability_NC if predictions.has_probabilities else taken.logit_NC
            texts_nC = np.array(["0", "1", ""], object)[target_nC[start : start + _BLOCK]]  # by label; -1 is the last
            own_n = [
                [cell(name), cell(" ".join(tags.get(name, ())))] + ([cell(notes.get(name, ""))] if notes else [])
                for name in taken.ids
            ]
            scores_n, labels_n = score_nC.tolist(), texts_nC.tolist()
            yield _csv(
                [*own, *(f"{each:.9g}" for each in scores), *labels]
                for own, scores, labels in zip(own_n, scores_n, labels_n, strict=True)
            )

    return lines()


def _csv(rows: Iterable[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def dataset_table(service: InspectorService, selection: Selection) -> str:
    """Return the selection as a CSV data set, as `labels export` writes it, with the labels of the review.

    The images have whole paths, so the file may lie anywhere on this machine. Raises NotThere where an image file is not known.
    """
    rows = selected_rows(service, selection)
    predictions, split = service.inspection.predictions, service.inspection.split
    paths = [predictions.image_paths[row] if predictions.image_paths else "" for row in rows.tolist()]
    if not all(paths):
        raise NotThere(f"{sum(not path for path in paths):,} of the selected images have no known file")
    dataset = Dataset(
        ids=tuple(predictions.ids[row] for row in rows.tolist()),
        paths=paths,  # pyright: ignore[reportArgumentType]  texts, of which a PathList is made
        target_NC=reviewed_targets(service, rows),
        split_N=(split,) * len(rows),
        label_set=predictions.label_set,
        source=service.inspection.name,
    )
    return csv_of(dataset)


def selection_file(service: InspectorService, selection: Selection, thumbnails: Thumbnails) -> str:
    """Return the selection as one HTML file without scripts: the first images with their numbers, in the order of the ranking.

    Average precision is that of the images that pass the filters, where all of them are selected; else that of all images.
    """
    rows = selected_rows(service, selection)
    query = service.query(selection.ranking)
    if not selection.is_all:
        order_N = service.rankings.rows(service.query(selection.ranking.without_filters()))
        rows = order_N[np.isin(order_N, rows)]
    shown, is_filter = rows[:MAX_IMAGES_IN_FILE], selection.is_all and not selection.rows
    return (
        environment()
        .get_template("selection.html.j2")
        .render(
            run=service.run(query.against),
            chosen=service.classes(query.against).classes[query.column],
            part=service.slice_of(selection.ranking if is_filter else selection.ranking.without_filters()),
            is_filter=is_filter,
            threshold=query.threshold,
            filters=_told(selection.ranking) if selection.is_all else {},
            images=service.images(shown, query),
            sources=[_source(service, thumbnails, row) for row in shown.tolist()],
            total=len(rows),
            style=Markup("\n".join((package_files(package) / path).read_text("utf-8") for package, path in _STYLES)),
        )
    )


def _told(ranking: RankingParameters) -> dict[str, object]:
    """The filters as the page says them: a column with its value, and another class with what an image has of the two."""
    told = ranking.filters
    if ranking.column:
        told["column"] = f"{ranking.column}: {ranking.value or UNDEFINED}"
    if ranking.other:
        told["other"] = f"{ranking.other}: {BOND_TEXT[ranking.bond]}"
    if ranking.against and (ranking.change or ranking.disagree):
        told["against"] = ranking.against
    return told


def _source(service: InspectorService, thumbnails: Thumbnails, row: int) -> str:
    """The thumbnail as the address of data; "" for an image that cannot be read."""
    try:
        content = thumbnails.get(service.image_path(row))
    except (ImageError, NotThere):
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(content).decode()


def ids_text(service: InspectorService, selection: Selection) -> str:
    """Return the ids, one a line; raises UsageError where an id has a line break in it."""
    ids = [service.inspection.predictions.ids[row] for row in selected_rows(service, selection).tolist()]
    if any("\n" in name for name in ids):
        raise UsageError("an id has a line break, so a list of a line each is none")
    return "".join(f"{name}\n" for name in ids)
