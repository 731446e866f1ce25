"""The command itself: what it lists, and how errors leave it."""

import re
from pathlib import Path

import pytest

from polytag import __version__


def test_the_version(polytag):
    assert polytag("--version").stdout == f"polytag {__version__}\n"


def test_help_lists_every_verb(polytag):
    output = polytag("--help").stdout
    for verb in ("demo", "train", "predict", "evaluate", "data"):
        assert f" {verb} " in output
    assert polytag(status=2).stdout.startswith(output[:40])


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (
            ("evaluate", "nothing.parquet"),
            1,
            "polytag: the predictions file cannot be read\n  where: nothing.parquet\n  got: no such file\n"
            "  expected: a file of scores\n",
        ),
        (
            ("train",),
            2,
            "polytag: give either DATA or --resume RUN_DIR\n  got: neither\n"
            "  next: `polytag train DATA`, or `polytag train --resume runs/NAME`\n",
        ),
    ],
)
def test_an_error_stands_on_stderr_whole_without_a_traceback(
    tmp_path: Path, shell, monkeypatch, arguments: tuple[str, ...], status: int, message: str
):
    monkeypatch.chdir(tmp_path)
    done = shell(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", message)


@pytest.mark.parametrize(
    "verb", ["predict {} x.jpg", "evaluate {}", "compare {} {}", "inspect {}", "thresholds {}", "train --resume {}"]
)
def test_a_name_that_no_system_can_open_is_an_error(shell, verb: str):
    name = "a" * 300
    done = shell(*verb.format(name, name).split())
    assert done.returncode in (1, 2)
    assert done.stderr.startswith("polytag: ")
    assert "Traceback" not in done.stderr


def test_an_option_that_does_not_exist_is_a_usage_error(polytag):
    told = polytag("train", "data", "--epoch", "3", status=2).stderr
    assert re.search(r"No such option:? '?--epoch\b", told)  # as click says it, or as newer Typer does
