"""Which columns are images, splits, labels and classes; what is asked about; and the rows and marks of CSV files."""

import json
from pathlib import Path

import pytest

from polytag.data.load import load_dataset
from polytag.data.read_options import ReadOptions
from polytag.errors import AnnotationError, DataError, UsageError

COMMUNITY = Path(__file__).parents[2] / "../shared/cases/community"


@pytest.fixture
def table(tmp_path, write):
    """A folder with images 0.jpg to 3.jpg and one table."""
    for number in range(4):
        (tmp_path / f"{number}.jpg").touch()
    return lambda text, name="data.csv": write(tmp_path / name, text)


def read(data, **options):
    return load_dataset(data, options=ReadOptions(**options))


def message(data, **options) -> str:
    with pytest.raises(DataError) as error:
        read(data, **options)
    return str(error.value)


def found(dataset) -> dict[str, str]:
    return dict(dataset.interpretation.found)


# ---- class columns and metadata ----


def test_columns_that_cannot_be_classes_are_ignored_and_listed(table, tmp_path):
    table("image,patient_id,age,sex,site,caption,cat,dog\n0,0,40,M,n,a,1,0\n1,3,41,F,n,b,0,1\n2,7,2,M,s,,0,\n")
    dataset = read(tmp_path)
    assert dataset.label_set.names == ("cat", "dog")
    assert dataset.target_NC.tolist() == [[1, 0], [0, 1], [0, -1]]
    assert found(dataset)["ignored"] == "'patient_id', 'age', 'sex', 'site', 'caption'"


def test_columns_of_1_and_0_with_names_of_metadata_are_asked_about(table, tmp_path):
    path = table("image,fold,is_night,cat,dog\n0,0,1,1,0\n1,1,0,0,1\n2,0,0,1,0\n")
    assert message(tmp_path) == (
        f"columns of 1 and 0 that may be no classes\n  where: {path}:1\n  got: 'fold', 'is_night'\n"
        "  expected: columns of classes, named after them\n"
        "  next: leave them out with --ignore-column 'fold' --ignore-column 'is_night'; or take all columns of 1 and 0 as classes "
        "with --class-column '*'"
    )
    assert read(tmp_path, ignore_columns=("fold", "is_*")).label_set.names == ("cat", "dog")
    assert read(tmp_path, class_columns=("*",)).label_set.names == ("fold", "is_night", "cat", "dog")
    assert read(tmp_path, class_columns=("*",), ignore_columns=("fold",)).label_set.names == ("is_night", "cat", "dog")
    assert read(tmp_path, class_columns=("dog", "c*")).label_set.names == ("dog", "cat")
    accepted = read(tmp_path, accept_doubts=True)
    assert accepted.label_set.names == ("cat", "dog")
    assert accepted.interpretation.notes == ("accepted although columns of 1 and 0 that may be no classes: 'fold', 'is_night'",)


def test_classes_that_all_begin_with_is(table, tmp_path):
    table("image,is_cat,is_dog\n0,0,1\n1,1,0\n")
    assert read(tmp_path).label_set.names == ("is_cat", "is_dog")


def test_a_pattern_that_is_nowhere(table, tmp_path):
    path = table("image,cat,dog\n0,0,1\n")
    assert message(tmp_path, class_columns=("cow*",)).startswith(f"the table has no such column\n  where: {path}:1\n")
    assert found(read(tmp_path, ignore_columns=("dgo",)))["to ignore, but not there"] == "'dgo' (did you mean 'dog'?)"


def test_classes_called_id_and_index(table, tmp_path):
    """No index has one number in many rows."""
    table("filename,ID,passport,index\n0.jpg,0,1,0\n1.jpg,1,0,0\n2.jpg,0,1,1\n3.jpg,1,0,1\n")
    assert read(tmp_path).label_set.names == ("ID", "passport", "index")


@pytest.mark.parametrize(
    "header", [",Unnamed: 0", ",Unnamed: 0.1,Unnamed: 0", "Unnamed: 0.1.1,Unnamed: 0.1,Unnamed: 0", "index,level_0"]
)
def test_the_indices_that_pandas_adds_at_each_saving(table, tmp_path, header):
    index = ",".join(["{0}"] * len(header.split(",")))
    table(header + ",file_name,cat,dog\n" + "".join(index.format(n) + f",{n}.jpg,{n % 2},1\n" for n in range(3)))
    assert read(tmp_path).label_set.names == ("cat", "dog")


@pytest.mark.parametrize("name", ["category", "label", "tag", "Class"])
def test_a_class_that_is_called_like_a_column_of_labels(table, tmp_path, name):
    table(f"image,{name},dog\n0,0,1\n1,1,0\n")
    assert read(tmp_path).label_set.names == (name, "dog")


def test_one_column_of_1_and_0_called_label(table, tmp_path):
    path = table("image,label\n0,0\n1,1\n2,1\n")
    assert message(tmp_path) == (
        f"one column of 1 and 0\n  where: {path}:1\n  got: column 'label'\n"
        "  expected: the names of labels, or a column for each class\n"
        "  next: read it as one class, present or absent, with --class-column 'label'; or as the classes '0' and '1' with "
        "--labels-column 'label'"
    )
    assert read(tmp_path, class_columns=("label",)).target_NC.tolist() == [[0], [1], [1]]
    assert read(tmp_path, labels_column="label").target_NC.tolist() == [[1, 0], [0, 1], [0, 1]]


def test_a_column_of_labels_beside_class_columns(table, tmp_path):
    path = table("image,category,cat,dog\n0,indoor,0,1\n1,outdoor,1,0\n")
    assert message(tmp_path) == (
        f"label lists beside class columns\n  where: {path}:1\n  got: column 'category', and 1 and 0 in 'cat', 'dog'\n"
        "  expected: one of them\n"
        "  next: take the class columns with --ignore-column 'category', or the lists with --labels-column 'category'"
    )
    assert read(tmp_path, ignore_columns=("category",)).label_set.names == ("cat", "dog")
    assert read(tmp_path, labels_column="category").label_set.names == ("indoor", "outdoor")


def test_lists_that_repeat_the_class_columns(table, tmp_path):
    """Kaggle's movie posters: `Genre` and a column for each genre."""
    rows = "image,Genre,cat,dog\n0,\"['cat', 'dog']\",1,1\n1,['dog'],0,1\n2,[],0,"
    table(rows + "\n")
    dataset = read(tmp_path)
    assert dataset.target_NC.tolist() == [[1, 1], [0, 1], [0, -1]]
    assert found(dataset)["beside them"] == "column 'Genre', which names the same labels in every row"
    path = table(rows + "\n3,['dog'],1,0\n")
    assert message(tmp_path) == (
        f"two ways to label an image, which differ\n  where: {path}:5\n"
        "  got: \"['dog']\" in column 'Genre' and other classes in the class columns\n  expected: the same classes\n"
        "  next: take the class columns with --ignore-column 'Genre', or the lists with --labels-column 'Genre'"
    )
    assert read(tmp_path, ignore_columns=("Genre",)).target_NC[3].tolist() == [1, 0]
    assert read(tmp_path, labels_column="Genre").target_NC[3].tolist() == [0, 1]


def test_no_labels_at_all(table, tmp_path):
    path = table("image,caption\n0,a fine day\n1,rain\n")
    assert message(tmp_path) == (
        f"no column of labels\n  where: {path}:1\n  got: 'caption'\n"
        "  expected: a column of label lists called one of labels, label, tags, tag, classes, class, categories, category, target, "
        "targets, attribute_ids, genres, genre; or a column of 1 and 0 for each class\n"
        "  next: name the column of label lists with --labels-column, or the class columns with --class-column"
    )


def test_columns_of_counts_are_asked_about(table, tmp_path):
    path = table("image,bird,cat,patient_id\n0,3,1,0\n1,0,0,7\n2,2,1,9\n")
    assert message(tmp_path) == (
        f"columns of whole numbers that may be counts of classes\n  where: {path}:1\n  got: 'bird'\n"
        "  expected: 1 (present) and 0 (absent) in the columns of classes\n"
        "  next: write 1 for each count above 0; or leave them out with --ignore-column 'bird'"
    )
    assert read(tmp_path, ignore_columns=("bird",)).label_set.names == ("cat",)


def test_soft_labels(table, tmp_path):
    path = table("image,cat,dog\n0,0.1,0.8\n1,0.9,0.2\n")
    assert message(tmp_path) == (
        f"soft labels\n  where: {path}:2\n  got: '0.1' in column 'cat'\n"
        "  expected: 1 (present), 0 (absent), -1 or nothing (unknown)\n"
        "  next: write 1 from a value of your choice on, and 0 below it; or leave it out with --ignore-column 'cat'"
    )
    table("image,cat,confidence\n0,1,0.8\n1,0,0.2\n")
    assert read(tmp_path).label_set.names == ("cat",)


def test_the_decimal_commas_of_spreadsheets(table, tmp_path):
    table("image;cat;dog\n0;1,0;0,0\n1;0,00;-1,0\n2;1;0\n")
    assert read(tmp_path).target_NC.tolist() == [[1, 0], [0, -1], [1, 0]]


# ---- -1 ----


def test_1_and_minus_1_without_0_is_asked_about(table, tmp_path):
    path = table("image,cat,dog\n0,1,1\n1,,-1\n2,-1,1\n")
    assert message(tmp_path) == (
        f"labels of 1 and -1, and never 0\n  where: {path}:3\n"
        "  got: -1 in column 'dog', which would be an unknown label: no class would have a negative\n"
        "  expected: 0 for an absent label, -1 for an unknown one\n"
        "  next: say what -1 means: --minus-one negative (absent), ignore (unknown) or positive (present)"
    )
    for minus_one, target in (("negative", 0), ("ignore", -1), ("positive", 1)):
        dataset = read(tmp_path, minus_one=minus_one)
        assert dataset.target_NC.tolist() == [[1, 1], [-1, target], [target, 1]]
        assert found(dataset)["-1 is"] == {0: "absent", -1: "unknown", 1: "present"}[target]
    assert read(tmp_path, accept_doubts=True).target_NC.tolist() == [[1, 1], [-1, 0], [0, 1]]


def test_minus_1_is_unknown_beside_0_and_tells_so(tmp_path, write):
    """CheXpert's policies U-Ignore, U-Ones and U-Zeros; the 0 may be in another table."""
    for split, cells in (("train", "1.0,-1.0"), ("valid", "0.0,1.0")):
        write(tmp_path / f"{split}.csv", f"Path,Sex,Age,AP/PA,Edema,No Finding\nx-small/{split}/a.jpg,Male,68,AP,{cells}\n")
        write(tmp_path / f"x-small/{split}/a.jpg", "")
    dataset = read(tmp_path)
    assert dataset.target_NC.tolist() == [[1, -1], [0, 1]]
    assert found(dataset)["-1 is"] == "unknown; --minus-one decides"
    assert read(tmp_path, minus_one="positive").target_NC.tolist() == [[1, 1], [0, 1]]


def test_a_meaning_of_minus_1_that_does_not_exist():
    with pytest.raises(UsageError) as error:
        ReadOptions(minus_one="zeros")
    assert str(error.value) == "unknown meaning of -1\n  got: 'zeros'\n  expected: one of ignore, positive, negative"


# ---- images and splits ----


@pytest.mark.parametrize("name", ["Id", "Image Index", "imageName", "Bild"])
def test_columns_of_images(table, tmp_path, name):
    table(f"{name},labels\n0.jpg,cat\n1.jpg,dog\n")
    assert read(tmp_path).ids == ("0.jpg", "1.jpg")


def test_a_table_without_a_header_has_no_column_of_images(table, tmp_path):
    table("0.jpg,1,0\n1.jpg,0,1\n")
    assert message(tmp_path).startswith("no column of image names\n")


@pytest.mark.parametrize(
    ("header", "cells", "splits"),
    [
        ("is_train", ("1", "0", ""), ("train", "val", "")),
        ("is_test", ("0", "1", "0"), ("train", "test", "train")),
        ("is_valid", ("False", "True", "False"), ("train", "val", "train")),
        ("is_train,is_val,is_test", ("1,0,0", "0,1,0", "0,0,1"), ("train", "val", "test")),
        ("partition", ("0", "1", "2"), ("train", "val", "test")),
        ("phase", ("Train", "validation", "test"), ("train", "val", "test")),
        ("split", ("a", "train", "b"), ("a", "train", "b")),
    ],
)
def test_splits(table, tmp_path, header, cells, splits):
    table(f"image,cat,dog,{header}\n" + "".join(f"{n},1,0,{cell}\n" for n, cell in enumerate(cells)))
    dataset = read(tmp_path)
    assert dataset.split_N == splits
    assert dataset.label_set.names == ("cat", "dog")


def test_flags_of_two_splits_at_once(table, tmp_path):
    path = table("image,cat,is_train,is_test\n0,1,1,0\n1,1,1,1\n")
    assert message(tmp_path) == (
        f"the split of an image cannot be told\n  where: {path}:3\n  got: '1' in 'is_train', '1' in 'is_test'\n"
        "  expected: 1 in one of these columns, and 0 in the others\n"
        "  next: correct the row, or name another column with --split-column"
    )


def test_a_flag_beside_label_lists_that_may_be_the_split(table, tmp_path):
    path = table("image,labels,train\n0,cat,1\n1,dog,0\n2,dog,1\n")
    assert message(tmp_path) == (
        f"a column of 1 and 0 that may be the split\n  where: {path}:1\n  got: 'train'\n"
        "  expected: a column called 'split', or 'is_train'\n"
        "  next: take it as the split with --split-column 'train'; or leave it out with --ignore-column 'train'"
    )
    assert read(tmp_path, split_column="train").split_N == ("train", "val", "train")
    assert read(tmp_path, ignore_columns=("train",)).split_N == ("", "", "")


def test_fiftyone_writes_the_split_as_a_tag(table, tmp_path):
    table('filepath,labels.classifications.label,tags\n0.jpg,"cat,dog",train\n1.jpg,dog,val\n')
    dataset = read(tmp_path)
    assert (dataset.split_N, dataset.target_NC.tolist()) == (("train", "val"), [[1, 1], [0, 1]])


def test_images_without_a_split_among_others_are_counted(table, tmp_path):
    table("image,labels,split\n0,cat,train\n1,cat,\n2,dog,val\n3,dog,\n")
    assert read(tmp_path).interpretation.notes == (
        "2 of 4 images are without a split, such as '1': they take no part in training and validation",
    )
    assert message(tmp_path, strict=True).startswith("the annotations are not read strictly as they are")


# ---- CSV files ----


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ('image,"a;b;c;d"\n0,1\n1,0\n', ("a;b;c;d",)),
        (
            "image;tench, Tinca tinca;goldfish, Carassius auratus\n0;0;1\n1;1;0\n",
            ("tench, Tinca tinca", "goldfish, Carassius auratus"),
        ),
        ("image\ttench, Tinca tinca\tx, y\n0\t0\t1\n", ("tench, Tinca tinca", "x, y")),
        ("sep=;\nimage;cat\n0;1\n", ("cat",)),
        ('"sep=,"\r\nimage,cat\r\n0,1\r\n', ("cat",)),
        ("sep=|\nimage|cat\n0|1\n", ("cat",)),
        ("image, cat, dog\n0, 1, 0\n", ("cat", "dog")),
        ("image,cat,dog,,\n0,0,1,,\n1,1,0,,\n,,,,\n,,,,\n", ("cat", "dog")),
        ("image,cat,dog\n0,0,1,,,\n1,1,0\n\n", ("cat", "dog")),
    ],
)
def test_how_cells_are_divided(table, tmp_path, text, classes):
    table(text)
    assert read(tmp_path).label_set.names == classes
    assert not read(tmp_path).interpretation.notes


def test_a_comma_in_quotes_after_a_space(table, tmp_path):
    table('image, labels\n0, "cat, dog"\n1, dog\n')
    assert read(tmp_path).target_NC.tolist() == [[1, 1], [0, 1]]


def test_rows_without_their_last_cells(table, tmp_path):
    """Excel leaves delimiters out where the last cells of many rows are empty."""
    table("image,cat,dog\n0,1,0\n1,1\n2\n")
    dataset = read(tmp_path)
    assert dataset.target_NC.tolist() == [[1, 0], [1, -1], [-1, -1]]
    assert dataset.interpretation.notes == ("2 rows of data.csv lack their last cells, which count as empty, the first in line 3",)
    path = table("image,labels\n0,cat\n1\n")
    assert message(tmp_path) == (
        f"a row is shorter than the header\n  where: {path}:3\n  got: 1 row without the last cells\n"
        "  expected: 2 cells in each row\n"
        "  next: end the row with the missing delimiters; or read the missing cells as empty ones with --yes"
    )
    assert read(tmp_path, accept_doubts=True).target_NC.tolist() == [[1], [0]]


def test_a_table_that_is_cut(table, tmp_path):
    path = table("image,cat,dog\n0,1,0\n1,1")
    assert message(tmp_path) == (
        f"the table ends within a row\n  where: {path}:3\n  got: 2 fields, and no line break after them\n"
        "  expected: 3, as in the header\n  next: get the whole file again, or end its last row"
    )


def test_the_line_of_an_error_below_a_sep_line(table, tmp_path):
    path = table("sep=;\nimage;cat;dog\n0;1;0\n1;1;7\n")
    assert f"where: {path}:4" in message(tmp_path)


def test_kaggles_form_for_answers_and_test_table_take_no_part(table, tmp_path):
    table("image,labels\n0,cat\n", "train.csv")
    table("image,labels\n0,dog\n", "sample_submission.csv")
    table("image\n1\n", "test.csv")
    dataset = read(tmp_path)
    assert (dataset.ids, dataset.label_set.names) == (("0",), ("cat",))
    assert dataset.interpretation.notes == (
        "test.csv has no column of labels, and is left out",
        "sample_submission.csv is left out: the labels in such a form for answers are made up",
    )


# ---- as other tools write them ----

READ = ("labels-spaces", "planet", "fastai", "fo-csv", "kaggle-onehot", "kaggle-hpa", "kaggle-plantpathology", "movie-genre",
        "isic", "onehot-meta", "onehot-partition", "roboflow", "hf-imagefolder", "hf-text")  # fmt: skip
DECIDED = {"onehot-binarymeta": {"ignore_columns": ("fold", "is_*")}, "onehot-category": {"ignore_columns": ("category",)},
           "onehot-plusminus": {"minus_one": "negative"}}  # fmt: skip


@pytest.mark.parametrize("name", [*READ, *DECIDED])
def test_real_tables(name):
    if not COMMUNITY.is_dir():
        pytest.skip(f"no tables of other tools at {COMMUNITY}")
    truth = json.loads((COMMUNITY / "truth.json").read_text())
    if name in DECIDED:
        with pytest.raises(AnnotationError):
            read(COMMUNITY / name)
    dataset = read(COMMUNITY / name, **DECIDED.get(name, {}))
    classes = [truth["classes"][int(known)] if known.isdecimal() else known.replace(" ", "") for known in dataset.label_set]
    right = {row["id"]: (row["split"], set(row["labels"])) for row in truth["rows"]}
    assert len(dataset) == 100
    for path, split, target_C in zip(dataset.paths, dataset.split_N, dataset.target_NC.tolist(), strict=True):
        row = right[path.stem.partition("_jpg.rf")[0]]
        assert {known for known, target in zip(classes, target_C, strict=True) if target == 1} == row[1]
        assert -1 not in target_C
        assert split in ("", row[0])
