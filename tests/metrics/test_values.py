"""Metrics as people and programs see them: a line, a table, HTML that is safe in a notebook, JSON, a DataFrame."""

import json
import math
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

import polytag
from polytag.errors import MissingExtraError, UsageError
from polytag.metrics.values import Metrics

NAMES = ["cat", "<img src=x onerror=alert(1)>", "unicorn", "日本"]


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    rng = np.random.default_rng(0)
    truth = rng.choice([1, 0, -1], (60, 4), p=[0.3, 0.6, 0.1])
    truth[:, 2] = 0
    score = np.round(rng.normal((truth == 1) * np.array([1.0, 5.0, 0.0, 3.0]), 1.0), 2)
    return polytag.evaluate(truth, score, scores="logit", class_names=NAMES, num_replicates=100)


def test_a_line(metrics: Metrics):
    mean = metrics.mean_ap
    line = f"mAP {mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}] over 3 classes, 60 images"
    assert repr(metrics) == f"Metrics({line})"
    assert str(metrics).splitlines()[0] == line


def test_a_line_where_nothing_is_defined():
    metrics = polytag.evaluate([[0]], [[0.5]], scores="probability", num_replicates=0)
    assert repr(metrics) == "Metrics(mAP undefined over 0 classes, 1 image)"
    assert "mAP                    –" in str(metrics)
    assert "nan" not in str(metrics) + metrics._repr_html_()


def test_a_table_of_averages_then_of_classes_best_first(metrics: Metrics):
    _, averages, classes = str(metrics).split("\n\n")
    rows = [line.split() for line in averages.splitlines()]
    assert rows[0] == ["average", "value", "95%", "interval", "over"]
    assert [row[0] for row in rows[1:]] == list(metrics.shown_means)
    assert rows[1][1:] == [
        f"{metrics.mean_ap.value:.3f}", f"{metrics.mean_ap.low:.3f}", "–", f"{metrics.mean_ap.high:.3f}", "3", "classes",
    ]  # fmt: skip
    lines = classes.splitlines()
    assert lines[0].split()[:2] == ["class", "AP"]
    order = [next(number for number, name in enumerate(NAMES) if line.startswith(name)) for line in lines[1:]]
    assert order == metrics.best_first.tolist()
    assert order[-1] == 2  # no unicorn was there to be found
    assert lines[-1].split() == [
        "unicorn",
        "–",
        "–",
        "0",
        "60",
        "0",
        *(_three(metrics, name) for name in ("precision", "recall", "f1")),
    ]


def _three(metrics: Metrics, name: str) -> str:
    value = getattr(metrics, f"{name}_C")[2]
    return "–" if math.isnan(value) else f"{value:.3f}"


def test_columns_are_aligned_and_wide_letters_take_two_places(metrics: Metrics):
    for table in str(metrics).split("\n\n")[1:]:
        lines = table.splitlines()
        if not lines[0].startswith("class"):
            assert len({len(line) for line in lines}) == 1  # the last column is to the right
        else:
            assert len({len(line) + line.count("日") + line.count("本") for line in lines}) == 1


def test_thresholds_are_shown_where_they_differ():
    truth, score = [[1, 0], [0, 1]], [[2.0, 1.0], [1.0, 3.0]]
    one = polytag.evaluate(truth, score, scores="logit", num_replicates=0)
    several = polytag.evaluate(truth, score, scores="logit", threshold=[0.25, 0.75], num_replicates=0)
    assert "threshold" not in str(one)
    classes = str(several).split("\n\n")[-1].splitlines()
    assert classes[0].endswith("threshold")
    assert classes[1].endswith("0.25")


def test_classes_with_few_positives_are_marked_come_last_and_have_their_bias_told():
    truth = np.zeros((60, 2), int)
    truth[:20, 0], truth[:2, 1] = 1, 1
    score = np.column_stack([np.random.default_rng(0).normal(size=60), np.linspace(9, -9, 60)])
    metrics = polytag.evaluate(truth, score, scores="logit", class_names=["common", "rare"], num_replicates=20)
    assert (metrics.ap_C[1], metrics.best_first.tolist(), metrics.num_few) == (1, [0, 1], 1)
    bias = float(metrics.ap_bias_C.mean())
    assert metrics.note == (
        f"mAP rests on 1 class with fewer than 10 positives (*). AP of few positives is too high: mAP by about {bias:.3f}."
    )
    assert str(metrics).splitlines()[1] == metrics.note
    assert "2*" in str(metrics).splitlines()[-1].split()
    assert metrics.note in metrics._repr_html_()
    assert metrics.to_json()["mAP"] | {"bias": bias, "num_few_positives": 1} == metrics.to_json()["mAP"]


def test_a_name_cannot_break_the_table():
    with pytest.raises(UsageError, match="control character"):
        polytag.evaluate([[1], [0]], [[2.0], [1.0]], scores="logit", class_names=["a\x1b[31m\nb"], num_replicates=0)


class Collected(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_html_is_escaped_and_fetches_nothing(metrics: Metrics):
    page = metrics._repr_html_()
    read = Collected()
    read.feed(page)
    assert set(read.tags) == {"div", "p", "b", "details", "summary", "table", "thead", "tbody", "tr", "th", "td"}
    assert read.attributes == {"style"}
    assert "url(" not in page
    assert "http" not in page
    assert [text for text in read.texts if text in NAMES] == [NAMES[column] for column in metrics.best_first]
    assert read.texts[0] == str(metrics).splitlines()[0]
    assert read.tags.count("tr") == 3 + len(metrics.shown_means) + len(NAMES)
    assert page.count("linear-gradient") == 3  # a bar for every AP that there is


def test_json_is_plain_and_holds_null_for_nan(metrics: Metrics):
    values = json.loads(json.dumps(metrics.to_json(), allow_nan=False))
    assert values["mAP"]["value"] == metrics.mean_ap.value
    assert values["per_class"]["unicorn"]["ap"] is None
    assert list(values["per_class"]) == NAMES


def test_a_frame_has_what_json_has(metrics: Metrics):
    pytest.importorskip("pandas")
    frame = metrics.to_frame()
    assert list(frame.index) == NAMES
    assert frame.index.name == "class"
    assert frame.loc["cat", "ap"] == metrics.ap_C[0]
    assert math.isnan(frame.loc["unicorn", "ap"])
    for name, values in metrics.to_json()["per_class"].items():
        for key, value in values.items():
            if key.endswith("_interval"):
                kept = [frame.loc[name, key.replace("interval", end)] for end in ("low", "high")]
            else:
                kept = frame.loc[name, key]
            np.testing.assert_array_equal(np.array(kept, float), np.array(value, float), err_msg=f"{name} {key}")
    assert set(frame.columns) == {key.replace("_interval", end) for key in values for end in ("_low", "_high")}


def test_without_pandas_the_error_has_the_command_that_installs_it(metrics: Metrics, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError) as caught:
        metrics.to_frame()
    assert str(caught.value) == (
        "pandas is not installed\n  where: Metrics.to_frame\n  expected: pandas\n  next: pip install pandas"
    )
