"""The predictions file: it is read as it was written, written atomically, and invalid files are errors."""

import csv
import json
import re
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polytag.contracts import LabelSet, Predictions
from polytag.errors import PredictionsError, RunError, UsageError
from polytag.predictions.table import HEADER, ROWS_AT_ONCE, SUFFIXES, PredictionsWriter, read_parquet_predictions, write_predictions

LABELS = LabelSet(names=("cat", "dog", "big, old tree"))
IDS = ("a.jpg", 'Bär "2".jpg', "c,d.jpg")
LOGITS = np.array([[1.0, -3.0, 0.5], [0.25, 0.25, 0.25], [-8.5, 4.0, 30.0]], np.float32)
TARGETS = np.array([[1, 0, -1], [0, 1, 0], [-1, -1, 1]], np.int8)


def table(**changes: object) -> Predictions:
    values = {
        "ids": IDS,
        "logit_NC": LOGITS,
        "target_NC": TARGETS,
        "label_set": LABELS,
        "image_paths": ("photos/a.jpg", "photos/b.jpg", ""),
        "checkpoint_id": "0123456789abcdef",
        "source": "test",
    }
    return Predictions(**(values | changes))


def probability(logit: float) -> float:
    return 1 / (1 + float(np.exp(-np.float64(logit))))


# ---- Parquet ----


def test_parquet_gives_back_every_bit(tmp_path: Path):
    extremes = np.array([[np.finfo(np.float32).max, np.finfo(np.float32).tiny, -0.0], [1e-45, 1 / 3, -88.8], LOGITS[2]], np.float32)
    written = table(logit_NC=extremes)
    write_predictions(written, tmp_path / "p.parquet")
    read = read_parquet_predictions(tmp_path / "p.parquet")
    assert read.logit_NC.tobytes() == extremes.tobytes()
    assert read.target_NC.tobytes() == TARGETS.tobytes()
    for name in ("ids", "label_set", "image_paths", "checkpoint_id"):
        assert getattr(read, name) == getattr(written, name)
    assert read.source == str(tmp_path / "p.parquet")


def test_the_same_table_is_the_same_file(tmp_path: Path):
    for name in ("one.parquet", "two.parquet"):
        write_predictions(table(), tmp_path / name)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_any_parquet_reader_finds_the_documented_columns_and_header(tmp_path: Path):
    write_predictions(table(), tmp_path / "p.parquet")
    read = pq.read_table(tmp_path / "p.parquet")
    assert {field.name: str(field.type) for field in read.schema} == {
        "id": "string", "image": "string", "error": "string",
        "logit/cat": "float", "logit/dog": "float", "logit/big, old tree": "float",
        "target/cat": "int8", "target/dog": "int8", "target/big, old tree": "int8",
    }  # fmt: skip
    assert read["logit/dog"].to_pylist() == [-3.0, 0.25, 4.0]
    assert read["target/cat"].to_pylist() == [1, 0, -1]
    assert read["error"].to_pylist() == [None] * 3
    assert json.loads(read.schema.metadata[HEADER]) == {
        "version": 1,
        "classes": list(LABELS),
        "label_fingerprint": LABELS.fingerprint,
        "checkpoint_id": "0123456789abcdef",
        "values": "logit",
        "calibration": "",
        "absent_means": "absent",
        "source": "test",
    }


def test_without_targets_every_label_is_unknown(tmp_path: Path):
    with PredictionsWriter(tmp_path / "p.parquet", label_set=LABELS) as writer:
        writer.write(IDS, IDS, LOGITS)
    assert (read_parquet_predictions(tmp_path / "p.parquet").target_NC == -1).all()


def test_rows_of_broken_images_are_in_the_file_and_not_in_the_table(tmp_path: Path):
    path = tmp_path / "p.parquet"
    with PredictionsWriter(path, label_set=LABELS) as writer:
        writer.write(IDS[:1], ["a.jpg"], LOGITS[:1], TARGETS[:1])
        writer.fail("b.jpg", "photos/b.jpg", "the image is empty")
        writer.write(IDS[2:], ["c.jpg"], LOGITS[2:], TARGETS[2:])
    rows = pq.read_table(path)
    assert rows["error"].to_pylist() == [None, "the image is empty", None]
    assert rows["id"].to_pylist() == ["a.jpg", "b.jpg", "c,d.jpg"]
    assert rows["logit/cat"].to_pylist() == [1.0, None, -8.5]
    read = read_parquet_predictions(path)
    assert (read.ids, read.image_paths) == (("a.jpg", "c,d.jpg"), ("a.jpg", "c.jpg"))
    assert read.logit_NC.tobytes() == LOGITS[[0, 2]].tobytes()
    assert read.target_NC.tolist() == TARGETS[[0, 2]].tolist()


# ---- CSV and JSON Lines ----


def test_csv_holds_probabilities_and_the_labels_above_the_models_thresholds(tmp_path: Path):
    path = tmp_path / "p.csv"
    with PredictionsWriter(path, label_set=LABELS, thresholds=(0.5, 0.6, 0.56)) as writer:
        writer.write(IDS, ["x/a.jpg", "x/b.jpg", ""], LOGITS)
        writer.fail("e.jpg", "x/e.jpg", "the image is empty")
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["id", "image", "error", "labels", "cat", "dog", "big, old tree"]
    assert [row[:4] for row in rows] == [
        ["a.jpg", "x/a.jpg", "", "cat|big, old tree"],
        ['Bär "2".jpg', "x/b.jpg", "", "cat|big, old tree"],
        ["c,d.jpg", "", "", "dog|big, old tree"],
        ["e.jpg", "x/e.jpg", "the image is empty", ""],
    ]
    found = np.array([[float(cell) for cell in row[4:]] for row in rows[:3]])
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-LOGITS.astype(np.float64))), atol=1e-15, rtol=1e-12)
    assert rows[3][4:] == ["", "", ""]


def test_exactly_the_threshold_is_not_above_it(tmp_path: Path):
    for name in ("p.csv", "p.jsonl"):
        with PredictionsWriter(tmp_path / name, label_set=LABELS) as writer:
            writer.write(["a"], ["a"], np.array([[0.0, 1e-3, -1e-3]], np.float32))
    assert (tmp_path / "p.csv").read_text().splitlines()[1].split(",")[3] == "dog"
    assert json.loads((tmp_path / "p.jsonl").read_text())["labels"] == ["dog"]


def test_at_0_every_image_has_the_label_but_one_that_could_not_be_read(tmp_path: Path):
    for name in ("p.csv", "p.jsonl"):
        with PredictionsWriter(tmp_path / name, label_set=LABELS, thresholds=(0.0, 1.0, 2e-18)) as writer:
            writer.write(["a", "b"], ["a", "b"], np.array([[-800, 800, -40], [60, 60, -60]], np.float32))
            writer.fail("e", "e", "the image is empty")
    with open(tmp_path / "p.csv", newline="", encoding="utf-8") as file:
        assert [row[3] for row in csv.reader(file)] == ["labels", "cat|big, old tree", "cat", ""]
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [row["labels"] for row in rows] == [["cat", "big, old tree"], ["cat"], []]


def test_json_lines_hold_an_image_a_line(tmp_path: Path):
    path = tmp_path / "p.jsonl"
    with PredictionsWriter(path, label_set=LABELS, thresholds=(0.5, 0.6, 0.56)) as writer:
        writer.write(IDS[1:2], ["x/b.jpg"], LOGITS[1:2])
        writer.fail("e.jpg", "x/e.jpg", "the image is empty")
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == [
        {
            "id": 'Bär "2".jpg',
            "image": "x/b.jpg",
            "error": None,
            "labels": ["cat", "big, old tree"],
            "probability": {name: pytest.approx(probability(0.25), rel=1e-14) for name in LABELS},
        },
        {"id": "e.jpg", "image": "x/e.jpg", "error": "the image is empty", "labels": [], "probability": None},
    ]


def test_another_ending_is_refused(tmp_path: Path):
    for name, got in (("p.xlsx", ".xlsx"), ("p", "no ending")):
        with pytest.raises(UsageError) as error:
            write_predictions(table(), tmp_path / name)
        assert str(error.value) == (
            f"unknown kind of predictions file\n  where: {tmp_path / name}\n  got: {got}\n  expected: one of .parquet, .csv, .jsonl"
        )


# ---- constant memory; whole or not at all ----


def write_rows(path: Path, num_rows: int) -> None:
    with PredictionsWriter(path, label_set=LABELS) as writer:
        for row in range(num_rows):
            writer.write([str(row)], ["x"], np.zeros((1, 3), np.float32))


def test_parquet_is_written_a_row_group_at_a_time(tmp_path: Path):
    write_rows(tmp_path / "p.parquet", 2 * ROWS_AT_ONCE + 5)
    file = pq.ParquetFile(tmp_path / "p.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [ROWS_AT_ONCE, ROWS_AT_ONCE, 5]
    assert read_parquet_predictions(tmp_path / "p.parquet").ids == tuple(str(row) for row in range(2 * ROWS_AT_ONCE + 5))
    file.close()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path, suffix: str):
    peaks: list[int] = []
    write_rows(tmp_path / f"warm{suffix}", 10)
    for num_rows in (ROWS_AT_ONCE, 2 * ROWS_AT_ONCE + 100):
        tracemalloc.start()
        write_rows(tmp_path / f"{num_rows}{suffix}", num_rows)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_exception_in_the_middle_leaves_the_old_file_and_nothing_else(tmp_path: Path, suffix: str):
    path = tmp_path / f"p{suffix}"
    write_predictions(table(), path)
    before = path.read_bytes()

    def interrupted() -> None:
        with PredictionsWriter(path, label_set=LABELS) as writer:
            writer.write(["a"] * (ROWS_AT_ONCE + 1), ["a"] * (ROWS_AT_ONCE + 1), np.zeros((ROWS_AT_ONCE + 1, 3)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


_WRITER = """
import sys
from pathlib import Path
import numpy as np
from polytag.contracts import LabelSet
from polytag.predictions.table import PredictionsWriter

with PredictionsWriter(Path(sys.argv[1]), label_set=LabelSet(names=("a", "b"))) as writer:
    for row in range(9000):
        writer.write([str(row)], ["x"], np.zeros((1, 2), np.float32))
    print("written", flush=True)
    sys.stdin.read()
"""


def test_killed_in_the_middle_leaves_no_file_and_does_not_stand_in_the_way(tmp_path: Path):
    path = tmp_path / "p.parquet"
    process = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()
    assert not path.exists()
    write_predictions(table(), path)
    assert read_parquet_predictions(path).ids == IDS
    assert [item.name for item in tmp_path.iterdir()] == ["p.parquet"]


@contextmanager
def files_of_at_most(num_bytes: int) -> Generator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("num_rows", [2000, 3 * ROWS_AT_ONCE], ids=["at the end", "in the middle"])
def test_a_full_disk_is_an_error_and_leaves_the_old_file(tmp_path: Path, suffix: str, num_rows: int):
    path = tmp_path / f"p{suffix}"
    write_predictions(table(), path)
    before = path.read_bytes()
    logit_NC = np.random.default_rng(0).normal(size=(num_rows, 3)).astype(np.float32)
    ids = [str(row) for row in range(num_rows)]
    with files_of_at_most(8192), pytest.raises(RunError) as error, PredictionsWriter(path, label_set=LABELS) as writer:
        writer.write(ids, ids, logit_NC)
    assert str(error.value) == (
        f"could not save p{suffix}: the file size limit is reached\n  where: {path}\n  expected: free space\n"
        "  next: free some space; earlier files are complete, and `polytag train --resume` continues a training run"
    )
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_missing_folder_is_an_error(tmp_path: Path, suffix: str):
    path = tmp_path / "nowhere" / f"p{suffix}"
    with pytest.raises(RunError) as error:
        write_predictions(table(), path)
    assert str(error.value) == (
        f"could not save p{suffix}\n  where: {path}\n  got: No such file or directory\n  expected: a folder that can be written"
    )


# ---- files that are none ----


def refusal(path: Path) -> str:
    with pytest.raises(PredictionsError) as error:
        read_parquet_predictions(path)
    return str(error.value)


def rewritten(path: Path, change) -> Path:
    """The file of `table()`, its Arrow table changed in between."""
    write_predictions(table(), path)
    pq.write_table(change(pq.read_table(path)), path)
    return path


def with_header(read: pa.Table, **changes: object) -> pa.Table:
    return read.replace_schema_metadata({HEADER: json.dumps(json.loads(read.schema.metadata[HEADER]) | changes).encode()})


def test_no_such_file(tmp_path: Path):
    assert refusal(tmp_path / "none.parquet") == (
        f"the predictions file cannot be read\n  where: {tmp_path / 'none.parquet'}\n  got: no such file\n"
        "  expected: a Parquet file that `polytag train` or `polytag predict` wrote"
    )


def test_a_folder(tmp_path: Path):
    write_predictions(table(), tmp_path / "predictions-val.parquet")
    assert refusal(tmp_path) == (
        f"the predictions file cannot be read\n  where: {tmp_path}\n  got: a folder\n"
        "  expected: a Parquet file that `polytag train` or `polytag predict` wrote\n"
        f"  next: give the file itself, such as {tmp_path / 'predictions-val.parquet'}"
    )


@pytest.mark.parametrize("content", [b"", b"id,cat\na.jpg,0.5\n", b"PAR1"])
def test_a_file_of_another_kind(tmp_path: Path, content: bytes):
    path = tmp_path / "p.parquet"
    path.write_bytes(content)
    lines = refusal(path).splitlines()
    assert lines[:2] == ["the predictions file cannot be read", f"  where: {path}"]
    assert re.match("  got: .*Parquet", lines[2])  # the words are pyarrow's
    assert lines[3:] == ["  expected: a Parquet file that `polytag train` or `polytag predict` wrote"]


def test_a_file_cut_short(tmp_path: Path):
    write_predictions(table(), tmp_path / "p.parquet")
    content = (tmp_path / "p.parquet").read_bytes()
    (tmp_path / "p.parquet").write_bytes(content[: len(content) // 2])
    assert refusal(tmp_path / "p.parquet").startswith("the predictions file cannot be read\n")


def test_a_parquet_file_of_somebody_else(tmp_path: Path):
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"id": ["a"], "logit/cat": [0.5]}), path)
    assert refusal(path) == (
        f"not a predictions file of polytag\n  where: {path}\n  got: a Parquet file without polytag's header\n"
        "  expected: a file that `polytag train` or `polytag predict` wrote"
    )


def test_another_version(tmp_path: Path):
    path = rewritten(tmp_path / "p.parquet", lambda read: with_header(read, version=2))
    assert refusal(path) == (
        f"the predictions were written by another version of polytag\n  where: {path}\n  got: version 2\n  expected: version 1\n"
        "  next: use the version of polytag that wrote it, or predict again"
    )


def test_class_names_that_were_changed(tmp_path: Path):
    path = rewritten(tmp_path / "p.parquet", lambda read: with_header(read, classes=["dog", "cat", "big, old tree"]))
    other = LabelSet(names=("dog", "cat", "big, old tree"))
    assert refusal(path) == (
        f"the class names of the predictions file were changed\n  where: {path}\n  got: fingerprint {other.fingerprint}\n"
        f"  expected: {LABELS.fingerprint}\n  next: predict again"
    )


def test_columns_that_are_missing(tmp_path: Path):
    path = rewritten(tmp_path / "p.parquet", lambda read: read.drop_columns(["logit/dog", "target/cat"]))
    assert refusal(path) == (
        f"columns of the predictions file are missing\n  where: {path}\n"
        "  got: id, image, error, logit/cat, logit/big, old tree, target/dog\n  expected: logit/dog, target/cat"
    )


def test_targets_that_are_empty(tmp_path: Path):
    def emptied(read: pa.Table) -> pa.Table:
        return read.set_column(7, "target/dog", pa.array([1, None, None], pa.int8()))

    path = rewritten(tmp_path / "p.parquet", emptied)
    assert refusal(path) == f"a target is empty\n  where: {path}\n  got: 2 empty in target/dog\n  expected: 1, 0 or -1 (unknown)"


def test_scores_that_are_empty(tmp_path: Path):
    def emptied(read: pa.Table) -> pa.Table:
        return read.set_column(4, "logit/dog", pa.array([1, None, 2], pa.float32()))

    path = rewritten(tmp_path / "p.parquet", emptied)
    assert refusal(path) == (
        f"a score is not a finite number\n  where: {path}\n  got: nan for image 'Bär \"2\".jpg', class 'dog'\n"
        "  expected: finite logits"
    )


def test_no_image_that_could_be_read(tmp_path: Path):
    path = tmp_path / "p.parquet"
    with PredictionsWriter(path, label_set=LABELS) as writer:
        writer.fail("a.jpg", "a.jpg", "the image is empty")
    assert refusal(path) == (
        f"no scored image in the predictions file\n  where: {path}\n  expected: at least one row without an error"
    )
