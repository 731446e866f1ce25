"""`polytag data split`: a table that reads back, what stays together in it, what is told, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from polytag import load_dataset
from polytag.data.convert import convert
from polytag.data.division import record_path
from polytag.data.duplicates.joined_groups import with_duplicates_joined
from polytag.data.read_options import ReadOptions
from polytag.errors import PolytagError

Polytag = Callable[..., Result]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images of 10 people on 20 days, one column per class; 1.png is 0.png at half the size, 3.png a copy of 2.png."""
    folder, rng = tmp_path_factory.mktemp("people"), np.random.default_rng(0)
    lines = ["file_name,cat,dog,person,day"]
    for row in range(40):
        if row == 1:
            Image.open(folder / "0.png").resize((24, 24)).save(folder / "1.png")
        elif row == 3:
            (folder / "3.png").write_bytes((folder / "2.png").read_bytes())
        else:
            coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize((48, 48), Image.Resampling.BICUBIC)
            coarse.save(folder / f"{row}.png")
        lines.append(f"{row}.png,{row % 2},{int(row % 5 == 0)},p{row % 10},2024-01-{1 + row // 2:02}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


READ = ("--class-column", "cat", "--class-column", "dog")


def test_the_table_reads_back_with_all_labels_and_says_how_it_was_made(people: Path, tmp_path: Path, polytag: Polytag):
    result = polytag("data", "split", people, tmp_path / "out.csv", *READ, "--parts", "train=70,val=15,test=15", "--seed", 3)
    written, given = load_dataset(tmp_path / "out.csv"), load_dataset(people, options=ReadOptions(class_columns=("cat", "dog")))
    assert (written.ids, written.target_NC.tolist()) == (given.ids, given.target_NC.tolist())
    assert set(written.splits) == {"train", "val", "test"}
    assert len({written.split_N[0], written.split_N[1]}) == len({written.split_N[2], written.split_N[3]}) == 1
    record = json.loads((tmp_path / "out-split.json").read_text())
    assert (record["method"], record["seed"], record["data_fingerprint"]) == ("labels", 3, written.fingerprint)
    assert record["near_duplicates"] == {"num_groups": 2, "num_images": 4, "num_unread": 0}
    assert {name: part["num_images"] for name, part in record["parts"].items()} == {"train": 28, "val": 6, "test": 6}
    lines = result.output.splitlines()
    lines = lines[lines.index("") + 1 :]
    assert lines[0].split() == ["part", "images", "share", "wanted", "a", "class's", "positives"]
    assert "stratified by label, seed 3" in lines
    assert "2 groups (4 images) of near duplicates stay together" in lines
    assert lines[-1] == f"  polytag train {tmp_path / 'out.csv'}"
    polytag("data", "split", people, tmp_path / "again.parquet", *READ, "--parts", "train=.7,val=.15,test=.15", "--seed", 3)
    assert load_dataset(tmp_path / "again.parquet").split_N == written.split_N


def test_groups_that_near_duplicates_join(people: Path, tmp_path: Path, polytag: Polytag):
    polytag("data", "split", people, tmp_path / "out.csv", "--group", "person", *READ)
    written = load_dataset(tmp_path / "out.csv", options=ReadOptions(group_column="person"))
    split_N = written.split_N
    assert written.group_N == tuple(f"p{row % 10}" for row in range(40))
    for persons in ((0, 1), (2, 3), *((number,) for number in range(4, 10))):
        assert len({split_N[row] for row in range(40) if row % 10 in persons}) == 1
    dataset = load_dataset(people, options=ReadOptions(class_columns=("cat", "dog"), group_column="person"))
    joined, found = with_duplicates_joined(dataset)
    assert joined.group_N[:5] == ("p0", "p0", "p2", "p2", "p4")
    assert (found.num_groups, found.num_images) == (2, 4)
    alone, _ = with_duplicates_joined(load_dataset(people, options=ReadOptions(class_columns=("cat", "dog"))))
    assert alone.group_N == ("versions of 0.png",) * 2 + ("versions of 2.png",) * 2 + ("",) * 36


def test_by_time_where_the_column_is_no_class(people: Path, tmp_path: Path, polytag: Polytag):
    """Without --class-column: neither the column of times nor that of groups is a class."""
    result = polytag("data", "split", people, tmp_path / "out.csv", "--time", "day", "--group", "person", "--no-near")
    written = load_dataset(tmp_path / "out.csv", options=ReadOptions(group_column="person"))
    assert written.label_set.names == ("cat", "dog")
    assert {row % 10 for row, split in enumerate(written.split_N) if split == "val"} == {8, 9}
    assert "by time, column 'day', the earliest images first" in result.output
    assert json.loads((tmp_path / "out-split.json").read_text())["time"] == "day"


def test_times_in_another_table_and_folds(people: Path, tmp_path: Path, polytag: Polytag):
    (tmp_path / "times.csv").write_text("id,when\n" + "".join(f"{row}.png,{-row}\n" for row in range(40)))
    options = ("--time", "when", "--columns", tmp_path / "times.csv", *READ, "--no-near")
    polytag("data", "split", people, tmp_path / "out.csv", *options)
    assert load_dataset(tmp_path / "out.csv").split_N == ("val",) * 8 + ("train",) * 32
    result = polytag("data", "split", people, tmp_path / "folds.csv", *READ, "--folds", 4)
    assert sorted(load_dataset(tmp_path / "folds.csv").splits) == ["fold-1", "fold-2", "fold-3", "fold-4"]
    assert result.output.endswith(f"  polytag train {tmp_path / 'folds.csv'} --folds 4\n")


def test_an_image_that_cannot_be_read_and_a_test_split_that_has_a_version(people: Path, tmp_path: Path, polytag: Polytag):
    data = load_dataset(people, options=ReadOptions(class_columns=("cat", "dog")))
    table = convert(data, tmp_path / "data" / "labels.csv", to="csv")
    lines = table.read_text().splitlines()
    lines[1] = lines[1].replace(".png,,", ".png,test,")
    (tmp_path / "data" / "broken.png").write_bytes(b"no image")
    table.write_text("\n".join([*lines, "broken,broken.png,,1,0"]) + "\n")
    result = polytag("data", "split", table, tmp_path / "out.csv")
    assert "1 image could not be read and compared" in result.output
    assert (
        "1 group of dependent images is in more than one split, so validation scores are too high: versions of 0.png"
        in " ".join(result.output.split())
    )
    assert load_dataset(tmp_path / "out.csv").split_N[0] == "test"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--parts", "train"),
            "the parts cannot be read\n  where: --parts\n  got: 'train'\n"
            "  expected: NAME=SHARE, each name once, divided by commas: such as train=0.8,val=0.1,test=0.1",
        ),
        (("--folds", 3, "--time", "day"), "folds are equal parts, stratified by label\n  got: --folds and --time"),
        (
            ("--columns", "other.csv"),
            "a table of columns, none of which is used\n  got: --columns\n  expected: --group or --time COLUMN, naming one of them",
        ),
    ],
)
def test_options_that_make_no_sense(people: Path, tmp_path: Path, polytag: Polytag, options, message):
    with pytest.raises(PolytagError) as error:
        polytag("data", "split", people, tmp_path / "out.csv", *options)
    assert str(error.value) == message
    assert not any(tmp_path.iterdir())


def test_what_exists_already_and_another_kind_of_table(people: Path, tmp_path: Path, polytag: Polytag):
    out = tmp_path / "out.csv"
    record_path(out).write_text("{}")
    with pytest.raises(PolytagError) as error:
        polytag("data", "split", people, out)
    assert str(error.value) == (
        f"the output exists already\n  where: {record_path(out)}\n  expected: a new name, or an empty folder\n"
        "  next: choose another name, or remove it; nothing is overwritten"
    )
    with pytest.raises(PolytagError) as error:
        polytag("data", "split", people, tmp_path / "out.xlsx")
    assert str(error.value) == (
        f"unknown kind of table\n  where: {tmp_path / 'out.xlsx'}\n  got: .xlsx\n  expected: a file ending in .csv or .parquet"
    )
