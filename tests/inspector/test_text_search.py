"""The search by text: open_clip's own order on page and API, images that are read once, and a sentence for whatever is missing."""

import html
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Semaphore, Thread

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from small_inspection import small_inspection

from polytag.inspector.app import create_app
from polytag.inspector.inspection import Inspection
from polytag.inspector.model.job_queue import JobQueue
from polytag.inspector.model.text_search import NotYet, TextSearch

PATIENCE_SECONDS = 60.0
TEXT = "a very red square"
REFUSAL = "no text model is at hand: start polytag inspect with --text-model to find images by a text"


@contextmanager
def served(inspection: Inspection) -> Iterator[TestClient]:
    with TestClient(create_app(inspection), base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[TestClient]:
    with served(small_inspection(tmp_path)) as client:
        yield client


# ---- without a text model ----


def test_without_a_text_model_there_is_no_field(plain: TestClient):
    page = plain.get("/ranking?class=cat").text
    assert 'name="find"' not in page
    assert "by text" not in page
    assert 'id="finding"' not in page
    assert plain.get("/api/run").json()["has_text_search"] is False


@pytest.mark.parametrize("address", ["/ranking?class=cat&find=red", "/image?class=cat&id=03&find=red"])
def test_an_old_address_says_what_is_missing(plain: TestClient, address: str):
    answer = plain.get(address)
    assert answer.status_code == 409
    assert REFUSAL in html.unescape(answer.text)


@pytest.mark.parametrize("address", ["/api/ranking?class=cat&find=red", "/api/find?find=red", "/api/find?find="])
def test_the_api_says_what_is_missing(plain: TestClient, address: str):
    answer = plain.get(address)
    assert (answer.status_code, answer.json()) == (409, {"detail": REFUSAL})


def test_the_map_and_the_numbers_of_a_class_need_no_text(plain: TestClient):
    for address in ("/map", "/api/map/points", "/api/map/images", "/api/slice", "/api/thresholds", "/api/charts"):
        assert plain.get(f"{address}?class=cat&find=red&tag=&present=dog&row=3").status_code == 200, address


def test_stopping_what_does_not_run_is_no_fault(plain: TestClient):
    answer = plain.post("/ranking?class=cat&find=red&action=stop", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/ranking?class=cat&find=red")
    assert plain.post("/ranking?class=cat&action=begin%0d%0aX: 1", follow_redirects=False).status_code == 422


@pytest.mark.parametrize("text", ["", "%20%09", "%00%1b", "%E2%80%AE"])
def test_no_words_are_no_search(plain: TestClient, text: str):
    assert plain.get(f"/api/ranking?class=cat&find={text}").json() == plain.get("/api/ranking?class=cat").json()
    assert plain.get(f"/ranking?class=cat&find={text}").status_code == 200


def test_a_text_that_is_too_long_is_explained(plain: TestClient):
    answer = plain.get("/api/ranking?class=cat&find=" + "x" * 201)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["msg"] == "The parameter find must be at most 200 characters long."
    assert "at most 200 characters long" in plain.get("/ranking?class=cat&find=" + "x" * 201).text


# ---- with one ----


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("open_clip", reason="open_clip is not installed: pip install 'polytag[open-clip]'")
    from tiny_text_model import write_text_model

    return write_text_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def inspection(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inspection:
    from polytag.inference.text_model import TextModel

    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    made, rng = small_inspection(tmp_path), np.random.default_rng(0)
    for path in made.predictions.image_paths:
        Image.fromarray(rng.integers(0, 255, (6, 6, 3), np.uint8)).resize((60, 60), Image.Resampling.NEAREST).save(path)
    return replace(made, text_model=TextModel.load(str(folder), device="cpu"))


@pytest.fixture
def client(inspection: Inspection) -> Iterator[TestClient]:
    with served(inspection) as client:
        yield client


def until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ready(client: TestClient, text: str = TEXT) -> dict:
    until(lambda: client.get("/api/find", params={"find": text}).json()["status"] == "ready")
    return client.get("/api/find", params={"find": text}).json()


def oracle(folder: Path, inspection: Inspection, text: str = TEXT) -> np.ndarray:
    from tiny_text_model import oracle_cosines

    cosine_N = oracle_cosines(folder, inspection.predictions.image_paths, text)
    assert np.diff(np.sort(cosine_N)).min() > 1e-6, "the order of equal numbers proves nothing"
    return cosine_N


def ids_of(page: str) -> list[str]:
    return re.findall(r'class="caption id">(?:[−\d.]+ · )?([^<]+)<', page.split('<template id="cell"')[0])


@pytest.mark.parametrize("order", ["desc", "asc"])
def test_page_and_api_have_the_order_of_open_clip(client: TestClient, folder: Path, inspection: Inspection, order: str):
    ready(client)
    cosine_N = oracle(folder, inspection)
    expected = [inspection.predictions.ids[row] for row in np.argsort(-cosine_N if order == "desc" else cosine_N)]
    parameters = {"class": "cat", "find": TEXT, "order": order}
    images = client.get("/api/ranking", params=parameters).json()["images"]
    assert [image["id"] for image in images] == expected
    np.testing.assert_allclose([image["value"] for image in images], cosine_N[[image["row"] for image in images]], atol=2e-6)
    page = client.get("/ranking", params=parameters).text
    assert ids_of(page) == expected
    assert f'value="{TEXT}"' in page
    assert '<option value="" hidden selected>by text</option>' in page
    assert f"{images[0]['value']:.3f} · {expected[0]}".replace("-", "−") in page


def test_filters_apply_and_a_sort_of_the_address_gives_way(client: TestClient, folder: Path, inspection: Inspection):
    ready(client)
    target_N = inspection.predictions.target_NC[:, 1]
    expected = [row for row in np.argsort(-oracle(folder, inspection)).tolist() if target_N[row] == 1]
    answer = client.get("/api/ranking", params={"class": "cat", "find": f" {TEXT}\t", "sort": "loss", "present": "dog"}).json()
    assert [image["row"] for image in answer["images"]] == expected
    assert answer["total"] == len(expected) < 40


def test_all_that_a_text_finds_can_be_labelled_and_exported(client: TestClient, folder: Path, inspection: Inspection):
    ready(client)
    ranking = {"class": "cat", "find": TEXT, "present": ["dog"]}
    rows = [image["row"] for image in client.get("/api/ranking", params=ranking).json()["images"]]
    selection = {"ranking": ranking, "is_all": True, "rows": rows[3:], "total": 3}
    body = {"selection": selection, "class_name": "cat", "label": 1, "reviewer": "Ada", "based_on": 0}
    assert client.post("/api/selection/labels", json=body).status_code == 200
    labelled = {i["row"] for i in client.get("/api/ranking?class=cat").json()["images"] if i["reviewed"] == 1}
    assert labelled == set(rows[:3])
    some = {"ranking": ranking, "rows": sorted(rows[:5]), "total": 5}
    page = client.post("/api/selection/page", json={"selection": some}).text
    assert ids_of(page) == [inspection.predictions.ids[row] for row in rows[:5]], "in the order of the text"


def test_an_image_is_between_its_neighbours_in_the_order_of_the_text(client: TestClient, folder: Path, inspection: Inspection):
    ready(client)
    ids = [inspection.predictions.ids[row] for row in np.argsort(-oracle(folder, inspection))]
    page = client.get("/image", params={"class": "cat", "find": TEXT, "id": ids[7]}).text
    assert "8 of 40" in page
    assert re.search(rf'rel="prev" href="/image\?[^"]*find=a\+very\+red\+square[^"]*id={ids[6]}', page)
    assert re.search(rf'rel="next" href="/image\?[^"]*id={ids[8]}', page)


def test_an_image_that_cannot_be_read_comes_last_either_way(inspection: Inspection):
    paths = list(inspection.predictions.image_paths)
    Path(paths[5]).write_bytes(b"no image")
    Path(paths[6]).unlink()
    paths[7] = ""
    broken = replace(inspection, predictions=replace(inspection.predictions, image_paths=tuple(paths)))
    with served(broken) as client:
        assert ready(client)["text"] == "At the end, as without a readable file: 3 images."
        for order in ("asc", "desc"):
            images = client.get("/api/ranking", params={"class": "cat", "find": TEXT, "order": order}).json()["images"]
            assert [(image["id"], image["value"]) for image in images[-3:]] == [("05", None), ("06", None), ("07", None)]
        assert "3 images." in client.get("/ranking", params={"class": "cat", "find": TEXT}).text


def test_without_any_image_the_page_says_so(inspection: Inspection):
    none = replace(inspection, predictions=replace(inspection.predictions, image_paths=()))
    with served(none) as client:
        until(lambda: client.get("/api/find?find=x").json()["status"] == "waiting")
        assert client.get("/api/find?find=x").json()["text"] == "The images cannot be searched: no image can be read."
        page = client.get("/ranking?class=cat&find=x")
        assert page.status_code == 200
        assert "no image can be read." in page.text
        assert client.get("/image?class=cat&find=x&id=03").status_code == 200


# ---- in the background ----


def gated(inspection: Inspection) -> tuple[Inspection, Semaphore]:
    """Each image takes a permit of the semaphore."""
    permits, model = Semaphore(0), inspection.text_model
    assert model is not None

    def transform(image):
        permits.acquire()
        return model.transform(image)

    return replace(inspection, text_model=replace(model, transform=transform)), permits


@contextmanager
def slowly_served(inspection: Inspection) -> Iterator[tuple[TestClient, Semaphore]]:
    """Whatever fails, the images that are being read can end."""
    slow, permits = gated(inspection)
    with served(slow) as client:
        try:
            yield client, permits
        finally:
            permits.release(1000)


def test_what_is_not_read_yet_is_told_with_its_progress(inspection: Inspection):
    with slowly_served(inspection) as (client, permits):
        answer = client.get("/api/ranking?class=cat&find=red")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert answer.json()["detail"] == "the images are being read for a search by text: 0 of 40"
        page = client.get("/ranking?class=cat&find=red").text
        assert "The text model reads every image once: 0 of 40." in page
        assert 'action="/ranking?class=cat&amp;find=red&amp;action=stop"' in page
        assert "No image passes" not in page
        assert '<b id="total">40</b>' in page
        assert client.get("/image?class=cat&find=red&id=03").status_code == 200
        assert client.get("/ranking?class=cat").status_code == 200
        while not client.get("/api/find?find=red").json()["num_done"]:
            permits.release(4)  # a batch is told once the next ones are read, as many as there are cores
        permits.release(100)
        ready(client, "red")
        page = client.get("/ranking?class=cat&find=red").text
        assert ids_of(page)
        assert re.search(r'<form class="line" id="finding"[^>]* hidden>', page)


def test_reading_can_be_stopped_and_goes_on_when_asked(inspection: Inspection):
    with slowly_served(inspection) as (client, permits):
        assert client.get("/api/find?find=red").json()["status"] == "computing"
        stopping = Thread(target=lambda: client.post("/ranking?class=cat&find=red&action=stop", follow_redirects=False))
        stopping.start()
        while stopping.is_alive():  # stopping waits for the images that are being read
            permits.release()
            stopping.join(0.05)
        for _ in range(2):
            assert client.get("/api/find?find=red").json()["status"] == "waiting", "a visit does not begin it again"
        page = client.get("/ranking?class=cat&find=red").text
        assert "The text model has not read the images." in page
        assert 'action="/ranking?class=cat&amp;find=red&amp;action=begin"' in page
        assert "Read them" in page
        permits.release(100)
        answer = client.post("/ranking?class=cat&find=red&action=begin", follow_redirects=False)
        assert answer.headers["location"] == "/ranking?class=cat&find=red"
        ready(client, "red")


def test_the_next_start_reads_no_image(inspection: Inspection):
    with served(inspection) as client:
        ready(client)
    with slowly_served(inspection) as (client, _):
        ready(client)


def test_reading_lets_the_jobs_of_the_model_go_first(inspection: Inspection, tmp_path: Path):
    queue, is_done = JobQueue(max_waiting=8), Event()
    job = queue.submit(lambda: is_done.wait(PATIENCE_SECONDS))
    search = TextSearch(inspection, tmp_path / "c", queue=queue)
    until(lambda: search.state(patience_seconds=0).num_done > 0)
    assert search.state(patience_seconds=0.3).num_done == 8, "no batch after the first one while a job runs"
    with pytest.raises(NotYet, match="8 of 40"):
        search.cosines("red")
    is_done.set()
    assert job.result(PATIENCE_SECONDS)
    until(lambda: search.state().status == "ready")
    search.close()


def test_closing_ends_what_is_being_read(inspection: Inspection, tmp_path: Path):
    slow, permits = gated(inspection)
    search = TextSearch(slow, tmp_path / "c")
    search.state(patience_seconds=0)
    closing = Thread(target=search.close)
    closing.start()
    while closing.is_alive():
        permits.release()
        closing.join(0.05)
    assert search.state(patience_seconds=0).status == "waiting"
