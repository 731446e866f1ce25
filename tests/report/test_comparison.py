"""The page of a comparison: every number, honest about what is undefined, changed images, escaped, the same bytes again."""

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from polytag.contracts import LabelSet, Predictions
from polytag.errors import RunError
from polytag.metrics.compare import compare
from polytag.metrics.comparison import Comparison, classes_by_difference, p_text, signed
from polytag.report.comparison import TOP, Axis, _axis, _pair_row, write_comparison

_VOID = {"wbr", "meta", "link", "br"}


class Page(HTMLParser):
    """The rows of its tables as text, the places of the dots, and the elements; fails on tags that do not match."""

    def __init__(self, path: Path):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
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
        assert self.open.pop() == tag

    def handle_data(self, data: str):
        if "style" in self.open:
            return
        self.text += data
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data

    def all(self, tag: str, kind: str = "") -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag and kind in [*(attrs.get("class") or "").split(" "), ""]]


def runs(predictions: Predictions, *, num_runs: int = 2) -> list[Predictions]:
    """The fixture's predictions, and others of the same images made worse by noise."""
    rng = np.random.default_rng(1)
    noise = [rng.normal(0, 2.0 * run, predictions.logit_NC.shape) for run in range(num_runs)]
    return [replace(predictions, logit_NC=(predictions.logit_NC + each).astype(np.float32)) for each in noise]


@pytest.fixture(scope="module")
def comparison(predictions: Predictions) -> Comparison:
    return compare(*runs(predictions), names=("base", "noisy"), num_replicates=50, num_permutations=99)


def test_every_number_is_on_the_page(tmp_path: Path, comparison: Comparison):
    page = Page(write_comparison(tmp_path / "c.html", comparison))
    (difference,) = comparison.differences
    order = classes_by_difference(difference, support_C=comparison.support_C)
    rows = {row[0]: row for row in page.rows}
    assert [row[0] for row in page.rows] == ["class", "mAP", *(comparison.label_set.names[column] for column in order)]
    for column in order:
        low, high, changes = difference.low_C[column], difference.high_C[column], difference.changes[column]
        said = "" if difference.p_holm_C[column] > 0.05 else f"{'▲' if difference.ap_C[column] > 0 else '▼'} significant"
        assert rows[comparison.label_set.names[column]] == [
            comparison.label_set.names[column],
            "\n",
            signed(difference.ap_C[column]),
            f"{signed(low)} to {signed(high)}",
            said,
            p_text(difference.p_holm_C[column]),
            f"{comparison.ap_RC[0, column]:.3f}",
            f"{comparison.ap_RC[1, column]:.3f}",
            str(comparison.support_C[column]),
            str(changes.num_gained),
            str(changes.num_lost),
        ]
    mean = difference.mean
    assert rows["mAP"][2:4] == [signed(mean.value), f"{signed(mean.low)} to {signed(mean.high)}"]
    text = " ".join(page.text.split())
    assert "noisy against base" in text
    assert "noisy is worse than base: the difference in mAP is significant (p ≤ 0.05)." in text
    num_better, num_worse = (int((difference.is_significant_C & (sign * difference.ap_C > 0)).sum()) for sign in (1, -1))
    assert f"Of 3 classes, {num_better} are significantly better and {num_worse} significantly worse (p corrected by Holm)." in text
    for part in ("generated val", "0123456789abcdef", "Paired by id on the same 60 images"):
        assert part in text


def test_the_dots_are_the_numbers(tmp_path: Path, comparison: Comparison):
    page = Page(write_comparison(tmp_path / "c.html", comparison))
    (difference,) = comparison.differences
    spans, circles = page.all("line", "span"), page.all("circle")
    (zero,) = {line["x1"] for line in page.all("line", "zero")}

    def place(text: str | None) -> float:
        return float((text or "").removesuffix("%"))

    order = classes_by_difference(difference, support_C=comparison.support_C)
    values = [difference.mean.value, *difference.ap_C[order]]
    lows, highs = [difference.mean.low, *difference.low_C[order]], [difference.mean.high, *difference.high_C[order]]
    scale = (place(circles[0]["cx"]) - place(zero)) / values[0]
    for found, expected in (
        ([place(circle["cx"]) for circle in circles], values),
        ([place(span["x1"]) for span in spans], lows),
        ([place(span["x2"]) for span in spans], highs),
    ):
        assert found == pytest.approx([place(zero) + scale * value for value in expected], abs=0.1)
        assert all(0 <= x <= 100 for x in found)


def test_the_changed_images_are_shown(tmp_path: Path, comparison: Comparison):
    page = Page(write_comparison(tmp_path / "c.html", comparison))
    (difference,) = comparison.differences
    num_shown = sum(len(each.gained[:TOP]) + len(each.lost[:TOP]) for each in difference.changes)
    assert len(page.all("li")) == num_shown > 10
    titles = [attrs["title"] for attrs in page.all("li")]
    column = max(range(3), key=lambda column: len(difference.changes[column].images))
    each = (difference.changes[column].gained or difference.changes[column].lost)[0]
    assert f"{each.id}, labelled {'present' if each.present else 'absent'}" in titles
    assert "data:image/jpeg;base64," in (tmp_path / "c.html").read_text()
    identities = {attrs["id"] for _, attrs in page.elements if "id" in attrs}
    for attrs in [*page.all("use"), *page.all("a")]:
        assert (attrs["href"] or "").removeprefix("#") in identities
    counts = re.findall(r"(\d+) gained(\d+) lost", page.text)
    assert sorted((int(gained), int(lost)) for gained, lost in counts) == sorted(
        (each.num_gained, each.num_lost) for each in difference.changes
    )


def test_nothing_is_fetched_and_the_same_input_gives_the_same_bytes(tmp_path: Path, comparison: Comparison):
    one = write_comparison(tmp_path / "one.html", comparison).read_bytes()
    assert one == write_comparison(tmp_path / "deep" / "two.html", comparison).read_bytes()
    assert not re.search(rb"(?:src|href)=\"(?!#|data:)", one)
    assert b"<script" not in one


def test_several_runs(tmp_path: Path, predictions: Predictions):
    comparison = compare(*runs(predictions, num_runs=3), names=("base", "noisy", "noisier"), num_replicates=50, num_permutations=99)
    page = Page(write_comparison(tmp_path / "c.html", comparison))
    rows = [row[0] for row in page.rows]
    assert rows[:8] == ["run", "base", "noisy", "noisier", "pair", "noisy − base", "noisier − base", "noisier − noisy"]
    assert rows.count("mAP") == 2
    assert page.text.count("minus base") >= 2
    identities = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(identities) == len(set(identities))
    assert next(row for row in page.rows if row[0] == "noisier − noisy")[5] == p_text(comparison.pairs[2].p_holm)


def test_what_is_undefined_missing_or_hostile(tmp_path: Path):
    """A class without a positive, no image, no interval, ranks, and names that would be markup."""
    rng = np.random.default_rng(0)
    target_NC = (rng.random((30, 2)) < 0.4).astype(np.int8)
    target_NC[:, 1] = 0
    one, two = (
        Predictions(
            ids=tuple(f"<b>{row}" for row in range(30)),
            logit_NC=rng.normal(size=(30, 2)),
            target_NC=target_NC,
            label_set=LabelSet(names=("<img src=x>", "yak")),
        )
        for _ in range(2)
    )
    comparison = compare(one, two, names=("<i>a", "b"), num_replicates=0, num_permutations=9)
    page = Page(write_comparison(tmp_path / "c.html", comparison))
    assert page.all("img") == page.all("i") == page.all("b", "x") == []
    rows = {row[0]: row for row in page.rows}
    assert rows["yak"][2:8] == ["–", "–", "", "–", "–", "–"]
    assert rows["<img src=x>"][3] == "–"  # no replicate, no interval
    assert len(page.all("bdi", "gone")) == len(page.all("li"))
    assert "These images do not show whether" in page.text

    ranks = compare(replace(one, scale="rank"), two, num_replicates=20, num_permutations=9)
    page = Page(write_comparison(tmp_path / "r.html", ranks))
    assert page.all("li") == []
    assert "gained" not in page.rows[0]
    assert "Not known: a run has ranks instead of probabilities." in page.text

    same = Page(write_comparison(tmp_path / "s.html", compare(one, one, num_replicates=20, num_permutations=9)))
    assert "No image is right in one run and wrong in the other." in same.text


def test_an_axis_holds_zero_and_has_round_ticks(comparison: Comparison):
    row = _pair_row(comparison, comparison.pairs[0])

    def axis(*values: float) -> Axis:
        return _axis([replace(row, value=value, low=value, high=value) for value in values])

    assert axis(0.02, 0.31).ticks == (0.0, 0.1, 0.2, 0.3)
    assert axis(-0.0123).ticks == (-0.01, -0.005, 0.0)
    assert 0 in axis(math.nan).ticks
    assert axis(-0.5, 0.5).place(0) == "50.00%"


def test_a_folder_that_cannot_be_written(tmp_path: Path, comparison: Comparison):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"could not save c\.html"):
        write_comparison(tmp_path / "file" / "c.html", comparison)
