"""Scores in one file and their truth in another, with no image at hand."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polytag.contracts import Predictions
from polytag.data.read_options import ReadOptions
from polytag.errors import AnnotationError, PredictionsError, UsageError
from polytag.predictions.columns import column_values
from polytag.predictions.read import LabelledPredictions, read_labelled, read_predictions
from polytag.predictions.table import write_predictions

SCORES = "id,cat,dog,elk\na.jpg,0.9,0.2,0.1\nb.jpg,0.3,0.8,0.2\nc.jpg,0.4,0.1,0.1\n"
TARGETS = [[1, 0, 0], [1, 1, 0], [0, 0, 0]]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def labelled(folder: Path, truth: str, *, scores: str = SCORES, **options: object) -> LabelledPredictions:
    return read_labelled(
        write(folder / "s.csv", scores),
        scale="probability",
        truth=write(folder / "truth.csv", truth),
        options=ReadOptions(**options),  # pyright: ignore[reportArgumentType]
    )


@pytest.mark.parametrize(
    ("truth", "options"),
    [
        ("id,labels\nc.jpg,\nb.jpg,cat|dog\na.jpg,cat\n", {}),
        ("image_name,tags\na.jpg,cat\nb.jpg,cat dog\nc.jpg,\n", {"separator": " "}),  # a Kaggle competition's train.csv
        (",labels\na.jpg,['cat']\nb.jpg,\"['cat', 'dog']\"\nc.jpg,[]\n", {}),  # pandas, its index without a name
        ("id,elk,dog,cat\na.jpg,0,0,1\nb.jpg,0,1,1\nc.jpg,0,0,0\n", {}),
        ("id,place,what\na.jpg,x,cat\nb.jpg,y,cat;dog\nc.jpg,x,\n", {"labels_column": "what"}),
    ],
)
def test_two_tables(tmp_path: Path, truth: str, options: dict[str, object]):
    made = labelled(tmp_path, truth, **options)
    assert made.predictions.label_set.names == ("cat", "dog", "elk")
    assert made.predictions.target_NC.tolist() == TARGETS
    assert made.predictions.probability_NC[0].tolist() == [0.9, 0.2, 0.1]
    assert made.notes == ()


def test_json_lines_and_parquet_as_truth(tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    scores = write(tmp_path / "s.csv", SCORES)
    lines = '{"id": "a.jpg", "labels": ["cat"]}\n{"id": "b.jpg", "labels": ["cat", "dog"]}\n{"id": "c.jpg", "labels": null}\n'
    made = read_predictions(scores, scale="probability", truth=write(tmp_path / "t.jsonl", lines))
    assert made.target_NC.tolist() == [*TARGETS[:2], [-1, -1, -1]]
    pq.write_table(pa.table({"id": ["a.jpg", "b.jpg", "c.jpg"], "labels": [["cat"], ["cat", "dog"], []]}), tmp_path / "t.parquet")
    assert read_predictions(scores, scale="probability", truth=tmp_path / "t.parquet").target_NC.tolist() == TARGETS


def test_external_labels_replace_those_of_the_file(tmp_path: Path):
    scores = "id,cat,labels\na.jpg,0.9,whatever it is\n"
    assert labelled(tmp_path, "id,labels\na.jpg,cat\n", scores=scores).predictions.target_NC.tolist() == [[1]]


def test_labelled_images_without_scores_are_noted(tmp_path: Path):
    truth = "id,labels,split\na.jpg,cat,val\nb.jpg,dog,val\nc.jpg,,test\nd.jpg,,val\ne.jpg,cat,train\n"
    made = labelled(tmp_path, truth)
    assert made.notes == ("only 2 of the 3 labelled images of split val are scored; the others do not count",)
    assert made.row_N is not None
    assert made.row_N.tolist() == [0, 1, 2]


def test_another_spelling_is_suggested(tmp_path: Path):
    with pytest.raises(PredictionsError) as error:
        labelled(tmp_path, "id,labels\na.jpg,Cat\nb.jpg,\nc.jpg,dgo\n")
    assert str(error.value) == (
        f"the labels and the predictions have different classes\n  where: csv {tmp_path / 'truth.csv'}\n"
        "  got: only in the labels: Cat (did you mean 'cat'?), dgo (did you mean 'dog'?)\n"
        "  expected: the same classes, in any order\n"
        "  next: use the same spelling; --rename and --merge give labels other names, --classes and --drop leave some out"
    )


def test_missing_and_surplus_classes_of_columns(tmp_path: Path):
    with pytest.raises(PredictionsError) as error:
        labelled(tmp_path, "id,cat,dog,fox,gnu\na.jpg,0,0,1,1\n")
    assert error.value.got == "only in the labels: fox, gnu; only in the predictions: elk"


def test_ids_that_do_not_match(tmp_path: Path):
    with pytest.raises(PredictionsError) as error:
        labelled(tmp_path, "id,labels\na,cat\nb,\nc,\nd,dog\n")
    assert str(error.value) == (
        f"3 of 3 scored images are not in the labelled data\n  where: csv {tmp_path / 'truth.csv'}\n  got: a.jpg, b.jpg, c.jpg\n"
        "  expected: ids such as a, b, c (4 in all)\n"
        "  next: the ids differ only in the ending of the file name: use the same spelling"
    )


def test_what_a_truth_should_not_say(tmp_path: Path):
    with pytest.raises(AnnotationError, match=r"a row is shorter than the header\n  where: .*truth\.csv:3\n"):
        labelled(tmp_path, "id,labels\na.jpg,cat\nb.jpg\n")
    with pytest.raises(AnnotationError, match=r"an image is listed twice\n  where: .*truth\.csv:3\n"):
        labelled(tmp_path, "id,labels\na.jpg,cat\na.jpg,cat\n")
    with pytest.raises(AnnotationError, match=r"soft labels\n  where: .*truth\.csv:2\n"):
        labelled(tmp_path, "id,cat,dog,elk\na.jpg,0.5,0,0\n")


def test_a_rank_is_not_written(tmp_path: Path):
    with pytest.raises(PredictionsError) as error:
        write_predictions(read_predictions(write(tmp_path / "s.csv", SCORES), scale="rank"), tmp_path / "p.parquet")
    assert str(error.value) == (
        f"ranks cannot be written to a predictions file\n  where: {tmp_path / 'p.parquet'}\n  got: {tmp_path / 's.csv'}\n"
        "  expected: logits or probabilities\n  next: use the original file of the scores: `polytag evaluate` reads it"
    )
    assert not (tmp_path / "p.parquet").exists()


# ---- columns to slice by


def images(folder: Path) -> LabelledPredictions:
    (folder / "one").mkdir()
    for name, size in (("a.jpg", (40, 30)), ("one/b.jpg", (20, 10))):
        Image.new("RGB", size).save(folder / name)
    truth = "id,file_name,labels,split\na.jpg,a.jpg,cat,val\nb.jpg,one/b.jpg,cat|dog,val\nc.jpg,lost.jpg,,train\n"
    return labelled(folder, truth)


def test_columns_of_the_data_set(tmp_path: Path):
    made = images(tmp_path)
    assert column_values(made, "num_labels") == [1, 2, 0]
    assert column_values(made, "split") == ["val", "val", "train"]
    assert column_values(made, "source") == [str(tmp_path), str(tmp_path / "one"), str(tmp_path)]
    assert column_values(made, "size") == [1200, 200, None]
    assert made.predictions.image_paths[0] == str(tmp_path / "a.jpg")


def test_an_image_in_two_splits_has_both(tmp_path: Path):
    truth = "id,labels,split\na.jpg,cat,val\na.jpg,cat,test\nb.jpg,dog,val\nc.jpg,,test\n"
    assert column_values(labelled(tmp_path, truth), "split") == ["val and test", "val", "test"]


def test_columns_of_a_table(tmp_path: Path):
    made = images(tmp_path)
    table = write(tmp_path / "c.csv", "id,camera,year,iso,odd\nb.jpg,X,2007,,1\na.jpg,,2012,50.5,inf\nzz.jpg,Y,2008,1,2\n")
    assert column_values(made, "camera", table=table) == [None, "X", None]
    assert column_values(made, "year", table=table) == [2012, 2007, None]
    assert column_values(made, "iso", table=table) == [50.5, None, None]
    assert column_values(made, "odd", table=table) == ["inf", "1", None]


def test_columns_that_cannot_be(tmp_path: Path):
    made = images(tmp_path)
    with pytest.raises(UsageError) as error:
        column_values(made, "num_label")
    assert str(error.value) == (
        "unknown column\n  where: --slice\n  got: 'num_label' (did you mean 'num_labels'?)\n"
        "  expected: one of num_labels, size, source, split, or with --columns FILE a column of that file"
    )
    table = write(tmp_path / "c.csv", "id,camera\nx,1\n")
    with pytest.raises(UsageError) as error:
        column_values(made, "camra", table=table)
    assert str(error.value) == (
        f"unknown column\n  where: {table}:1\n  got: 'camra' (did you mean 'camera'?)\n  expected: one of id, camera"
    )
    with pytest.raises(AnnotationError) as error:
        column_values(made, "camera", table=table)
    assert str(error.value) == (
        f"no image is in the table of columns\n  where: {table}\n  got: ids in 'id' such as x\n"
        "  expected: ids such as a.jpg, b.jpg, c.jpg"
    )
    with pytest.raises(AnnotationError) as error:
        column_values(made, "camera", table=write(tmp_path / "c.csv", "id,camera\nx,1\nx,2\n"))
    assert str(error.value) == (
        f"an image id is given twice\n  where: {table}:3\n  got: 'x'\n  expected: every id once in a table of columns"
    )
    with pytest.raises(AnnotationError, match=r"^no column of image ids\n"):
        column_values(made, "camera", table=write(tmp_path / "c.csv", "key,camera\nx,1\n"))


def test_what_is_not_known_without_a_data_set(tmp_path: Path):
    alone = read_labelled(write(tmp_path / "s.csv", SCORES), scale="probability")
    with pytest.raises(UsageError) as error:
        column_values(alone, "split")
    assert str(error.value) == (
        "the splits of these images are not known\n  where: --slice split\n  got: predictions without a data set\n"
        "  expected: --truth DATA, a data set with splits"
    )
    with pytest.raises(PredictionsError) as error:
        column_values(alone, "size")
    assert str(error.value) == (
        "the sizes of these images are not known\n  where: --slice size\n  got: predictions without paths of images\n"
        "  expected: images that can be opened\n"
        "  next: give --truth DATA with its images, or a table of sizes with --columns"
    )
    assert column_values(alone, "source") == [None, None, None]


@pytest.mark.slow
def test_a_large_csv_is_read_in_seconds_and_to_the_last_bit(tmp_path: Path):
    """20,000 images of 80 classes; five times that, measured apart, stays in proportion."""
    numbers = np.random.default_rng(0).random((20_000, 80))
    path = tmp_path / "large.csv"
    with path.open("w") as file:
        file.write("id," + ",".join(f"c{column}" for column in range(80)) + "\n")
        for row, values in enumerate(numbers.tolist()):
            file.write(f"{row}," + ",".join(map(repr, values)) + "\n")
    made: Predictions = read_predictions(path, scale="probability")
    np.testing.assert_array_equal(made.probability_NC, numbers)
