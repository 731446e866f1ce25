"""Why a class is bad: what was planted is found with its numbers and a link to its images, and nothing within noise is said."""

import re
import time
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from starlette.testclient import TestClient

from polytag.contracts import LabelSet, Predictions
from polytag.data.formats.boxes import Box, Boxes
from polytag.inspector.app import create_app
from polytag.inspector.explain.evidence import class_evidence, predicted_of, slices_of_class
from polytag.inspector.inspection import Inspection

NAMES = ("dog", "horse", "cat & co", "<b>boat</b>")
DOG, HORSE, CAT = range(3)
NUM = 600


def planted(seed: int = 0, *, is_planted: bool = True, unknown: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities: errors of each class at random; planted, horses are taken for dogs, and cats for missing dogs."""
    rng = np.random.default_rng(seed)
    target_NC = (rng.random((NUM, len(NAMES))) < 0.3).astype(np.int8)
    is_said_NC = rng.random(target_NC.shape) < np.where(target_NC == 1, 0.8, 0.1)
    if is_planted:
        is_said_NC[(target_NC[:, DOG] == 0) & (target_NC[:, HORSE] == 1) & (rng.random(NUM) < 0.6), DOG] = True
        is_miss_N = (target_NC[:, DOG] == 1) & ~is_said_NC[:, DOG]
        is_said_NC[is_miss_N & (rng.random(NUM) < 0.8), CAT] = True
    probability_NC = np.where(is_said_NC, rng.uniform(0.5, 1, target_NC.shape), rng.uniform(0, 0.5, target_NC.shape))
    target_NC[rng.random(target_NC.shape) < unknown] = -1
    return target_NC, probability_NC


def inspected(target_NC: np.ndarray, probability_NC: np.ndarray, tmp_path: Path = Path("."), **more: object) -> Inspection:
    predictions = Predictions(
        ids=tuple(f"{row:04}.jpg" for row in range(len(target_NC))),
        logit_NC=np.log(probability_NC / (1 - probability_NC)),
        target_NC=target_NC,
        label_set=LabelSet(names=NAMES),
        **({"scale": more.pop("scale")} if "scale" in more else {}),
    )
    facts = {"threshold_C": np.full(len(NAMES), 0.5), **more}
    return Inspection(name="run", review_file=tmp_path / "review.sqlite", predictions=predictions, **facts)


@pytest.fixture
def visit(tmp_path: Path) -> Callable[..., tuple[TestClient, str]]:
    """Open a page of an inspection once all of it is computed."""

    def visiting(inspection: Inspection, path: str) -> tuple[TestClient, str]:
        client = TestClient(create_app(inspection), base_url="http://127.0.0.1")
        for _ in range(100):
            answer = client.get(path)
            assert answer.status_code == 200, answer.text
            if "data-pending" not in answer.text:
                return client, answer.text
            time.sleep(0.05)
        raise AssertionError("the page is never complete")

    return visiting


def lines(html: str) -> list[tuple[str, str]]:
    """(text, address) of each finding."""
    found = re.findall(r"<li><span>(.*?)</span>(?: <a href=\"(.*?)\">.*?</a>)?</li>", html)
    return [(unescape(text), unescape(link)) for text, link in found]


def total(client: TestClient, link: str) -> int:
    parts = urlsplit(link)
    assert parts.path == "/ranking"
    assert client.get(link).status_code == 200
    return client.get("/api/ranking", params=parse_qsl(parts.query)).json()["total"]


def test_what_was_planted_is_said_with_its_numbers_and_leads_to_its_images(visit, tmp_path: Path):
    target_NC, probability_NC = planted()
    client, html = visit(inspected(target_NC, probability_NC, tmp_path), "/class?class=dog")
    said_NC = probability_NC > 0.5
    errors = [row for row in range(NUM) if target_NC[row, DOG] == 0 and said_NC[row, DOG]]
    known = [row for row in errors if target_NC[row, HORSE] >= 0]
    with_horse = [row for row in known if target_NC[row, HORSE] == 1]
    possible = [row for row in range(NUM) if target_NC[row, DOG] == 0 and target_NC[row, HORSE] >= 0]
    chance = len(known) * sum(target_NC[row, HORSE] == 1 for row in possible) / len(possible)
    text, link = next(each for each in lines(html) if "labelled horse" in each[0])
    assert text.startswith(f"{len(with_horse)} of its {len(known)} false positives are labelled horse (")
    assert text.endswith(f"; chance gives {chance:.0f}." if chance >= 10 else f"; chance gives {chance:.1f}.")
    assert total(client, link) == len(with_horse)
    misses = [row for row in range(NUM) if target_NC[row, DOG] == 1 and not said_NC[row, DOG]]
    as_cat = [row for row in misses if said_NC[row, CAT]]
    text, link = next(each for each in lines(html) if "predicted as cat & co" in each[0])
    assert text.startswith(f"{len(as_cat)} of its {len(misses)} misses are predicted as cat & co (")
    assert total(client, link) == len(as_cat)
    assert "boat" not in "".join(text for text, _ in lines(html))


def test_every_number_of_the_tables_is_that_of_its_ranking(visit, tmp_path: Path):
    client, html = visit(inspected(*planted(1), tmp_path), "/class?class=horse")
    rows = re.findall(r'<th scope="row"><a href="(/ranking[^"]*)"><bdi[^>]*>.*?</bdi></a></th><td class="num[^"]*">([\d,]+)', html)
    assert len(rows) >= 6
    for link, number in rows:
        assert total(client, unescape(link)) == int(number)


def test_it_begins_with_the_worst_errors_of_both_kinds(visit, tmp_path: Path):
    target_NC, probability_NC = planted(2)
    _, html = visit(inspected(target_NC, probability_NC, tmp_path), "/class?class=dog")
    pictures, rest = html.split("What stands out")
    assert "cell" not in rest.split("<script")[0]
    false_positives, misses = pictures.split("Worst misses")
    order = np.argsort(probability_NC[:, DOG])
    for part, target, rows in ((false_positives, 0, order[::-1]), (misses, 1, order)):
        wrong = [row for row in rows if target_NC[row, DOG] == target and (probability_NC[row, DOG] > 0.5) != (target == 1)]
        assert re.findall(r'<span class="caption id">(.*?)</span>', part) == [f"{row:04}.jpg" for row in wrong[:8]]
        assert f"all {len(wrong):,}" in part


def test_nothing_is_said_that_chance_explains(visit, tmp_path: Path):
    said = 0
    for seed in range(5):
        camera_N = np.random.default_rng(seed).choice(["day", "night", "dusk"], NUM).tolist()
        inspection = inspected(*planted(seed, is_planted=False), tmp_path, column_N={"camera": camera_N})
        for column in range(len(NAMES)):
            found = class_evidence(inspection, column, boxes_of=None)
            of_companions = [found.in_false_positives, found.beside_misses, found.among_misses]
            said += sum(bool(each.is_more_C.any()) for each in of_companions)
            said += sum(part.p <= 0.05 for slices in slices_of_class(inspection, column) for part in slices)
    assert said <= 9, "of 20 classes, each with four questions at 5%, about four have a line by chance"


def test_slices_are_evaluated_and_the_bad_one_is_said(visit, tmp_path: Path):
    target_NC, probability_NC = planted(3, is_planted=False)
    rng = np.random.default_rng(3)
    camera_N = rng.choice(["day", "night & fog"], NUM, p=[0.7, 0.3])
    is_lost_N = (camera_N == "night & fog") & (target_NC[:, DOG] == 1) & (rng.random(NUM) < 0.6)
    probability_NC[is_lost_N, DOG] *= 0.3
    height_N = rng.uniform(0, 100, NUM)
    inspection = inspected(target_NC, probability_NC, tmp_path, column_N={"camera": camera_N.tolist(), "height": height_N.tolist()})
    client, html = visit(inspection, "/class?class=dog")
    is_night_N = camera_N == "night & fog"
    is_present_N, is_found_N = target_NC[:, DOG] == 1, (target_NC[:, DOG] == 1) & (probability_NC[:, DOG] > 0.5)
    text, link = next(each for each in lines(html) if "found less often" in each[0])
    night, day = (is_found_N[part].sum() / is_present_N[part].sum() for part in (is_night_N, ~is_night_N))
    assert text.startswith(f"It is found less often where camera is night & fog: recall {night:.2f} (")
    assert f"elsewhere {day:.2f} (" in text
    assert total(client, link) == (is_present_N & ~is_found_N & is_night_N).sum()
    of_camera, of_height, of_labels = slices_of_class(inspection, DOG)
    assert [part.value for part in of_camera] == ["night & fog", "day"], "the worst first"
    for part in of_camera:
        rows = (camera_N == part.value) & (target_NC[:, DOG] >= 0)
        assert part.ap == pytest.approx(average_precision_score(target_NC[rows, DOG], probability_NC[rows, DOG]))
        assert part.low <= part.ap <= part.high
        assert (part.num_present, part.num_found) == (is_present_N[rows].sum(), is_found_N[rows].sum())
    assert len(of_height) == 4
    assert not any(part.filters for part in of_height), "no ranking filters by a bin"
    assert {part.column for part in of_labels} == {"num_labels"}, "which is known without a column"
    assert list(client.get("/api/run").json()["columns"]) == ["camera"]


@pytest.mark.parametrize("num_classes", [4, 24])
def test_number_of_labels_and_folder_are_sliced_without_a_table(visit, tmp_path: Path, num_classes: int):
    """Four classes make a slice of each number; 24 have more numbers than that, and make bins."""
    rng = np.random.default_rng(num_classes)
    target_NC = (rng.random((NUM, num_classes)) < 0.3).astype(np.int8)
    target_NC[rng.random(target_NC.shape) < 0.05] = -1
    num_labels_N = (target_NC == 1).sum(axis=1)
    folder_N = rng.choice(["site/cam1", "site/cam10", "lab"], NUM)
    probability_NC = np.where(target_NC == 1, rng.uniform(0.4, 1, target_NC.shape), rng.uniform(0, 0.6, target_NC.shape))
    probability_NC[(folder_N == "lab") & (target_NC[:, 0] == 1), 0] *= 0.5
    predictions = Predictions(
        ids=tuple(f"{row:04}.jpg" for row in range(NUM)),
        logit_NC=np.log(probability_NC / (1 - probability_NC)),
        target_NC=target_NC,
        label_set=LabelSet(names=tuple(f"class {column}" for column in range(num_classes))),
        image_paths=tuple(f"/data/{folder}/{row:04}.jpg" for row, folder in enumerate(folder_N)),
    )
    threshold_C = np.full(num_classes, 0.5)
    inspection = Inspection(name="run", review_file=tmp_path / "review", predictions=predictions, threshold_C=threshold_C)
    client, html = visit(inspection, "/class?class=class+0")
    by_column = {parts[0].column: parts for parts in slices_of_class(inspection, 0)}
    assert list(by_column) == ["num_labels", "source"]
    assert {part.value for part in by_column["source"]} == {"site/cam1", "site/cam10", "lab"}, "written from the shared folder"
    assert by_column["source"][0].value == "lab", "the worst first"
    assert any("found less often where source is lab" in text for text, _ in lines(html))
    total_of = dict.fromkeys(by_column, 0)
    for column, parts in by_column.items():
        for part in parts:
            first, _, last = part.value.partition(" to ")
            in_part_N = folder_N == part.value
            if column == "num_labels":
                in_part_N = (num_labels_N >= int(first)) & (num_labels_N <= int(last or first))
                assert client.get("/api/ranking", params={"class": "class 0", **part.filters}).json()["total"] == part.num_images
            assert part.num_images == in_part_N.sum()
            total_of[column] += part.num_images
            rows = in_part_N & (target_NC[:, 0] >= 0)
            if set(target_NC[rows, 0].tolist()) == {0, 1}:
                assert part.ap == pytest.approx(average_precision_score(target_NC[rows, 0], probability_NC[rows, 0]))
                assert part.low <= part.ap <= part.high
    assert set(total_of.values()) == {NUM}, "every image is in one slice of each column"
    assert len(by_column["num_labels"]) == (len(set(num_labels_N.tolist())) if num_classes == 4 else 4)


def test_what_all_images_share_is_no_slice():
    """One folder, and labels of which each image has one."""
    target_NC = np.eye(4, dtype=np.int8)[np.arange(NUM) % 4]
    _, probability_NC = planted(11)
    assert slices_of_class(inspected(target_NC, probability_NC), DOG) == ()
    folders_NC = tuple(f"/data/{NAMES[row % 4][:3]}/{row}.jpg" for row in range(NUM))
    of_folders = inspected(target_NC, probability_NC)
    of_folders = replace(of_folders, predictions=replace(of_folders.predictions, image_paths=folders_NC))
    assert slices_of_class(of_folders, DOG) == (), "a folder a class: one folder has all of its positives"


def test_recall_by_size_counts_the_largest_sure_box_of_the_class(tmp_path: Path):
    target_NC, probability_NC = planted(4)

    def box(name: str, side: float, *, is_doubtful: bool = False) -> Box:
        return Box(class_name=name, left=0, top=0, right=side, bottom=side, is_doubtful=is_doubtful)

    def boxes_of(row: int) -> Boxes:
        kinds = (
            (box("dog", 0.1), box("dog", 0.9, is_doubtful=True), box("horse", 1.0)),  # small
            (box("dog", 0.1), box("dog", 0.3)),  # medium
            (box("dog", 0.6, is_doubtful=True),),  # large
            (box("horse", 0.5),),  # none of the class
        )
        return Boxes(boxes=kinds[row % 4])

    found = class_evidence(inspected(target_NC, probability_NC, tmp_path), DOG, boxes_of=boxes_of)
    dogs = [row for row in range(NUM) if target_NC[row, DOG] == 1]
    assert found.sizes is not None
    for kind in range(3):
        rows = [row for row in dogs if row % 4 == kind]
        assert found.sizes.num_S[kind] == len(rows)
        assert found.sizes.found_S[kind] == sum(probability_NC[row, DOG] > 0.5 for row in rows)
    assert found.num_sized == sum(row % 4 < 3 for row in dogs)
    assert class_evidence(inspected(target_NC, probability_NC, tmp_path), DOG, boxes_of=lambda row: Boxes()).sizes is None


def test_small_objects_that_are_lost_are_said(visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    target_NC, probability_NC = planted(5, is_planted=False)
    is_small_N = np.arange(NUM) % 2 == 0
    probability_NC[is_small_N & (target_NC[:, DOG] == 1), DOG] *= 0.6
    side = {True: 0.1, False: 0.7}
    monkeypatch.setattr(
        "polytag.inspector.browse.annotated_boxes.AnnotatedBoxes.boxes",
        lambda self, row: Boxes(
            boxes=(Box(class_name="dog", left=0, top=0, right=side[row % 2 == 0], bottom=1.0 if row % 2 else 0.1),)
        ),
    )
    _, html = visit(inspected(target_NC, probability_NC, tmp_path), "/class?class=dog")
    small = is_small_N & (target_NC[:, DOG] == 1)
    recall = (probability_NC[small, DOG] > 0.5).mean()
    assert any(text.startswith(f"Small objects are found less often: recall {recall:.2f} (") for text, _ in lines(html))


def test_few_positives_and_none_are_said_first(visit, tmp_path: Path):
    target_NC, probability_NC = planted(6, unknown=0)
    target_NC[:, DOG] = 0
    target_NC[:4, DOG] = 1
    target_NC[:, HORSE] = 0
    inspection = inspected(target_NC, probability_NC, tmp_path)
    _, html = visit(inspection, "/class?class=dog")
    assert re.fullmatch(
        r"Only 4 images here are labelled with it, fewer than 10: its AP is mostly chance \(95% interval 0\.\d+–[01]\.\d+\)\.",
        lines(html)[0][0],
    )
    _, html = visit(inspection, "/class?class=horse")
    assert lines(html)[0][0] == "No image here is labelled with it, so its AP and recall are undefined."


@pytest.mark.parametrize("target", [-1, 0, 1])
def test_a_class_with_one_kind_of_label_has_its_page(visit, tmp_path: Path, target: int):
    target_NC, probability_NC = planted(7)
    target_NC[:, DOG] = target
    visit(inspected(target_NC, probability_NC, tmp_path), "/class?class=dog")


def test_ranks_have_examples_and_no_errors(visit, tmp_path: Path):
    target_NC, probability_NC = planted(8)
    client, html = visit(inspected(target_NC, probability_NC, tmp_path, scale="rank"), "/class?class=dog")
    assert "Lowest scored with the label" in html
    assert "ranks" in html
    assert client.get("/together").status_code == 409


def test_the_page_is_linked_from_the_overview_and_the_ranking(visit, tmp_path: Path):
    client, html = visit(inspected(*planted(9), tmp_path), "/")
    for page in (html, client.get("/ranking?class=cat+%26+co").text):
        assert '/class?class=cat+%26+co"' in page
    assert client.get("/class?class=lion").status_code == 404
    assert client.get("/class").status_code == 200


def test_decisions_are_those_at_each_threshold():
    target_NC, probability_NC = planted(10)
    threshold_C = np.array([0.5, 0.2, 0.0, 1.0])
    said_NC = predicted_of(inspected(target_NC, probability_NC, threshold_C=threshold_C))
    assert (said_NC[:, :2] == (probability_NC[:, :2] > threshold_C[:2])).all()
    assert said_NC[:, 2].all()
    assert not said_NC[:, 3].any()
