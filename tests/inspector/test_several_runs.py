"""Several compared runs: one is chosen in the address, and every answer is the one that this run alone would have."""

import re
import time
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from browsing import until
from starlette.testclient import TestClient

from polytag.contracts import LabelSet, Predictions
from polytag.inspector.app import create_app
from polytag.inspector.inspection import ComparedRun, Inspection, compared

NAMES = ("cat", "dog", "boat")
NUM_IMAGES = 200


def table(seed: int, scale: str = "logit") -> Predictions:
    target_NC = np.random.default_rng(0).choice([-1, 0, 0, 1], (NUM_IMAGES, 3)).astype(np.int8)
    logit_NC = 1.2 * target_NC + np.random.default_rng(seed).normal(0, 1.5, target_NC.shape)
    ids = tuple(f"p{row:03}" for row in range(NUM_IMAGES))
    return Predictions(ids=ids, logit_NC=logit_NC, target_NC=target_NC, label_set=LabelSet(names=NAMES), scale=scale)


FIRST = table(1)
PART = np.flatnonzero(np.random.default_rng(5).random(NUM_IMAGES) < 0.7)
HISTORY = [
    {"epoch": float(epoch), "val_map": 0.2 * epoch, "train_map": 0.3, "val_loss": 0.1, "train_loss": 0.1} for epoch in range(4)
]
EXPLAINED = ("/together", "/together?class=cat", "/duplicates", "/decisions")
RUNS = {
    "whole": compared("whole", table(2), first=FIRST, threshold_C=np.array([0.6, 0.45, 0.5])),
    "a part": compared("a part", table(3).take(PART), first=FIRST, threshold_C=np.array([0.4, 0.4, 0.6])),
    "ranks": compared("ranks", table(4, scale="rank"), first=FIRST),
    "folder/whole": replace(compared("folder/whole", table(6), first=FIRST), history=HISTORY),
}
QUERIES = (
    "/api/run?",
    "/api/images/7?",
    "/api/compared?class=dog",
    "/api/compared?class=dog&change=lost&outcome=false_positive",
    "/api/ranking?class=cat&change=gained",
    "/api/ranking?class=cat&change=lost&order=asc",
    "/api/ranking?class=boat&disagree=true&threshold=0.3",
    "/api/ranking?class=boat&sort=disagreement",
    "/api/slice?class=boat&change=gained",
    "/api/map/points?class=cat&change=lost",
)


def inspected(folder: Path, *others: ComparedRun) -> Inspection:
    return Inspection(
        name="run",
        review_file=folder / "review.sqlite",
        predictions=FIRST,
        threshold_C=np.array([0.3, 0.5, 0.7]),
        compared=others,
        history=HISTORY,
    )


def client_of(folder: Path, *others: ComparedRun) -> TestClient:
    return TestClient(create_app(inspected(folder, *others)), base_url="http://127.0.0.1")


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    return client_of(tmp_path, *RUNS.values())


@pytest.mark.parametrize("name", RUNS)
def test_every_answer_is_that_of_the_chosen_run_alone(client: TestClient, tmp_path: Path, name: str):
    alone = client_of(tmp_path, RUNS[name])
    for _ in range(2):  # and again, after the others were asked for
        for query in QUERIES:
            expected, found = alone.get(query), client.get(f"{query}&against={name.replace(' ', '+')}")
            assert found.status_code == expected.status_code, query
            if found.status_code == 200:
                own = ("compared_runs", "is_evaluated", "mAP", "note")
                assert {k: v for k, v in found.json().items() if k not in own} == {
                    k: v for k, v in expected.json().items() if k not in own
                }, query
        for other in RUNS:
            client.get("/api/ranking?class=cat&change=gained&sort=disagreement", params={"class": "cat", "against": other})


@pytest.mark.parametrize("name", RUNS)
def test_the_classes_have_the_numbers_of_the_chosen_run_and_the_precision_of_all(client: TestClient, tmp_path: Path, name: str):
    expected = client_of(tmp_path, RUNS[name]).get("/api/classes").json()["classes"]
    place = list(RUNS).index(name)
    for other in RUNS:
        client.get("/api/run", params={"against": other})  # waits for its numbers
    for each, alone in zip(client.get("/api/classes", params={"against": name}).json()["classes"], expected, strict=True):
        for key in ("ap_compared", "gain", "num_gained", "num_lost"):
            assert each[key] == alone[key]
        assert each["ap_of_runs"][place] == alone["ap_compared"]
        assert len(each["ap_of_runs"]) == len(RUNS)


def test_the_first_run_is_the_default_and_another_name_is_refused(client: TestClient):
    first, named, empty = (client.get(path).json() for path in ("/api/run", "/api/run?against=whole", "/api/run?against="))
    assert first["compared"] == named["compared"] == empty["compared"] == "whole"
    assert first["gain"] == named["gain"] == empty["gain"] is not None  # intervals come when the background has computed them
    for path in ("/", "/ranking?class=cat", "/image?id=p001", "/class?class=cat", "/map?class=cat", "/review", *EXPLAINED):
        assert client.get(path, params={**dict(re.findall(r"(\w+)=(\w+)", path)), "against": "gone"}).status_code == 404, path
    assert client.get("/api/ranking?class=cat&against=gone").json() == {"detail": "no such run to compare with: 'gone'"}
    assert client.get("/api/run?against=" + "x" * 1001).status_code == 422


def test_all_that_was_gained_against_the_chosen_run_is_a_selection(client: TestClient):
    query = {"class": "cat", "change": "gained", "against": "folder/whole"}
    total = client.get("/api/ranking", params=query).json()["total"]
    assert total != client.get("/api/ranking", params=query | {"against": "whole"}).json()["total"]
    selection = {"ranking": query, "is_all": True, "total": total}
    assert len(client.post("/api/selection/ids", json={"selection": selection}).text.split()) == total
    page = client.post("/api/selection/page", json={"selection": selection}).text
    assert "folder/whole" in page, "it says which run they were gained against"


PAGES = ("/", "/ranking?class=cat&change=lost", "/image?class=cat&id=p001", "/class?class=cat", "/map?class=cat", "/review")
PAGES += ("/review?view=grid", "/label", "/predict", *EXPLAINED, "/ranking?class=cat&offset=-1")  # the last one is an error
KEPT = "against=folder%2Fwhole"


def finished(client: TestClient, path: str) -> str:
    """The page, once what it computes is there."""
    for _ in range(400):
        html = client.get(path).text
        if "data-pending" not in html:
            return html
        time.sleep(0.03)
    raise AssertionError(f"{path} is never finished")


def links_of(html: str) -> list[str]:
    """The addresses of pages of the inspector that a page leads to by links and forms without fields."""
    found = re.findall(r'(?:href|action)="(/[^"]*)"', html.replace('method="get" action=', ""))
    return [unescape(link) for link in found if not link.startswith(("/static/", "/images/", "/thumbnails/"))]


@pytest.mark.parametrize("path", PAGES)
def test_every_link_to_another_page_keeps_the_chosen_run(client: TestClient, path: str):
    decision = {"image": "p001", "class_name": "cat", "label": 0, "reviewer": "Ann", "based_on": 0}
    assert client.post("/api/review/decisions", json=decision).status_code == 200, "there is something to see on /decisions"
    html = finished(client, f"{path}{'&' if '?' in path else '?'}{KEPT}")
    links = links_of(html)
    assert len(links) > 4
    others = [link for link in links if KEPT not in link and link != "/ranking"]  # which a script fills in
    if path == "/" or path.startswith("/class"):  # which choose another run
        others = [link for link in others if "sort=" not in link and "change=" not in link]
    assert others == []
    forms = re.findall(r'<form [^>]*method="get".*?</form>', html, re.DOTALL)
    if path.split("?")[0] in ("/", "/class", "/together"):  # the other forms are a script's
        assert forms
        assert all('name="against" value="folder/whole"' in form for form in forms)


def test_links_of_groups_and_of_actions_keep_it_too(copies: Inspection):
    runs = [compared(name, copies.predictions, first=copies.predictions) for name in ("one", "two")]
    with TestClient(create_app(replace(copies, compared=runs)), base_url="http://127.0.0.1") as client:
        html = finished(client, "/duplicates?against=two")
        links = links_of(html)
        assert [link for link in links if link.startswith("/image?")]
        assert [link for link in links if link.startswith("/duplicates?show=splits")]
        assert [link for link in links if "against=two" not in link] == []
        assert "against" not in "".join(links_of(finished(client, "/duplicates?against=one"))), "the first one is the default"
        for action in ("/duplicates?action=stop", "/decisions?action=stop"):
            answer = client.post(action + "&against=two", follow_redirects=False)
            assert answer.headers["location"].startswith(action.split("?")[0] + "?against=two")
            assert client.post(action, follow_redirects=False).headers["location"] in ("/duplicates", "/decisions#train")
            assert client.post(action + "&against=gone").status_code == 404


def test_the_overview_chooses_and_has_a_column_for_each_of_a_few(client: TestClient):
    for name in RUNS:
        client.get("/api/run", params={"against": name})
    html = client.get("/?against=a+part&sort=gain&order=asc&filter=a").text
    table_of_runs = html.split('<table class="runs compared">')[1].split("</table>")[0]
    rows = table_of_runs.split("<tr")[2:]
    assert len(rows) == 1 + len(RUNS)
    assert ['aria-current="true"' in row for row in rows] == [False, False, True, False, False]
    assert 'href="/?against=ranks&amp;sort=gain&amp;order=asc&amp;filter=a"' in table_of_runs
    assert 'href="/?sort=gain&amp;order=asc&amp;filter=a"' in table_of_runs, "the first one is the default"
    run = client.get("/api/run?against=a+part").json()
    for text in (f"{run['mAP_compared']['value']:.3f}", f">{run['num_gained']}</td>", f">{len(PART)}</td>"):
        assert text in rows[2]
    assert rows[3].count("–") == 2, "ranks have no decisions to gain"
    cat = client.get("/api/classes").json()["classes"][0]
    row = next(each for each in html.split('<table class="classes">')[1].split("<tr") if "class=cat" in each)
    for ap in cat["ap_of_runs"]:
        assert f'<td class="num">{ap:.3f}</td>' in row
    assert f"scored {len(PART)} of these images" in html
    assert html.count('class="curve"') >= 2, "the training curves of those that have them"
    assert "run</bdi>" in html.split("Lines of the chart")[1]


def test_twenty_runs_are_a_choice_and_the_chosen_one_alone_has_a_column(tmp_path: Path):
    others = [replace(RUNS["whole"], name=f"run {number}") for number in range(20)]
    client = client_of(tmp_path, *others)
    for number in range(20):
        client.get(f"/api/run?against=run+{number}")
    html = client.get("/?against=run+19").text
    assert html.count('<th scope="row"><a href="/?against=run+') == 19
    assert "other AP" in html
    assert html.count('<select name="against"') == 0
    assert client.get("/ranking?class=cat").text.split('<select name="against"')[1].split("</select>")[0].count("<option") == 20
    assert client.get("/class?class=cat").text.count("against run 1<") == 2, "gained and lost"


def test_the_page_of_a_class_compares_on_the_images_that_both_scored(client: TestClient):
    html = client.get("/class?class=dog").text.split('id="both"')[1].split("</section>")[0]
    bodies = html.split("<tbody>")[1:]
    assert [re.findall(r'<th scope="row"><bdi class="name">([^<]*)', body) for body in bodies] == [
        ["this run", "whole", "ranks", "folder/whole"],
        ["this run", "a part"],
    ]
    assert f"on {len(PART)} images" in bodies[1]
    both = client.get("/api/compared?class=dog&against=a+part").json()
    for run in both["runs"]:
        assert f'strong">{run["ap"]:.3f}</td>' in bodies[1]
    assert 'href="/ranking?against=a+part&amp;class=dog&amp;change=lost"' in bodies[1]
    assert both["num_left_out"] == NUM_IMAGES - len(PART)


def test_what_ranks_cannot_say_is_refused_and_their_pages_are_there(client: TestClient):
    for path in ("/?against=ranks", "/ranking?class=cat&against=ranks", "/class?class=cat&against=ranks", "/map?against=ranks"):
        assert client.get(path).status_code == 200
    assert client.get("/ranking?class=cat&change=lost&against=ranks").status_code == 409
    assert client.get("/api/compared?class=cat&against=ranks").json()["runs"][1]["threshold"] is None


@pytest.fixture
def server(live, tmp_path: Path):
    with live(create_app(inspected(tmp_path, *RUNS.values()))) as running:
        yield running


def is_shown(page, name: str, total: int) -> None:
    until(page, "([name, total]) => document.getElementById('against').selectedOptions[0].text === name"
          " && document.getElementById('total').textContent === String(total)", [name, total])  # fmt: skip


@pytest.mark.browser
@pytest.mark.slow
def test_another_run_is_chosen_in_place_and_back_returns(server, visit, client: TestClient):
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    query = {"class": "cat", "change": "gained"}
    answers = {name: client.get("/api/ranking", params=query | {"against": name}).json() for name in RUNS}
    gained = {name: answer.get("total") for name, answer in answers.items()}
    assert len(set(gained.values())) == len(RUNS), "else nothing would be seen to change"

    page = visit(f"{server.url}/ranking?class=cat", excused=("404 (Not Found)", "409 (Conflict)"))  # there are no image files
    until(page, "document.querySelector('#grid.virtual') && !document.querySelector('[aria-busy]')")
    page.evaluate("window.isSamePage = true")
    page.locator("[data-change=gained]").click()
    is_shown(page, "whole", gained["whole"])
    assert "against" not in page.url
    page.locator("#against").select_option(label="folder/whole")
    is_shown(page, "folder/whole", gained["folder/whole"])
    assert "against=folder%2Fwhole" in page.url
    until(page, f"document.querySelector('[data-key=num_gained]').textContent === '{gained['folder/whole']}'")
    assert page.locator(".bar a", has_text="Overview").get_attribute("href").endswith("/?against=folder%2Fwhole")
    page.keyboard.press("c")
    until(page, "document.querySelectorAll('#precision-recall .lines li').length === 5")
    assert page.locator("#precision-recall svg .curve").count() == 5 + 5, "the curves, and a sample of each"
    assert page.locator(".lines li:has(.chosen)").inner_text() == "folder/whole"
    page.locator("#against").select_option(label="a part")
    is_shown(page, "a part", gained["a part"])
    assert page.locator("[data-key=of]").inner_text() == f"of {len(PART)} that both scored"
    page.go_back()
    is_shown(page, "folder/whole", gained["folder/whole"])
    page.go_back()
    is_shown(page, "whole", gained["whole"])
    assert page.evaluate("window.isSamePage"), "nothing was loaded again"
    page.locator("[data-change=gained]").click()
    page.locator("#against").select_option(label="ranks")
    is_shown(page, "ranks", NUM_IMAGES)
    until(page, "document.querySelector('[data-change=gained]').closest('[data-decided]').hidden")
    page.reload()
    is_shown(page, "ranks", NUM_IMAGES)
    assert page.locator("[data-change=gained]").is_hidden()


@pytest.mark.browser
@pytest.mark.slow
def test_keys_and_what_scripts_write_keep_the_run(server, visit):
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    page = visit(f"{server.url}/together?class=dog&against=a+part", excused=("404 (Not Found)",), reviewer="Ann")

    def is_at(path: str) -> None:
        until(page, "(path) => location.pathname === path && location.search.includes('against=a+part')", path)
        page.wait_for_load_state("networkidle")

    is_at("/together")
    for key, path in (("i", "/ranking"), ("v", "/review"), ("p", "/predict"), ("o", "/")):
        page.keyboard.press(key)
        is_at(path)
    page.get_by_role("link", name="Near duplicates").click()
    is_at("/duplicates")
    page.keyboard.press("g")
    page.keyboard.type("dog")
    page.keyboard.press("Enter")
    is_at("/ranking")
    page.keyboard.press("v")
    is_at("/review")
    until(page, "document.querySelector('#open')?.href.includes('against=a+part')")
    page.keyboard.press("s")
    is_at("/review")
    page.get_by_role("link", name="24 at a time").click()
    is_at("/review")
    until(page, "location.search.includes('view=grid') && document.querySelector('#many button')")
    page.get_by_role("link", name="One at a time").click()
    is_at("/review")
    until(page, "document.querySelector('#open')?.href")
    answer = page.evaluate("""async () => {
        const body = JSON.stringify({image: 'p002', class_name: 'dog', label: 0, reviewer: 'Ann', based_on: 0});
        return (await fetch('/api/review/decisions', {method: 'POST', body, headers: {'content-type': 'application/json'}})).ok;
    }""")
    assert answer
    page.reload()
    page.locator("#worth a").first.click()
    is_at("/decisions")
    page.locator("table.classes tbody a", has_text="dog").click()
    is_at("/ranking")


@pytest.mark.browser
@pytest.mark.slow
def test_the_overview_chooses_by_keyboard_and_on_a_phone(server, visit):
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    excused = ("404 (Not Found)",)
    page = visit(f"{server.url}/", excused=excused)
    link = page.locator("table.compared a", has_text="a part")
    link.focus()
    page.keyboard.press("Enter")
    until(page, "document.querySelector('table.compared [aria-current] a')?.textContent === 'a part'")
    page.locator("table.classes tbody a", has_text="dog").first.click()
    until(page, "document.getElementById('against')?.selectedOptions[0].text === 'a part'")

    path = "/ranking?class=cat&against=a+part"
    phone = visit(server.url + path, excused=excused, viewport={"width": 390, "height": 800}, has_touch=True)
    until(phone, "document.querySelector('#grid.virtual') && !document.querySelector('[aria-busy]')")
    box = phone.locator("#against").bounding_box()
    assert 0 <= box["x"] <= 390 - box["width"], "the choice is in reach"
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth")
