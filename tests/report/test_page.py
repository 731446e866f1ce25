"""The report as HTML: whole, self-contained, escaped, and honest about what is undefined or missing."""

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from polytag.contracts import LabelSet, Predictions
from polytag.errors import RunError
from polytag.metrics.evaluate import evaluate_predictions
from polytag.metrics.values import Mean, Metrics
from polytag.report.curves import step_curve
from polytag.report.page import INSPECTOR, _curve_path, write_report
from polytag.report.ranking import RankedRow, probability_text, ranked_rows
from polytag.text import with_minus

_VOID = {"wbr", "meta", "link", "br", "hr", "img", "input"}
_ADDRESS = ("src", "href", "xlink:href", "action", "data", "poster", "srcset", "formaction", "background")


class Page(HTMLParser):
    """A parsed page: elements in order, and the text of each region; fails on tags that do not match."""

    def __init__(self, path: Path):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.tiles = 0
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]):
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str):
        if "style" in self.open:
            return
        self.text += data
        if self.rows and ("td" in self.open or "th" in self.open):
            self.rows[-1][-1] += data

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [
            found
            for name, found in self.elements
            if name == tag and all(found.get(key) == value for key, value in attributes.items())
        ]

    def row(self, first: str) -> list[str]:
        """The cells of the table row that begins so."""
        (row,) = [row for row in self.rows if row[0] == first]
        return row


def report(folder: Path, predictions: Predictions, metrics: Metrics | None = None, **options: object) -> Page:
    metrics = metrics or evaluate_predictions(predictions, num_replicates=20)
    path = write_report(folder / "report.html", metrics=metrics, predictions=predictions, **({"title": "run"} | options))
    assert path == folder / "report.html"
    return Page(path)


def without_images(target_NC: np.ndarray, *, names: tuple[str, ...], ids: tuple[str, ...] = (), seed: int = 0) -> Predictions:
    logit_NC = np.random.default_rng(seed).normal(0, 2, target_NC.shape) + 2 * (target_NC == 1)
    return Predictions(
        ids=ids or tuple(f"{row:04}" for row in range(len(target_NC))),
        logit_NC=logit_NC,
        target_NC=target_NC,
        label_set=LabelSet(names=names),
    )


def test_every_class_and_number_is_on_the_page(tmp_path: Path, predictions, metrics, history):
    page = report(tmp_path, predictions, metrics, history=history, title="my run", facts={"backbone": "resnet18"})
    for column, name in enumerate(metrics.label_set):
        assert page.row(name) == [
            name,
            "",
            f"{metrics.ap_C[column]:.3f}",
            f"{metrics.ap_low_C[column]:.3f}–{metrics.ap_high_C[column]:.3f}",
            f"{metrics.ap_chance_C[column]:.3f}",
            str(metrics.support_C[column]),
            str(metrics.num_unknown_C[column]),
            f"{metrics.precision_C[column]:.3f}",
            f"{metrics.recall_C[column]:.3f}",
        ]
    for name, label in (("CF1", "CF1"), ("ROC_AUC", "ROC AUC"), ("macro_F1", "macro F1"), ("top3_OP", "top-3 OP")):
        mean = metrics.means[name]
        interval = f"{mean.low:.3f}–{mean.high:.3f}" if name == "ROC_AUC" else ""
        assert page.row(label)[1:4] == [f"{mean.value:.3f}", interval, f"{mean.count} {mean.unit}"]
    mean = metrics.mean_ap
    assert page.row("mAP")[1:4] == [f"{mean.value:.3f}", f"{mean.low:.3f}–{mean.high:.3f}", "3 classes"]
    for text in ("my run", "resnet18", "backbone", "generated val", "0123456789abcdef", "3 of 3", "60"):
        assert text in page.text


def test_classes_are_sorted_by_average_precision(tmp_path: Path, predictions, metrics):
    page = report(tmp_path, predictions, metrics)
    names = set(metrics.label_set)
    listed = [row[0] for row in page.rows if row[0] in names]
    assert listed == sorted(names, key=lambda name: -metrics.ap_C[metrics.label_set.index(name)])


def test_the_bars_are_the_numbers(tmp_path: Path, predictions, metrics):
    page = report(tmp_path, predictions, metrics)
    widths = [float(re.match(r"width:([\d.]+)%", bar["style"])[1]) for bar in page.all("i")]
    assert widths == pytest.approx(sorted(100 * metrics.ap_C, reverse=True), abs=0.01)


def test_nothing_is_loaded_from_anywhere(tmp_path: Path, predictions, metrics, history):
    page = report(tmp_path, predictions, metrics, history=history)
    for tag, attributes in page.elements:
        assert tag not in ("script", "iframe", "object", "embed", "base")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if tag == "a" and value.startswith(INSPECTOR):  # a link to follow, on this very machine: nothing is loaded by it
                continue
            if name in _ADDRESS:
                assert value.startswith(("data:", "#")), (tag, name, value[:60])
    html = (tmp_path / "report.html").read_text()
    assert "//" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", html).replace(f'<a href="{INSPECTOR}', "")
    assert "@import" not in html
    assert "url(" not in html


def test_a_class_leads_to_the_inspectors_whole_ranking(tmp_path: Path, predictions, metrics):
    page = report(tmp_path, predictions, metrics)
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a" and attributes["href"].startswith(INSPECTOR)]
    assert sorted(links) == sorted(f"{INSPECTOR}/ranking?class={name}" for name in metrics.label_set)


def test_every_reference_has_its_target_once(tmp_path: Path, predictions, metrics):
    page = report(tmp_path, predictions, metrics)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for _, attributes in page.elements:
        if (attributes.get("href") or "").startswith("#"):
            assert attributes["href"][1:] in ids


def in_grids(predictions: Predictions, metrics: Metrics) -> list[tuple[int, RankedRow]]:
    """What the grids hold in their order, with the column of the class: highest, lowest positives, lowest."""
    return [
        (column, row)
        for column in np.argsort(-metrics.ap_C).tolist()
        for top, lowest, positives in ((50, False, False), (20, True, True), (50, True, False))
        for row in ranked_rows(predictions, class_name=metrics.label_set.names[column], top=top, lowest=lowest, positives=positives)
    ]


def test_the_grids_show_the_ranking(tmp_path: Path, predictions, metrics):
    page = report(tmp_path, predictions, metrics)
    truth = {1: "labelled present", 0: "labelled absent", -1: "label unknown"}
    expected = [
        f"{row.id}, {truth[row.target]}, logit {with_minus(f'{row.logit:.3f}')}" for _, row in in_grids(predictions, metrics)
    ]
    assert [tile["title"] for tile in page.all("li") if ", logit " in tile["title"]] == expected
    (best,) = ranked_rows(predictions, class_name="dog", top=1)
    assert probability_text(best.probability) in page.text


def test_orange_is_an_error_and_nothing_else(tmp_path: Path, predictions, metrics):
    threshold_C = np.array([0.2, 0.5, 0.9])
    page = report(tmp_path, predictions, replace(metrics, threshold_C=threshold_C))
    tiles = [tile for tile in page.all("li") if ", logit " in tile["title"]]
    for (column, row), tile in zip(in_grids(predictions, metrics), tiles, strict=True):
        is_right = (predictions.probability_NC[row.row, column] > threshold_C[column]) == (row.target == 1)
        assert tile["class"].split()[1:] == ([] if row.target == -1 else ["right" if is_right else "wrong"])
    assert {tile["class"] for tile in tiles} == {"y right", "y wrong", "n right", "n wrong", "u "}
    ranks = report(tmp_path, replace(predictions, scale="rank"))
    assert {tile["class"].strip() for tile in ranks.all("li")} == {"y", "n", "u"}  # ranks decide nothing
    assert "orange" not in ranks.text


def test_it_begins_with_the_eight_worst_errors(tmp_path: Path, predictions, metrics):
    wrong_by: dict[int, tuple[float, str]] = {}
    for (row, column), target in np.ndenumerate(predictions.target_NC):
        logit = float(predictions.logit_NC[row, column])
        if target >= 0 and (logit > 0) != (target == 1):
            wrong_by[row] = max(wrong_by.get(row, (0.0, "")), (abs(logit), predictions.label_set.names[column]))
    worst = sorted(wrong_by, key=lambda row: -wrong_by[row][0])[:8]
    report(tmp_path, predictions, metrics)
    html = (tmp_path / "report.html").read_text()
    shown = html.split('<section id="worst">')[1].split("</section>")[0]
    assert re.findall(r'wrong" title="(.*?),', shown) == [predictions.ids[row] for row in worst]
    assert re.findall(r'<span class="of"><bdi class="name">(.*?)</bdi>', shown) == [wrong_by[row][1] for row in worst]
    assert html.index('id="worst"') < html.index('<dl class="facts">') < html.index("<main>")
    without = replace(predictions, image_paths=("",) * len(predictions))
    assert not report(tmp_path, without, metrics).all("section", id="worst")


def test_each_image_is_embedded_once(tmp_path: Path, predictions, metrics):
    page = report(tmp_path, predictions, metrics)
    assert len(page.all("image")) == 1  # 60 images fit one sheet of 100
    boxes = {tile["viewbox"] for tile in page.all("svg", role="img") if tile.get("aria-label") in predictions.ids}
    assert len(boxes) == 60
    assert (tmp_path / "report.html").stat().st_size < 300_000


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, predictions, metrics, history):
    for name in ("a.html", "b.html"):
        write_report(tmp_path / name, metrics=metrics, predictions=predictions, history=history, title="run")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "{{ 7 * 7 }}",
    "שלום",
    "猫 & 🐈",
    "</style></svg>",
    "x" * 400,
    "50%",
)


def test_hostile_names_are_text_and_nothing_else(tmp_path: Path, history):
    rng = np.random.default_rng(0)
    ids = tuple(f"<b onclick=x>{number}</b>\"'" for number in range(40))
    predictions = without_images(rng.integers(0, 2, (40, len(HOSTILE))), names=HOSTILE, ids=ids)
    predictions = replace(predictions, source="</dd><script>", checkpoint_id="&amp;")
    page = report(tmp_path, predictions, history=history, title="</title><script>", facts={"<i>": "<script>"})
    for name in HOSTILE:
        assert page.row(name)[0] == name
    assert not page.all("script")
    assert not page.all("img")
    assert any(tile["title"].startswith("<b onclick=x>0</b>\"', ") for tile in page.all("li"))
    for text in ("</title><script>", "</dd><script>", "&amp;", "<i>"):
        assert text in page.text


def test_an_undefined_number_is_a_dash_with_its_reason(tmp_path: Path):
    target_NC = np.zeros((30, 3), int)
    target_NC[:10, 0] = 1
    target_NC[:, 2] = -1
    page = report(tmp_path, without_images(target_NC, names=("dog", "never", "unknown")))
    assert page.row("never")[1:4] == ["no positive label", "–", "–"]
    assert page.row("unknown")[1:7] == ["no positive label", "–", "–", "–", "0", "30"]
    assert {note["title"] for note in page.all("abbr")} >= {"no positive label"}
    assert "1 of 3" in page.text
    assert [row[0] for row in page.rows if row[0] in ("dog", "never", "unknown")] == ["dog", "never", "unknown"]
    assert "nan" not in page.text.lower()


def test_without_labels_the_rankings_remain(tmp_path: Path):
    page = report(tmp_path, without_images(np.full((12, 2), -1), names=("dog", "cat")))
    assert "No class has a positive and a negative label, so average precision is undefined." in page.text
    assert len(page.all("li")) == 2 * 2 * 12
    assert "nan" not in page.text.lower()


def test_no_image_above_the_threshold(tmp_path: Path):
    predictions = without_images(np.arange(20)[:, None] % 2, names=("dog",))
    predictions = replace(predictions, logit_NC=predictions.logit_NC - 40)
    page = report(tmp_path, predictions)
    assert "No image is above the decision threshold" in page.text
    assert page.row("dog")[7] == "–"


@pytest.mark.parametrize("num_images", [0, 1, 2])
def test_a_handful_of_images_and_one_class(tmp_path: Path, num_images: int):
    page = report(tmp_path, without_images(np.ones((num_images, 1), int), names=("dog",)))
    assert len(page.all("li")) == 3 * num_images  # highest, lowest positives, lowest


def test_without_history_there_is_no_training_section(tmp_path: Path, predictions, metrics, history):
    assert not report(tmp_path, predictions, metrics).all("section", id="training")
    assert report(tmp_path, predictions, metrics, history=history).all("section", id="training")


@pytest.mark.parametrize(
    ("rows", "num_charts"),
    [
        ([{"epoch": 0, "val_loss": 0.1, "val_map": 0.5}], 0),  # a probe: one point is no course
        ([{"epoch": 1, "train_loss": math.nan, "val_map": 0.5}, {"epoch": 2, "train_loss": math.inf, "val_map": math.nan}], 0),
        ([{"epoch": 0, "val_map": 0.5}, {"epoch": 1, "val_map": 0.5, "val_loss": 1e30}], 1),
        ([{"epoch": 0, "val_map": 0.5, "val_loss": 1e30}, {"epoch": 1, "val_map": 0.5, "train_loss": 0.5}], 2),
        ([{"train_loss": 0.5, "val_map": 0.3}], 0),
    ],
)
def test_history_with_holes(tmp_path: Path, predictions, metrics, rows: list[dict[str, float]], num_charts: int):
    page = report(tmp_path, predictions, metrics, history=rows)
    of_history = [chart for chart in page.all("svg", **{"class": "chart"}) if "over the epochs" in chart["aria-label"]]
    assert len(of_history) == num_charts


def test_missing_images_are_counted_and_named(tmp_path: Path, predictions, metrics):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not an image")
    paths = ("", str(tmp_path / "gone.jpg"), str(tmp_path / "broken.jpg"), *predictions.image_paths[3:])
    page = report(tmp_path, replace(predictions, image_paths=paths), metrics)
    assert "3 of 60 images could not be read and are shown as grey tiles." in page.text
    assert {"image-000", "image-001", "image-002"} == set(re.findall(r"image-\d+", page.text))
    assert "could not be read" not in report(tmp_path, predictions, metrics).text


def test_accuracy_is_shown_with_that_of_always_predicting_absent(tmp_path: Path):
    target_NC = np.zeros((40, 2), int)
    target_NC[:8, 0], target_NC[:4, 1], target_NC[20:, 1] = 1, 1, -1
    page = report(tmp_path, without_images(target_NC, names=("dog", "cat")))
    assert page.row("accuracy")[4].endswith("a model that always predicts “absent” reaches 0.800")  # (32/40 + 16/20) / 2


def test_means_of_other_tools_keep_their_names(tmp_path: Path, predictions, metrics):
    means = {
        "mAP": metrics.mean_ap,
        "my <mean>": Mean(value=0.25, count=1, unit="classes"),
        "nothing": Mean(value=math.nan, count=0),
    }
    page = report(tmp_path, predictions, replace(metrics, means=means))
    assert page.row("my <mean>") == ["my <mean>", "0.250", "", "1 class", ""]
    assert page.row("nothing")[1] == "–"


def test_thresholds_that_differ_get_a_column(tmp_path: Path, predictions, metrics):
    page = report(tmp_path, predictions, replace(metrics, threshold_C=np.array([0.3, 0.5, 0.7])))
    assert page.row("dog")[-1] == "0.300"
    assert len(page.row("dog")) == 10


def test_a_thousand_classes_make_a_sane_page(tmp_path: Path):
    rng = np.random.default_rng(0)
    names = tuple(f"class {number}" for number in range(1000))
    predictions = without_images((rng.random((80, 1000)) < 0.2).astype(int), names=names)
    page = report(tmp_path, predictions, evaluate_predictions(predictions, num_replicates=0))
    assert len(page.all("details")) == 100
    assert sum(row[0] in names for row in page.rows) == 1000
    assert "With more than 100 classes, only the best and the worst 50 by average precision are shown." in page.text
    assert (tmp_path / "report.html").stat().st_size < 6_000_000


@pytest.mark.parametrize("num_images", [40, 3000])
def test_the_area_under_a_drawn_curve_is_the_average_precision(num_images: int):
    rng = np.random.default_rng(1)
    target_NC = rng.integers(-1, 2, (num_images, 1))
    predictions = without_images(target_NC, names=("dog",))
    predictions = replace(predictions, logit_NC=predictions.logit_NC.round(1))  # ties
    curve = step_curve(predictions, class_name="dog")
    area = float(np.diff(curve.recall_S, prepend=0) @ curve.precision_S)
    assert area == pytest.approx(evaluate_predictions(predictions, num_replicates=0).ap_C[0], abs=1e-9)
    assert len(curve.recall_S) <= 120
    steps = [(float(y), float(x)) for y, x in re.findall(r"V([\d.]+)H([\d.]+)", _curve_path(curve))]
    drawn, before = 0.0, 0.0
    for y, x in steps:
        drawn, before = drawn + (x - before) * (100 - y), x
    assert drawn / 1e4 == pytest.approx(area, abs=2e-3)
    assert before == 100


def test_a_report_that_cannot_be_written_is_a_run_error(tmp_path: Path, predictions, metrics):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "report.html"
    with pytest.raises(RunError) as error:
        write_report(path, metrics=metrics, predictions=predictions, title="run")
    assert str(error.value) == (
        f"could not save report.html\n  where: {path}\n  got: File exists\n  expected: a folder that can be written"
    )
