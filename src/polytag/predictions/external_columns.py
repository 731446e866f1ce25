"""Which columns of a foreign table hold what: by the names that people give them, and by the options where those say more."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from polytag.data.formats.tables import IMAGE_COLUMNS, LABELS_COLUMNS, PASSED_OVER, SPLIT_COLUMNS, first_of, id_column
from polytag.data.load import ReadOptions
from polytag.errors import PredictionsError
from polytag.predictions.joining import nearest, two_sides

ID_COLUMNS = ("id", *IMAGE_COLUMNS)
TRUTH_COLUMNS = ("truth", "y_true", "true_labels", "ground_truth", "gt", "target", "targets", *LABELS_COLUMNS)
SCALE_OF = {  # what the name of a column, key or array says of the numbers in it
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
    """Which columns hold what. `scores` and `truths`: class to column; `labels`: a column of label lists; "" for no such column."""

    id: str
    image: str
    error: str
    labels: str
    scores: Mapping[str, str]
    truths: Mapping[str, str]
    scale: str


def roles_of(names: Sequence[str], *, options: ReadOptions, has_external_truth: bool, where: str) -> Roles:
    """Roles by the documented names, and by the options where those say more; raises PredictionsError where no score is left."""
    if tuple(names[:4]) == OWN_CSV:
        own = {name: name for name in names[4:]}
        return Roles(id="id", image="image", error="error", labels="", scores=own, truths={}, scale="probability")
    options = fitting(options, names, where=where, has_external_truth=has_external_truth)
    id = options.image_column or first_of(names, ID_COLUMNS) or id_column(names)
    image = options.image_column or first_of(names, IMAGE_COLUMNS)
    labels = options.labels_column or first_of(names, TRUTH_COLUMNS)
    split = options.split_column or first_of(names, SPLIT_COLUMNS)
    beside = {id, image, labels, split}
    rest = [name for name in names if name not in beside and not PASSED_OVER.fullmatch(name)]
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


def fitting(options: ReadOptions, names: Sequence[str], *, where: str, has_external_truth: bool) -> ReadOptions:
    """The options, checked against the columns there are; with a truth beside, which they also speak of, those that fit."""
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
    kept = tuple(name for name in options.class_columns if name in names)
    return replace(options, class_columns=kept, **dict.fromkeys(named & lost.keys(), ""))


def _by_prefix(names: Sequence[str], *, where: str) -> tuple[dict[str, str], dict[str, str], str] | None:
    """Where every column is `logit/cat`, `prob_cat`, `target/cat` and such: scores, truths and the scale; else None."""
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
            "two kinds of scores in one table",
            where=where,
            got=", ".join(next(iter(columns.values())) for columns in kinds.values()),
            expected="one number for each image and class",
            next_step="remove the columns of one kind",
        )
    ((prefix, scores),) = kinds.items()
    if truths and set(truths) != set(scores):
        raise PredictionsError(
            "the truth has other classes than the scores",
            where=where,
            got=two_sides(list(truths), list(scores), scored_side="scores"),
            expected="the same classes, in any order",
            next_step="spell the classes alike, or remove the columns that only one side has",
        )
    return scores, truths, SCALE_OF[prefix]


def refuse_twice(names: Sequence[str], *, where: str) -> None:
    """Raises PredictionsError for a name that two columns have."""
    for number, name in enumerate(names):
        if name and name in names[:number]:
            raise PredictionsError("a column is given twice", where=where, got=repr(name), expected="every column once")
