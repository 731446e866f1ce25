"""Separators and printed lists in a column of labels: read where the cells tell, asked about where they do not."""

import csv
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polytag.data.load import load_dataset
from polytag.data.read_options import ReadOptions
from polytag.errors import AnnotationError


@pytest.fixture
def read(tmp_path, add_images):
    """Read label cells, an image each; returns the label lists."""

    def one(cells, *, header="labels", **options):
        names = [f"{number}.jpg" for number in range(len(cells))]
        for name in names:
            (tmp_path / name).touch()
        text = io.StringIO()
        csv.writer(text).writerows([["file_name", header], *zip(names, cells, strict=True)])
        (tmp_path / "labels.csv").write_text(text.getvalue())
        dataset = load_dataset(tmp_path, options=ReadOptions(**options))
        return [
            {name for name, target in zip(dataset.label_set, target_C, strict=True) if target == 1}
            for target_C in dataset.target_NC
        ]

    return one


def doubt(read, *arguments, **options) -> str:
    with pytest.raises(AnnotationError) as error:
        read(*arguments, **options)
    return str(error.value)


PLANET = ["haze primary", "clear primary water", "clear", "haze water", "primary", "clear haze road", "road"] * 2


@pytest.mark.parametrize("mark", ["|", ";", ",", ", ", "\n", "\t", "、", "，", " #", " | "])
def test_marks_that_divide_labels(read, mark):
    cells = [mark.join(["cat", "dog"]), mark.join(["dog", "big bird"]), "cat", ""]
    assert read(cells) == [{"cat", "dog"}, {"dog", "big bird"}, {"cat"}, set()]


def test_hashtags(read):
    assert read(["#cat #dog", "#dog#bird", "#cat"]) == [{"cat", "dog"}, {"dog", "bird"}, {"cat"}]


def test_a_number_sign_in_a_name(read):
    assert read(["C#", "F#", "C#", "java"]) == [{"C#"}, {"F#"}, {"C#"}, {"java"}]


def test_words_that_recombine_are_labels(read):
    assert read(PLANET)[:3] == [{"haze", "primary"}, {"clear", "primary", "water"}, {"clear"}]


def test_a_rare_label_that_occurs_once_changes_nothing(read):
    assert read([*PLANET, *PLANET, "clear blooming"])[-1] == {"clear", "blooming"}


def test_names_of_several_words_stay_whole(read):
    assert read(["traffic light", "fire hydrant", "traffic light", "fire hydrant", "car"])[0] == {"traffic light"}


@pytest.mark.parametrize(
    "cells",
    [
        ["hot dog", "dog", "hot"],  # one label made of the words of others, or two labels
        ["bird dog", "cat person"],
        ["a dog on a sofa", "a cat on a sofa", "a dog on a bed", "a cat on a bed"],
        ["hot dog", "dog", "hot", "traffic light", "dog", "traffic light"],
    ],
)
def test_spaces_that_do_not_tell_are_asked_about(read, tmp_path, cells):
    shown = ", ".join(repr(cell) for cell in dict.fromkeys(cells) if " " in cell)
    text = doubt(read, cells)
    assert text.startswith(f"spaces between labels, or inside their names\n  where: {tmp_path}/labels.csv:2\n  got: '{cells[0]}'")
    assert shown.split(", ")[0] in text
    assert text.endswith(
        "  expected: cells that tell: labels that occur alone and in several combinations, or names of their own\n"
        "  next: choose with the option separator: --separator ' ' for several labels in a cell, --separator none for one"
    )
    assert read(cells, separator="none")[0] == {cells[0]}
    assert read(cells, separator=" ")[0] == set(cells[0].split())
    assert read(cells, accept_doubts=True)


def test_names_that_hold_the_mark_are_asked_about(read):
    cells = ["tench, Tinca tinca", "goldfish, Carassius auratus"]
    assert doubt(read, cells).startswith("the character ',' between labels, or inside their names")
    assert read(cells, separator="none")[0] == {cells[0]}


def test_an_unusual_mark_is_asked_about(read):
    assert "--separator '/'" in doubt(read, ["cat/dog", "cat", "dog", "dog/bird", "bird"])
    assert read(["t-shirt", "t-rex", "powdery_mildew", "AC/DC"])[3] == {"AC/DC"}  # parts that are no labels


def test_parts_that_recombine_by_an_unusual_mark_are_asked_about(read):
    """Kaggle's apparel: `black_jeans`, `blue_jeans`, `blue_dress`, ...; and one cell made of the names of two others."""
    assert "--separator '_'" in doubt(read, ["black_jeans", "blue_jeans", "blue_dress", "black_dress"])
    assert "--separator '+'" in doubt(read, ["cat+dog", "dog+cow", "cat+cow"])
    assert "--separator '/'" in doubt(read, ["cat/dog", "cat", "dog"])


def test_a_name_that_ends_in_a_minus_sign_stays_whole(read):
    assert read(["HER2-", "HER2+", "A-", "-|A-"]) == [{"HER2-"}, {"HER2+"}, {"A-"}, {"-", "A-"}]


@pytest.mark.parametrize("cell", ["nan", "None", "NULL", "cat|<NA>", "['none']", "#N/A"])
def test_what_programs_write_for_nothing_is_no_class_without_a_word(read, tmp_path, cell):
    name = cell.strip("[']").removeprefix("cat|")
    assert doubt(read, ["cat|dog", cell]) == (
        f"a label that may say that there is none\n  where: {tmp_path}/labels.csv:3\n  got: {name!r} in column 'labels'\n"
        "  expected: the names of classes; nothing in the cell of an image without any\n"
        f"  next: empty such cells; or take {name!r} as a class with --yes, which --drop {name!r} leaves out"
    )
    assert read(["cat|dog", cell], accept_doubts=True)[1] >= {name}


def test_a_separator_as_a_shell_passes_it_on(read):
    assert read(["cat\ndog", "dog"], separator=r"\n")[0] == {"cat", "dog"}


@pytest.mark.parametrize(
    "cell",
    [
        "['cat' 'sea lion']", "['cat'\n 'sea lion']", "{'cat', 'sea lion'}", "('cat', 'sea lion')", '{cat,"sea lion"}',
        "frozenset({'cat', 'sea lion'})", "array(['cat', 'sea lion'], dtype=object)", "np.array(['cat', 'sea lion'])",
        '["cat", "sea lion"]', "['cat','sea lion',]",
    ],
)  # fmt: skip
def test_lists_as_programs_print_them(read, cell):
    assert read([cell, "[]", "set()", "()"]) == [{"cat", "sea lion"}, set(), set(), set()]


def test_escapes_of_json_and_python(read):
    assert read([r'["K\u00e4tzchen", "a \"b\""]', r"['it\'s', 'B\xe4r']"]) == [{"Kätzchen", 'a "b"'}, {"it's", "Bär"}]


@pytest.mark.parametrize("cell", ["['cat' ... 'dog']", "[['cat'], ['dog']]", '{"choices": ["cat"]}', "[None]", "['cat' dog]"])
def test_printed_lists_that_cannot_be_read(read, tmp_path, cell):
    assert doubt(read, [cell, "cat"]) == (
        f"a list of labels cannot be read\n  where: {tmp_path}/labels.csv:2\n  got: {cell!r} in column 'labels'\n"
        "  expected: texts divided by the separator, or a list of texts\n"
        "  next: write the names of the classes that are present, or a column of 1 and 0 for each class"
    )


def test_numbers_are_classes_called_by_their_number(read, tmp_path):
    """Kaggle's Human Protein Atlas: `Target` with class numbers between spaces."""
    assert read(["16 0", "7 1 2", "0"], header="Target") == [{"16", "0"}, {"7", "1", "2"}, {"0"}]
    found = dict(load_dataset(tmp_path).interpretation.found)
    assert found["class names"] == "the numbers in the cells"
    assert found["separator"] == "a space, between numbers"
    assert read(["2.0", "10.0", ""]) == [{"2"}, {"10"}, set()]  # as pandas writes whole numbers beside an empty cell


@pytest.mark.parametrize("cells", [["[1, 0, 1]", "[0, 1, 0]"], ["1 0 1", "0 1 0"], ["1,0,1", "0,1,0"], ["[1. 0. 1.]"] * 2,
                                   ["[True, False, True]"], ["0101", "1100"]])  # fmt: skip
def test_vectors_do_not_name_their_classes(read, tmp_path, cells):
    num = 4 if cells[0] == "0101" else 3
    assert doubt(read, cells) == (
        f"labels as vectors of 0 and 1, without the names of the classes\n  where: {tmp_path}/labels.csv:2\n"
        f"  got: {cells[0]!r} in column 'labels'\n"
        "  expected: the names of the classes that are present, or one column for each class, named after it\n"
        f"  next: divide the vectors into {num} columns, and write the names of the classes in the header"
    )


def test_lists_of_numbers_that_are_no_vectors(read):
    assert read(["[1, 0]", "[1]", "[0, 1]"]) == [{"1", "0"}, {"1"}, {"0", "1"}]


def test_values_of_parquet(tmp_path, add_images):
    add_images(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"image": ["a.jpg", "b.jpg", "c.jpg"], "labels": [2.0, None, 10.0]}), path)
    dataset = load_dataset(path)
    assert dataset.label_set.names == ("2", "10")
    assert dataset.target_NC.tolist() == [[1, 0], [-1, -1], [0, 1]]
    pq.write_table(pa.table({"image": ["a.jpg", "b.jpg"], "labels": [[1, 0, 1], [0, 0, 1]]}), path)
    with pytest.raises(AnnotationError, match="labels as vectors of 0 and 1"):
        load_dataset(path)
    pq.write_table(pa.table({"image": ["a.jpg"], "labels": [[0.25]]}), path)
    with pytest.raises(AnnotationError, match="a list of labels cannot be read"):
        load_dataset(path)


def test_a_text_column_is_labels_only_where_it_holds_lists(read):
    """Hugging Face's `text` holds captions, or what a tagger wrote."""
    assert read(["car, person", "dog, person", "car, dog", ""], header="text")[0] == {"car", "person"}
    assert doubt(read, ["a dog, on a sofa", "the cat, asleep", "a bird"], header="text").startswith("no column of labels\n")
