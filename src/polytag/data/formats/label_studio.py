"""Label Studio's JSON and JSON-MIN exports.

https://labelstud.io/guide/export: choices, taxonomies, and the labels of rectangles, polygons, brushes and other regions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from polytag.data.formats.export_content import Content, ExportFile, chosen_field, items_of, object_of, text_of, told_left_out
from polytag.data.formats.listing import is_image
from polytag.data.formats.records import Record
from polytag.data.formats.references import names_of
from polytag.errors import AnnotationError
from polytag.text import counted

_IMAGE_KEYS = ("image", "img", "image_url", "url", "photo", "file")
_OTHER_ANSWERS = ("rating", "number", "textarea", "datetime", "pairwise", "ranker")  # answers that are no classes
_AFTER_LABELS = ("annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement")

Answers = Mapping[str, Sequence[str]]
"""The labels that one annotator gave with each control; a control without an answer is missing."""


@dataclass(frozen=True, kw_only=True)
class _Task:
    """An image, and the answers of each person who annotated it."""

    image: str
    where: str
    answers: Sequence[Answers]


def read_label_studio(values: object, file: ExportFile) -> Content:
    """The JSON export: tasks with `data` and `annotations`.

    A task without an annotation, or with cancelled ones only, is left out; predictions are not read. Of several annotators' labels,
    those that all of them gave are present, and those that only some gave unknown; an annotation marked as ground truth outweighs
    the others.
    """
    tasks = items_of(values, where=str(file.path), expected="a list of tasks")
    controls: dict[str, str] = {}
    found: list[_Task] = []
    has_predictions = False
    for number, task in enumerate(tasks):
        where = f"{file.path}: [{number}]"
        has_predictions |= bool(task.get("predictions"))
        annotations = task.get("annotations", task.get("completions", []))
        kept = [
            annotation
            for annotation in items_of(annotations, where=f"{where}.annotations")
            if not annotation.get("was_cancelled") and not annotation.get("skipped")
        ]
        kept = [annotation for annotation in kept if annotation.get("ground_truth") is True] or kept
        if kept:
            answers = [
                _answers(each.get("result"), controls, where=f"{where}.annotations[{n}].result") for n, each in enumerate(kept)
            ]
            image = _image_of(object_of(task.get("data"), where=f"{where}.data"), where=f"{where}.data")
            found.append(_Task(image=image, where=where, answers=answers))
    told_left_out(file, len(tasks) - len(found), why="because nobody has annotated them (or the annotation was cancelled)")
    if has_predictions:
        file.log.note("predictions in the file are not read: only what people annotated counts")
    return _content(found, controls, file)


def read_label_studio_min(values: object, file: ExportFile, *, places: Sequence[str] = ()) -> Content:
    """The JSON-MIN export: an object per annotation, whose controls stand between `id` and `annotator`; as `read_label_studio`.

    `places` are file and line of each object, where it has them.
    """
    controls: dict[str, str] = {}
    tasks: dict[str, _Task] = {}
    for number, item in enumerate(items_of(values, where=str(file.path), expected="a list of annotations")):
        where = places[number] if places else f"{file.path}: [{number}]"
        names = list(item)
        end = next((at for at, name in enumerate(names) if name in _AFTER_LABELS), len(names))
        start = names.index("id") + 1 if "id" in names[:end] else 0
        answers: dict[str, list[str]] = {}
        for name in names[start:end]:
            if start or not isinstance(item[name], str):
                kind, labels = _min_labels(item[name], where=f"{where}.{name}")
                if labels is not None:
                    controls.setdefault(name, kind)
                    answers[name] = labels
        image = _image_of({name: item[name] for name in names[: start or end] if name != "id"}, where=where)
        key = text_of(item["id"], where=f"{where}.id") if "id" in item else image
        before = tasks.get(key, _Task(image=image, where=where, answers=()))
        tasks[key] = _Task(image=before.image, where=before.where, answers=(*before.answers, answers))
    return _content(list(tasks.values()), controls, file)


def _content(tasks: Sequence[_Task], controls: Mapping[str, str], file: ExportFile) -> Content:
    if not controls:
        raise AnnotationError(
            "annotations without labels",
            where=str(file.path),
            got="no choice, taxonomy or labelled region" if tasks else "no task that anybody has annotated",
            expected="at least one label",
            next_step="export the project after annotating, as JSON",
        )
    control = chosen_field(controls, file)
    records: list[Record] = []
    for task in tasks:
        given = [frozenset(answers.get(control, ())) for answers in task.answers]
        everybody, anybody = frozenset.intersection(*given), frozenset.union(*given)
        records.append(
            Record(
                image=task.image,
                where=task.where,
                present=sorted(everybody),
                unknown=sorted(anybody - everybody),
                split=file.split,
            )
        )
    if num_disputed := sum(bool(record.unknown) for record in records):
        file.log.note(f"labels that only some annotators of an image gave are unknown, in {counted(num_disputed, 'images')}")
    return Content(records=records, labels=f"{controls[control]} {control!r} of Label Studio")


def _answers(results: object, controls: dict[str, str], *, where: str) -> dict[str, list[str]]:
    """The labels of each control in one annotation; adds the controls with their kinds to `controls`."""
    answers: dict[str, list[str]] = {}
    for number, result in enumerate(items_of(results, where=where)):
        kind, value = result.get("type"), result.get("value")
        if not isinstance(kind, str) or not isinstance(value, dict) or kind in _OTHER_ANSWERS:
            continue  # relations, and answers that are no classes
        labels = _labels(value.get(kind), where=f"{where}[{number}].value.{kind}")
        if labels is not None:
            name = result.get("from_name")
            name = name if isinstance(name, str) and name else kind
            controls.setdefault(name, kind)
            answers.setdefault(name, []).extend(labels)
    return answers


def _labels(value: object, *, where: str) -> list[str] | None:
    """The labels of a region or choice; of a taxonomy every step of each path. None for an answer that has none."""
    if value is None:
        return None
    if isinstance(value, str):
        return [text_of(value, where=where)]
    if not isinstance(value, list):
        raise AnnotationError("labels that cannot be read", where=where, got=str(value)[:80], expected="a list of labels")
    steps = [step for item in value for step in (item if isinstance(item, list) else [item])]
    return [text_of(step, where=where, expected="a label") for step in steps]


def _min_labels(value: object, *, where: str) -> tuple[str, list[str] | None]:
    """The kind and the labels of a control in JSON-MIN: a text, `{"choices": [...]}`, a list of regions, or a list of texts."""
    if isinstance(value, dict) and isinstance(value.get("choices"), list):
        return "choices", _labels(value["choices"], where=where)
    if isinstance(value, str):
        return "choices", [text_of(value, where=where)]
    if not isinstance(value, list):
        return "", None
    if all(isinstance(item, str) for item in value):
        return "choices", _labels(value, where=where)
    found: list[str] = []
    kind = ""
    for item in value:
        if isinstance(item, list):
            kind, keys = "taxonomy", [item]
        elif isinstance(item, dict):
            key = next((key for key in item if key in ("choices", "taxonomy", "labels") or key.endswith("labels")), None)
            if key is None:
                continue
            kind, keys = key, item[key]
        else:
            continue
        found += _labels(keys, where=where) or []
    return (kind, found) if kind else ("", None)


def _image_of(data: Mapping[str, object], *, where: str) -> str:
    """The image of a task: the value with the name of an image file, or of a usual key."""
    texts = {key: value for key, value in data.items() if isinstance(value, str) and value}
    named = [value for value in texts.values() if any(is_image(name) for name in names_of(value))]
    usual = [texts[key] for key in _IMAGE_KEYS if key in texts]
    if not named and not usual:
        raise AnnotationError(
            "a task without an image",
            where=where,
            got=", ".join(list(data)[:8]) or "nothing",
            expected='such as {"image": "/data/upload/1/0123abcd-photo.jpg"}',
        )
    return next((value for value in usual if value in named), (named or usual)[0])
