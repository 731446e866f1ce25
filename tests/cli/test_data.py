"""`polytag data check|convert|fetch`, from the command line to the exit status."""

import dataclasses
import functools
import hashlib
import json
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from polytag.cli import data as verbs
from polytag.cli import reading
from polytag.cli.shaping import SHAPING_OPTIONS, shaping_of
from polytag.contracts import Dataset, LabelSet
from polytag.data.check import check
from polytag.data.classes import ClassShaping
from polytag.data.fetch import fetch as fetching
from polytag.data.load import load_dataset
from polytag.data.read_options import ReadOptions
from polytag.errors import FetchError, UsageError

CLASSES = ("cat", "dog")
LABELS = {"train": {"a": (1, -1), "b": (-1, 1), "c": (1, 0)}, "val": {"d": (1, -1), "e": (-1, 1)}}


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """A VOC devkit of five images, one label of which is difficult only."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "JPEGImages").mkdir()
    for split, rows in LABELS.items():
        for column, name in enumerate(CLASSES):
            lines = [f"{image} {values[column]:2}" for image, values in rows.items()]
            (root / "ImageSets" / "Main" / f"{name}_{split}.txt").write_text("\n".join(lines) + "\n")
        for number, image in enumerate(rows):
            Image.new("RGB", (16, 16), (number * 40, len(split) * 20, 0)).save(root / "JPEGImages" / f"{image}.jpg")
    return root


def run(*arguments: object, status: int = 0) -> str:
    result = CliRunner().invoke(verbs.app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result.output


def test_check_of_sound_data(devkit):
    output = run("check", devkit)
    lines = [line.rstrip() for line in output.splitlines()]
    assert lines[:7] == [
        "read as   voc",
        "labels    lists in ImageSets/Main",
        "split     lists in ImageSets/Main",
        "classes   2: cat, dog",
        "examples  a (train)  cat",
        "          b (train)  dog",
        "          c (train)  cat; 1 class unknown",
    ]
    assert lines[8] == "5 images, 2 classes"
    assert lines[11:] == [
        "             train                         val",
        " class     present  absent  unknown    present  absent  unknown",
        " cat             2       1        0          1       1        0",
        " dog             1       1        1          1       1        0",
        " images          3                           2",
        "",
        " labels  images",
        "      0       0",
        "      1       5  " + "━" * 30,
        "",
        " 1.00 labels per image; 10.0% of all labels are unknown.",
        "",
        "Training can start.",
    ]


def test_check_of_data_with_faults(devkit, tmp_path):
    (devkit / "JPEGImages" / "a.jpg").write_bytes((devkit / "JPEGImages" / "d.jpg").read_bytes())
    (devkit / "JPEGImages" / "b.jpg").write_bytes(b"not an image")
    lines = run("check", devkit, "--json", tmp_path / "found.json").splitlines()
    assert lines[-4:] == [
        f"warning: 1 image cannot be read and will be skipped: {devkit}/JPEGImages/b.jpg",
        "warning: 1 image is in more than one split, so validation scores are too high: a",
        "warning: 1 image has several names with the same bytes: a = d",
        "Training can start.",
    ]
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["can_train"] is True
    assert [image["id"] for image in found["unreadable"]] == ["b"]
    assert len(found["in_two_splits"]) == 1


def test_check_of_data_that_cannot_train(devkit, tmp_path):
    for image in "de":
        (devkit / "JPEGImages" / f"{image}.jpg").write_bytes(b"not an image")
    output = run("check", devkit, "--json", tmp_path / "found.json", status=1)
    assert output.splitlines()[-2:] == ["problem: no image can be read in split 'val'", "Training cannot start."]
    assert json.loads((tmp_path / "found.json").read_text())["can_train"] is False


def test_check_without_reading_the_images(devkit):
    (devkit / "JPEGImages" / "a.jpg").write_bytes(b"not an image")
    assert run("check", devkit, "--no-read-images").splitlines()[-1] == "Training can start. Images were not read."


@pytest.mark.parametrize(("difficult", "counts"), [("ignore", "1 1 1"), ("positive", "2 1 0"), ("negative", "1 2 0")])
def test_difficult_labels(devkit, difficult, counts):
    dogs = next(line for line in run("check", devkit, "--difficult", difficult).splitlines() if line.startswith(" dog"))
    assert dogs.split()[1:4] == counts.split()


def test_options_that_cannot_be_used(devkit):
    with pytest.raises(UsageError):
        run("check", devkit, "--difficult", "sometimes")
    with pytest.raises(UsageError):
        run("check", devkit, "--format", "doc")


@pytest.mark.parametrize("to", ["csv", "parquet", "voc"])
def test_convert_and_check_again(devkit, tmp_path, to):
    out = tmp_path / ("labels" if to == "voc" else f"labels.{to}")
    output = run("convert", devkit, out, "--to", to)
    assert output == f"5 images, 2 classes -> {out}\n"
    first, second = (tmp_path / name for name in ("first.json", "second.json"))
    run("check", devkit, "--json", first)
    run("check", out, "--format", to, "--json", second)
    before, after = (json.loads(path.read_text()) for path in (first, second))
    assert after["classes"] == before["classes"]
    assert after["splits"] == before["splits"]


def test_convert_keeps_the_groups_of_a_table(devkit, tmp_path):
    ids = load_dataset(devkit).ids
    (tmp_path / "g.csv").write_text("id,patient\n" + "".join(f"{name},p{row // 2}\n" for row, name in enumerate(ids)))
    out = tmp_path / "labels.csv"
    run("convert", devkit, out, "--to", "csv", "--group", "patient", "--columns", tmp_path / "g.csv")
    given = {"group_column": "patient"}
    before = load_dataset(devkit, options=ReadOptions(**given, columns_file=str(tmp_path / "g.csv")))
    assert load_dataset(out, options=ReadOptions(**given)).group_N == before.group_N
    (tmp_path / "polytag.yaml").write_text("group_column: patient\n")
    run("convert", out, tmp_path / "again" / "labels.csv", "--to", "csv")
    assert load_dataset(tmp_path / "again", options=ReadOptions(**given)).group_N == before.group_N


@pytest.mark.parametrize("width", [100, 60, 40])
def test_no_number_is_cut_on_a_narrow_console(width):
    data = Dataset(
        ids=tuple(str(i) for i in range(1234)),
        paths=(Path("none.jpg"),) * 1234,
        target_NC=np.ones((1234, 1), int),
        split_N=tuple(("train", "val", "test")[i % 3] for i in range(1234)),
        label_set=LabelSet(names=("pottedplant",)),
        source="",
    )
    console = Console(width=width)
    with console.capture() as captured:
        verbs.print_check(console, check(data, read_images=False))
    rows = [line.split() for line in captured.get().splitlines() if line.startswith(" pottedplant")]
    assert [number for row in rows for number in row[1:]] == ["412", "0", "0", "411", "0", "0", "411", "0", "0"]


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "*")
    folder = tmp_path / "mirror"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def test_fetch_from_a_mirror(mirror, devkit, tmp_path, monkeypatch):
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(devkit.parent, "VOCdevkit")
    content = buffer.getvalue()
    (tmp_path / "mirror" / "voc2012").mkdir()
    (tmp_path / "mirror" / "voc2012" / "small.tar").write_bytes(content)
    archive = fetching.Archive(path="voc2012/small.tar", num_bytes=len(content), md5=hashlib.md5(content).hexdigest())
    small = fetching.Release(folder="VOCdevkit/VOC2012", base_urls=(), archives=(archive,))
    monkeypatch.setitem(fetching.RELEASES, "voc2012", small)
    folder = tmp_path / "data"
    place = folder / "VOCdevkit" / "VOC2012"
    assert run("fetch", "voc2012", folder, "--base-url", mirror).splitlines() == [
        "downloading small.tar",
        "checking small.tar",
        "unpacking small.tar",
        f"fetched: {place}",
        "",
        "Next:",
        f"  polytag train {place}",
    ]
    assert run("fetch", "voc2012", folder, "--base-url", mirror).splitlines()[0] == f"already there: {place}"
    run("check", place)


def test_fetch_passes_errors_on(mirror, tmp_path):
    with pytest.raises(UsageError, match="unknown data set"):
        run("fetch", "voc1999", tmp_path)
    with pytest.raises(FetchError, match="HTTP 404"):
        run("fetch", "voc2007", tmp_path / "data", "--base-url", mirror)


def test_every_way_of_reading_has_its_option_and_the_other_way_round():
    """ReadOptions is the one list; the help names the defaults it has."""
    fields = {field.name: field.default for field in dataclasses.fields(ReadOptions)}
    grouping = {"group_column", "columns_file"}  # of the verbs that keep groups of images together
    others = {"shaping", "settings", "given"}  # made of several options, and of none
    assert list(reading.OPTIONS) == [name for name in fields if name not in grouping | others]
    assert set(SHAPING_OPTIONS) == {field.name for field in dataclasses.fields(ClassShaping)}
    for name, annotation in reading.OPTIONS.items():
        shown = annotation.__metadata__[0].show_default
        assert (shown or "").partition(":")[0] == (f"{fields[name]:g}" if name == "min_box_area_px" else fields[name] or "")


def test_every_option_reaches_the_reader():
    given = {
        "--format": "coco", "--difficult": "positive", "--crowd": "negative", "--small": "positive", "--min-box-area": "9",
        "--separator": "|", "--image-column": "p", "--labels-column": "l", "--split-column": "s", "--class-column": "c",
        "--image-dir": "d", "--ignore-column": "i*", "--minus-one": "negative", "--absent-means": "unknown",
        "--classes": 'b,"c, d"', "--rename": "a=b", "--merge": "c, d=e,f", "--drop": "g*",
        "--min-support": "3",
    }  # fmt: skip
    seen: list[object] = []
    app = typer.Typer()

    @app.command()
    @reading.reads_annotations
    def verb(data: Path, options: ReadOptions, loud: bool = False) -> None:
        seen.append((data, options, loud))

    arguments = ["x", "--loud", *(part for pair in given.items() for part in pair), "--class-column", "d"]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    assert CliRunner().invoke(app, ["y"], catch_exceptions=False).exit_code == 0
    chosen = ReadOptions(
        format="coco", difficult="positive", crowd="negative", small="positive", min_box_area_px=9.0, separator="|",
        image_column="p", labels_column="l", split_column="s", class_columns=("c", "d"), image_dirs=("d",),
        ignore_columns=("i*",), minus_one="negative",
        absent_means="unknown",
        shaping=ClassShaping(
            classes=("b", "c, d"), rename={"a": "b"}, merge={"c, d": ["e", "f"]}, drop=("g*",), min_support=3,
        ),
        given=(
            "format", "difficult", "crowd", "small", "min_box_area_px", "separator", "image_column", "labels_column",
            "split_column", "class_columns", "ignore_columns", "minus_one", "image_dirs", "absent_means",
            "classes", "rename", "merge", "drop", "min_support",
        ),
    )  # fmt: skip
    assert seen == [(Path("x"), chosen, True), (Path("y"), ReadOptions(), False)]


@pytest.mark.parametrize("option", [{"classes": [""]}, {"drop": [" , "]}, {"merge": ["x=,"]}])
def test_an_empty_list_of_classes_is_no_option_left_out(option: dict[str, list[str]]):
    """As of `--classes "$NAMES"` without NAMES, which would keep every class."""
    with pytest.raises(UsageError, match=f"no class is named\n  where: --{next(iter(option))}\n  got: "):
        shaping_of(option)


def test_an_option_of_the_verbs_own_stays_its_own():
    seen: list[object] = []
    app = typer.Typer()

    @app.command()
    @reading.reads_annotations
    def verb(options: ReadOptions, difficult: str = "the recipe's") -> None:
        seen.append((options.difficult, difficult))

    assert CliRunner().invoke(app, ["--difficult", "positive"], catch_exceptions=False).exit_code == 0
    assert seen == [("ignore", "positive")]


# ---- cache ----


def test_kept_images_are_listed_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "data"
    folder.mkdir(parents=True)
    (folder / "1234.images").write_bytes(bytes(20_000_000))
    run = functools.partial(CliRunner().invoke, verbs.app)
    first, last = run(["cache"]).output.splitlines()
    assert first.startswith("      20.0 MB  last used 20")
    assert first.endswith("  1234.images")
    assert last == f"      20.0 MB  in {folder}"
    assert run(["cache", "--clear"]).output == f"20.0 MB removed from {folder}\n"
    assert list(folder.iterdir()) == []
    assert run(["cache"]).output == f"       0.0 MB  in {folder}\n"
