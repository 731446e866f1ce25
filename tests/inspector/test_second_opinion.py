"""Second opinions: the queue holds what others decided and the reviewer did not, and nothing in it tells what they decided."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from polytag.contracts import LabelSet, Predictions
from polytag.inspector.app import create_app
from polytag.inspector.inspection import Inspection
from polytag.inspector.review.queue import IssueFinder
from polytag.inspector.review.store import ReviewStore, open_review

NAMES = ("cat", "dog")
NUM_IMAGES = 30
LABEL = st.sampled_from([1, 0, -1])
STEP = st.tuples(st.integers(0, 5), st.sampled_from(NAMES), st.sampled_from(["Ada", "Ben", "Cleo"]), st.booleans())


def inspection_of(folder: Path) -> Inspection:
    rng = np.random.default_rng(0)
    target_NC = (rng.random((NUM_IMAGES, 2)) < 0.4).astype(np.int8)
    logit_NC = 5.0 * target_NC - 2.5 + rng.normal(0, 0.5, target_NC.shape)
    target_NC[3:6] = 1 - target_NC[3:6]
    ids = tuple(f"{row:02}.jpg" for row in range(NUM_IMAGES))
    predictions = Predictions(ids=ids, logit_NC=logit_NC, target_NC=target_NC, label_set=LabelSet(names=NAMES))
    review_file, threshold_C = folder / "review.sqlite", np.full(2, 0.5)
    return Inspection(name="run", review_file=review_file, predictions=predictions, threshold_C=threshold_C, split="val")


def decide(store: ReviewStore, image: str, class_name: str, reviewer: str, label: int, *, note: str = "") -> None:
    last = store.of_image("val", image).get(class_name)
    store.decide(
        split="val", image_id=image, class_name=class_name, label=label, given=0, reviewer=reviewer, note=note,
        based_on=last.number if last else 0,
    )  # fmt: skip


def answers(
    folder: Path, *, reviewer: str, steps: list[tuple[int, str, str, bool]], labels: list[int], note: str
) -> dict[str, Any]:
    """What the pages of a second opinion ask for, after these decisions; where a step ends in True its decision is undone."""
    inspection = inspection_of(folder)
    with open_review(inspection.review_file) as store:
        for (image, class_name, by, is_undone), label in zip(steps, labels, strict=True):
            decide(store, f"{image:02}.jpg", class_name, by, label, note=note)
            if is_undone:
                store.undo(reviewer=by, split="val")
        votes = store.votes("val")
    with TestClient(create_app(inspection), base_url="http://127.0.0.1") as client:

        def queue(**asked: str | int) -> dict[str, Any]:
            asked = {"kind": "second", "reviewer": reviewer, "limit": 500} | asked
            while (found := client.get("/api/review/queue", params=asked).json())["status"] == "computing":
                pass
            return found

        whole = queue()
        images = {each["image"] for each in whole["entries"]}
        return {
            "votes": votes,
            "whole": whole,
            "parts": [queue(limit=2, offset=offset)["entries"] for offset in range(0, whole["total"], 2)],
            "by mAP": queue(order="map"),
            "decided": queue(include_decided="true"),
            "cat": queue(**{"class": "cat"}),
            "labels": [
                each
                for image in sorted(images)
                for each in client.get("/api/review/labels", params={"image": image, "reviewer": reviewer}).json()["classes"]
                if reviewer not in votes.get((image, each["class_name"]), {})
            ],
            "num_second": client.get("/api/review/agreement", params={"reviewer": reviewer}).json()["num_second"],
        }


@settings(max_examples=15, deadline=None)
@given(data=st.data(), steps=st.lists(STEP, min_size=1, max_size=12))
def test_the_queue_tells_nothing_of_what_others_decided(data: st.DataObject, steps: list[tuple[int, str, str, bool]]):
    one, other = (data.draw(st.lists(LABEL, min_size=len(steps), max_size=len(steps))) for _ in range(2))
    with TemporaryDirectory() as first, TemporaryDirectory() as second:
        seen = answers(Path(first), reviewer="Ada", steps=steps, labels=one, note="a cat's ear")
        renamed = [(image, name, {"Ben": "Zoe"}.get(by, by), is_undone) for image, name, by, is_undone in steps]
        unseen = answers(Path(second), reviewer="Ada", steps=renamed, labels=other, note="")
    votes = seen.pop("votes")
    unseen.pop("votes")
    assert seen == unseen, "the same whatever they decided and wrote, and whoever they are"
    whole = seen["whole"]
    listed = [(each["image"], each["class_name"]) for each in whole["entries"]]
    assert set(listed) == {key for key, label_of in votes.items() if "Ada" not in label_of}
    assert len(set(listed)) == len(listed) == whole["total"] == seen["num_second"]
    assert [each for part in seen["parts"] for each in part] == whole["entries"]
    assert seen["by mAP"] == seen["decided"] == whole, "an order by mAP would tell the labels"
    assert seen["cat"]["entries"] == [each for each in whole["entries"] if each["class_name"] == "cat"]
    assert all(each["decision"] is None and each["map_change"] is None for each in whole["entries"])
    assert all(each["decision"] is None for each in seen["labels"])


def test_a_second_opinion_leaves_the_queue_and_comes_back_when_it_is_undone(tmp_path: Path):
    inspection = inspection_of(tmp_path)
    with open_review(inspection.review_file) as store, TestClient(create_app(inspection), base_url="http://127.0.0.1") as client:
        IssueFinder(inspection).found(timeout_seconds=60)
        for image in ("00.jpg", "01.jpg"):
            decide(store, image, "cat", "Ben", 1, note="an ear")

        def listed(reviewer: str) -> list[str]:
            while (found := client.get("/api/review/queue", params={"kind": "second", "reviewer": reviewer}).json())[
                "status"
            ] != "ready":
                assert found["status"] == "computing"
            return sorted(each["image"] for each in found["entries"])

        def shown(reviewer: str) -> dict[str, Any]:
            answer = client.get("/api/review/labels", params={"image": "00.jpg", "reviewer": reviewer}).json()
            return next(each for each in answer["classes"] if each["class_name"] == "cat")

        assert listed("Ada") == listed(" Ada ") == listed("") == ["00.jpg", "01.jpg"]
        assert listed("Ben") == []
        assert (shown("Ada")["decision"], shown("Ada")["number"]) == (None, 1)
        assert shown("")["decision"]["label"] == shown("Ben")["decision"]["label"] == 1
        decide(store, "00.jpg", "cat", "Ada", 0)
        assert listed("Ada") == ["01.jpg"]
        assert shown("Ada")["decision"]["label"] == 0
        assert client.get("/api/review/agreement").json()["num_disputed"] == 1, "it is settled as any other"
        store.undo(reviewer="Ada", split="val")
        assert listed("Ada") == ["00.jpg", "01.jpg"]
        assert shown("Ada")["decision"] is None, "Ben's holds again, and stays hidden"
        store.undo(reviewer="Ben", split="val")
        assert listed("Ada") == ["00.jpg"], "nobody else decided the other one any more"


@pytest.mark.parametrize("query", [{"reviewer": "x" * 201}, {"kind": "third"}])
def test_queries_that_are_none(tmp_path: Path, query: dict[str, str]):
    with TestClient(create_app(inspection_of(tmp_path)), base_url="http://127.0.0.1") as client:
        assert client.get("/api/review/queue", params=query).status_code == 422
