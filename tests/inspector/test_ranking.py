"""Orders and filters against a plain reading of their definitions, image by image."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytag.contracts import LabelSet, Predictions
from polytag.errors import UsageError
from polytag.inspector.browse.ranking import BONDS, OUTCOMES, Query, Rankings, ascending, sort_values, text_of
from polytag.inspector.inspection import Inspection, compared
from polytag.metrics.label_issues import find_label_issues
from polytag.report.ranking import ranked_rows

NAMES = ("cat", "dog", "boat")


def table(num_images: int = 40, seed: int = 0, scale: str = "logit") -> Predictions:
    rng = np.random.default_rng(seed)
    target_NC = rng.integers(-1, 2, (num_images, 3)).astype(np.int8)
    logit_NC = np.round(2 * target_NC + rng.normal(0, 2, target_NC.shape), 1)  # with ties
    ids = tuple(f"{word}/{row}" for row, word in zip(range(num_images), rng.choice(["Left", "right"], num_images), strict=True))
    return Predictions(ids=ids, logit_NC=logit_NC, target_NC=target_NC, label_set=LabelSet(names=NAMES), scale=scale)


def inspection(predictions: Predictions | None = None, **more: object) -> Inspection:
    predictions = table() if predictions is None else predictions
    return Inspection(name="run", review_file=Path("review.sqlite"), predictions=predictions, threshold_C=np.full(3, 0.5), **more)


QUERIES = st.builds(
    Query,
    column=st.integers(0, 2),
    sort=st.sampled_from(["score", "loss", "id"]),
    is_ascending=st.booleans(),
    threshold=st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]),
    outcomes=st.frozensets(st.sampled_from(OUTCOMES[:5])),
    min_labels=st.integers(0, 3),
    max_labels=st.one_of(st.none(), st.integers(0, 3)),
    present=st.frozensets(st.integers(0, 2), max_size=2),
    absent=st.frozensets(st.integers(0, 2), max_size=2),
    predicted=st.frozensets(st.integers(0, 2), max_size=1),
    not_predicted=st.frozensets(st.integers(0, 2), max_size=1),
    other=st.one_of(st.none(), st.integers(0, 2)),
    bond=st.sampled_from(BONDS),
    column_name=st.sampled_from(["", "site"]),
    value=st.sampled_from(["a", "2", ""]),
    text=st.sampled_from(["", "left", "RIGHT/1", "nowhere"]),
)


def has_bond(target: np.ndarray, said: list[bool], two: set[int], bond: str) -> bool:
    if any(target[c] < 0 for c in two):
        return False
    labelled, predicted = all(target[c] == 1 for c in two), all(said[c] for c in two)
    return {
        "labelled": labelled,
        "predicted": predicted,
        "kept": labelled and predicted,
        "invented": predicted and not labelled,
        "broken": labelled and not predicted,
    }[bond]


@settings(max_examples=250)
@given(query=QUERIES, seed=st.integers(0, 5))
def test_rows_are_those_of_a_plain_reading(query: Query, seed: int):
    predictions = table(seed=seed)
    site_N = [["a", 2.0, None][row % 3] for row in range(len(predictions))]
    found = Rankings(inspection(predictions, column_N={"site": site_N})).rows(query)

    def passes(row: int) -> bool:
        target, logit = predictions.target_NC[row], predictions.logit_NC[row, query.column]
        above, truth = 1 / (1 + np.exp(-logit)) > query.threshold, target[query.column]
        outcome_of = {(1, True): "true_positive", (1, False): "false_negative", (0, True): "false_positive"}
        outcome = "unknown" if truth < 0 else outcome_of.get(
            (int(truth), bool(above)), "true_negative"
        )  # fmt: skip
        num_labels = sum(label == 1 for label in target)
        said = [logit > 0 for logit in predictions.logit_NC[row]]  # at the threshold of every class, one half
        return (
            (not query.outcomes or outcome in query.outcomes)
            and num_labels >= query.min_labels
            and (query.max_labels is None or num_labels <= query.max_labels)
            and all(target[c] == 1 for c in query.present)
            and all(target[c] == 0 for c in query.absent)
            and all(said[c] for c in query.predicted)
            and not any(said[c] for c in query.not_predicted)
            and (query.other is None or has_bond(target, said, {query.column, query.other}, query.bond))
            and (not query.column_name or {"a": "a", 2.0: "2", None: ""}[site_N[row]] == query.value)
            and query.text.lower() in predictions.ids[row].lower()
        )

    def key(row: int) -> tuple[object, ...]:
        direction = 1 if query.is_ascending else -1
        logit, truth = float(predictions.logit_NC[row, query.column]), predictions.target_NC[row, query.column]
        if query.sort == "id":
            place = sorted(predictions.ids).index(predictions.ids[row])
            return (direction * place,)
        if query.sort == "loss":
            if truth < 0:
                return (1, 0, predictions.ids[row])
            return (0, direction * np.logaddexp(0, -logit if truth == 1 else logit), predictions.ids[row])
        return (direction * logit, predictions.ids[row])

    assert found.tolist() == sorted(filter(passes, range(len(predictions))), key=key)


NEAR = (0.0, -0.0, 1.0, 1.0 + 1e-12, 1.0 - 1e-12, -1.0, -1.0 - 1e-12, 1e-300, -1e-300, 1e300, 2e300, -np.inf, np.nan)


@settings(max_examples=250)
@given(values=st.lists(st.one_of(st.sampled_from(NEAR), st.floats()), max_size=40), seed=st.integers(0, 5))
def test_values_that_one_float32_stands_for_keep_their_order_and_equal_ones_that_of_the_ids(values: list[float], seed: int):
    value_N, by_id_N = np.array(values, np.float64), np.random.default_rng(seed).permutation(len(values))
    place_N = np.argsort(by_id_N)
    value_N[value_N == np.inf] = 0  # undefined values come after every number, and no value is infinite
    assert ascending(value_N, by_id_N=by_id_N).tolist() == np.lexsort((place_N, value_N)).tolist()


@pytest.mark.parametrize("lowest", [False, True])
def test_the_order_is_the_reports(lowest: bool):
    predictions = table(100)
    for column, name in enumerate(NAMES):
        rows = Rankings(inspection(predictions)).rows(Query(column=column, is_ascending=lowest))
        assert rows[:50].tolist() == [each.row for each in ranked_rows(predictions, class_name=name, top=50, lowest=lowest)]


def test_suspicion_has_the_order_of_label_issues():
    predictions = table(300)
    issues = find_label_issues(predictions, top=300).classes[1]
    rows = Rankings(inspection(predictions)).rows(Query(column=1, sort="suspicion"))
    given = [row for row in rows.tolist() if predictions.target_NC[row, 1] >= 0]
    assert given[: len(issues.issues)] == [each.row for each in issues.issues]


def test_disagreement_pairs_the_runs_by_id_whatever_their_order():
    first = table(30)
    order = np.random.default_rng(1).permutation(30)[:20]
    second = replace(first.take(order), logit_NC=first.take(order).logit_NC + np.arange(20)[:, None] / 10)
    second = replace(  # and the classes the other way round
        second, label_set=LabelSet(names=NAMES[::-1]), logit_NC=second.logit_NC[:, ::-1], target_NC=second.target_NC[:, ::-1]
    )
    looked = inspection(first, compared=[compared("second", second, first=first)])
    value_N = sort_values(looked, 0, "disagreement")
    place = {row: number for number, row in enumerate(order.tolist())}
    for row in range(30):
        if row not in place:
            assert np.isnan(value_N[row])
            continue
        own, other = first.logit_NC[row, 0], first.logit_NC[row, 0] + place[row] / 10
        assert value_N[row] == pytest.approx(abs(1 / (1 + np.exp(-own)) - 1 / (1 + np.exp(-other))))
    rows = Rankings(looked).rows(Query(column=0, only_disagreements=True))
    expected = [
        row for row in place if (first.logit_NC[row, 0] > 0) != (first.logit_NC[row, 0] + place[row] / 10 > 0)
    ]  # fmt: skip
    assert sorted(rows.tolist()) == sorted(expected)
    assert expected


def test_ranks_have_an_order_and_no_decision():
    looked = inspection(table(scale="rank"))
    assert len(Rankings(looked).rows(Query(column=0))) == 40
    known = Rankings(looked).rows(Query(column=0, outcomes=frozenset({"undecided"})))
    assert sorted(known.tolist()) == np.flatnonzero(looked.predictions.target_NC[:, 0] >= 0).tolist()
    for sort in ("loss", "suspicion", "disagreement", "colour"):
        with pytest.raises(UsageError):
            Rankings(looked).rows(Query(column=0, sort=sort))


def test_an_unknown_column_is_told():
    with pytest.raises(UsageError, match="unknown column"):
        Rankings(inspection()).rows(Query(column=0, column_name="camera", value="1"))


def test_values_as_they_stand_in_an_address():
    assert [text_of(value) for value in ("a", 2.0, 2.5, None, float("nan"))] == ["a", "2", "2.5", "", ""]
