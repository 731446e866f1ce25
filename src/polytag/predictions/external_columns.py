"""The roles of the columns of an external table: by their usual names, and by the options, which take precedence."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from polytag.data.formats.column_names import (
    ID_COLUMNS,
    IMAGE_COLUMNS,
    LABELS_COLUMNS,
    PASSED_OVER,
    SPLIT_COLUMNS,
    first_of,
    id_column,
)
from polytag.data.read_options import ReadOptions
from polytag.errors import PredictionsError
from polytag.predictions.joining import two_sides
from polytag.text import nearest

TRUTH_COLUMNS = ("truth", "y_true", "true_labels", "ground_truth", "gt", "target", "targets", *LABELS_COLUMNS)
SCALE_OF = {  # the scale that the name of a column, key or array implies
    **dict.fromkeys(("logit", "logits"), "logit"),
    **dict.fromkeys(("probability", "probabilities", "prob", "probs", "proba", "y_prob", "y_proba"), "probability"),
    **dict.fromkeys(("score", "scores", "y_score", "y_scores", "y_pred", "pred", "preds", "prediction", "predictions", "output",
                     "outputs"), ""),
}  # fmt: skip
OWN_CSV = ("id", "image", "error", "labels")
OWN_JSONL = frozenset({*OWN_CSV, "probability"})
_PREFIXED = re.compile(
    rf"({'|'.join(sorted({*SCALE_OF, *TRUTH_COLUMNS, 'true', 'label'}, key=len, reverse=True))})[/:_. ](.+)", re.I
)


@dataclass(frozen=True, kw_only=True)
class Roles:
    """The column of each role. `scores` and `truths`: class to column; `labels`: a column of label lists; "" if there is none."""

    id: str
    image: str
    error: str
    labels: str
    scores: Mapping[str, str]
    truths: Mapping[str, str]
    scale: str


def roles_of(names: Sequence[str], *, options: ReadOptions, has_external_truth: bool, where: str) -> Roles:
    """Roles by the documented names and by the options, which take precedence; raises PredictionsError if no score remains."""
    if tuple(names[:4]) == OWN_CSV:
        own = {name: name for name in names[4:]}
        return Roles(id="id", image="image", error="error", labels="", scores=own, truths={}, scale="probability")
    options = options_for(options, names, where=where, has_external_truth=has_external_truth)
    id = options.image_column or first_of(names, ID_COLUMNS) or id_column(names)
    image = options.image_column or first_of(names, IMAGE_COLUMNS)
    labels = options.labels_column or first_of(names, TRUTH_COLUMNS)
    split = options.split_column or first_of(names, SPLIT_COLUMNS)
    other_roles = {id, image, labels, split}
    rest = [name for name in names if name not in other_roles and not PASSED_OVER.fullmatch(name)]
    rest = [name for name in rest if not any(fnmatchcase(name, pattern) for pattern in options.ignore_columns)]
    rest = list(options.class_columns) or rest
    scores, truths, scale = _by_prefix(rest, where=where) or ({name: name for name in rest}, {}, "")
    if not scores:
        raise PredictionsError(
            "no column of scores",
            where=where,
            got=", ".join(names) or "no column",
            expected="a column of numbers for each class, named after it",
        )
    if has_external_truth:
        truths = {}
    if truths or has_external_truth:
        labels = ""
    return Roles(id=id, image=image, error="", labels=labels, scores=scores, truths=truths, scale=scale)


def options_for(options: ReadOptions, names: Sequence[str], *, where: str, has_external_truth: bool) -> ReadOptions:
    """The options, checked against these columns; with external labels, which they also describe, only the applicable ones."""
    named = {"image_column", "labels_column", "split_column"}
    chosen = {field: getattr(options, field) for field in named} | {name: name for name in options.class_columns}
    lost = {field: name for field, name in chosen.items() if name and name not in names}
    if lost and not has_external_truth:
        name = next(iter(lost.values()))
        raise PredictionsError(
            "a chosen column is not there",
            where=where,
            got=", ".join(names[:20]) + (", ..." if len(names) > 20 else ""),
            expected=f"a column {name!r}" + nearest(name, names),
        )
    class_columns = tuple(name for name in options.class_columns if name in names)
    return replace(options, class_columns=class_columns, **dict.fromkeys(named & lost.keys(), ""))


def _by_prefix(names: Sequence[str], *, where: str) -> tuple[dict[str, str], dict[str, str], str] | None:
    """Scores, labels and scale if every column is named like `logit/cat`, `prob_cat` or `target/cat`; else None."""
    found = [(_PREFIXED.fullmatch(name), name) for name in names]
    if not all(match for match, _ in found):
        return None
    kinds: dict[str, dict[str, str]] = {}
    truths: dict[str, str] = {}
    for match, name in found:
        assert match
        prefix = match[1].lower()
        into = kinds.setdefault(prefix, {}) if prefix in SCALE_OF else truths
        into[match[2]] = name
    if not kinds:
        return None
    if len(kinds) > 1:
        raise PredictionsError(
            "the table has two kinds of scores",
            where=where,
            got=", ".join(next(iter(columns.values())) for columns in kinds.values()),
            expected="one number for each image and class",
            next_step="remove the columns of one kind",
        )
    ((prefix, scores),) = kinds.items()
    if truths and set(truths) != set(scores):
        raise PredictionsError(
            "the labels and the scores have different classes",
            where=where,
            got=two_sides(list(truths), list(scores), scored_side="scores"),
            expected="the same classes, in any order",
            next_step="use the same spelling, or remove the columns that only one side has",
        )
    return scores, truths, SCALE_OF[prefix]
