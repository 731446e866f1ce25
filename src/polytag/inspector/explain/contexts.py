"""Defines the contexts of these pages; docs/reference/inspector.md lists their keys."""

from collections.abc import Sequence
from dataclasses import dataclass

from polytag.inspector.browse.answers import BothRunsAnswer, ClassAnswer, RankedImage, RunAnswer
from polytag.inspector.explain.class_graph import ClassGraph
from polytag.inspector.explain.evidence import SliceOfClass
from polytag.inspector.explain.findings import Finding
from polytag.metrics.class_errors import RecallBySize


@dataclass(frozen=True, kw_only=True)
class Example:
    """An image with the address of its page; the class that it is an error of, where the page has several."""

    image: RankedImage
    link: str
    class_name: str = ""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """The first images of a ranking, and the address of all of them."""

    title: str
    images: Sequence[Example]
    total: int
    link: str


@dataclass(frozen=True, kw_only=True)
class CompanionRow:
    """Another class among the errors of a class."""

    name: str
    num: int
    expected: float
    is_more: bool
    link: str


@dataclass(frozen=True, kw_only=True)
class CompanionTable:
    """The other classes among one kind of errors of a class; `relation` says what they have to do with them."""

    title: str
    relation: str
    num_errors: int
    rows: Sequence[CompanionRow]


@dataclass(frozen=True, kw_only=True)
class SliceRow:
    """A slice with the address of its images, or ""."""

    part: SliceOfClass
    link: str


@dataclass(frozen=True, kw_only=True)
class ClassPage:
    """Why a class is ranked as it is."""

    run: RunAnswer
    chosen: ClassAnswer
    against: Sequence[Sequence[BothRunsAnswer]]
    num_trained_on: int | None
    examples: Sequence[Examples]
    is_pending: bool
    findings: Sequence[Finding]
    companions: Sequence[CompanionTable]
    sizes: RecallBySize | None
    num_sized: int
    slices: Sequence[Sequence[SliceRow]]
    label_issues: int | None


@dataclass(frozen=True, kw_only=True)
class DuplicateLabel:
    """A class that an image of a group is labelled with, or, where another image contradicts it, without."""

    name: str
    is_present: bool
    is_contradicted: bool


@dataclass(frozen=True, kw_only=True)
class DuplicateImage:
    """An image of a group: the address of its thumbnail, of its page, or "" where it has none, and its labels."""

    id: str
    split: str
    thumbnail: str
    link: str
    labels: Sequence[DuplicateLabel]


@dataclass(frozen=True, kw_only=True)
class DuplicateGroup:
    """Images that show one image, and what differs between them."""

    images: Sequence[DuplicateImage]
    difference: str
    is_across: bool
    is_contradictory: bool


@dataclass(frozen=True, kw_only=True)
class LeakageEffect:
    """The mAP with and without the scored images that are also training images."""

    value: float
    without: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class DuplicatesPage:
    """Groups of near duplicates within the run and across splits."""

    run: RunAnswer
    status: str
    num_images: int
    num_done: int
    failure: str
    num_unread: int
    num_flat: int
    num_groups: int
    num_across: int
    num_contradictory: int
    num_leaked: int
    is_pending: bool
    effect: LeakageEffect | None
    show: str
    groups: Sequence[DuplicateGroup]
    total: int
    offset: int
    page_size: int


@dataclass(frozen=True, kw_only=True)
class PairCount:
    """A number of images of a pair, what own errors explain of it, or None, whether it is beyond that, and its address."""

    num: int
    expected: float | None
    is_more: bool
    link: str


@dataclass(frozen=True, kw_only=True)
class PairRow:
    """Two classes: labelled together, predicted together, predicted only, labelled only."""

    first: str
    second: str
    labelled: PairCount
    predicted: PairCount
    invented: PairCount
    broken: PairCount


@dataclass(frozen=True, kw_only=True)
class MatrixCell:
    """One cell: its number of images, its tint from 0 to 4, whether it is an error beyond noise, its address, and a sentence."""

    num: int
    tint: int
    is_more: bool
    link: str
    title: str


@dataclass(frozen=True, kw_only=True)
class TogetherPage:
    """Pairs of classes: labelled together against predicted together."""

    run: RunAnswer
    is_pending: bool
    chosen: str
    num_classes: int
    num_invented: int
    num_broken: int
    graph: ClassGraph | None
    deviating: Sequence[PairRow]
    rows: Sequence[PairRow]
    matrix: Sequence[tuple[str, Sequence[MatrixCell]]]
