"""Near duplicates on their page: planted copies side by side, contradicting labels, leakage, progress, a cached search."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from polytag.inspector.app import create_app
from polytag.inspector.explain import duplicate_search
from polytag.inspector.explain.duplicate_search import SearchedImages, contradicted_columns
from polytag.inspector.inspection import Inspection
from polytag.metrics.leakage import evaluate_without_leakage


def visited(client: TestClient, path: str = "/duplicates") -> str:
    for _ in range(400):
        answer = client.get(path)
        assert answer.status_code == 200, answer.text
        if "data-pending" not in answer.text:
            return answer.text
        time.sleep(0.03)
    raise AssertionError("the search never ends")


def groups_of(html: str) -> list[list[str]]:
    listed = html.split('<ol class="groups">')[1].split("</ol>")[0]
    return [re.findall(r'<span class="name" title="(.*?)">', group) for group in listed.split("<li>")[1:]]


def test_copies_stand_side_by_side_leakage_first(copies: Inspection):
    with TestClient(create_app(copies), base_url="http://127.0.0.1") as client:
        html = visited(client)
        assert groups_of(html) == [
            ["val/00.png", "train/copy of 00.png"],
            ["val/02.png", "train/again 02.png"],
            ["val/01.png", "val/mirrored 01.png"],
        ]
        assert "3 images are there several times among 33; 2 of them in more than one split, 1 with contradicting labels" in html
        assert "mirrored" in html
        assert "the same file content" in html
        assert re.findall(r'<span class="wrong">((?:not )?)<bdi[^>]*>(.*?)</bdi>', html) == [("", "cat"), ("not ", "cat")]
        assert groups_of(visited(client, "/duplicates?show=splits")) == groups_of(html)[:2]
        assert groups_of(visited(client, "/duplicates?show=labels")) == groups_of(html)[2:]
        for source in re.findall(r'<img src="(.*?)"', html):
            assert client.get(source).headers["content-type"] == "image/jpeg"
        assert "near duplicate among the training images: its AP is too high" in visited(client, "/class?class=cat")


def test_the_effect_of_leakage_is_that_of_evaluate(copies: Inspection):
    with TestClient(create_app(copies), base_url="http://127.0.0.1") as client:
        html = visited(client)
    is_leaked_N = np.isin(copies.predictions.ids, ["val/00.png", "val/02.png"])
    without = evaluate_without_leakage(copies.predictions, is_leaked_N)
    assert "2 of the 21 scored images have a duplicate among the training images." in html
    assert f"Without them, mAP is {without.metrics.mean_ap.value:.3f} in place of " in html


def test_a_search_is_cached_until_an_image_changes(copies: Inspection, monkeypatch: pytest.MonkeyPatch):
    with TestClient(create_app(copies), base_url="http://127.0.0.1") as client:
        first = visited(client)

    def not_again(*_: object, **__: object) -> None:
        raise AssertionError("the images are read again")

    monkeypatch.setattr(duplicate_search, "read_contents", not_again)
    with TestClient(create_app(copies), base_url="http://127.0.0.1") as client:
        assert groups_of(visited(client)) == groups_of(first)
        assert "near duplicate" in visited(client, "/class?class=cat")
    monkeypatch.undo()
    assert copies.data is not None
    Path(copies.data.paths[0]).write_bytes(Path(copies.data.paths[5]).read_bytes())
    with TestClient(create_app(copies), base_url="http://127.0.0.1") as client:
        assert ["val/00.png", "val/05.png"] in groups_of(visited(client))


def test_a_long_search_waits_to_be_asked_for_shows_its_progress_and_can_be_stopped(
    copies: Inspection, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(duplicate_search, "AT_ONCE", 10)
    permits, read = threading.Semaphore(0), duplicate_search.read_contents

    def slowly(paths, *, on_image, **more):
        def one_more() -> None:
            on_image()
            assert permits.acquire(timeout=60)

        return read(paths, on_image=one_more, **more)

    monkeypatch.setattr(duplicate_search, "read_contents", slowly)
    with TestClient(create_app(copies), base_url="http://127.0.0.1") as client:
        assert "Every one of the 33 images is read once" in client.get("/duplicates").text
        asked = client.post("/duplicates?action=search")
        assert asked.url.path == "/duplicates"
        for _ in range(200):
            html = client.get("/duplicates").text
            if "Images read: 1 of 33." in html:
                break
            time.sleep(0.02)
        assert "Images read: 1 of 33." in html
        assert "data-pending" in html
        with ThreadPoolExecutor(1) as pool:
            stopped = pool.submit(client.post, "/duplicates?action=stop")
            while not stopped.done():  # it waits for the image that is being read
                permits.release()
                wait([stopped], timeout=0.05)
        assert "Every one of the 33 images is read once" in stopped.result().text
        permits.release(100)
        client.post("/duplicates?action=search")
        assert len(groups_of(visited(client))) == 3


def test_a_search_that_ends_while_its_page_is_made_is_found(copies: Inspection, monkeypatch: pytest.MonkeyPatch):
    found = duplicate_search.DuplicateSearch.found

    def ended_since(search):
        before, thread = found(search), search._thread
        if thread is not None:
            thread.join()
        return before

    monkeypatch.setattr(duplicate_search.DuplicateSearch, "found", ended_since)
    with TestClient(create_app(copies), base_url="http://127.0.0.1") as client:
        assert "Every one of the 33 images is read once" not in client.get("/duplicates").text
        assert len(groups_of(visited(client))) == 3


def test_a_run_without_its_data_set_is_searched_by_itself(copies: Inspection):
    with TestClient(create_app(replace(copies, data=None)), base_url="http://127.0.0.1") as client:
        assert groups_of(visited(client)) == [["val/01.png", "val/mirrored 01.png"]]


def test_images_that_cannot_be_read_are_counted(copies: Inspection):
    assert copies.data is not None
    Path(copies.data.paths[7]).write_bytes(b"\xff\xd8broken")
    Path(copies.data.paths[8]).unlink()
    with TestClient(create_app(copies), base_url="http://127.0.0.1") as client:
        assert "2 could not be read" in visited(client)


def test_a_damaged_cache_is_searched_again(copies: Inspection, tmp_path: Path):
    with TestClient(create_app(copies), base_url="http://127.0.0.1") as client:
        first = visited(client)
    (cached,) = (tmp_path / "cache" / "data").glob("*.checked")
    outside = '{"rows": [99], "is_exact": true, "bits": 0, "orientation": ""}'
    for damaged in ("", "{", f'{{"groups": [{outside}], "num_images": 33, "num_unread": 0, "num_flat": 0}}'):
        cached.write_text(damaged)
        with TestClient(create_app(copies), base_url="http://127.0.0.1") as client:
            assert groups_of(visited(client)) == groups_of(first)


def test_labels_contradict_where_one_is_given_and_another_is_denied():
    target_GC = np.array([[1, 1, -1, 0], [0, 1, 0, -1], [1, -1, 0, 0]])
    assert contradicted_columns(target_GC) == [0]


def test_rows_of_the_run_are_those_of_its_images(copies: Inspection):
    images = SearchedImages.of(copies)
    for row in range(len(images)):
        if images.run_row_M[row] >= 0:
            assert copies.predictions.ids[images.run_row_M[row]] == images.ids[row]
    assert (images.run_row_M >= 0).sum() == len(copies.predictions)
