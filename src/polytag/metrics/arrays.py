"""`polytag.evaluate`: metrics of labels and scores in arrays, lists, DataFrames or tensors, with scikit-learn's order of arguments.

Shapes: N images, C classes. Invalid input raises an error that names its position, before anything is computed.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from polytag.contracts import SCALES, UNKNOWN, Dataset, LabelSet, Predictions
from polytag.errors import PolytagError, PredictionsError, UsageError
from polytag.logits import ROUNDING, is_exact, logits_of
from polytag.metrics.evaluate import evaluate_predictions
from polytag.metrics.groups import Groups, Value, groups_of
from polytag.metrics.values import Metrics


def evaluate(
    y_true: Any,
    y_score: Any,
    *,
    scores: str,
    class_names: Iterable[str] | None = None,
    threshold: float | Sequence[float] = 0.5,
    num_replicates: int = 1000,
    seed: int = 0,
    groups: Iterable[Value] | None = None,
) -> Metrics:
    """Evaluate scores against true labels: every metric of docs/reference/metrics.md.

    y_true        N x C, or N of a single class: 1 or True present, 0 or False absent, -1 or NaN (None, pandas.NA) unknown; or a
                  Dataset, whose images and classes are the rows and columns of the scores
    y_score       the same shape: finite numbers, higher for "more likely present"
    scores        the scale of the scores, which is never guessed: "logit" (before the sigmoid), "probability" (0 to 1), or "rank"
                  (only the order is meaningful, and every metric that needs a threshold is undefined)
    class_names   C names; the default is the classes of a Dataset, the columns of a DataFrame, or "class 0", "class 1", ...
    threshold, num_replicates, seed   as in `evaluate_predictions`, which does the same for Predictions
    groups        the patient, scene or video of each of the N images, a text or a number; intervals then draw these in place of
                  images, which depend on each other. None, "" or NaN: the image is a group of its own

    Both accept any array-like: nested lists, NumPy, pandas, SciPy's sparse matrices, PyTorch tensors on any device. Raises
    UsageError for input that is not a table, for different shapes, for names that do not match and for a single group,
    PredictionsError for invalid values: a label outside 1, 0, -1, a NaN or infinite score, a probability outside 0 to 1.
    """
    predictions = predictions_from_arrays(y_true, y_score, scores=scores, class_names=class_names)
    in_groups = None if groups is None else _groups(groups, num_images=len(predictions))
    return evaluate_predictions(predictions, threshold=threshold, num_replicates=num_replicates, seed=seed, groups=in_groups)


def _groups(values: Iterable[Value], *, num_images: int) -> Groups:
    values = [value.item() if isinstance(value, np.generic) else value for value in values]
    if len(values) != num_images:
        raise UsageError(
            "the number of groups' values is not the number of images",
            where="groups",
            got=f"{len(values):,}",
            expected=f"{num_images:,}",
        )
    return groups_of(values)


def predictions_from_arrays(
    y_true: Any, y_score: Any, *, scores: str, class_names: Iterable[str] | None = None, ids: Iterable[str] | None = None
) -> Predictions:
    """Predictions from the arrays that `evaluate` accepts: the input of reports, comparisons and files.

    `ids` are N unique names of images, which `compare` pairs by; the default is the ids of a Dataset, or numbers from 0. Raises
    what `evaluate` raises.
    """
    if scores not in SCALES:
        raise UsageError("unknown scale of scores", where="scores", got=repr(scores), expected="one of " + ", ".join(SCALES))
    dataset = y_true if isinstance(y_true, Dataset) else None
    target_NC = table_of(y_true if dataset is None else dataset.target_NC, where="y_true")
    score_NC = table_of(y_score, where="y_score")
    if target_NC.shape != score_NC.shape:
        raise _shapes_disagree(target_NC.shape, score_NC.shape)
    if not len(score_NC):
        raise PredictionsError("no image to evaluate", where="y_score", got=f"shape {score_NC.shape}", expected="one row per image")
    label_set = _label_set(y_true, y_score, class_names, num_classes=score_NC.shape[1])
    _require_same_rows(y_true, y_score)
    target_NC = targets_of(target_NC, where="y_true")
    require_numbers(score_NC, where="y_score")
    probability_NC = None
    if scores == "probability":
        outside_NC = (score_NC < 0) | (score_NC > 1)
        if outside_NC.any():
            raise PredictionsError(
                "a probability outside 0 to 1",
                where=_first(outside_NC, "y_score"),
                got=_value_and_more(score_NC, outside_NC),
                expected="numbers from 0 to 1",
                next_step="these are within the rounding of float32: clip them, as in numpy.clip(y_score, 0, 1)"
                if _are_rounded(score_NC)
                else 'if these are scores before the sigmoid, pass scores="logit"',
            )
        probability_NC = score_NC.astype(np.float64)
        score_NC = logits_of(probability_NC)
    if ids is None:
        ids = map(str, range(len(score_NC))) if dataset is None else dataset.ids
    names = tuple(map(str, ids))
    if len(names) != len(score_NC):
        raise UsageError(
            "the number of ids is not the number of images",
            where="ids",
            got=f"{len(names):,} ids",
            expected=f"{len(score_NC):,}, one per row",
        )
    return Predictions(
        ids=names,
        logit_NC=score_NC,
        target_NC=target_NC,
        label_set=label_set,
        image_paths=() if dataset is None else tuple(map(str, dataset.paths)),
        source="arrays" if dataset is None else dataset.source,
        absent_means="absent" if dataset is None else dataset.absent_means,
        scale=scores,
        given_probability_NC=probability_NC,
    )


def _are_rounded(score_NC: np.ndarray) -> bool:
    """Whether all scores are at most a few units of float32 below 0 or above 1, as sums of probabilities are."""
    return bool(np.min(score_NC) >= -ROUNDING and np.max(score_NC) <= 1 + ROUNDING)


def table_of(values: Any, *, where: str) -> np.ndarray:
    """An N x C array of numbers (booleans, integers or floats) from any array-like; a single axis is one class.

    Raises UsageError, naming `where`, for input that is not a table of numbers.
    """
    array = array_of(values, where=where)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or not array.shape[1]:
        raise UsageError(
            "not a table of images by classes",
            where=where,
            got=f"shape {array.shape}",
            expected="two axes (images, classes), or one for a single class",
        )
    return array


def array_of(values: Any, *, where: str) -> np.ndarray:
    """An array of booleans, integers or floats; None and pandas.NA become NaN, float16 float32. Raises what `table_of` raises."""
    if hasattr(values, "detach") and hasattr(values, "cpu"):  # a tensor, which may need gradients or be on a GPU
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":  # NumPy has no such numbers
            values = values.float()
    elif hasattr(values, "toarray"):  # one of SciPy's sparse matrices
        values = values.toarray()
    elif isinstance(values, np.ma.MaskedArray):
        values = np.where(np.ma.getmaskarray(values), np.nan, values.data)
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise _no_numbers(where, got=str(error).splitlines()[0]) from error
    if array.dtype == object:
        array = _floats_of_objects(array, where=where)
    if array.dtype.kind not in "biuf":
        raise _no_numbers(where, got=f"{array.dtype} ({array.flat[0]!r}, ...)" if array.size else str(array.dtype))
    return array.astype(np.float32) if array.dtype == np.float16 else array


def targets_of(value_NC: np.ndarray, *, where: str) -> np.ndarray:
    """int8 targets in {1, 0, -1} of a table of numbers, NaN as -1; raises PredictionsError, with the position, for other values."""
    if value_NC.dtype.kind == "f":
        value_NC = np.where(np.isnan(value_NC), UNKNOWN, value_NC)
    if value_NC.dtype.kind == "b":
        return value_NC.astype(np.int8)
    target_NC = ((value_NC == 1).view(np.int8) - (value_NC == -1).view(np.int8)).astype(np.int8)
    outside_NC = (target_NC == 0) & (value_NC != 0)
    if outside_NC.any():
        raise PredictionsError(
            "a label outside 1, 0, -1",
            where=_first(outside_NC, where),
            got=_value_and_more(value_NC, outside_NC),
            expected="1 or True (present), 0 or False (absent), -1 or NaN (unknown)",
            next_step="the labels are the first argument and the scores the second: are they swapped?",
        )
    return target_NC


def require_numbers(score_NC: np.ndarray, *, where: str) -> None:
    """Raises PredictionsError, with its position, for NaN or infinity."""
    bad_NC = ~np.isfinite(score_NC)
    if bad_NC.any():
        raise PredictionsError(
            "a score is not a finite number",
            where=_first(bad_NC, where),
            got=_value_and_more(score_NC, bad_NC),
            expected="a finite number for every image and class",
            next_step="leave an image without scores out of both tables; a model that outputs NaN has diverged",
        )


def _floats_of_objects(array: np.ndarray, *, where: str) -> np.ndarray:
    value_N = np.empty(array.size)
    for row, value in enumerate(array.flat):
        if value is None or type(value).__name__ == "NAType":
            value_N[row] = np.nan
        elif isinstance(value, str | bytes) or not hasattr(value, "__float__"):
            raise _no_numbers(where, got=f"{value!r:.60}")
        elif isinstance(value, int) and not is_exact(value):
            raise _no_numbers(where, got=f"{value!r:.60}, which no float64 is equal to")
        else:
            value_N[row] = value
    return value_N.reshape(array.shape)


def _label_set(y_true: Any, y_score: Any, class_names: Iterable[str] | None, *, num_classes: int) -> LabelSet:
    columns = {where: _labels(values, "columns") for where, values in (("y_true", y_true), ("y_score", y_score))}
    if columns["y_true"] and columns["y_score"] and columns["y_true"] != columns["y_score"]:
        raise UsageError(
            "the columns of the two tables are different classes",
            where="y_true and y_score",
            got=_difference(columns["y_true"], columns["y_score"]),
            expected="the same names in the same order",
            next_step="y_true = y_true[list(y_score.columns)] puts them in order; .to_numpy() of both compares by position",
        )
    if isinstance(class_names, str):
        raise UsageError(
            "class_names is a text and not a list",
            where="class_names",
            got=repr(class_names),
            expected="a name for each class",
            next_step="[name]",
        )
    if class_names is None:
        names = columns["y_score"] or columns["y_true"] or [f"class {column}" for column in range(num_classes)]
    else:
        names = [str(name) for name in class_names]
    if len(names) != num_classes:
        raise UsageError(
            "the number of class names is not the number of classes",
            where="class_names",
            got=f"{len(names)} names",
            expected=f"{num_classes}, one per column of y_score",
        )
    try:
        return LabelSet(names=tuple(names))
    except PolytagError as error:
        raise UsageError(error.what, where="class_names", got=error.got, expected=error.expected) from None


def _require_same_rows(y_true: Any, y_score: Any) -> None:
    """Two pandas tables with the same rows in different orders would be compared by position, which is a mistake."""
    rows_true, rows_score = _labels(y_true, "index"), _labels(y_score, "index")
    if rows_true and rows_score and rows_true != rows_score and set(rows_true) == set(rows_score):
        raise UsageError(
            "the rows of the two tables are in different orders",
            where="y_true and y_score",
            got=_difference(rows_true, rows_score),
            expected="the same index in the same order",
            next_step="y_true = y_true.loc[y_score.index] puts them in order; .to_numpy() of both compares by position",
        )


def _labels(values: Any, axis: str) -> list[str]:
    """Names along an axis of a DataFrame or a Dataset; empty for any other type, such as a list, whose `index` is a method."""
    if isinstance(values, Dataset):
        return list(values.label_set if axis == "columns" else values.ids)
    labels = getattr(values, axis, None)
    return [] if labels is None or callable(labels) or isinstance(labels, str) else [str(label) for label in labels]


def _difference(these: Sequence[str], those: Sequence[str]) -> str:
    for place, (this, that) in enumerate(zip(these, those, strict=False)):
        if this != that:
            return f"at {place}: {this!r} and {that!r}"
    return f"{len(these)} and {len(those)}"


def _shapes_disagree(true: tuple[int, ...], score: tuple[int, ...]) -> UsageError:
    if true[0] == score[0] and true[1] == 1:
        next_step = "multi-label targets have one column per class; sklearn.preprocessing.MultiLabelBinarizer makes them of lists"
    elif true == score[::-1]:
        next_step = "rows are images: transpose one of them"
    else:
        next_step = "rows are images, columns are classes, in both"
    return UsageError(
        "labels and scores have different shapes",
        where="y_true and y_score",
        got=f"{true} and {score}",
        expected="the same (images, classes)",
        next_step=next_step,
    )


def _no_numbers(where: str, *, got: str) -> UsageError:
    return UsageError(
        "not a table of numbers",
        where=where,
        got=got,
        expected="numbers or booleans, one row per image and one column per class, all rows of the same length",
        next_step="sklearn.preprocessing.MultiLabelBinarizer makes such a table from lists of names" if where != "y_score" else "",
    )


def _first(bad_NC: np.ndarray, where: str) -> str:
    row, column = np.argwhere(bad_NC)[0]
    return f"{where}[{row}, {column}]"


def _value_and_more(value_NC: np.ndarray, bad_NC: np.ndarray) -> str:
    num_bad = int(bad_NC.sum())
    value = value_NC[tuple(np.argwhere(bad_NC)[0])]
    return f"{value!s}" + (f", and {num_bad - 1:,} more" if num_bad > 1 else "")
