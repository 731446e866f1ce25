"""A served run whose files change: the answers say so, and the next page is of the new ones."""

import shutil
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browsing import until

from polytag import FINETUNE, train
from polytag.cli.main import app as command
from polytag.data.read_options import ReadOptions
from polytag.errors import RunError
from polytag.inspector.follow import Follower
from polytag.inspector.open import OpenOptions, open_inspection, reopen_inspection
from polytag.inspector.source_files import SourceFiles

OPTIONS = OpenOptions()


@pytest.fixture(scope="module")
def trained(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("followed") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "polytag.report.grids", None)  # without pages
        train(colours, recipe=replace(FINETUNE, backbone="test_resnet", weights="random", image_size_px=64, epochs=2), output=run)
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("polytag.inspector.follow._LOOK_SECONDS", 0.0)
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def server(run: Path, live) -> Iterator[Any]:
    inspection = open_inspection(run, OPTIONS, options=ReadOptions())
    follower = Follower(inspection, reopen=lambda before: reopen_inspection(before, run, OPTIONS, options=ReadOptions()))
    with live(follower) as running:
        yield running


def polytag(*arguments: object) -> None:
    from typer.testing import CliRunner

    done = CliRunner().invoke(command, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output


def header(server: Any, path: str = "/api/run") -> str:
    head = server.get(path).partition(b"\r\n\r\n")[0].decode().lower()
    return next((line.partition(": ")[2] for line in head.splitlines() if line.startswith("polytag-changed")), "")


def own_threshold(server: Any) -> str:
    return server.get("/api/thresholds?class=red").partition(b'"own_threshold":')[2].partition(b",")[0].decode()


def test_thresholds_that_change_are_said_and_then_shown(server, run: Path):
    assert header(server) == ""
    before = own_threshold(server)
    polytag("thresholds", run, "--goal", "recall=0.9")
    assert header(server) == "thresholds"
    assert own_threshold(server) == before, "the pages that are open keep what they are from"
    page = server.get("/").decode()
    assert "recall" in page
    assert header(server) == ""
    assert own_threshold(server) != before


def test_a_calibration_changes_the_scores(server, run: Path):
    before = server.get("/api/ranking?class=red&limit=1").partition(b'"probability":')[2].partition(b",")[0]
    polytag("calibrate", run, "--method", "temperature")
    assert header(server) == "scores"
    assert b"200 OK" in server.get("/ranking?class=red")
    assert header(server) == ""
    assert server.get("/api/ranking?class=red&limit=1").partition(b'"probability":')[2].partition(b",")[0] != before


def test_files_that_cannot_be_read_leave_what_is_there(server, run: Path):
    before = own_threshold(server)
    kept = (run / "thresholds.json").read_bytes() if (run / "thresholds.json").exists() else None
    (run / "thresholds.json").write_text("{")
    assert header(server) == "thresholds"
    assert b"200 OK" in server.get("/")
    assert header(server) == "unreadable"
    assert own_threshold(server) == before
    (run / "thresholds.json").unlink() if kept is None else (run / "thresholds.json").write_bytes(kept)
    assert header(server) in ("", "thresholds"), "they can be read again"
    assert b"200 OK" in server.get("/")
    assert header(server) == ""


def test_files_that_can_be_read_again_before_they_were_given_up_are_read_with_the_next_page(run: Path, live):
    tries: list[int] = []

    def reopen(before):
        tries.append(1)
        if len(tries) == 1:  # the other file of two comes a moment later than the first
            polytag("thresholds", run, "--goal", "recall=0.9")
            raise RunError("half of it is there")
        return reopen_inspection(before, run, OPTIONS, options=ReadOptions())

    with live(Follower(open_inspection(run, OPTIONS, options=ReadOptions()), reopen=reopen)) as server:
        polytag("thresholds", run, "--goal", "recall=0.7")
        assert b"200 OK" in server.get("/")
        assert header(server) == "thresholds"
        assert "recall" in server.get("/").decode()
        assert (header(server), len(tries)) == ("", 2)


def test_the_new_pages_wait_for_no_job_of_the_old_ones(server, run: Path, monkeypatch: pytest.MonkeyPatch):
    may_end, begun, overslept = threading.Event(), threading.Event(), []

    def slowly(*_: object) -> tuple:
        begun.set()
        overslept.append(not may_end.wait(10))
        return ()

    monkeypatch.setattr("polytag.inspector.explain.class_page.slices_of_class", slowly)
    server.get("/class?class=red")
    assert begun.wait(20)
    polytag("thresholds", run, "--goal", "recall=0.9")
    assert "recall" in server.get("/").decode()
    assert b"200 OK" in server.get("/ranking?class=red")
    assert overslept == [], "the job still runs"
    may_end.set()


def test_what_is_watched_is_what_was_read(run: Path):
    files = SourceFiles.of(run)
    assert files.changed() == ""
    (run / "results.csv").touch()
    assert files.changed() == ""
    (run / "best" / "config.json").write_bytes((run / "best" / "config.json").read_bytes())
    assert files.changed() == "thresholds"
    assert files.now().changed() == ""
    (run / "predictions-val.parquet").unlink()
    assert files.changed() == "scores"


@pytest.mark.browser
@pytest.mark.slow
def test_an_open_page_says_that_the_thresholds_changed(server, run: Path, visit):
    page = visit(f"{server.url}/ranking?class=red")
    until(page, "document.querySelector('#grid.virtual') && !document.querySelector('[aria-busy]')")
    before = page.input_value("#threshold")
    assert page.locator("#changed").count() == 0
    polytag("thresholds", run, "--goal", "recall=0.95")
    page.keyboard.press("]")
    page.wait_for_selector("#changed")
    assert page.inner_text("#changed").startswith("The thresholds of this run changed on the disk.")
    page.keyboard.press("[")
    page.get_by_role("button", name="Reload").click()
    page.wait_for_selector("#changed", state="detached")
    until(page, "(before) => document.querySelector('#threshold').value !== before", before)
