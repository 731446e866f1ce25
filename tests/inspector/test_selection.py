"""Selections over the API: the server finds what the browser names, decides about all of it or none, and exports it."""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_inspection import NAMES, small_inspection
from starlette.testclient import TestClient

from polytag.data.load import load_dataset
from polytag.inspector.app import create_app
from polytag.inspector.inspection import Inspection
from polytag.predictions.read import read_labelled
from polytag.text import cell


@pytest.fixture
def inspection(tmp_path: Path) -> Inspection:
    inspection = small_inspection(tmp_path)
    predictions = inspection.predictions
    return replace(inspection, predictions=replace(predictions, ids=("=1+1", *predictions.ids[1:])))


@pytest.fixture
def client(inspection: Inspection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    with TestClient(create_app(inspection), base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


def some(*rows: int, **ranking: object) -> dict[str, Any]:
    return {"ranking": {"class": "cat", **ranking}, "rows": list(rows), "total": len(rows)}


def all_but(*rows: int, total: int, **ranking: object) -> dict[str, Any]:
    return {"ranking": {"class": "cat", **ranking}, "is_all": True, "rows": list(rows), "total": total}


def send(client: TestClient, what: str, selection: dict[str, Any], status: int = 200, **body: object) -> Any:
    reviewer = {} if what in ("ids", "scores", "dataset", "page") else {"reviewer": "Ada"}
    answer = client.post(f"/api/selection/{what}", json={"selection": selection, **reviewer, **body})
    assert answer.status_code == status, answer.text
    return answer.json() if "json" in answer.headers["content-type"] else answer.text


def label(client: TestClient, selection: dict[str, Any], status: int = 200, **body: object) -> Any:
    return send(client, "labels", selection, status, **{"class_name": "cat", "label": 1, "based_on": 0, **body})


def ranking(client: TestClient, **parameters: object) -> dict[str, Any]:
    answer = client.get("/api/ranking", params={"class": "cat", **parameters})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_all_of_a_filter_is_labelled_and_undone_as_one(client: TestClient, inspection: Inspection):
    ids = inspection.predictions.ids
    wrong = {"outcome": ["false_positive", "false_negative"]}
    listed = ranking(client, **wrong)
    rows = [image["row"] for image in listed["images"]]
    batch = label(client, all_but(rows[0], total=len(rows) - 1, **wrong))
    assert (batch["num_labels"], batch["num_left_out"]) == (len(rows) - 1, 0)
    reviewed = {image["row"] for image in ranking(client)["images"] if image["reviewed"] == 1}
    assert reviewed == set(rows[1:])
    assert ranking(client)["last_row"] == batch["last_row"]
    history = client.get("/api/review/history", params={"limit": 1000}).json()["decisions"]
    assert {row["image"]: row["given"] for row in history} == {
        ids[row]: int(inspection.predictions.target_NC[row, 0]) for row in rows[1:]
    }
    undone = client.post("/api/review/undo", json={"reviewer": "Ada"}).json()
    assert (undone["undoes"], undone["num_labels"]) == (batch["batch"], len(rows) - 1)
    assert not any(image["reviewed"] is not None for image in ranking(client)["images"])


def test_another_class_than_that_of_the_ranking(client: TestClient):
    label(client, some(3, 4), class_name="dog", label=-1)
    assert [image["row"] for image in ranking(client, **{"class": "dog"})["images"] if image["reviewed"] == -1] != []
    assert all(image["reviewed"] is None for image in ranking(client)["images"])
    assert label(client, some(3), 404, class_name="lion")["detail"]


def test_what_another_decided_since_holds_everything_back(client: TestClient):
    decided = {"image": "03", "class_name": "cat", "label": 0, "reviewer": "Ben", "based_on": 0}
    number = client.post("/api/review/decisions", json=decided).json()["number"]
    refused = label(client, some(2, 3, 4), 409)
    assert (refused["num_conflicts"], refused["detail"]) == (1, "1 of 3 labels were decided since")
    assert ranking(client)["last_row"] == number, "nothing was written"
    saved = label(client, some(2, 3, 4), leave_out_conflicts=True)
    assert (saved["num_labels"], saved["num_left_out"]) == (2, 1)
    assert label(client, some(2, 3, 4), based_on=number, later={"2": saved["last_row"]}, label=0, status=409)["num_conflicts"] == 1
    later = {"2": saved["last_row"], "4": saved["last_row"]}
    assert label(client, some(2, 3, 4), based_on=number, later=later, label=0)["num_labels"] == 3


def test_a_selection_that_holds_another_number_by_now_is_refused(client: TestClient):
    send(client, "tag", some(1, 2, 3), tag="dark")
    assert ranking(client, tag="dark")["total"] == 3
    refused = label(client, all_but(total=4, tag="dark"), 409)
    assert refused["detail"] == "3 images are selected now, and the page shows 4: select them again"
    assert label(client, some(1, 1, 2) | {"total": 3}, 409)
    assert label(client, some(40), 404)
    assert label(client, {**some(), "total": 0}, 422)


def test_tags_are_filtered_by_shown_and_taken_back(client: TestClient):
    assert send(client, "tag", some(1, 2), tag="#dark")["num_marks"] == 2
    send(client, "tag", some(2, 5), tag="blur")
    assert client.get("/api/selection/tags").json()["tags"] == {"blur": 2, "dark": 2}
    images = {image["row"]: image["tags"] for image in ranking(client)["images"]}
    assert (images[1], images[2], images[5], images[6]) == (["dark"], ["blur", "dark"], ["blur"], [])
    assert '<option value="dark">' in client.get("/ranking").text
    page = client.get("/ranking?tag=dark").text
    assert set(re.findall(r'<span class="caption id">(\d\d)</span>', page)) == {"01", "02"}
    send(client, "tag", some(2), tag="dark", is_on=False)
    assert ranking(client, tag="dark")["total"] == 1
    client.post("/api/review/undo", json={"reviewer": "Ada"})
    assert ranking(client, tag="dark")["total"] == 2
    assert send(client, "tag", some(2), 422, tag="two words")["detail"]
    assert ranking(client, tag="nothing")["total"] == 0


def test_a_note_of_many_images(client: TestClient):
    send(client, "note", some(1, 2), note="ask Ben")
    assert {image["row"] for image in ranking(client)["images"] if image["note"] == "ask Ben"} == {1, 2}
    assert send(client, "scores", some(1, 5)).splitlines()[0].startswith("id,tags,note,prob_cat,")
    assert send(client, "scores", some(5)).splitlines()[0].startswith("id,tags,prob_cat,")
    send(client, "note", some(1), note="")
    assert {image["row"] for image in ranking(client)["images"] if image["note"]} == {2}


def test_the_table_is_read_back_with_the_labels_of_the_review(client: TestClient, inspection: Inspection, tmp_path: Path):
    label(client, some(0, 7), label=0)
    send(client, "tag", some(0), tag="odd")
    send(client, "tag", some(3), tag="=2+2")
    selection = all_but(2, total=39, sort="id")
    text = send(client, "scores", selection)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert sorted(row["tags"] for row in rows if row["tags"]) == ["'=2+2", "odd"]
    assert "'=1+1" in text, "no spreadsheet computes it"
    (tmp_path / "selection.csv").write_text(text)
    back = read_labelled(tmp_path / "selection.csv").predictions
    row_of = {name: row for row, name in enumerate(back.ids)}
    assert len(back) == 39
    assert back.label_set.names == NAMES
    for row, name in enumerate(inspection.predictions.ids):
        if row == 2:
            continue
        expected_C = inspection.predictions.target_NC[row].copy()
        expected_C[0] = 0 if row in (0, 7) else expected_C[0]
        assert back.target_NC[row_of[cell(name)]].tolist() == expected_C.tolist()
        assert np.allclose(back.probability_NC[row_of[cell(name)]], inspection.predictions.probability_NC[row], atol=1e-7)


def test_the_data_set_is_read_back(client: TestClient, inspection: Inspection, tmp_path: Path):
    label(client, some(7), label=-1)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "labels.csv").write_text(send(client, "dataset", some(7, 8, 9)))
    data = load_dataset(tmp_path / "elsewhere" / "labels.csv")
    assert (data.ids, data.splits, data.label_set.names) == (("07", "08", "09"), ("val",), NAMES)
    expected_NC = inspection.predictions.target_NC[[7, 8, 9]].copy()
    expected_NC[0, 0] = -1
    assert data.target_NC.tolist() == expected_NC.tolist()
    assert all(path.is_file() for path in data.paths)


class Links(HTMLParser):
    def __init__(self, html: str):
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_is_one_file_without_scripts_and_links(client: TestClient, inspection: Inspection):
    html = send(client, "page", all_but(total=40, sort="loss", **{"class": "<b>big</b>"}))
    found = Links(html)
    assert "script" not in found.tags
    assert "link" not in found.tags
    assert "b" not in found.tags, "a name that looks like markup is a name"
    outside = [each for each in found.addresses if not each.startswith(("data:image/jpeg;base64,", "#sign"))]
    assert outside == []
    assert sum(each.startswith("data:") for each in found.addresses) == 40
    listed = [image["id"] for image in ranking(client, sort="loss", **{"class": "<b>big</b>"})["images"]]
    assert re.findall(r'<span class="caption id">([^<]*)</span>', html) == listed


def test_the_page_says_which_images_it_has(inspection: Inspection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    of_camera = replace(inspection, column_N={"camera": tuple("<i>" if row % 2 else "b" for row in range(40))})
    with TestClient(create_app(of_camera), base_url="http://127.0.0.1") as client:
        filters = {"column": "camera", "value": "<i>", "other": "dog", "bond": "broken"}
        total = ranking(client, **filters)["total"]
        html = send(client, "page", all_but(total=total, **filters))
    assert total > 0
    assert "column <bdi>camera: &lt;i&gt;</bdi>" in html
    assert "other <bdi>dog: both labelled, not both predicted</bdi>" in html
    assert f"average precision of {sum(name == '<i>' for name in of_camera.column_N['camera'])}, right or wrong" in html


def test_the_page_says_which_images_its_average_precision_is_of(client: TestClient):
    def fact(selection: dict[str, Any]) -> str:
        found = re.search(r"<dt>(average precision[^<]*)</dt><dd>([\d.]+)", send(client, "page", selection))
        assert found
        return f"{found[1]}: {found[2]}"

    def ap(**filters: object) -> str:
        return f"{client.get('/api/slice', params={'class': 'cat', **filters}).json()['ap']:.3f}"

    total = ranking(client, present="dog")["total"]
    assert ap(present="dog") != ap()
    assert fact(all_but(total=40)) == f"average precision: {ap()}"
    assert fact(all_but(total=total, present=["dog"])) == f"average precision of these images: {ap(present='dog')}"
    first = ranking(client, present="dog")["images"][0]["row"]
    assert fact(all_but(first, total=total - 1, present=["dog"])) == f"average precision, all images: {ap()}"
    assert fact(some(1, 2)) == f"average precision, all images: {ap()}"


def test_ids_are_copied_one_a_line(client: TestClient):
    assert send(client, "ids", some(3, 1)) == "01\n03\n"
    ids = [image["id"] for image in ranking(client, sort="loss")["images"]]
    assert send(client, "ids", all_but(total=40, sort="loss")).split() == ids


def test_ranks_have_scores_in_the_table(tmp_path: Path):
    with TestClient(create_app(small_inspection(tmp_path, scale="rank")), base_url="http://127.0.0.1") as client:
        assert send(client, "scores", some(1)).startswith("id,tags,score_cat,")
        assert all(chip["outcome"] == "undecided" for image in ranking(client)["images"] for chip in image["chips"])


def test_a_batch_of_labels_of_several_images(client: TestClient):
    bodies = [{"image": name, "class_name": "cat", "label": 0, "based_on": 0} for name in ("01", "02")]
    batch = client.post("/api/review/batch", json={"decisions": bodies, "reviewer": "Ada"})
    assert batch.json()["num_labels"] == 2
    again = client.post("/api/review/batch", json={"decisions": bodies, "reviewer": "Ben"})
    assert (again.status_code, again.json()["num_conflicts"]) == (409, 2)
    undone = client.post("/api/review/undo", json={"reviewer": "Ada", "batch": batch.json()["batch"]})
    assert undone.json()["num_labels"] == 2
    assert client.post("/api/review/undo", json={"reviewer": "Ada", "batch": 1}).status_code == 404
