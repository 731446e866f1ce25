"""A predictions file from a stranger: it is read, or is one clear error."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polytag.contracts import LabelSet, Predictions
from polytag.data.load import load_dataset
from polytag.errors import DataError, PolytagError, PredictionsError
from polytag.predictions.read import read_predictions
from polytag.predictions.table import HEADER, read_parquet_predictions, write_predictions

FLOATS, NOT_UTF8 = pa.float32(), pa.py_buffer(b"\xffb")
STARTS = pa.array([0, 1, 2], pa.int32()).buffers()[1]

HEADERS = (
    b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b"9" * 5000, b'{"version": 1}', b'{"version": true}', b'{"version": "1"}',
    b'{"version": 1e999}', b'{"version": NaN}', b'{"version": 1, "version": 1}', b'{"version": 99999999999999999999999}',
)  # fmt: skip
CHANGES = (
    *(("classes", value) for value in (None, 5, "cat", [], [5], ["cat", "cat"], ["cat", ""], ["\ud800"], ["c" * 5000], {"cat": 1})),
    *(("label_fingerprint", value) for value in (None, 5, "", "x" * 5000, ["x"])),
    *(("checkpoint_id", value) for value in (None, 5, [], "x" * 5000, True)),
    *(("calibration", value) for value in (None, 5, [], "x" * 5000)),
    *(("source", value) for value in (None, 5, [], "\ud800")),
    *(("values", value) for value in (None, 5, "probability", "x")),
    ("surplus", 1),
)


def with_header(path: Path, header: bytes) -> None:
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({HEADER: header}), path)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    predictions = Predictions(
        ids=("a", "b"), logit_NC=np.zeros((2, 1), np.float32), target_NC=np.zeros((2, 1)), label_set=LabelSet(names=("cat",))
    )
    write_predictions(predictions, tmp_path / "gift.parquet")
    return tmp_path / "gift.parquet"


def refused(path: Path) -> str:
    with pytest.raises(PolytagError) as error:
        read_parquet_predictions(path)
    assert len(str(error.value)) < 2000 + 2 * len(str(path))
    return error.value.what


@pytest.mark.parametrize("header", HEADERS, ids=range(len(HEADERS)))
def test_a_header_of_something_else_is_one_error(whole: Path, header: bytes):
    with_header(whole, header)
    assert "predictions" in refused(whole)


@pytest.mark.parametrize(("key", "value"), CHANGES, ids=range(len(CHANGES)))
def test_every_wrong_value_of_the_header_is_one_error(whole: Path, key: str, value: object):
    header = json.loads(pq.read_schema(whole).metadata[HEADER]) | {key: value}
    with_header(whole, json.dumps(header).encode())
    refused(whole)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("logit/cat", pa.array(["1", "2"])),
        ("logit/cat", pa.array([1.0, 2.0], pa.float64())),
        ("logit/cat", pa.array([[1.0], [2.0]])),
        ("logit/cat", pa.array([None, 1.0], FLOATS)),
        ("logit/cat", pa.array([float("nan"), 1.0], FLOATS)),
        ("target/cat", pa.array([2, 0], pa.int8())),
        ("target/cat", pa.array([1.0, 0.0])),
        ("target/cat", pa.array([None, 1], pa.int8())),
        ("id", pa.array([1, 2])),
        ("id", pa.array([None, "b"])),
        ("id", pa.array(["a", "a"])),
        ("id", pa.array([b"\xff", b"b"])),
        ("id", pa.Array.from_buffers(pa.string(), 2, [None, STARTS, NOT_UTF8])),
        ("error", pa.array([1, 2])),
        ("error", pa.array(["x", "y"])),
        ("image", pa.array([1, 2])),
        ("image", pa.array([{"a": 1}] * 2)),
    ],
    ids=range(17),
)
def test_a_column_of_another_kind_is_one_error(whole: Path, name: str, values: pa.Array):
    table = pq.read_table(whole)
    pq.write_table(table.set_column(table.schema.get_field_index(name), name, values), whole)
    refused(whole)


def test_a_column_that_is_there_twice_is_one_error(whole: Path):
    table = pq.read_table(whole)
    pq.write_table(table.append_column("logit/cat", table["logit/cat"]), whole)
    refused(whole)


def test_a_column_whose_name_is_no_utf8(tmp_path: Path):
    """In a table of scores, in polytag's own file and in a table of labels."""
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"id": ["a", "b"], "wxyz": [0.25, 0.5]}), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"wxyz", b"\xff\xfe\xff\xfe"))
    with pytest.raises(PredictionsError, match="cannot be read"):
        read_predictions(path, scale="probability")
    with pytest.raises(DataError):
        load_dataset(path)
