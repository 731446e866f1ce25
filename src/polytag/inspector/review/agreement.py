"""How far reviewers agree: Cohen's kappa for every class and pair of reviewers, and the labels on which they do not.

The vote of a reviewer on a label is their last decision about it that is not undone.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import combinations

from polytag.inspector.review.rows import LabelKey

Votes = Mapping[LabelKey, Mapping[str, int]]
"""The label that each reviewer decided on, by label and reviewer."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Two reviewers on one class.

    num_labels   labels that both decided
    num_equal    of these, labels on which both decided the same
    kappa        Cohen's kappa over present, absent and unknown, at most 1; NaN where both always gave one and the same answer
    """

    class_name: str
    first: str
    second: str
    num_labels: int
    num_equal: int
    kappa: float


def agreements(votes: Votes) -> list[Agreement]:
    """Return the agreement of every two reviewers on every class of which both decided a label; the least agreement first."""
    pairs: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
    for (_, class_name), label_of in votes.items():
        for first, second in combinations(sorted(label_of), 2):
            pairs.setdefault((class_name, first, second), []).append((label_of[first], label_of[second]))
    found = [
        Agreement(
            class_name=class_name,
            first=first,
            second=second,
            num_labels=len(labels),
            num_equal=sum(one == other for one, other in labels),
            kappa=cohen_kappa(labels),
        )
        for (class_name, first, second), labels in pairs.items()
    ]
    return sorted(found, key=lambda each: (each.kappa != each.kappa, each.kappa, each.class_name, each.first, each.second))


def cohen_kappa(labels: Sequence[tuple[int, int]]) -> float:
    """Return (p_o - p_e) / (1 - p_e) of pairs of answers (Cohen 1960): the agreement beyond that of chance; NaN where p_e is 1."""
    number = len(labels)
    first, second = Counter(one for one, _ in labels), Counter(other for _, other in labels)
    num_equal = sum(one == other for one, other in labels)
    num_expected = sum(first[label] * second[label] for label in first)  # times `number`, so that integers decide whether it is 1
    if not number or num_expected == number * number:
        return float("nan")
    return (number * num_equal - num_expected) / (number * number - num_expected)


def disputed(votes: Votes) -> list[LabelKey]:
    """Return the labels on which at least two reviewers voted and no answer has more votes than every other."""
    return [key for key, label_of in votes.items() if len(label_of) > 1 and not _has_majority(label_of)]


def second_opinions(votes: Votes, reviewer: str) -> list[LabelKey]:
    """Return the labels on which others voted and this reviewer did not, in the same random order for everyone.

    The order depends on the names of image and class alone. It tells nothing about the votes, and the first labels are a random
    sample of all of them, on which kappa can be computed at any time.
    """
    return sorted((key for key, label_of in votes.items() if label_of and reviewer not in label_of), key=_place_of)


def _place_of(key: LabelKey) -> bytes:
    return blake2b("\n".join(key).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _has_majority(label_of: Mapping[str, int]) -> bool:
    counts = Counter(label_of.values()).most_common(2)
    return len(counts) == 1 or counts[0][1] > counts[1][1]
