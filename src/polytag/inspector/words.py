"""Defines the words that the pages use for labels, decisions and orders. The templates and the scripts read them from here."""

from collections.abc import Mapping

LABEL_TEXT: Mapping[int | None, str] = {1: "present", 0: "absent", -1: "unknown", None: "undecided"}
"""A label as a value."""

TRUTH_TEXT: Mapping[int, str] = {1: "labelled with it", 0: "labelled without it", -1: "label unknown"}
"""The label of an image with respect to the class of a ranking."""

OUTCOME_TEXT: Mapping[str, str] = {
    "true_positive": "right",
    "true_negative": "right",
    "false_positive": "false positive",
    "false_negative": "missed",
    "unknown": "unknown",
    "undecided": "",
}
"""The caption of one decision compared with its label. "undecided" means that the scores are ranks and have no threshold."""

FILTER_TEXT: Mapping[str, str] = {
    "true_positive": "true positive",
    "false_positive": "false positive",
    "false_negative": "missed",
    "true_negative": "true negative",
    "unknown": "unknown",
}
"""The name of each outcome that a ranking can be filtered by."""

BOND_TEXT: Mapping[str, str] = {
    "labelled": "both labelled",
    "predicted": "both predicted",
    "kept": "both labelled and predicted",
    "invented": "both predicted, not both labelled",
    "broken": "both labelled, not both predicted",
}
"""What an image has of two classes."""

CHANGE_TEXT: Mapping[str, str] = {"gained": "gained: right here, wrong there", "lost": "lost: wrong here, right there"}
"""What became of an image's decision against the second run, each run at its own threshold."""

SORT_TEXT: Mapping[str, str] = {
    "score": "score",
    "loss": "loss",
    "suspicion": "suspicion of the label",
    "disagreement": "disagreement of the runs",
    "id": "name",
}
"""The orders of a ranking."""

COLOUR_TEXT: Mapping[str, str] = {
    "error": "decision",
    "label": "label",
    "score": "score",
    "labels": "number of labels",
    "split": "split",
}
"""What the points of the map are coloured by."""

PLACE_TEXT: Mapping[str, str] = {"features": "what the model sees", "umap": "what it sees, by UMAP", "scores": "scores"}
"""What the places of the map are made of."""

KIND_TEXT: Mapping[str, str] = {
    "issues": "suspicious labels",
    "unknown": "unknown labels",
    "all": "both",
    "disputed": "disputed labels",
    "second": "second opinions",
}
"""The kinds of labels that the review queue holds."""

ORDER_TEXT: Mapping[str, str] = {"suspicion": "most suspicious first", "map": "largest effect on mAP first"}
"""The orders of the review queue."""

PAGE_WORDS: Mapping[str, Mapping[str, str]] = {
    "label": {str(label): text for label, text in LABEL_TEXT.items() if label is not None},
    "truth": {str(label): text for label, text in TRUTH_TEXT.items()},
    "outcome": OUTCOME_TEXT,
    "filter": FILTER_TEXT,
    "kind": KIND_TEXT,
    "order": ORDER_TEXT,
    "bond": BOND_TEXT,
    "change": CHANGE_TEXT,
    "place": PLACE_TEXT,
}
"""The words that every page carries as JSON for its scripts."""
