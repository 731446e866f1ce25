"""`polytag predict` with a folder of shards, a list on standard input and joined columns."""

import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from polytag.cli.main import app
from polytag.errors import PredictionsError, UsageError
from polytag.predictions.read import read_predictions


@pytest.fixture(scope="module")
def sources(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tar files of eight images, and an image that is none in the last."""
    folder = tmp_path_factory.mktemp("sources")
    images = sorted((colours.parent / "images").iterdir())
    for number in range(3):
        with tarfile.open(folder / f"{number}.tar", "w") as archive:
            for path in images[8 * number : 8 * number + 8]:
                archive.add(path, path.name)
            if number == 2:
                broken = tarfile.TarInfo("broken.png")
                broken.size = 4
                archive.addfile(broken, io.BytesIO(b"text"))
    return folder


def lines(result: Result) -> list[str]:
    return [line for line in result.stdout.splitlines() if line.strip()]


def test_a_line_for_each_shard_and_one_for_all(run: Path, sources: Path, tmp_path: Path, polytag):
    out = f"{tmp_path}/out/"
    result = polytag("predict", run, sources, "--output", out)
    assert lines(result) == [
        "0.tar.parquet  8 images",
        "1.tar.parquet  8 images",
        "2.tar.parquet  9 images, 1 of them unreadable",
        f"3 shards: 3 scored now (24 images): {out}",
    ]
    assert [line for line in result.stderr.splitlines() if line.strip()] == [
        f"{sources}/2.tar/broken.png: not an image in a known format"
    ]
    assert len(read_predictions(out)) == 24
    assert lines(polytag("predict", run, sources, "--output", out)) == [f"3 shards: 3 there before: {out}"]
    assert lines(polytag("predict", run, sources, "--output", out.rstrip("/"))) == [f"3 shards: 3 there before: {out}"]


def test_the_parts_of_a_prediction_are_all_of_it(run: Path, sources: Path, tmp_path: Path, polytag):
    polytag("predict", run, sources, "--output", f"{tmp_path}/whole/")
    for k in range(4):
        result = polytag("predict", run, sources, "--output", f"{tmp_path}/parts/", "--shard", f"{k}/4")
        assert lines(result)[-1].startswith("1 of 3 shards: 1 scored" if k < 3 else "0 of 3 shards: none of them is this part")
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "parts" / path.name).read_bytes()


@pytest.mark.parametrize("text", ["3/2", "2/2", "0/0", "1", "-1/2", "a/b", "0/2/3", "1.0/2", "0/99999999", "٠/2"])
def test_a_part_that_is_none(text: str, run: Path, sources: Path, tmp_path: Path, polytag):
    with pytest.raises(UsageError) as error:
        polytag("predict", run, sources, "--output", f"{tmp_path}/out/", "--shard", text)
    assert str(error.value) == (
        f"no part of the shards\n  where: --shard\n  got: {text!r}\n"
        "  expected: K/N with K from 0 to N - 1, such as 0/4, 1/4, 2/4 and 3/4"
    )
    assert not (tmp_path / "out").exists()


def test_a_shard_that_failed_is_an_exit_of_1(run: Path, sources: Path, tmp_path: Path, polytag):
    shutil.copytree(sources, tmp_path / "in")
    (tmp_path / "in" / "1.tar").write_bytes((sources / "1.tar").read_bytes()[:3000])
    result = polytag("predict", run, tmp_path / "in", "--output", f"{tmp_path}/out/", status=1)
    assert lines(result)[-1] == f"3 shards: 2 scored now (16 images), 1 failed: {tmp_path}/out/"
    assert "1.tar.parquet: a tar file is cut short" in result.stderr


def test_options_that_only_a_folder_has(run: Path, sources: Path, tmp_path: Path, polytag):
    for output in (["--output", f"{tmp_path}/p.parquet"], []):
        with pytest.raises(UsageError, match="--shard is for a folder of shards"):
            polytag("predict", run, sources, *output, "--shard", "0/2")
    with pytest.raises(UsageError, match="--split and a folder"):
        polytag("predict", run, sources, "--output", f"{tmp_path}/out/", "--split", "val")


@pytest.mark.parametrize("inside", ["", "deeper/", "../in/x/"])
def test_an_output_inside_the_source(inside: str, run: Path, sources: Path, tmp_path: Path, polytag):
    shutil.copytree(sources, tmp_path / "in")
    with pytest.raises(UsageError) as error:
        polytag("predict", run, tmp_path / "in", "--output", f"{tmp_path}/in/{inside}")
    assert error.value.what == "the output lies inside the folder of the images"
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["0.tar", "1.tar", "2.tar"]


def test_another_model_than_that_of_the_folder(run: Path, checkpoint, sources: Path, tmp_path: Path, polytag):
    polytag("predict", run, sources, "--output", f"{tmp_path}/out/")
    with pytest.raises(PredictionsError) as error:
        polytag("predict", checkpoint.folder, sources, "--output", f"{tmp_path}/out/")
    assert error.value.got.startswith("the model ")
    assert error.value.next_step == "predict into a new folder; or remove the file, if it is no longer wanted, and predict again"


# ---- standard input ----


def typed(text: bytes, *arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=text, catch_exceptions=False)


def test_a_list_on_standard_input(run: Path, colours: Path, tmp_path: Path):
    images = sorted((colours.parent / "images").iterdir())
    shutil.copy(images[2], tmp_path / "a b ü .png")
    text = f"{images[0]}\n\n   \n{images[1]}\r\n{tmp_path}/a b ü .png\n{tmp_path}/missing.png".encode()
    result = typed(text, "predict", run, "-", "--output", tmp_path / "p.parquet")
    assert result.exit_code == 1
    assert pq.read_table(tmp_path / "p.parquet")["id"].to_pylist() == [
        str(images[0]), str(images[1]), f"{tmp_path}/a b ü .png", f"{tmp_path}/missing.png",
    ]  # fmt: skip
    assert f"{tmp_path}/missing.png: the image is missing" in result.stderr
    result = typed(text, "predict", run, "-", "--output", f"{tmp_path}/out/")
    assert lines(result)[0] == "images-00000.parquet  4 images, 1 of them unreadable"


@pytest.mark.parametrize("text", [b"a\0b\n", b"x" * 70_000])
def test_standard_input_that_is_no_list(text: bytes, run: Path, tmp_path: Path):
    with pytest.raises(UsageError) as error:
        typed(text, "predict", run, "-")
    assert error.value.where == "standard input:1"
    with pytest.raises(UsageError, match="named twice"):
        typed(b"", "predict", run, "-", "-")


def test_nothing_on_standard_input(run: Path):
    with pytest.raises(Exception, match="no images to predict on"):
        typed(b"\n\n", "predict", run, "-")


# ---- columns ----


def test_columns_are_there_for_slices_and_groups(run: Path, colours: Path, tmp_path: Path, polytag):
    ids = [f"images/{row:03}.png" for row in range(48, 72)]
    table = tmp_path / "columns.csv"
    table.write_text("id,place,patient\n" + "".join(f"{name},p{row % 2},{row // 3}\n" for row, name in enumerate(ids)))
    out = tmp_path / "p.parquet"
    polytag("predict", run, colours, "--split", "val", "--output", out, "--columns", table)
    arguments = ("--slice", "place", "--group", "patient")
    joined = polytag("evaluate", out, *arguments).stdout
    apart = polytag("evaluate", run / "predictions-val.parquet", *arguments, "--columns", table).stdout
    assert "p0" in joined
    assert joined.replace(str(out), "") == apart.replace(str(run / "predictions-val.parquet"), "")


def test_columns_without_a_file_of_their_kind(run: Path, colours: Path, tmp_path: Path, polytag):
    table = tmp_path / "columns.csv"
    image = sorted((colours.parent / "images").iterdir())[0]
    table.write_text(f"id,place\n{image},1\n")
    for output, message in (([], "--columns needs a file"), (["--output", tmp_path / "p.csv"], "joined in Parquet alone")):
        with pytest.raises(UsageError, match=message):
            polytag("predict", run, image, "--columns", table, *output)
    with pytest.raises(Exception, match="no image is in the table of columns"):
        polytag("predict", run, str(image).replace("000", "001"), "--columns", table, "--output", tmp_path / "p.parquet")


# ---- videos and Ray ----


def test_frames_of_a_video_are_images(run: Path, tmp_path: Path, polytag):
    av = pytest.importorskip("av", reason="the extra video is not installed")
    with av.open(str(tmp_path / "a b.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 40, 40, "yuv420p"
        for number in range(25):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((40, 40, 3), 9 * number, np.uint8), format="rgb24")))
        container.mux(stream.encode())
    result = polytag("predict", run, tmp_path / "a b.mp4", "--output", tmp_path / "p.parquet")
    assert result.stdout == f"3 images scored: {tmp_path / 'p.parquet'}\n"
    assert read_predictions(tmp_path / "p.parquet").ids == tuple(
        f"{tmp_path}/a b.mp4#t={seconds}" for seconds in ("0.0", "1.0", "2.0")
    )
    out = f"{tmp_path}/out/"
    assert lines(polytag("predict", run, tmp_path / "a b.mp4", "--every", "0.5", "--output", out))[0] == "a b.mp4.parquet  5 images"
    with pytest.raises(PredictionsError) as error:
        polytag("predict", run, tmp_path / "a b.mp4", "--every", "0.25", "--output", out)
    assert error.value.got == "frames every so many seconds: 0.5 instead of 0.25"
    for every in ("0", "-1", "nan", "1e9"):
        with pytest.raises(UsageError, match="no time from frame to frame"):
            polytag("predict", run, tmp_path / "a b.mp4", "--every", every)


@pytest.mark.slow
def test_a_ray_cluster_on_two_processors_ends_and_makes_the_same_bytes(run: Path, sources: Path, tmp_path: Path, polytag):
    """In a process of its own with a limit: where every processor is taken, Ray's tasks wait for ever (ray#44687)."""
    pytest.importorskip("ray", reason="the extra ray is not installed")
    polytag("predict", run, sources, "--output", f"{tmp_path}/here/", "--precision", "fp32")
    command = [sys.executable, "-m", "polytag", "predict", str(run), str(sources), "--output", f"{tmp_path}/ray/", "--ray", "local"]
    done = subprocess.run([*command, "--precision", "fp32"], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"3 shards: 3 scored now (24 images): {tmp_path}/ray/"
    for path in (tmp_path / "here").iterdir():
        assert path.read_bytes() == (tmp_path / "ray" / path.name).read_bytes()
