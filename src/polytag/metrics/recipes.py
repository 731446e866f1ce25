"""Whether one recipe is better than another, by several runs of each: beyond the noise of the seeds and of the images.

Shapes: R runs of both recipes, N images, C classes, B replicates, L labelings. Defined in docs/reference/metrics.md, Comparing
recipes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.special import stdtrit

from polytag.contracts import Predictions
from polytag.errors import UsageError
from polytag.metrics.ap import average_precision
from polytag.metrics.bootstrap import bootstrap_weights, replicate_ap
from polytag.metrics.comparison import LEVEL, left_out_note, mark, p_text, signed
from polytag.metrics.groups import Groups, paired_groups
from polytag.metrics.intervals import Estimates, Intervals, difference_intervals, estimates_of
from polytag.metrics.lines import Line, note_lines, shortened
from polytag.metrics.pairing import pair
from polytag.metrics.proportions import Z
from polytag.metrics.significance import same_rankings
from polytag.text import aligned, counted, json_number, number_text

NUM_PERMUTATIONS = 9_999
_ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True, eq=False)
class RecipeRuns:
    """The runs of one recipe: their names, and the mAP of each."""

    name: str
    runs: tuple[str, ...]
    mean_ap_R: np.ndarray

    @property
    def sd(self) -> float:
        """Standard deviation of the runs' mAP."""
        return float(self.mean_ap_R.std(ddof=1))


@dataclass(frozen=True, kw_only=True, eq=False)
class RecipeComparison:
    """The mean mAP of the second recipe's runs minus that of the first's, on the same images.

    low, high               95% interval for other images and other seeds
    p, least_p              of the test that permutes runs and draws images; the smallest that so few runs allow
    se_seeds, se_images     standard errors of `value` from the seeds, and from the images
    num_classes             classes with a positive and a negative
    left_out                a sentence on what `intersect` left out; "" for nothing
    """

    first: RecipeRuns
    second: RecipeRuns
    value: float
    low: float
    high: float
    p: float
    least_p: float
    se_seeds: float
    se_images: float
    num_images: int
    num_classes: int
    num_replicates: int
    seed: int
    left_out: str
    groups: Groups | None = None

    @property
    def is_significant(self) -> bool:
        """Whether p is at most 0.05."""
        return self.p <= LEVEL

    def lines(self, *, width: int | None = None) -> list[Line]:
        """The lines of the tables, each with its kind: a heading, a row or a note, which a `width` wraps."""
        return _lines(self, width=width)

    def __str__(self) -> str:
        return "\n".join(line.text for line in self.lines())

    def to_json(self) -> dict[str, object]:
        """The content of `polytag compare --with --json`: plain values, NaN as None."""
        numbers = ("low", "high", "p", "least_p", "se_seeds", "se_images")
        return {
            "version": 1,
            "num_images": self.num_images,
            **(self.groups.to_json() if self.groups else {}),
            "num_classes": self.num_classes,
            "num_replicates": self.num_replicates,
            "seed": self.seed,
            "left_out": self.left_out,
            "recipes": [
                {
                    "name": recipe.name,
                    "mAP": json_number(float(recipe.mean_ap_R.mean())),
                    "sd": json_number(recipe.sd),
                    "runs": {name: json_number(value) for name, value in zip(recipe.runs, recipe.mean_ap_R, strict=True)},
                }
                for recipe in (self.first, self.second)
            ],
            "difference": json_number(self.value),
            **{name: json_number(getattr(self, name)) for name in numbers},
            "significant": self.is_significant,
        }


def compare_recipes(
    first: Sequence[Predictions],
    second: Sequence[Predictions],
    *,
    run_names: Sequence[str] = (),
    intersect: bool = False,
    num_replicates: int = 1000,
    num_permutations: int = NUM_PERMUTATIONS,
    seed: int = 0,
    groups: Groups | None = None,
) -> RecipeComparison:
    """Compare two recipes, each by two or more runs that differ in their seed alone, on the same images.

    `run_names` are those of all runs, the first recipe's before the second's. The other arguments are those of `compare`. Raises
    what `compare` raises, and UsageError for a recipe with a single run, which says nothing about its seeds.
    """
    tables = (*first, *second)
    run_names = tuple(run_names) or tuple(f"{'AB'[row >= len(first)]}{row + 1}" for row in range(len(tables)))
    _require_several(len(first), len(second))
    pairing = pair(tables, names=run_names, intersect=intersect)
    paired, target_NC = pairing.tables, pairing.tables[0].target_NC
    groups = None if groups is None else paired_groups(groups, tables[0].ids, paired[0].ids)
    ap_RC = np.array([average_precision(target_NC, table.logit_NC) for table in paired])
    is_second_R = np.arange(len(tables)) >= len(first)
    scored_C = ~np.isnan(ap_RC[0])
    mean_ap_R = ap_RC[:, scored_C].mean(axis=1) if scored_C.any() else np.full(len(tables), np.nan)
    weight_NB = bootstrap_weights(len(target_NC), num_replicates=num_replicates, seed=seed, groups=groups)
    replicate_RBC = np.array([replicate_ap(target_NC, weight_NB, score_NC=table.logit_NC, groups=groups) for table in paired])
    noise = _noise(mean_ap_R, replicate_RBC, is_second_R)
    of_images = _interval_over_images(paired, ap_RC, replicate_RBC, is_second_R, groups)
    longer = noise.distance - Z * noise.sd_of_images
    value = float(mean_ap_R[is_second_R].mean() - mean_ap_R[~is_second_R].mean())
    label_LR = _labelings(is_second_R, num_permutations=num_permutations, seed=seed)
    return RecipeComparison(
        first=RecipeRuns(name="A", runs=tuple(run_names[: len(first)]), mean_ap_R=mean_ap_R[~is_second_R]),
        second=RecipeRuns(name="B", runs=tuple(run_names[len(first) :]), mean_ap_R=mean_ap_R[is_second_R]),
        value=value,
        low=float(np.clip(of_images.mean_low - longer, -1, 1)),
        high=float(np.clip(of_images.mean_high + longer, -1, 1)),
        p=_p(value, mean_ap_R, label_LR, noise, seed=seed),
        least_p=_least_p(len(first), len(second)),
        se_seeds=noise.se_seeds,
        se_images=noise.se_images,
        num_images=len(target_NC),
        num_classes=int(scored_C.sum()),
        num_replicates=num_replicates,
        seed=seed,
        left_out=left_out_note(run_names, pairing.num_images_left_out, pairing.classes_left_out, pairing.num_labels_left_out),
        groups=groups,
    )


def _require_several(num_first: int, num_second: int) -> None:
    if min(num_first, num_second) < 2:
        raise UsageError(
            "a recipe has a single run, which says nothing about its seeds",
            got=f"{counted(num_first, 'runs')} of A, {counted(num_second, 'runs')} of B",
            expected="two runs or more of each, with different seeds",
            next_step="without --with, two finished models are compared",
        )


def _interval_over_images(
    tables: Sequence[Predictions], ap_RC: np.ndarray, replicate_RBC: np.ndarray, is_second_R: np.ndarray, groups: Groups | None
) -> Intervals:
    """Intervals of the difference of the means of these runs, as `compare` has them for two runs."""
    target_NC, first_NC = tables[0].target_NC, tables[0].logit_NC
    estimates_R = [
        estimates_of(target_NC, table.logit_NC, ap_C=ap_C, groups=groups) for table, ap_C in zip(tables, ap_RC, strict=True)
    ]
    num_first = int((~is_second_R).sum())
    return difference_intervals(
        replicate_RBC[is_second_R].mean(axis=0) - replicate_RBC[~is_second_R].mean(axis=0),
        _mean_of(estimates_R[:num_first], unlike=-2),
        _mean_of(estimates_R[num_first:], unlike=-3),
        same_C=np.all([same_rankings(target_NC, first_NC, table.logit_NC) for table in tables[1:]], axis=0),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Noise:
    """The standard errors of the difference in mAP.

    se_seeds       that of the runs' mAP on these images, but no less than what the images alone make of runs of one recipe
    se_images      that of the images, for the mean of infinitely many runs
    sd_of_images   that of the images, for these runs
    distance       half the width of the 95% interval, by Student's t
    image_B        deviations of the difference of the means of infinitely many runs, over the replicates
    """

    se_seeds: float
    se_images: float
    sd_of_images: float
    distance: float
    image_B: np.ndarray


def _noise(mean_ap_R: np.ndarray, replicate_RBC: np.ndarray, is_second_R: np.ndarray) -> _Noise:
    """Two sources, of which none counts twice.

    Images change every run of a recipe alike, and each run on its own. The second part is in the spread of the runs already, and so
    is taken off the variance over the replicates (the analysis of variance of runs within recipes, crossed with images). Degrees of
    freedom are Satterthwaite's (1946); those of the images are taken as infinite.
    """
    defined_BC = ~np.isnan(replicate_RBC[0])
    kept_B = defined_BC.any(axis=1)
    if not kept_B.any():
        nan = math.nan
        return _Noise(se_seeds=nan, se_images=nan, sd_of_images=nan, distance=nan, image_B=np.zeros(0))
    number_B = defined_BC.sum(axis=1)[kept_B]
    replicate_RB = np.where(defined_BC, replicate_RBC, 0).sum(axis=2)[:, kept_B] / number_B
    deviation_RB = replicate_RB - replicate_RB.mean(axis=1, keepdims=True)
    difference_B = deviation_RB[is_second_R].mean(axis=0) - deviation_RB[~is_second_R].mean(axis=0)
    of_images = float(np.square(difference_B).mean())
    of_runs, own, scale = 0.0, 0.0, 0.0
    for is_in_R in (~is_second_R, is_second_R):
        number = is_in_R.sum()
        of_recipe = float(mean_ap_R[is_in_R].var(ddof=1)) / number
        of_runs, scale = of_runs + of_recipe, scale + of_recipe**2 / (number - 1)
        own += float(deviation_RB[is_in_R].var(axis=0, ddof=1).mean()) / number
    own = min(own, of_images)
    shared, seeds = of_images - own, max(of_runs, own)
    total = shared + seeds
    quantile = Z if scale <= _ROUNDING * total**2 else float(stdtrit(max(1.0, total**2 / scale), 0.975))
    return _Noise(
        se_seeds=math.sqrt(seeds),
        se_images=math.sqrt(shared),
        sd_of_images=math.sqrt(of_images),
        distance=quantile * math.sqrt(total),
        image_B=difference_B * math.sqrt(shared / of_images) if of_images > 0 else difference_B,
    )


def _labelings(is_second_R: np.ndarray, *, num_permutations: int, seed: int) -> np.ndarray:
    """bool L x R: which runs are called the second recipe's. All ways, each as often, or the observed one and random ones."""
    num_runs, num_second = len(is_second_R), int(is_second_R.sum())
    num_ways = math.comb(num_runs, num_second)
    if num_ways <= num_permutations:
        label_LR = np.zeros((num_ways, num_runs), bool)
        for row, chosen in enumerate(combinations(range(num_runs), num_second)):
            label_LR[row, list(chosen)] = True
        return np.tile(label_LR, (-(-num_permutations // num_ways), 1))
    rng = np.random.default_rng([seed, 2])
    return np.concatenate([is_second_R[None], rng.permuted(np.tile(is_second_R, (num_permutations, 1)), axis=1)])


def _least_p(num_first: int, num_second: int) -> float:
    """Of all labelings, the observed one is as extreme as itself; so is its reverse, which exists for equal numbers of runs."""
    return (1 + (num_first == num_second)) / math.comb(num_first + num_second, num_first)


def _p(value: float, mean_ap_R: np.ndarray, label_LR: np.ndarray, noise: _Noise, *, seed: int) -> float:
    """The share of labelings whose difference, alone or with the noise of the images added, is at least as large as the observed.

    The observed labeling is one of them. Alone, the differences are those of an exact test of the seeds; p is never below it.
    """
    if np.isnan(mean_ap_R).any() or not len(noise.image_B):
        return math.nan
    num_second = label_LR[0].sum()
    sum_L = label_LR @ mean_ap_R
    seed_L = sum_L / num_second - (mean_ap_R.sum() - sum_L) / (len(mean_ap_R) - num_second)
    rng = np.random.default_rng([seed, 3])
    image_L = rng.choice(noise.image_B, len(label_LR)) * rng.choice([-1, 1], len(label_LR))
    return float((np.maximum(np.abs(seed_L), np.abs(seed_L + image_L)) >= abs(value) - _ROUNDING).mean())


def _mean_of(estimates_R: Sequence[Estimates], *, unlike: int) -> Estimates:
    """The mean over the runs of a recipe; `unlike` is the row of a class's first positive where it is not the same in every run."""
    first = estimates_R[0]
    unpreceded_RC = np.array([each.unpreceded_C for each in estimates_R])
    return replace(
        first,
        ap_C=np.mean([each.ap_C for each in estimates_R], axis=0),
        left_out_C=np.mean([each.left_out_C for each in estimates_R], axis=0),
        lowest_C=np.mean([each.lowest_C for each in estimates_R], axis=0),
        unpreceded_C=np.where((unpreceded_RC == first.unpreceded_C).all(axis=0), first.unpreceded_C, unlike),
    )


def _lines(found: RecipeComparison, *, width: int | None) -> list[Line]:
    """The runs of each recipe, their difference, and the notes."""
    runs = [["run", "mAP", "sd"]]
    for recipe in (found.first, found.second):
        mean = float(recipe.mean_ap_R.mean())
        runs.append(
            [f"{recipe.name} ({counted(len(recipe.runs), 'runs')})", number_text(mean, digits=4), number_text(recipe.sd, digits=4)]
        )
        runs += [
            [f"  {shortened(name)}", number_text(value, digits=4), ""]
            for name, value in zip(recipe.runs, recipe.mean_ap_R, strict=True)
        ]
    interval = "" if math.isnan(found.low) else f"[{signed(found.low)}, {signed(found.high)}]"
    difference = [
        [f"mAP ({counted(found.num_classes, 'classes')})", "difference", "95% interval", "", "p"],
        [
            f"{found.second.name} − {found.first.name}",
            signed(found.value, digits=4),
            interval,
            mark(found.value, p_holm=found.p),
            p_text(found.p),
        ],
    ]
    lines: list[Line] = []
    for rows in (runs, difference):
        heading, *others = aligned(rows)
        lines += [Line(text=heading, kind="heading"), *(Line(text=text, kind="row") for text in others), Line(text="", kind="")]
    return lines + note_lines(_notes(found), width=width)


def _notes(found: RecipeComparison) -> list[str]:
    """Sentences on the pairing, the interval, and p."""
    few = f", so nothing can be marked: four runs of each allow {_least_p(4, 4):.3f}." if found.least_p > LEVEL else "."
    notes = [
        f"Paired by id on the same {counted(found.num_images, 'images')}.",
        "The 95% interval is for other images and other seeds: standard error of the difference "
        f"{number_text(found.se_seeds, digits=4)} from the seeds, {number_text(found.se_images, digits=4)} from the images.",
        "p: two-sided, runs permuted among the recipes with the noise of the images added; with "
        f"{len(found.first.runs)} and {len(found.second.runs)} runs it is at least {p_text(found.least_p)}{few}",
    ]
    if found.left_out:
        notes.insert(1, found.left_out)
    if found.groups:
        notes.append(found.groups.note)
    return notes
