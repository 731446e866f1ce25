"""Label Studio's CSV export: a row for each annotation, with the answers of controls as JSON or as plain text.

https://labelstud.io/guide/export: the columns of the data, of the controls, and what Label Studio knows of an annotation, by name.
"""

from collections.abc import Iterable, Sequence

from polytag.data.formats.export_content import Content, ExportFile, told_left_out
from polytag.data.formats.label_studio import read_label_studio_min
from polytag.data.formats.listing import is_image, read_json
from polytag.data.formats.references import names_of
from polytag.data.formats.rows import Table, cells_of, read_table
from polytag.errors import AnnotationError

_OWN = frozenset({
    "annotation_id", "annotator", "created_at", "id", "lead_time", "updated_at", "agreement", "inner_id", "project", "ground_truth",
    "was_cancelled", "file_upload", "task_id", "completed_by", "predictions_score",
})  # fmt: skip
_MARKS = {"annotator", "annotation_id", "lead_time"}
_TRUE = ("true", "1")


def is_label_studio_table(columns: Iterable[str]) -> bool:
    """Whether a table has the columns that Label Studio adds to every annotation."""
    return {name.strip() for name in columns} >= _MARKS


def read_label_studio_table(file: ExportFile) -> Content:
    """The CSV export, read as JSON-MIN is: an answer that only some annotators of a task gave is unknown.

    An annotation without an answer has no label. Tasks that nobody has annotated, and cancelled annotations, are left out.
    """
    table = read_table(file.path)
    cells = {name: cells_of(table, name) for name in table.columns}
    images = [name for name in cells if name not in _OWN and _holds_images(cells[name])]
    controls = _controls(cells, images, file)
    if not images:
        raise AnnotationError(
            "no column of images",
            where=f"{file.path}:1",
            got=", ".join(cells),
            expected="a column such as 'image' with names or addresses of images",
            next_step="export the project with its images as they are in the data of the tasks",
        )
    if not controls:
        raise AnnotationError(
            "no column of answers",
            where=f"{file.path}:1",
            got=", ".join(cells),
            expected="a column such as 'choice' beside those of Label Studio itself",
            next_step="export the project as JSON, or name the column with the option labels_column (--labels-column)",
        )
    items: list[dict[str, object]] = []
    places: list[str] = []
    num_without = 0
    for row in range(len(table)):
        if cells["annotation_id"][row] is None or (cells.get("was_cancelled", [None] * len(table))[row] or "").lower() in _TRUE:
            num_without += 1
            continue
        items.append(_item(table, cells, row, images=images[:1], controls=controls))
        places.append(table.where(row))
    told_left_out(file, num_without, why="because nobody has annotated them, or only with annotations that were cancelled")
    return read_label_studio_min(items, file, places=places)


def _holds_images(cells: Sequence[str | None]) -> bool:
    given = [cell for cell in cells[:1000] if cell is not None]
    return bool(given) and all(any(map(is_image, names_of(cell))) for cell in given)


def _controls(cells: dict[str, list[str | None]], images: Sequence[str], file: ExportFile) -> list[str]:
    """The columns of answers: those with JSON, or else those with words; a number is a rating, and no class."""
    others = [name for name in cells if name not in _OWN and name not in images]
    if file.label_field in others:
        return [file.label_field]
    with_json = [name for name in others if any(_is_json(cell) for cell in cells[name])]
    with_words = [name for name in others if any(cell and not _is_number(cell) for cell in cells[name])]
    return with_json or with_words


def _is_json(cell: str | None) -> bool:
    return cell is not None and cell[0] in "[{" and cell[-1] in "]}"


def _is_number(cell: str) -> bool:
    return cell.replace(".", "", 1).removeprefix("-").isdecimal()


def _item(
    table: Table, cells: dict[str, list[str | None]], row: int, *, images: Sequence[str], controls: Sequence[str]
) -> dict[str, object]:
    """The row as an object of JSON-MIN: the image, the id of the task, the answers, and who gave them."""
    answers: dict[str, object] = {}
    for name in controls:
        cell = cells[name][row]
        if cell is not None:
            answers[name] = read_json(cell, path=table.path, first_line=table.line_N[row]) if _is_json(cell) else cell
    data = {name: cell for name in images if (cell := cells[name][row]) is not None}
    task = cells["id"][row] if "id" in cells else None
    known: dict[str, object] = {"id": task} if task is not None else {"id": next(iter(data.values()), str(row))}
    return {**data, **known, **answers, "annotator": cells["annotator"][row] or ""}
