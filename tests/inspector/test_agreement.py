"""Cohen's kappa against scikit-learn's and by hand, and the labels on which reviewers disagree."""

import math
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from polytag.inspector.review.agreement import agreements, cohen_kappa, disputed, second_opinions
from polytag.inspector.review.store import open_review

LABELS = st.sampled_from([1, 0, -1])


@given(pairs=st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=30))
def test_kappa_is_that_of_scikit_learn(pairs: list[tuple[int, int]]):
    first, second = zip(*pairs, strict=True)
    if len({*first, *second}) == 1:
        assert math.isnan(cohen_kappa(pairs)), "one answer alone agrees by chance"
        return
    assert math.isclose(cohen_kappa(pairs), cohen_kappa_score(first, second), abs_tol=1e-12)


def test_kappa_by_hand():
    pairs = [(1, 1)] * 20 + [(1, 0)] * 5 + [(0, 1)] * 10 + [(0, 0)] * 15
    assert math.isclose(cohen_kappa(pairs), 0.4)  # p_o = 0.7, p_e = 0.5
    assert math.isnan(cohen_kappa([]))


def test_votes_are_last_decisions_that_are_not_undone(tmp_path: Path):
    with open_review(tmp_path / "review.sqlite") as store:

        def decide(image: str, label: int, reviewer: str) -> None:
            last = store.of_image("val", image).get("cat")
            based_on = last.number if last else 0
            store.decide(split="val", image_id=image, class_name="cat", label=label, given=0, reviewer=reviewer, based_on=based_on)

        decide("a", 1, "Ada")
        decide("a", 0, "Ben")
        decide("b", 1, "Ada")
        decide("b", 1, "Ben")
        decide("c", 0, "Ada")
        decide("c", 1, "Ben")
        store.undo(reviewer="Ben", split="val")
        votes = store.votes("val")
        assert votes == {("a", "cat"): {"Ada": 1, "Ben": 0}, ("b", "cat"): {"Ada": 1, "Ben": 1}, ("c", "cat"): {"Ada": 0}}
        (found,) = agreements(votes)
        assert (found.first, found.second, found.num_labels, found.num_equal, found.kappa) == ("Ada", "Ben", 2, 1, 0.0)
        assert disputed(votes) == [("a", "cat")]
        decide("a", 0, "Cleo")
        assert disputed(store.votes("val")) == [], "two of three agree"
        assert len(agreements(store.votes("val"))) == 3
        decide("a", 1, "Ben")
        assert disputed(store.votes("val")) == []
        decide("a", -1, "Ada")
        assert disputed(store.votes("val")) == [("a", "cat")], "three answers"


def test_an_image_whose_name_is_no_utf_8_has_its_place_among_second_opinions():
    keys = [("\udcff.png", "cat"), ("a.png", "cat")]
    assert sorted(second_opinions({key: {"Ben": 1} for key in keys}, "Ada")) == sorted(keys)
