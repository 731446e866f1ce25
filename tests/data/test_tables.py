"""CSV and Parquet, as pandas, fastai, Kaggle, Roboflow and spreadsheets write them."""

import csv
import io
import json
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from PIL import Image

from polytag.contracts import UNKNOWN
from polytag.data.formats.reading_log import ReadingLog
from polytag.data.formats.recognise import recognise
from polytag.data.formats.rows import Table
from polytag.data.formats.table_columns import Columns, layout_of
from polytag.data.load import load_dataset
from polytag.data.read_options import ReadOptions
from polytag.errors import AnnotationError, DataError


@pytest.fixture
def table(tmp_path, write, add_images):
    """A folder with one table in it and images a.jpg, b.jpg and c.jpg beside it."""
    add_images(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    return lambda text, name="data.csv": write(tmp_path / name, text)


# ---- a column of label lists ----


@pytest.mark.parametrize("mark", ["|", ";", ","])
def test_a_column_of_label_lists(table, tmp_path, labels, mark):
    text = io.StringIO()
    csv.writer(text).writerows(
        [["file_name", "labels"], ["a.jpg", f"cat{mark}traffic light"], ["b.jpg", ""], ["c.jpg", f"cat{mark} "]]
    )
    table(text.getvalue())
    assert recognise(tmp_path) == "csv"
    dataset = load_dataset(tmp_path)
    assert labels(dataset) == {("", "a.jpg"): "cat traffic light", ("", "b.jpg"): "", ("", "c.jpg"): "cat"}
    assert dataset.paths == tuple(tmp_path / name for name in ("a.jpg", "b.jpg", "c.jpg"))


def test_a_chosen_separator_as_in_fastai_and_its_is_valid(tmp_path, write, add_images, labels):
    """fastai's PASCAL_2007 train.csv: labels parted by spaces, images in `train`, `is_valid`."""
    write(
        tmp_path / "train.csv", "fname,labels,is_valid\n000005.jpg,chair,True\n000007.jpg,car,True\n000009.jpg,horse person,False\n"
    )
    add_images(tmp_path / "train", "000005.jpg", "000007.jpg", "000009.jpg")
    dataset = load_dataset(tmp_path, options=ReadOptions(separator=" "))
    assert labels(dataset) == {
        ("val", "000005.jpg"): "chair",
        ("val", "000007.jpg"): "car",
        ("train", "000009.jpg"): "horse person",
    }
    assert dataset.paths[0] == tmp_path / "train/000005.jpg"


def test_kaggle_leaves_the_ending_out(tmp_path, write, add_images, labels):
    """Planet: `image_name,tags`, with train_0 for train-jpg/train_0.jpg."""
    write(tmp_path / "train_v2.csv", "image_name,tags\ntrain_0,haze primary\ntrain_1,clear\n")
    add_images(tmp_path / "train-jpg", "train_0.jpg", "train_1.jpg")
    options = ReadOptions(separator=" ", image_dirs=(str(tmp_path / "train-jpg"),))
    assert labels(load_dataset(tmp_path, options=options)) == {("", "train_0"): "haze primary", ("", "train_1"): "clear"}


@pytest.mark.parametrize("cell", ["['cat', 'sea lion']", '["cat", "sea lion"]', "[cat, 'sea lion']", "[ 'cat','sea lion', ]"])
def test_lists_as_python_pandas_and_json_print_them(table, tmp_path, labels, cell):
    text = io.StringIO()
    csv.writer(text).writerows([["image", "labels"], ["a.jpg", cell], ["b.jpg", "[]"], ["c.jpg", "['it\\'s, a|dog']"]])
    table(text.getvalue())
    assert labels(load_dataset(tmp_path)) == {("", "a.jpg"): "cat sea lion", ("", "b.jpg"): "", ("", "c.jpg"): "it's, a|dog"}


def test_separator_none_takes_a_cell_as_one_label(table, tmp_path):
    table('image,label\na.jpg,"dog, small"\nb.jpg,cat|tom\n')
    assert load_dataset(tmp_path, options=ReadOptions(separator="none")).label_set.names == ("cat|tom", "dog, small")


def test_numbers_as_labels_are_sorted_by_value(table, tmp_path):
    table("image,labels\na.jpg,10|9\nb.jpg,2\n")
    assert load_dataset(tmp_path).label_set.names == ("2", "9", "10")


def test_chosen_columns(table, tmp_path, labels):
    table("What,Where,When,labels\ncat;dog,a.jpg,training,x\ncat,b.jpg,Validation,y\ndog,c.jpg,holdout,z\n")
    options = ReadOptions(image_column="Where", labels_column="What", split_column="When")
    assert labels(load_dataset(tmp_path, options=options)) == {
        ("train", "a.jpg"): "cat dog",
        ("val", "b.jpg"): "cat",
        ("holdout", "c.jpg"): "dog",
    }


# ---- a column per class ----


def test_every_way_to_write_present_absent_and_unknown(table, tmp_path):
    cells = ["1", "1.0", "True", "true", "TRUE", " 1", "0", "0.0", "False", "-1", "-1.0", "", "NaN", "nan", "null", "None", "<NA>"]
    expected = [1] * 6 + [0] * 3 + [-1] * 8
    table("image," + ",".join(f"c{n}" for n in range(len(cells))) + "\na.jpg," + ",".join(cells) + "\n")
    dataset = load_dataset(tmp_path)
    assert dataset.target_NC.tolist() == [expected]
    assert dataset.label_set.names == tuple(f"c{n}" for n in range(len(cells)))  # in the order of the columns


def test_what_pandas_writes_beside_the_data_is_no_class(table, tmp_path, labels):
    """DataFrame.to_csv() with its index; a column with a missing value becomes float."""
    table(",file_name,split,cat,dog\n0,a.jpg,train,1.0,0\n1,b.jpg,val,,1\n")
    assert labels(load_dataset(tmp_path)) == {("train", "a.jpg"): "cat", ("val", "b.jpg"): "?cat dog"}


def test_roboflow_writes_a_table_in_each_split_with_spaces_after_commas(tmp_path, write, add_images, labels):
    write(tmp_path / "train/_classes.csv", "filename, cat, dog\na_jpg.rf.1f.jpg, 1, 0\n")
    write(tmp_path / "valid/_classes.csv", "filename, dog, cat\nb_jpg.rf.2e.jpg, 1, 0\n")
    add_images(tmp_path, "train/a_jpg.rf.1f.jpg", "valid/b_jpg.rf.2e.jpg")
    assert labels(load_dataset(tmp_path)) == {("train", "a_jpg.rf.1f.jpg"): "cat", ("val", "b_jpg.rf.2e.jpg"): "dog"}


def test_a_table_for_each_split(tmp_path, write, add_images, labels):
    for split, name, cells in (("train", "a.jpg", "1,"), ("validation", "b.jpg", "0,1"), ("test", "c.jpg", "1,1")):
        write(tmp_path / f"{split}.csv", f"path,cat,dog\n{name},{cells}\n")
        add_images(tmp_path / "images", name)
    assert labels(load_dataset(tmp_path)) == {
        ("train", "a.jpg"): "cat ?dog",
        ("val", "b.jpg"): "dog",
        ("test", "c.jpg"): "cat dog",
    }


@pytest.mark.parametrize("mark", [";", "\t"])
def test_spreadsheets_of_many_countries_with_a_byte_order_mark_and_crlf(tmp_path, add_images, labels, mark):
    rows = ["Bild.jpg", "1", ""]
    (tmp_path / "data.csv").write_bytes(
        b"\xef\xbb\xbf" + mark.join(["Image", "Hund", "Bär"]).encode() + b"\r\n" + mark.join(rows).encode() + b"\r\n"
    )
    add_images(tmp_path, "Bild.jpg")
    assert labels(load_dataset(tmp_path)) == {("", "Bild.jpg"): "Hund ?Bär"}


def test_chosen_class_columns_leave_the_others_out(table, tmp_path):
    table("image,width,tag,dog,caption\na.jpg,640,1,0,a fine day\n")
    dataset = load_dataset(tmp_path, options=ReadOptions(class_columns=("dog", "tag")))
    assert dataset.label_set.names == ("dog", "tag")
    assert dataset.target_NC.tolist() == [[0, 1]]


def test_images_by_relative_and_absolute_path_and_with_backslashes(tmp_path, write, add_images):
    add_images(tmp_path, "photos/a.jpg", "photos/sub/b.jpg", "photos/c.jpg")
    path = write(
        tmp_path / "labels/data.csv", f"image,cat\n../photos/a.jpg,1\n..\\photos\\sub\\b.jpg,1\n{tmp_path}/photos/c.jpg,1\n"
    )
    dataset = load_dataset(path)
    assert dataset.paths == tuple(tmp_path / "photos" / name for name in ("a.jpg", "sub/b.jpg", "c.jpg"))
    assert dataset.ids == ("../photos/a.jpg", "../photos/sub/b.jpg", f"{tmp_path}/photos/c.jpg")


def test_the_reader_agrees_with_pyarrows_csv_writer(table, tmp_path):
    """Another program's idea of CSV: quotes, commas and line breaks inside cells."""
    names = ['a,"1".jpg', "b\n2.jpg", "c 3.jpg"]
    for name in names:
        (tmp_path / name).touch()
    pyarrow.csv.write_csv(pa.table({"image": names, "big, cat": [1, 0, None], "dog": [True, None, False]}), tmp_path / "data.csv")
    dataset = load_dataset(tmp_path)
    assert dataset.ids == tuple(names)
    assert dataset.label_set.names == ("big, cat", "dog")
    assert dataset.target_NC.tolist() == [[1, 1], [0, -1], [-1, 0]]


# ---- Parquet ----


def test_parquet_with_lists_tells_an_empty_list_from_none(tmp_path, add_images, labels):
    add_images(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    pq.write_table(
        pa.table({"image": ["a.jpg", "b.jpg", "c.jpg"], "labels": [["cat", "dog"], [], None]}), tmp_path / "data.parquet"
    )
    assert recognise(tmp_path) == "parquet"
    assert labels(load_dataset(tmp_path)) == {("", "a.jpg"): "cat dog", ("", "b.jpg"): "", ("", "c.jpg"): "?cat ?dog"}


@pytest.mark.parametrize("dtype", [pa.int8(), pa.int64(), pa.float32(), pa.float64()])
def test_parquet_with_a_column_per_class(tmp_path, add_images, dtype):
    add_images(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    cat = pa.array(np.array([1, 0, 1]), dtype, mask=np.array([False, False, True]))
    pq.write_table(
        pa.table({"image": ["a.jpg", "b.jpg", "c.jpg"], "cat": cat, "dog": [True, False, None]}), tmp_path / "data.parquet"
    )
    assert load_dataset(tmp_path / "data.parquet").target_NC.tolist() == [[1, 1], [0, 0], [-1, -1]]


def test_parquet_with_nan_for_unknown(tmp_path, add_images):
    add_images(tmp_path, "a.jpg")
    pq.write_table(pa.table({"image": ["a.jpg"], "cat": [float("nan")], "dog": [1.0]}), tmp_path / "data.parquet")
    assert load_dataset(tmp_path).target_NC.tolist() == [[UNKNOWN, 1]]


# ---- bad input ----


def message(data, **options):
    with pytest.raises(DataError) as error:
        load_dataset(data, options=ReadOptions(**options))
    return str(error.value)


@pytest.mark.parametrize("cell", ["2", "x", "1 1"])
def test_a_label_outside(table, tmp_path, cell):
    path = table(f"image,cat,dog\na.jpg,1,0\nb.jpg,1,{cell}\n")
    assert message(tmp_path) == (
        f"a label outside 1, 0, -1\n  where: {path}:3\n  got: '{cell}' in column 'dog'\n"
        "  expected: 1 (present), 0 (absent), -1 or nothing (unknown)\n"
        "  next: if the column is no class, leave it out with --ignore-column 'dog', or name the class columns with --class-column"
    )


def test_the_line_counts_line_breaks_inside_cells_and_blank_lines(table, tmp_path):
    (tmp_path / "a\nb.jpg").touch()
    path = table('image,cat\n"a\nb.jpg",1\n\nb.jpg,7\n')
    assert message(tmp_path).splitlines()[1] == f"  where: {path}:5"


def test_a_row_of_more_cells(table, tmp_path):
    path = table("image,cat,dog\na.jpg,1,0\nb.jpg,1,0,1\n")
    assert message(tmp_path) == (
        f"a row does not fit the header\n  where: {path}:3\n  got: 4 fields\n  expected: 3, as in the header\n"
        "  next: put a cell that contains the delimiter in quotes"
    )


def test_a_quote_that_never_ends(table, tmp_path):
    path = table('image,cat\na.jpg,1\n"b.jpg,1\nc.jpg,1\n')
    assert message(tmp_path) == f"malformed CSV\n  where: {path}:3\n  got: unexpected end of data\n  expected: CSV"


def test_an_image_that_does_not_exist(table, tmp_path):
    path = table("image,cat\na.jpg,1\nz.jpg,1\n")
    assert message(tmp_path) == (
        f"a listed image does not exist\n  where: {path}:3\n  got: 'z.jpg'\n"
        f"  expected: an image in {tmp_path} or {tmp_path}/data or {tmp_path}/images or {tmp_path}/images/data\n"
        "  next: put the image there, name its folder with the option image_dirs (--image-dir), or take it off the list"
    )


def test_an_image_listed_twice(table, tmp_path):
    path = table("image,labels\na.jpg,cat|dog\nb.jpg,cat\na.jpg,dog\n")
    assert message(tmp_path) == (
        f"an image is listed twice\n  where: {path}:4\n  got: 'a.jpg', first in line 2\n  expected: every image once\n"
        "  next: join the labels of an image into one row"
    )


def test_a_separator_that_cannot_be_told(table, tmp_path):
    path = table('image,labels\na.jpg,cat|dog\nb.jpg,"cat, domestic|dog"\n')
    assert message(tmp_path) == (
        f"the separator of the labels is ambiguous\n  where: {path}:3\n  got: '|' and ',' in column 'labels'\n"
        "  expected: one of them\n  next: choose it with the option separator, such as --separator '|'"
    )
    assert load_dataset(tmp_path, options=ReadOptions(separator="|")).label_set.names == ("cat", "cat, domestic", "dog")


@pytest.mark.parametrize("cell", ["['cat' dog]", "['cat", "[[cat]]", "[cat ... dog]", "{'cat': 1}"])
def test_a_list_that_cannot_be_read(table, tmp_path, cell):
    path = table(f'image,labels\na.jpg,"{cell}"\n')
    if cell.endswith(("]", "}")):
        assert message(tmp_path) == (
            f"a list of labels cannot be read\n  where: {path}:2\n  got: {cell!r} in column 'labels'\n"
            "  expected: texts divided by the separator, or a list of texts\n"
            "  next: write the names of the classes that are present, or a column of 1 and 0 for each class"
        )
    else:
        assert load_dataset(tmp_path).label_set.names == (cell,)  # a class may be called anything


def test_no_image_column(table, tmp_path):
    path = table("foto,labels\na,cat\n")
    assert message(tmp_path) == (
        f"no column of image names\n  where: {path}:1\n  got: foto, labels\n"
        "  expected: one of file_name, filename, file, fname, image, image_path, image_name, image_file, image_id, img, img_path, "
        "picture, picture_path, path, file_path, filepath, image_index, img_name, img_id, id, or a column of file names with the "
        "endings of images\n"
        "  next: rename a column, or name it with the option image_column (--image-column)"
    )


@pytest.mark.parametrize("option", ["image_column", "labels_column", "split_column"])
def test_a_chosen_column_that_is_not_there(table, tmp_path, option):
    path = table("image,labels\na.jpg,cat\n")
    assert message(tmp_path, **{option: "Foto"}) == (
        f"the table has no such column\n  where: {path}:1\n  got: image, labels\n  expected: a column 'Foto'"
    )


def test_no_image_name(table, tmp_path):
    path = table("image,labels\na.jpg,cat\n,cat\n")
    assert message(tmp_path) == (
        f"no image name\n  where: {path}:3\n  got: ''\n  expected: a file name\n"
        "  next: write the images as files and name them here"
    )


def test_a_column_given_twice(table, tmp_path):
    path = table("image,cat,dog, cat\na.jpg,1,0,1\n")
    assert message(tmp_path) == f"a column is given twice\n  where: {path}:1\n  got: 'cat'\n  expected: every column once"


def test_an_empty_file(table, tmp_path):
    path = table("\n")
    assert message(tmp_path) == f"an empty table\n  where: {path}:1\n  got: no line\n  expected: a header and one row per image"


def test_a_header_alone(table, tmp_path):
    table("image,cat\n")
    assert message(tmp_path) == (
        f"no images\n  where: csv {tmp_path}\n  got: annotations that list none\n  expected: at least one image"
    )


def test_no_class(table, tmp_path):
    path = table("image,labels\na.jpg,\n")
    assert message(tmp_path) == (
        f"no class was found\n  where: {path}\n  got: annotations without a single label\n  expected: at least one label"
    )


def test_a_table_that_is_not_utf8(table, tmp_path):
    (tmp_path / "data.csv").write_bytes("image,labels\na.jpg,Bär\n".encode("latin-1"))
    assert message(tmp_path) == (
        f"the file is not UTF-8 text\n  where: {tmp_path}/data.csv:2\n  got: byte 0xe4\n  expected: UTF-8\n"
        "  next: save it as UTF-8, for example with `iconv -f WINDOWS-1252 -t UTF-8 data.csv`"
    )


def test_the_unicode_text_of_spreadsheets(table, tmp_path):
    (tmp_path / "data.csv").write_bytes("image\tlabels\na.jpg\tcat\n".encode("utf-16"))
    assert message(tmp_path) == (
        f"the file is not UTF-8 text\n  where: {tmp_path}/data.csv:1\n  got: UTF-16\n  expected: UTF-8\n"
        "  next: save it as UTF-8, for example with `iconv -f UTF-16 -t UTF-8 data.csv`"
    )


def test_several_tables(table, tmp_path):
    table("image,labels\na.jpg,cat\n", "one.csv")
    table("image,labels\na.jpg,cat\n", "train.csv")
    assert message(tmp_path) == (
        f"several tables in one folder\n  where: {tmp_path}\n  got: one.csv, train.csv\n"
        f"  expected: one table, or tables named train, val and test\n  next: give the file itself, such as {tmp_path}/one.csv"
    )


def test_two_tables_that_disagree(table, tmp_path):
    table("image,cat,dog\na.jpg,1,0\n", "train.csv")
    table("image,cat,cow\nb.jpg,1,0\n", "val.csv")
    assert message(tmp_path) == (
        f"two tables disagree about the classes\n  where: {tmp_path}/val.csv:1\n  got: cat, cow\n"
        f"  expected: cat, dog, as in {tmp_path}/train.csv"
    )


@pytest.mark.parametrize(
    ("train", "other", "option"),
    [
        ("labels,note\ncat,x\n", "image\na.jpg\n", {}),
        ("image,labels\na.jpg,cat\n", "image,labels,patient\nb.jpg,cat,1\n", {"group_column": "patient"}),
    ],
)
def test_a_column_that_one_of_two_tables_lacks(table, tmp_path, train, other, option):
    table(train, "train.csv")
    table(other, "val.csv")
    missing = option.get("group_column", "image")
    assert message(tmp_path, **option) == (
        f"two tables disagree about their columns\n  where: {tmp_path}/train.csv:1\n"
        f"  got: {train.splitlines()[0].replace(',', ', ')}\n  expected: a column {missing!r}, as in {tmp_path}/val.csv"
    )


def test_objects_in_the_place_of_image_names(tmp_path, write):
    write(tmp_path / "labels.jsonl", '{"image": {"a": 1}, "label": "cat"}\n' * 2)
    assert message(tmp_path / "labels.jsonl", format="csv").startswith("no image name\n")


def test_malformed_parquet(tmp_path):
    (tmp_path / "data.parquet").write_bytes(b"PAR1 and no more")
    lines = message(tmp_path).splitlines()
    assert lines[:2] == ["malformed Parquet", f"  where: {tmp_path}/data.parquet"]
    assert lines[3:] == ["  expected: a Parquet file"]


def test_a_column_given_twice_in_parquet(tmp_path):
    columns = [pa.array(["a.jpg"]), pa.array([1]), pa.array([0])]
    pq.write_table(pa.Table.from_arrays(columns, names=["image", "cat", "cat"]), tmp_path / "data.parquet")
    assert message(tmp_path) == (
        f"a column is given twice\n  where: {tmp_path}/data.parquet\n  got: 'cat'\n  expected: every column once"
    )


@pytest.mark.slow
def test_100_000_rows_are_read_in_seconds(tmp_path):
    """The bound is five times what a slow machine needs."""
    import time

    (tmp_path / "images").mkdir()
    for number in range(1000):
        (tmp_path / "images" / f"{number}.jpg").touch()
    rows = "".join(f"./{'./' * (number // 1000)}images/{number % 1000}.jpg,1,0,,1,0,0,0,0,0,0\n" for number in range(100_000))
    (tmp_path / "data.csv").write_text("image," + ",".join("abcdefghij") + "\n" + rows)
    started = time.process_time()
    assert len(load_dataset(tmp_path)) == 100_000
    assert time.process_time() - started < 10


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_table_of_200_000_columns_is_refused_in_seconds(tmp_path: Path, suffix: str):
    path = tmp_path / f"labels.{suffix}"
    names = ["file_name", *(f"c{number}" for number in range(200_000))]
    if suffix == "csv":
        path.write_text(",".join(names) + "\n")
    else:
        path.write_text(json.dumps(dict.fromkeys(names, 1)) + "\n")
    start = time.process_time()
    with pytest.raises(AnnotationError, match=r"a table of too many columns\n.*\n  got: 200,001\n  expected: at most 100,000"):
        load_dataset(path, options=ReadOptions(format="csv"))
    assert time.process_time() - start < 10


def test_many_columns_are_compared_in_linear_time(tmp_path: Path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    names = [f"c{number}" for number in range(50_000)]
    (tmp_path / "labels.csv").write_text(",".join(["file_name", *names, "c7"]) + "\n")
    start = time.process_time()
    with pytest.raises(AnnotationError, match=r"a column is given twice\n.*\n  got: 'c7'"):
        load_dataset(tmp_path)
    assert time.process_time() - start < 3


@pytest.mark.parametrize("ending", ["", ".detections.label"])
def test_many_class_columns_are_found_in_linear_time(tmp_path: Path, ending: str):
    """A quadratic comparison of 40,000 names takes 15 s."""
    columns = {"file_name": ["a.png", "b.png"], **{f"c{number}{ending}": ["1", "0"] for number in range(40_000)}}
    table = Table(path=tmp_path / "labels.csv", columns=columns, line_N=[2, 3])
    start = time.process_time()
    layout = layout_of([table], Columns(), need_images=True, log=ReadingLog())
    assert len(layout.classes) == 40_000
    assert time.process_time() - start < 6
