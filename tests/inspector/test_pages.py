"""The pages without a browser: what they are given, what they say, and that their keys are the documented ones."""

import json
import posixpath
import re
import shutil
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path

import jinja2.meta
import numpy as np
import pytest
from starlette.testclient import TestClient

import polytag.inspector
import polytag.report
from polytag.contracts import LabelSet, Predictions
from polytag.inspector.app import create_app, static_files
from polytag.inspector.browse.answers import ClassAnswer
from polytag.inspector.browse.pages import TEMPLATES, environment, sorted_classes
from polytag.inspector.inspection import Inspection, compared
from polytag.metrics.ap import mean_average_precision
from polytag.report.charts import FILE, PAGE
from polytag.report.grids import WRONG

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "inspector.md"
HOSTILE = ("<b>cat</b>", 'a"b&c', "{{ 7 * 7 }}", "dog")


def predictions(scale: str = "logit") -> Predictions:
    rng = np.random.default_rng(0)
    target_NC = rng.integers(-1, 2, (150, 4)).astype(np.int8)
    target_NC[:, 3] = np.minimum(target_NC[:, 3], 0)  # nobody is a dog
    ids = tuple(f"<i>{row}</i>" for row in range(150))
    logit_NC = 2 * target_NC + rng.normal(0, 2, target_NC.shape)
    return Predictions(ids=ids, logit_NC=logit_NC, target_NC=target_NC, label_set=LabelSet(names=HOSTILE), scale=scale)


def inspected(tmp_path: Path, *, scale: str = "logit", **more: object) -> TestClient:
    inspection = Inspection(
        name="<u>run</u>",
        review_file=tmp_path / "review.sqlite",
        predictions=predictions(scale),
        threshold_C=np.array([0.5, 0.25, 0.5, 0.5]),
        **more,
    )
    return TestClient(create_app(inspection), base_url="http://127.0.0.1")


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    return inspected(tmp_path)


class Page(HTMLParser):
    """Elements and texts of a page."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        return [each for name, each in self.elements if name == tag and all(each.get(k) == v for k, v in wanted.items())]


def page(client: TestClient, path: str, status: int = 200) -> Page:
    answer = client.get(path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("text/html")
    return Page(answer.text)


@pytest.mark.parametrize("kind", TEMPLATES, ids=lambda kind: kind.__name__)
def test_keys_are_those_documented_and_those_the_template_reads(kind: type):
    keys = {field.name for field in fields(kind)}
    section = re.search(rf"^### {kind.__name__}\n(.*?)(?=^###|\Z)", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    assert section, f"docs/reference/inspector.md has no section {kind.__name__}"
    rows = [line.split("|")[1] for line in section[1].splitlines() if line.startswith("| `")]
    assert {key for row in rows for key in re.findall(r"`(\w+)`", row)} == keys
    made = environment()
    sources = [made.loader.get_source(made, name)[0] for name in (TEMPLATES[kind], "base.html.j2")]
    read = set().union(*(jinja2.meta.find_undeclared_variables(made.parse(source)) for source in sources))
    defined = [names for source in sources for names in re.findall(r"{% (?:macro|set|from \S+ import) (\w+(?:, \w+)*)", source)]
    own = {name for names in defined for name in names.split(", ")}
    assert read - set(made.globals) - own == keys, "a page is given what it reads, and nothing else"


def test_every_route_of_the_api_is_documented(client: TestClient):
    text = DOCUMENT.read_text()
    for path in client.get("/api/openapi.json").json()["paths"]:
        if path.startswith("/data/"):
            continue
        word = "/".join(path.split("/")[:3])
        assert word in text, f"{path} is not in docs/reference/inspector.md"


def listed_classes(overview: Page) -> list[str]:
    """The classes of the table, in its order; each row names its class once more, for who hears the link to its errors."""
    return [text for text in overview.texts[overview.texts.index("Classes") :] if text in HOSTILE]


def test_the_overview_lists_every_class_and_sorts_by_what_is_asked(client: TestClient):
    shown = page(client, "/?sort=name&order=asc")
    order = listed_classes(shown)
    assert order == sorted(HOSTILE, key=str.casefold)
    by_ap = listed_classes(page(client, "/"))
    aps = {each["name"]: each["ap"] for each in client.get("/api/classes").json()["classes"]}
    assert aps["dog"] is None
    assert by_ap == [*sorted(HOSTILE[:3], key=lambda name: -aps[name]), "dog"]


def test_the_overview_begins_with_the_eight_worst_errors(client: TestClient):
    table = predictions()
    threshold_C = (0.5, 0.25, 0.5, 0.5)
    wrong_by: dict[int, float] = {}
    for (row, column), target in np.ndenumerate(table.target_NC):
        logit = float(table.logit_NC[row, column])
        if target >= 0 and (1 / (1 + np.exp(-logit)) > threshold_C[column]) != (target == 1):
            wrong_by[row] = max(wrong_by.get(row, -np.inf), -logit if target == 1 else logit)
    worst = sorted(wrong_by, key=lambda row: -wrong_by[row])[:8]
    html = client.get("/").text
    shown = html.split("Worst errors")[1].split("</section>")[0]
    assert re.findall(r"&lt;i&gt;(\d+)&lt;/i&gt;</span>", shown) == [str(row) for row in worst]
    assert html.index("Worst errors") < html.index('id="classes"')


def test_a_ranking_offers_its_ends_and_the_lowest_scored_positives(client: TestClient):
    shown = page(client, "/ranking?class=a%22b%26c")
    for text, total in (("lowest scored positives", 1), ("highest scored negatives", 0)):
        assert text in shown.texts
        link = next(
            each["href"] for each in shown.all("a") if each["href"] and ("present=" if total else "absent=") in each["href"]
        )
        listed = client.get("/api" + link).json()
        assert listed["total"] == (predictions().target_NC[:, 1] == total).sum()
        assert all(each["truth"] == total for each in listed["images"])


def test_names_that_look_like_markup_are_names(client: TestClient):
    for path in ("/", "/ranking", "/image?id=%3Ci%3E3%3C/i%3E", "/review", "/predict", "/class", "/together", "/duplicates"):
        shown = page(client, path)
        assert not shown.all("b", id="x")
        assert not shown.all("u")
        assert not shown.all("i")
        assert "49" not in shown.texts


def test_without_scripts_a_ranking_can_be_read_to_its_end(client: TestClient):
    seen: list[str] = []
    path = "/ranking?class=dog&order=asc"
    while path:
        shown = page(client, path)
        seen += [text for text in shown.texts if text.startswith("<i>")]
        further = [each["href"] for each in shown.all("a", **{"class": "button"}) if "offset=" in (each["href"] or "")]
        path = further[-1] if further and len(seen) < 150 else ""
    logit_N = predictions().logit_NC[:, 3]
    assert seen == [f"<i>{row}</i>" for row in sorted(range(150), key=lambda row: (logit_N[row], f"<i>{row}</i>"))]


def test_a_forms_empty_fields_ask_nothing(client: TestClient):
    empty = "/ranking?class=dog&sort=score&order=desc&threshold=&min_labels=&max_labels=&present=&absent=&column=&value=&text="
    assert page(client, empty).texts.count("Clear") == 1
    assert client.get(empty.replace("/ranking", "/api/ranking")).json()["total"] == 150


def test_an_image_leads_to_its_neighbours_in_the_ranking(client: TestClient):
    rows = client.get("/api/ranking?class=dog&sort=loss&limit=3").json()["images"]
    shown = page(client, f"/image?class=dog&sort=loss&id={rows[1]['id']}")
    before, after = shown.all("a", rel="prev")[0]["href"], shown.all("a", rel="next")[0]["href"]
    for link, row in ((before, rows[0]), (after, rows[2])):
        assert row["id"] in page(client, link).texts


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("/nowhere", 404, "Not Found"),
        ("/ranking?class=lion", 404, "no such class"),
        ("/image?id=lion", 404, "no such image"),
        ("/ranking?sort=colour", 422, "sort"),
        ("/ranking?threshold=2", 422, "threshold"),
        ("/ranking?min_labels=-1", 422, "The smallest number of labels (min_labels) must be 0 or more."),
        ("/ranking?max_labels=1.5", 422, "The largest number of labels (max_labels) must be a whole number."),
        ("/ranking?class=dog&sort=disagreement", 409, "no second run"),
        ("/ranking?column=camera&value=1", 409, "unknown column"),
    ],
)
def test_problems_are_pages_with_a_way_back(client: TestClient, path: str, status: int, told: str):
    shown = page(client, path, status)
    assert any(told in text for text in shown.texts), shown.texts
    assert shown.all("a", href="/")


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("class=dog&min_labels=-1", "The smallest number of labels (min_labels) must be 0 or more."),
        ("class=dog&max_labels=2.5", "The largest number of labels (max_labels) must be a whole number."),
        ("class=dog&max_labels=100001", "The largest number of labels (max_labels) must be 100,000 or less."),
        ("class=dog&threshold=high", "The parameter threshold must be a number."),
        ("class=dog&threshold=2", "The parameter threshold must be 1 or less."),
        ("class=dog&order=up", "The parameter order must be 'desc' or 'asc'."),
        ("class=dog&limit=0", "The parameter limit must be 1 or more."),
        ("class=dog&disagree=perhaps", "The parameter disagree must be true or false."),
        ("class=dog&text=" + "x" * 201, "The parameter text must be at most 200 characters long."),
        ("class=dog" + 7 * "&outcome=unknown", "The parameter outcome must be at most 6 values."),
        ("sort=score", "The class (class) is missing."),
    ],
)
def test_a_refused_parameter_is_explained_in_a_sentence(client: TestClient, query: str, told: str):
    answer = client.get("/api/ranking?" + query)
    assert (answer.status_code, [each["msg"] for each in answer.json()["detail"]]) == (422, [told])


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/ranking?class=lion", 404),
        ("/api/ranking", 422),
        ("/api/ranking?class=dog&offset=-1", 422),
        ("/api/images/150", 404),
        ("/api/images/99999999999999999999", 422),
        ("/api/images/x", 422),
        ("/thumbnails/150", 404),
        ("/thumbnails/0", 404),
        ("/static/nothing.js", 404),
        ("/static/shared", 404),
        ("/static/shared/", 404),
        ("/static/ranking/../shared/frame.js/", 404),
        ("/api/thresholds?class=lion", 404),
    ],
)
def test_problems_of_the_api_are_json(client: TestClient, path: str, status: int):
    answer = client.get(path)
    assert answer.status_code == status
    assert answer.json()["detail"]


def test_ranks_are_shown_without_a_threshold(tmp_path: Path):
    client = inspected(tmp_path, scale="rank")
    assert not page(client, "/ranking").all("input", id="slider")
    assert client.get("/api/thresholds?class=dog").status_code == 409
    assert client.get("/api/charts", params={"class": HOSTILE[0]}).json()["precision_recall"]
    image = client.get("/api/images/0").json()
    assert image["classes"][0]["probability"] is None
    page(client, "/")
    page(client, "/image?id=%3Ci%3E3%3C/i%3E")


def test_a_second_run_stands_beside_the_first(tmp_path: Path):
    first = predictions()
    second = replace(first, logit_NC=first.logit_NC[:, ::-1])
    client = inspected(tmp_path, compared=[compared("other", second, first=first)])
    assert client.get("/api/run").json()["compared"] == "other"
    shown = page(client, "/?sort=gain")
    assert "other AP" in shown.texts
    assert client.get("/api/ranking?class=dog&sort=disagreement&disagree=true").json()["total"] > 0


def test_two_runs_are_compared_on_the_images_that_both_scored_by_one_truth(tmp_path: Path):
    first = predictions()
    part = first.take(np.random.default_rng(1).permutation(150)[:60])
    second = replace(part, logit_NC=part.logit_NC[:, ::-1], target_NC=np.full_like(part.target_NC, -1))  # and no truth of its own
    client = inspected(tmp_path, compared=[compared("other", second, first=first)])
    run = client.get("/api/run").json()
    shared = first.take([first.ids.index(name) for name in sorted(part.ids, key=first.ids.index)])
    own, other = (mean_average_precision(shared.target_NC, logit_NC) for logit_NC in (shared.logit_NC, shared.logit_NC[:, ::-1]))
    assert run["num_shared"] == 60
    assert (run["mAP_compared"]["value"], run["gain"]) == pytest.approx((other, own - other))
    assert any("scored 60 of these images" in text for text in page(client, "/").texts)
    gains = [each["gain"] for each in client.get("/api/classes").json()["classes"]]
    assert np.mean([gain for gain in gains if gain is not None]) == pytest.approx(run["gain"])


def test_answers_are_the_reports_numbers(tmp_path: Path):
    from polytag.metrics.evaluate import evaluate_predictions

    client = inspected(tmp_path)
    metrics = evaluate_predictions(predictions(), threshold=(0.5, 0.25, 0.5, 0.5))
    for _ in range(200):
        answer = client.get("/api/classes").json()
        if answer["is_evaluated"]:
            break
    run = client.get("/api/run").json()
    assert (run["mAP"]["value"], run["mAP"]["low"]) == pytest.approx((metrics.mean_ap.value, metrics.mean_ap.low))
    for c, each in enumerate(answer["classes"][:3]):
        found = [each[key] for key in ("ap", "ap_low", "ap_high", "ap_chance", "precision", "recall")]
        expected = [
            metrics.ap_C, metrics.ap_low_C, metrics.ap_high_C, metrics.ap_chance_C, metrics.precision_C, metrics.recall_C,
        ]  # fmt: skip
        assert found == pytest.approx([values[c] for values in expected])


def test_what_a_browser_has_is_not_sent_again(client: TestClient):
    first = client.get("/static/shared/frame.js")
    assert first.headers["content-type"].startswith("text/javascript")
    again = client.get("/static/shared/frame.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_every_static_file_is_served_with_its_type_and_nothing_else_is(client: TestClient):
    folder = Path(polytag.inspector.__file__).parent / "static"
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")}
    assert set(static_files()) == names | {"shared/palette.css", "shared/take-files.js"}
    for name in static_files():
        answer = client.get(f"/static/{name}")
        assert (answer.status_code, answer.content) == (200, static_files()[name])
        assert answer.headers["content-type"].partition(";")[0] in {"text/css", "text/javascript", "image/svg+xml"}


def test_every_module_that_a_page_or_a_module_names_exists():
    for name, content in static_files().items():
        for imported in re.findall(r'from "(\.[^"]+)"', content.decode()):
            assert posixpath.normpath(posixpath.join(posixpath.dirname(name), imported)) in static_files(), f"{name}: {imported}"
    for source in (environment().loader.get_source(environment(), name)[0] for name in TEMPLATES.values()):
        for named in re.findall(r'"/static/([^"{]+)"', source):
            assert named in static_files()


def contrast(one: str, other: str) -> float:
    """That of WCAG 2.2, of two colours as #rgb or #rrggbb."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        level = np.array([int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)])
        return float(np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_colours_of_files_are_those_of_the_page():
    css = static_files()["shared/palette.css"].decode()
    light, dark, printed = (
        dict(re.findall(r"--(\w+): ([^;]+);", block)) for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    )
    assert light.keys() == dark.keys() == printed.keys()
    for name in ("ink", "muted", "line", "accent", "soft"):
        assert getattr(FILE, name) == light[name]
        assert getattr(PAGE, name) == f"var(--{name})"
    assert "#" + bytes(WRONG).hex() == light["orange"]
    for colours in (light, dark):  # of text, and of the signs on it
        for ground in ("paper", "matte", "raised", "sign"):
            assert contrast(colours["orange"], colours[ground]) >= 4.5, ground
    report = (Path(polytag.report.__file__).parent / "templates" / "report.css").read_text()
    for sheet in (report, static_files()["shared/inspector.css"].decode()):
        assert not set(re.findall(r"--(\w+):", sheet)) & light.keys(), "this sheet defines a colour of palette.css again"


def test_a_class_of_few_positives_is_never_listed_as_the_best():
    def answer(name: str, *, ap: float | None, num_present: int) -> ClassAnswer:
        return ClassAnswer(
            name=name,
            ap=ap,
            ap_low=None,
            ap_high=None,
            ap_chance=0.1,
            num_present=num_present,
            num_absent=50,
            num_unknown=0,
            is_few=0 < num_present < 10,
            threshold=0.5,
            precision=None,
            recall=None,
            ap_compared=None,
            gain=None,
        )

    classes = [
        answer("lucky", ap=1, num_present=1),
        answer("none", ap=None, num_present=0),
        answer("good", ap=0.9, num_present=10),
        answer("bad", ap=0.1, num_present=500),
    ]
    names = {order: [each.name for each in sorted_classes(classes, sort="ap", is_ascending=order)] for order in (False, True)}
    assert names == {False: ["good", "bad", "lucky", "none"], True: ["bad", "good", "lucky", "none"]}
    assert [each.name for each in sorted_classes(classes, sort="num_present", is_ascending=True)][1] == "lucky"


def test_the_runs_beside_this_one_are_listed_with_the_command_that_compares(modelled: Inspection, tmp_path: Path):
    runs = tmp_path / "my runs"
    for name in ("first", "<b>second</b>"):
        shutil.copytree(modelled.review_file.parent, runs / name)
    (runs / "broken").mkdir()
    (runs / "broken" / "args.yaml").write_text("{")
    client = inspected(tmp_path, run_path=runs / "first")
    shown = page(client, "/runs")
    assert {"first", "<b>second</b>", "broken"} <= set(shown.texts)
    assert [each.get("aria-current") for each in shown.all("tr")].count("true") == 1
    text = "".join(shown.texts)
    assert f"polytag inspect '{runs}/first' --compare-with '{runs}/<b>second</b>'" in text
    value = json.loads((runs / "first" / "metrics.json").read_text())["mAP"]["value"]
    assert text.count(f"{value:.3f}") >= 2


def test_a_predictions_file_has_no_runs_beside_it(client: TestClient):
    page(client, "/runs", status=404)
    assert not page(client, "/").all("a", href="/runs")
