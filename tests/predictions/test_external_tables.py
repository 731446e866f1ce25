"""CSV, Parquet and JSON Lines as other programs write them."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polytag.contracts import LabelSet, Predictions
from polytag.data.read_options import ReadOptions
from polytag.errors import AnnotationError, PredictionsError, UsageError
from polytag.predictions.read import read_predictions
from polytag.predictions.table import PredictionsWriter, write_predictions


def written(folder: Path, text: str | bytes, name: str = "s.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def seen(predictions: Predictions) -> tuple[object, ...]:
    return predictions.ids, predictions.label_set.names, predictions.probability_NC.tolist(), predictions.target_NC.tolist()


ABC = (("a.jpg", "b.jpg"), ("cat", "dog"), [[0.9, 0.25], [0.125, 0.75]], [[1, 0], [1, 1]])

# ---- CSV


@pytest.mark.parametrize(
    "text",
    [
        "id,cat,dog,truth\na.jpg,0.9,0.25,cat\nb.jpg,0.125,0.75,cat|dog\n",
        "id;cat;dog;labels\na.jpg;0.9;0.25;cat\nb.jpg;0.125;0.75;cat,dog\n",  # a spreadsheet of many a country
        "image\ttags\tcat\tdog\na.jpg\tcat\t9e-1\t.25\nb.jpg\tcat;dog\t0.125\t0.75\n",
        ",cat,dog,y_true\na.jpg,0.9,0.25,['cat']\nb.jpg,0.125,0.75,\"['cat', 'dog']\"\n",  # pandas: its index has no name
        ",file_name,cat,dog,y_true\n0,a.jpg,0.9,0.25,['cat']\n1,b.jpg,0.125,0.75,\"['cat', 'dog']\"\n",
        'Unnamed: 0,id,cat,dog,ground_truth\n0,a.jpg,0.9,0.25,"[""cat""]"\n1,b.jpg,0.125,0.75,"[""cat"", ""dog""]"\n',
        "\ufeffid,cat,dog,truth\r\na.jpg,0.9,0.25,cat\r\n\r\nb.jpg,0.125,0.75,cat|dog\r\n",  # a byte order mark and CRLF
        "id,probability/cat,probability/dog,target/cat,target/dog\na.jpg,0.9,0.25,1,0\nb.jpg,0.125,0.75,1,1\n",
        "id,true_cat,score_cat,true_dog,score_dog\na.jpg,1,0.9,0,0.25\nb.jpg,1.0,0.125,True,0.75\n",
        '"id","split","cat","dog","truth"\n"a.jpg","val","0.9"," 0.25","cat"\n"b.jpg","val","0.125","0.75","cat|dog"',
    ],
)
def test_csv_as_people_write_it(tmp_path: Path, text: str):
    assert seen(read_predictions(written(tmp_path, text), scale="probability")) == ABC


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "npz"])
def test_integer_ranks_that_would_tie_as_floats_are_refused(tmp_path: Path, kind: str):
    """2^53 and 2^53 + 1 are one float64; 2^53 and 2^53 + 2 are two."""
    path = tmp_path / f"s.{kind}"
    for step in (2, 1):
        ranks = [2**53, 2**53 + step]
        if kind == "csv":
            path.write_text(f"id,cat\na,{ranks[0]}\nb,{ranks[1]}\n")
        elif kind == "jsonl":
            path.write_text(
                "".join(json.dumps({"id": name, "scores": {"cat": rank}}) + "\n" for name, rank in zip("ab", ranks, strict=True))
            )
        elif kind == "parquet":
            pq.write_table(pa.table({"id": ["a", "b"], "cat": ranks}), path)
        else:
            np.savez(path, scores=np.array(ranks)[:, None], ids=np.array(["a", "b"]), classes=np.array(["cat"]))
        if step == 2:
            assert read_predictions(path, scale="rank").logit_NC.tolist() == [[2.0**53], [2.0**53 + 2]]
            continue
        with pytest.raises(PredictionsError, match="an integer score is too large") as caught:
            read_predictions(path, scale="rank")
        assert "9007199254740993" in str(caught.value)


def test_a_header_that_says_what_the_numbers_are(tmp_path: Path):
    assert read_predictions(written(tmp_path, "id,logit/cat\na,-2\n")).scale == "logit"
    made = read_predictions(written(tmp_path, "id,prob_cat,prob_dog\na,0.2,0.3\n"))
    assert (made.scale, made.label_set.names) == ("probability", ("cat", "dog"))
    with pytest.raises(UsageError, match=r"does not declare"):
        read_predictions(written(tmp_path, "id,score_cat\na,-2\n"))
    # one column without the word: then it is a class like any other
    assert read_predictions(written(tmp_path, "id,prob_cat,dog\na,0.2,0.3\n"), scale="logit").label_set.names == ("prob_cat", "dog")


def test_ids_are_texts_and_rows_without_any_are_numbered(tmp_path: Path):
    assert read_predictions(written(tmp_path, "id,cat\n007,1\n7,2\n"), scale="logit").ids == ("007", "7")
    assert read_predictions(written(tmp_path, "cat,dog\n1,2\n3,4\n"), scale="logit").ids == ("row 1", "row 2")


def test_columns_that_are_chosen(tmp_path: Path):
    path = written(tmp_path, "key,seconds,cat,dog,what\na,0.1,1,2,cat dog\n")
    options = ReadOptions(image_column="key", labels_column="what", separator=" ", class_columns=("dog", "cat"))
    made = read_predictions(path, scale="logit", options=options)
    assert (made.ids, made.label_set.names, made.logit_NC.tolist(), made.target_NC.tolist()) == (
        ("a",),
        ("dog", "cat"),
        [[2, 1]],
        [[1, 1]],
    )
    with pytest.raises(PredictionsError) as error:
        read_predictions(path, scale="logit", options=ReadOptions(labels_column="whta"))
    assert str(error.value) == (
        f"a chosen column is not there\n  where: {path}:1\n  got: key, seconds, cat, dog, what\n"
        "  expected: a column 'whta' (did you mean 'what'?)"
    )


def test_numbers_are_read_to_the_last_bit(tmp_path: Path):
    numbers = np.random.default_rng(0).random((50, 3))
    lines = "".join(f"{row},{','.join(map(repr, map(float, values)))}\n" for row, values in enumerate(numbers))
    made = read_predictions(written(tmp_path, "id,a,b,c\n" + lines), scale="probability")
    np.testing.assert_array_equal(made.probability_NC, numbers)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "id,cat,dog\na,1,2\n\nb,1\n",
            "a row does not fit the header\n  where: {path}:4\n  got: 2 fields\n  expected: 3, as in the first line",
        ),
        (
            'id,cat,dog\n"a\nlong",1,2\nb,1,2,3\n',
            "a row does not fit the header\n  where: {path}:4\n  got: 4 fields\n  expected: 3, as in the first line",
        ),
        (
            "id,cat,dog\na,1,\n",
            "a score is missing\n  where: {path}:2\n  got: '' in column 'dog'\n  expected: a number\n"
            "  next: if this column is not a class, remove it, or name each class column with --class-column",
        ),
        (
            "id;cat\na;0,93\n",
            "a score is not a number\n  where: {path}:2\n  got: '0,93' in column 'cat'\n  expected: a number with a decimal point\n"
            "  next: if this column is not a class, remove it, or name each class column with --class-column",
        ),
        (
            "id,cat\na,nan\n",
            "a score is not a finite number\n  where: {path}:2\n  got: nan for image 'a', class 'cat'\n"
            "  expected: a finite number for every class",
        ),
        (
            "id,cat\na,1\nb,2\na,3\n",
            "an image id is scored twice\n  where: {path}:4\n  got: 'a', first at {path}:2\n  expected: every id once",
        ),
        ("id,cat\n,3\n", "a row has no image id\n  where: {path}:2\n  got: '' in column 'id'\n  expected: an id in every row"),
        ("id,cat,cat\n", "a column is given twice\n  where: {path}:1\n  got: 'cat'\n  expected: every column once"),
        ("id,cat\n", "no scored image in the file\n  where: {path}\n  expected: one row per image"),
        (
            "",
            "no column of scores\n  where: {path}:1\n  got: no column\n"
            "  expected: a column of numbers for each class, named after it",
        ),
        (
            "id,truth\na,cat\n",
            "no column of scores\n  where: {path}:1\n  got: id, truth\n"
            "  expected: a column of numbers for each class, named after it",
        ),
        (
            "id,logit/cat,prob/cat\na,1,0.5\n",
            "the table has two kinds of scores\n  where: {path}:1\n  got: logit/cat, prob/cat\n"
            "  expected: one number for each image and class\n  next: remove the columns of one kind",
        ),
        (
            "id,logit/cat,target/cats\na,1,1\n",
            "the labels and the scores have different classes\n  where: {path}:1\n"
            "  got: only in the labels: cats (did you mean 'cat'?); only in the scores: cat (did you mean 'cats'?)\n"
            "  expected: the same classes, in any order\n"
            "  next: use the same spelling, or remove the columns that only one side has",
        ),
        (
            "id,aeroplane,truth\na,1,airplane\n",
            "a label is not a class of the scores\n  where: {path}:2\n"
            "  got: 'airplane' (did you mean 'aeroplane'?)\n  expected: one of aeroplane\n"
            "  next: use the spelling of the scores; if another text separates the labels, give it with --separator",
        ),
    ],
)  # fmt: skip
def test_invalid_csv_files(tmp_path: Path, text: str, message: str):
    path = written(tmp_path, text)
    with pytest.raises(PredictionsError) as error:
        read_predictions(path, scale="logit")
    assert str(error.value) == message.format(path=path)


def test_text_that_is_not_utf8_and_quotes_that_do_not_end(tmp_path: Path):
    path = written(tmp_path, "id,cat\nä,1\n".encode("latin-1"))
    with pytest.raises(AnnotationError, match=r"the file is not UTF-8 text\n  where: .*s\.csv:2\n  got: byte 0xe4"):
        read_predictions(path, scale="logit")
    with pytest.raises(PredictionsError, match=r"^malformed CSV\n  where: .*s\.csv\n  got: unexpected end of data"):
        read_predictions(written(tmp_path, 'id,cat\n"a,1\n'), scale="logit")


def test_a_missing_file_and_an_unknown_kind(tmp_path: Path):
    for name in ("no.csv", "no", "no.parquet", "no.pt", "comp1_cls_val_cat.txt"):
        with pytest.raises(PredictionsError) as error:
            read_predictions(tmp_path / name, scale="logit")
        assert str(error.value) == (
            f"the predictions file cannot be read\n  where: {tmp_path / name}\n  got: no such file\n  expected: a file of scores"
        )
    with pytest.raises(PredictionsError) as error:
        read_predictions(written(tmp_path, "", "scores.xlsx"), scale="logit")
    assert str(error.value) == (
        f"unknown kind of scores file\n  where: {tmp_path / 'scores.xlsx'}\n  got: a file ending in '.xlsx'\n"
        "  expected: a file ending in .csv, .tsv, .parquet, .pq, .jsonl, .npz, .pt, .pth, or a folder of VOC result files\n"
        "  next: docs/reference/predictions.md shows every layout"
    )


# ---- what polytag predict writes


@pytest.mark.parametrize("name", ["p.parquet", "p.csv", "p.jsonl"])
def test_our_own_files_say_what_they_hold_and_their_labels_are_no_truth(tmp_path: Path, name: str):
    label_set = LabelSet(names=("cat", "split"))
    with PredictionsWriter(tmp_path / name, label_set=label_set) as writer:
        writer.write(["a", "b"], ["p/a.jpg", "p/b.jpg"], np.array([[2.0, -1], [-3, 0.5]]))
        writer.fail("broken", "p/broken.jpg", "the image is empty")
    made = read_predictions(tmp_path / name)
    assert (made.ids, made.label_set, made.image_paths) == (("a", "b"), label_set, ("p/a.jpg", "p/b.jpg"))
    assert made.scale == ("logit" if name == "p.parquet" else "probability")
    np.testing.assert_allclose(made.logit_NC, [[2, -1], [-3, 0.5]], atol=1e-12)
    assert (made.target_NC == -1).all()
    with pytest.raises(UsageError, match=r"the file declares another scale"):
        read_predictions(tmp_path / name, scale="rank")


def test_our_own_parquet_is_read_as_ever(tmp_path: Path):
    before = Predictions(
        ids=("a", "b"), logit_NC=[[0.1], [0.2]], target_NC=[[1], [-1]], label_set=LabelSet(names=("cat",)), checkpoint_id="0123"
    )
    write_predictions(before, tmp_path / "p.parquet")
    for after in (read_predictions(tmp_path / "p.parquet"), read_predictions(tmp_path / "p.parquet")):
        assert (after.ids, after.checkpoint_id, after.logit_NC.dtype) == (before.ids, "0123", np.float32)


# ---- Parquet


@pytest.mark.parametrize(
    "columns",
    [
        {"id": ["a.jpg", "b.jpg"], "cat": [0.9, 0.125], "dog": [0.25, 0.75], "labels": [["cat"], ["cat", "dog"]]},
        {"cat": [0.9, 0.125], "labels": ["cat", "cat|dog"], "dog": [0.25, 0.75], "__index_level_0__": ["a.jpg", "b.jpg"]},
        {"path": ["a.jpg", "b.jpg"], "y_true/cat": [1, 1], "y_pred/cat": [0.9, 0.125], "y_true/dog": [False, True],
         "y_pred/dog": [0.25, 0.75]},
    ],
)  # fmt: skip
def test_parquet_without_our_header(tmp_path: Path, columns: dict[str, list[object]]):
    pq.write_table(pa.table(columns), tmp_path / "s.parquet")
    assert seen(read_predictions(tmp_path / "s.parquet", scale="probability")) == ABC


def test_parquet_preserves_float32_and_rejects_nulls_and_texts(tmp_path: Path):
    path = tmp_path / "s.parquet"
    pq.write_table(pa.table({"id": ["a"], "cat": pa.array([0.5], pa.float32())}), path)
    assert read_predictions(path, scale="logit").logit_NC.dtype == np.float32
    pq.write_table(pa.table({"id": ["a", "b"], "cat": [0.5, None]}), path)
    with pytest.raises(PredictionsError, match=rf"a score is not a finite number\n  where: {path}:2\n  got: nan for image 'b'"):
        read_predictions(path, scale="logit")
    pq.write_table(pa.table({"id": ["a"], "cat": ["high"]}), path)
    with pytest.raises(PredictionsError) as error:
        read_predictions(path, scale="logit")
    assert str(error.value) == (
        f"a score is not a number\n  where: {path}\n  got: a column 'cat' of string\n"
        "  expected: a column of numbers for each class\n"
        "  next: if this column is not a class, remove it, or name each class column with --class-column"
    )
    path.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(PredictionsError, match=r"the predictions file cannot be read"):
        read_predictions(path, scale="logit")


# ---- JSON Lines


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("key", "truth"),
    [("scores", ("labels", ["cat"], ["cat", "dog"])), ("probs", ("truth", "cat", "cat|dog"))],
)
def test_json_lines(tmp_path: Path, key: str, truth: tuple[str, object, object]):
    name, first, second = truth
    text = lines(
        {"id": "a.jpg", key: {"cat": 0.9, "dog": 0.25}, name: first},
        {"id": "b.jpg", name: second, key: {"dog": 0.75, "cat": 0.125}},
    )
    assert seen(read_predictions(written(tmp_path, text, "s.jsonl"), scale="probability")) == ABC
    if key == "probs":
        assert read_predictions(tmp_path / "s.jsonl").scale == "probability"


def test_json_lines_with_truth_by_class(tmp_path: Path):
    text = lines(
        {"id": "a", "logits": {"cat": 3, "dog": -2}, "targets": {"cat": 1, "dog": -1}},
        {"id": "b", "logits": {"cat": 1, "dog": 0}, "targets": {"cat": 0}},
        {"id": "c", "logits": {"cat": 1, "dog": 0}, "targets": None},
    )
    made = read_predictions(written(tmp_path, text, "s.jsonl"))
    assert (made.scale, made.target_NC.tolist()) == ("logit", [[1, -1], [0, -1], [-1, -1]])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"id": "a", "scores": {"cat": 1, "dog": 2}}, {"id": "b", "scores": {"cat": 1, "dogs": 2}}],
            "a line has other classes than the first line\n  where: {path}:2\n"
            "  got: lacks dog (did you mean 'dogs'?); has in addition dogs (did you mean 'dog'?)\n"
            "  expected: a score for cat, dog",
        ),
        (
            [{"id": "a", "scores": {"cat": "high"}}],
            "a score is not a number\n  where: {path}:1\n  got: 'high' for class 'cat'\n  expected: a number",
        ),
        (
            [{"id": "a", "scores": {"cat": 1}}, {"id": "b"}],
            "an image has no scores\n  where: {path}:2\n  got: scores: None\n  expected: an object with a number for each class",
        ),
        (
            [{"id": "a", "scores": {"cat": float("nan")}}],
            "a score is not a finite number\n  where: {path}:1\n  got: nan for image 'a', class 'cat'\n"
            "  expected: a finite number for every class",
        ),
    ],
)
def test_what_json_lines_should_not_say(tmp_path: Path, rows: list[object], message: str):
    path = written(tmp_path, lines(*rows), "s.jsonl")
    with pytest.raises(PredictionsError) as error:
        read_predictions(path, scale="logit")
    assert str(error.value) == message.format(path=path)


def test_json_lines_without_scores(tmp_path: Path):
    with pytest.raises(
        PredictionsError, match=r"^the lines have no scores\n  where: .*\n  got: id, values\n  expected: one of logit, "
    ):
        read_predictions(written(tmp_path, lines({"id": "a", "values": {"cat": 1}}), "s.jsonl"), scale="logit")
