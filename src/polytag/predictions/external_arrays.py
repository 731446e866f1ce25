"""Reads scores from arrays in NPZ files and PyTorch files. Runs no pickled code, and imports PyTorch only for its files."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from polytag.contracts import ABSENT, PRESENT, UNKNOWN
from polytag.data.read_options import ReadOptions
from polytag.errors import PredictionsError
from polytag.predictions.external_columns import SCALE_OF, TRUTH_COLUMNS
from polytag.predictions.raw_scores import RawScores

IDS_KEYS = ("ids", "id", "image_ids", "image_id", "names", "filenames", "file_names", "paths", "images", "pictures")
CLASSES_KEYS = ("classes", "class_names", "label_names", "categories", "category_names")
TRUTH_KEYS = ("y_true", "truth", "targets", "target", "labels", "label", "ground_truth", "gt")
assert set(TRUTH_KEYS) <= set(TRUTH_COLUMNS)


def read_npz_scores(path: Path, *, options: ReadOptions, has_external_truth: bool) -> RawScores:
    """Read arrays by their usual names; raises PredictionsError for arrays of objects, which would need unpickling."""
    found: dict[str, object] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as member:
                    found[name.removesuffix(".npy")] = np.lib.format.read_array(member, allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # for a broken archive zipfile, zlib and NumPy raise many types
        objects = "Object arrays" in str(error)
        raise PredictionsError(
            "arrays of Python objects are not supported" if objects else "the NPZ file cannot be read",
            where=str(path),
            got="an array of dtype object, which can run any code when it is read" if objects else _reason(error),
            expected="arrays of numbers and of text",
            next_step="save names as text, with np.array(names, dtype=str)" if objects else "",
        ) from error
    return _raw_scores(found, path, has_external_truth=has_external_truth)


def read_torch_scores(path: Path, *, options: ReadOptions, has_external_truth: bool) -> RawScores:
    """Read a dict of tensors by their usual names, or a tuple of scores and labels; with weights_only, which runs no code."""
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # for a broken pickle the unpickler raises many types
        refused = "weights_only" in str(error) or "WeightsUnpickler" in str(error)
        raise PredictionsError(
            "the PyTorch file holds more than tensors" if refused else "the PyTorch file cannot be read",
            where=str(path),
            got="Python objects, which can run any code when they are read" if refused else _reason(error),
            expected="tensors, and lists of text, in a dict or a tuple",
            next_step='save {"y_score": scores, "y_true": targets, "ids": list_of_text, "classes": list_of_text}',
        ) from error
    if isinstance(content, torch.Tensor):
        content = {"y_score": content}
    elif isinstance(content, list | tuple):
        if not 1 <= len(content) <= 2:
            raise PredictionsError(
                "the tuple in the PyTorch file has the wrong length",
                where=str(path),
                got=f"{len(content)} items",
                expected="the scores, or the scores and the labels",
                next_step='save a dict: {"y_score": scores, "y_true": targets}',
            )
        content = dict(zip(("y_score", "y_true"), content, strict=False))
    if not isinstance(content, Mapping):
        raise PredictionsError(
            "no tensors in the PyTorch file", where=str(path), got=type(content).__name__, expected="a dict or a tuple of tensors"
        )
    found: dict[str, object] = {}
    for name, item in content.items():
        if isinstance(item, torch.Tensor):
            item = item.detach()
            item = item.to_dense() if item.layout != torch.strided else item
            item = (item.float() if item.dtype in (torch.bfloat16, torch.float16) else item).numpy()
        found[str(name)] = item
    return _raw_scores(found, path, has_external_truth=has_external_truth)


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _raw_scores(found: Mapping[str, object], path: Path, *, has_external_truth: bool) -> RawScores:
    by_name = {name.lower(): name for name in found}
    keys = [key for key in SCALE_OF if key in by_name]
    if len(keys) != 1:
        raise PredictionsError(
            "two arrays of scores" if keys else "no array of scores",
            where=str(path),
            got=", ".join(keys or found) or "nothing",
            expected="one of " + ", ".join(SCALE_OF),
        )
    value_NC = _matrix(found[by_name[keys[0]]], name=by_name[keys[0]], path=path)
    num_images, num_classes = value_NC.shape
    ids = _texts(found, IDS_KEYS, num=num_images, what="images", path=path)
    classes = _texts(found, CLASSES_KEYS, num=num_classes, what="classes", path=path)
    truth = "" if has_external_truth else next((by_name[key] for key in TRUTH_KEYS if key in by_name), "")
    return RawScores(
        source=str(path),
        ids=ids or [f"row {row + 1}" for row in range(num_images)],
        classes=classes or [str(column) for column in range(num_classes)],
        value_NC=value_NC,
        target_NC=_truth(found[truth], shape=value_NC.shape, name=truth, path=path) if truth else None,
        where=lambda row: f"{path}, row {row + 1}",
        scale=SCALE_OF[keys[0]],
    )


def _matrix(item: object, *, name: str, path: Path) -> np.ndarray:
    value = np.asarray(item)
    if value.ndim != 2 or value.dtype.kind not in "fiub":
        raise PredictionsError(
            "the scores are not a table of numbers",
            where=str(path),
            got=f"{name}: {value.dtype} of shape {value.shape}",
            expected="numbers of shape (images, classes)",
        )
    return (
        value
        if value.dtype.kind in "iu" or (value.dtype.kind == "f" and value.dtype.itemsize in (4, 8))
        else value.astype(np.float64)
    )


def _texts(found: Mapping[str, object], keys: Sequence[str], *, num: int, what: str, path: Path) -> list[str]:
    by_name = {name.lower(): name for name in found}
    name = next((by_name[key] for key in keys if key in by_name), "")
    if not name:
        return []
    value = np.asarray(found[name])
    if value.ndim != 1 or value.dtype.kind not in "USiu" or len(value) != num:
        raise PredictionsError(
            f"the names do not match the {what}",
            where=str(path),
            got=f"{name}: {value.dtype} of shape {value.shape}",
            expected=f"{num} names, a list of text or whole numbers",
        )
    return [item.decode() if isinstance(item, bytes) else str(item) for item in value.tolist()]


def _truth(item: object, *, shape: tuple[int, ...], name: str, path: Path) -> np.ndarray:
    value = np.asarray(item)
    if value.shape != shape or value.dtype.kind not in "fiub":
        raise PredictionsError(
            "the labels do not match the scores",
            where=str(path),
            got=f"{name}: {value.dtype} of shape {value.shape}",
            expected=f"1, 0 or -1 (unknown) in the shape of the scores, {shape}",
            next_step="scikit-learn's MultiLabelBinarizer makes such an array from lists of labels",
        )
    bad = ~np.isin(value, (PRESENT, ABSENT, UNKNOWN))
    if bad.any():
        row, column = (int(index) for index in np.argwhere(bad)[0])
        raise PredictionsError(
            "a label outside 1, 0, -1",
            where=f"{path}, row {row + 1}",
            got=f"{value[row, column]!s} in {name}, column {column}",
            expected="1 (present), 0 (absent) or -1 (unknown)",
            next_step="in a tuple the scores are first and the labels second",
        )
    if (value == UNKNOWN).any() and not (value == ABSENT).any():
        raise PredictionsError(
            "no label is absent",
            where=str(path),
            got=f"{name}: only 1 and -1",
            expected="0 for absent; -1 means unknown and does not count",
            next_step=f"write absent labels as 0: {name}[{name} == -1] = 0",
        )
    return value.astype(np.int8)
