"""Lists and tables that say which images are in which split: how images are named, what is noted, and what is refused."""

from pathlib import Path

import pytest
from PIL import Image

from polytag.data.load import load_dataset
from polytag.data.read_options import ReadOptions
from polytag.data.split_files import absolute_entry
from polytag.errors import AnnotationError, PolytagError, UsageError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six images in folders of a table without splits."""
    lines = ["file_name,labels"]
    for letter in "abcdef":
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "images" / f"{letter}.png")
        lines.append(f"images/{letter}.png,cat")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "labels.csv"


def read(data: Path, *entries: str, **options):
    return load_dataset(data, options=ReadOptions(split_files=entries, **options))


@pytest.mark.parametrize("spelling", ["images/{}.png", "{}.png", "{}", "images\\{}.png"])
def test_lists_name_images_with_or_without_folder_and_ending(data: Path, spelling: str):
    (data.parent / "train_list.txt").write_text("".join(spelling.format(letter) + "\n" for letter in "abcd") + "\n")
    (data.parent / "Validation.txt").write_text("".join(spelling.format(letter) + "\r\n" for letter in "ef"))
    found = read(data, f"train={data.parent / 'train_list.txt'}", str(data.parent / "Validation.txt"))
    assert found.split_N == ("train",) * 4 + ("val",) * 2
    assert found.interpretation.notes == ()


def test_a_table_of_folds_and_what_is_noted(data: Path):
    (data.parent / "folds.csv").write_text("image_id,fold,half\na,0,x\nb,1,x\nc,0,y\nz,1,y\n")
    found = read(data, str(data.parent / "folds.csv"))
    assert found.split_N == ("0", "1", "0", "", "", "")
    assert found.interpretation.notes == (
        "1 name in folds.csv is of no image of the data",
        "3 images are in no split file, and keep their own split",
        "3 of 6 images are without a split, such as 'images/d.png': they take no part in training and validation",
    )
    assert read(data, str(data.parent / "folds.csv"), split_column="half").split_N[:3] == ("x", "x", "y")


def test_a_run_has_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_entry("train=lists/a.txt") == f"train={tmp_path / 'lists' / 'a.txt'}"
    assert absolute_entry("folds.csv") == str(tmp_path / "folds.csv")


def failure(kind: type[PolytagError], data: Path, *entries: str, **options) -> str:
    with pytest.raises(kind) as error:
        read(data, *entries, **options)
    return str(error.value)


def test_what_is_refused(data: Path):
    one, two, table = (data.parent / name for name in ("one.txt", "two.txt", "table.csv"))
    one.write_text("a\nb\n")
    two.write_text("c\n\nb\n")
    table.write_text("id,half\na,x\n")
    assert failure(AnnotationError, data, f"train={one}", f"val={two}") == (
        f"an image is listed in two splits\n  where: {two}:3\n  got: 'b' in 'val'\n  expected: in 'train' alone"
    )
    assert failure(UsageError, data, str(one)) == (
        f"a list without the name of its split\n  where: --split-file\n  got: {one}\n"
        f"  expected: NAME={one}, such as train={one}; or a table that ends in .csv, .tsv, .parquet, .pq, .jsonl"
    )
    assert failure(AnnotationError, data, str(table)) == (
        f"the table has no column of splits\n  where: {table}:1\n  got: id, half\n"
        "  expected: one of split, subset, partition, fold\n  next: name it with --split-column"
    )
    one.write_text("x.png\n")
    assert failure(AnnotationError, data, f"test={one}") == (
        f"no listed image is in the data\n  where: {one}\n  got: 'x.png'\n"
        "  expected: ids such as 'images/a.png', 'images/b.png', 'images/c.png'"
    )
    assert failure(UsageError, data, "=") == (
        "a split file cannot be understood\n  where: --split-file\n  got: '='\n  expected: FILE or NAME=FILE"
    )
