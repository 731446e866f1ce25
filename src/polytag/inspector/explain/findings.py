"""Says in one line each what stands out about a class, the most errors first. Nothing is said that chance explains."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

import numpy as np

from polytag.inspector.browse.answers import ClassAnswer
from polytag.inspector.explain.evidence import ClassEvidence, SliceOfClass
from polytag.metrics.class_errors import SIZES, Companions
from polytag.metrics.exact_tests import SIGNIFICANT
from polytag.metrics.frequency import TAIL_UNDER
from polytag.metrics.intervals import FEW_POSITIVES
from polytag.metrics.proportions import wilson
from polytag.text import counted

_MAX_CLASSES = 3  # of each kind of companion


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A line about a class.

    num_errors   how many of its errors the line is about beyond what chance gives; infinite where nothing else can be trusted
    link         the page that shows the images, or ""
    """

    text: str
    num_errors: float
    link: str = ""
    link_text: str = ""


def findings(
    chosen: ClassAnswer,
    evidence: ClassEvidence,
    *,
    slices: Sequence[Sequence[SliceOfClass]],
    num_trained_on: int | None,
    num_label_issues: int,
    num_leaked: int,
) -> list[Finding]:
    """Return what stands out, the most errors first.

    slices             of every column
    num_trained_on     training images labelled with the class, or None where they are not known
    num_label_issues   labels that the model confidently contradicts
    num_leaked         its positives with a near duplicate among the training images
    """
    found = [*_about_the_number(chosen, num_trained_on), *_about_companions(chosen.name, evidence), *_about_sizes(evidence)]
    found += _about_slices(chosen, slices)
    if num_label_issues:
        found.append(
            Finding(
                text=f"The model confidently contradicts {counted(num_label_issues, 'labels')} of this class: "
                "they may be wrong, and not the model.",
                num_errors=0.0,  # the mistakes of the model are among them, so they explain no error
                link="/review?" + urlencode({"class": chosen.name}),
                link_text="review them",
            )
        )
    if num_leaked:
        has = "has" if num_leaked == 1 else "have"
        found.append(
            Finding(
                text=f"{num_leaked:,} of its {counted(evidence.num_present, 'positives')} {has} a near duplicate among the "
                "training images: its AP is too high.",
                num_errors=num_leaked,
                link="/duplicates",
                link_text="near duplicates",
            )
        )
    return sorted(found, key=lambda each: -each.num_errors)


def _about_the_number(chosen: ClassAnswer, num_trained_on: int | None) -> Iterator[Finding]:
    if chosen.num_present == 0:
        yield Finding(text="No image here is labelled with it, so its AP and recall are undefined.", num_errors=math.inf)
    elif chosen.is_few:
        interval = f" (95% interval {_interval(chosen.ap_low, chosen.ap_high)})" if chosen.ap_low is not None else ""
        images = counted(chosen.num_present, "images")
        yield Finding(
            text=f"Only {images} here {_are(chosen.num_present)} labelled with it, fewer than {FEW_POSITIVES}: its AP is mostly "
            f"chance{interval}.",
            num_errors=math.inf,
        )
    elif chosen.ap_low is not None and chosen.ap_chance is not None and chosen.ap_low <= chosen.ap_chance:
        yield Finding(
            text=f"Its AP, {chosen.ap:.3f} ({_interval(chosen.ap_low, chosen.ap_high)}), may be that of a random order, "
            f"{chosen.ap_chance:.3f}.",
            num_errors=math.inf,
        )
    if num_trained_on is not None and num_trained_on < TAIL_UNDER:
        images = counted(num_trained_on, "training images") if num_trained_on else "no training image"
        only = "Only " if num_trained_on else ""
        text = f"{only}{images} {_are(num_trained_on or 1)} labelled with it."
        yield Finding(text=text[0].upper() + text[1:], num_errors=math.inf)


def _about_companions(name: str, evidence: ClassEvidence) -> Iterator[Finding]:
    kinds = (
        (evidence.in_false_positives, "false_positive", "false positives", "labelled {other}", "present"),
        (evidence.beside_misses, "false_negative", "misses", "predicted as {other}", "predicted"),
        (evidence.among_misses, "false_negative", "misses", "also labelled {other}", "present"),
    )
    told: set[int] = set()
    for companions, outcome, errors, relation, parameter in kinds:
        if companions is None:
            continue
        columns = [column for column in companions.most_first if companions.is_more_C[column]]
        if parameter == "present" and outcome == "false_negative":
            columns = [column for column in columns if column not in told]
        for column in columns[:_MAX_CLASSES]:
            if outcome == "false_negative":
                told.add(column)
            other = evidence.names[column]
            yield Finding(
                text=_companion_text(companions, column, errors=errors, relation=relation.format(other=other)),
                num_errors=float(companions.num_C[column] - companions.expected_C[column]),
                link="/ranking?" + urlencode({"class": name, "outcome": outcome, parameter: other}),
                link_text=counted(int(companions.num_C[column]), "images"),
            )


def _companion_text(companions: Companions, column: int, *, errors: str, relation: str) -> str:
    num, total = int(companions.num_C[column]), int(companions.errors_C[column])
    low, high = wilson(np.array(num), np.array(total))
    share = f"{num / total:.0%}, {float(low):.0%}–{float(high):.0%}"
    return f"{num:,} of its {total:,} {errors} are {relation} ({share}); chance gives {_few(companions.expected_C[column])}."


def _about_sizes(evidence: ClassEvidence) -> Iterator[Finding]:
    sizes = evidence.sizes
    if sizes is None:
        return
    num, found = int(sizes.num_S.sum()), int(sizes.found_S.sum())
    for s, size in enumerate(SIZES):
        if sizes.p_S[s] <= SIGNIFICANT:
            recall = _recall(int(sizes.num_S[s]), int(sizes.found_S[s]))
            rest = _recall(num - int(sizes.num_S[s]), found - int(sizes.found_S[s]))
            misses = int(sizes.num_S[s] - sizes.found_S[s])
            yield Finding(
                text=f"{size.capitalize()} objects are found less often: recall {recall}, of the others {rest}.",
                num_errors=misses - int(sizes.num_S[s]) * (num - found) / num,
            )


def _about_slices(chosen: ClassAnswer, of_columns: Sequence[Sequence[SliceOfClass]]) -> Iterator[Finding]:
    for slices in of_columns:
        num, found = sum(each.num_present for each in slices), sum(each.num_found for each in slices)
        for each in slices:
            link = ranking_of_slice(chosen.name, each, outcome="false_negative")
            if each.p <= SIGNIFICANT:
                rest = _recall(num - each.num_present, found - each.num_found)
                yield Finding(
                    text=f"It is found less often where {each.column} is {each.value}: recall "
                    f"{_recall(each.num_present, each.num_found)}, elsewhere {rest}.",
                    num_errors=(each.num_present - each.num_found) - each.num_present * (num - found) / num,
                    link=link,
                    link_text=counted(each.num_present - each.num_found, "images") if link else "",
                )
            elif _is_ranked_worse(chosen, each):
                yield Finding(
                    text=f"It is ranked worse where {each.column} is {each.value}: AP {each.ap:.3f} "
                    f"({_interval(each.low, each.high)}), over all images {chosen.ap:.3f}.",
                    num_errors=0.0,
                    link=ranking_of_slice(chosen.name, each),
                    link_text=counted(each.num_images, "images") if each.filters else "",
                )


def _is_ranked_worse(chosen: ClassAnswer, each: SliceOfClass) -> bool:
    """Whether the AP's interval is below that of all images, and not for want of positives: a random order would do as well."""
    if chosen.ap_low is None or chosen.ap_chance is None or each.num_present < FEW_POSITIVES:
        return False
    return each.high < chosen.ap_low and each.chance >= chosen.ap_chance


def ranking_of_slice(name: str, each: SliceOfClass, **more: str) -> str:
    """Return the address of the slice's images, or "" where no ranking filters by it, such as for a bin of a column of numbers."""
    return "/ranking?" + urlencode({"class": name, **more, **each.filters}) if each.filters else ""


def _recall(num: int, found: int) -> str:
    low, high = wilson(np.array(found), np.array(num))
    return f"{found / num:.2f} ({float(low):.2f}–{float(high):.2f})" if num else "undefined"


def _interval(low: float | None, high: float | None) -> str:
    return "undefined" if low is None or high is None else f"{low:.3f}–{high:.3f}"


def _few(number: float) -> str:
    return f"{number:.1f}" if number < 10 else f"{number:,.0f}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
