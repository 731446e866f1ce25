"""Generated images for the demo: handwritten digits scattered over paper, chalkboard and blueprint.

The handwriting is scikit-learn's `load_digits` (1,797 digits of 8 x 8 pixels, part of its package), enlarged to pen strokes. The
scenes have the difficulties of real multi-label images on a small scale: several labels per image, objects of many sizes, clutter,
rare classes and uncertain labels. They are written as a Pascal VOC devkit, which the demo reads like VOC itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image, ImageDraw

from polytag.errors import RunError, UsageError
from polytag.files import write_folder, write_text

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

# Relative frequency of each digit: "zero" and "six" are rare, in about one image in twenty.
_FREQUENCY = np.array([0.3, 1.0, 1.0, 1.0, 1.0, 0.9, 0.3, 1.0, 0.9, 0.9])
_NUM_DIGITS = np.array([0.26, 0.36, 0.25, 0.13])  # of images with 1, 2, 3, 4 digits
_DIFFICULT_SHARE = 0.06  # of digits: very faint, tiny, or half out of the image
_VAL_SHARE = 1 / 3  # of the handwriting; each digit is drawn in one split only

Colour = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class _Theme:
    """A surface: pairs of background colours that blend into each other, inks, rulings, and noise."""

    grounds: tuple[tuple[Colour, Colour], ...]
    inks: tuple[Colour, ...]
    rulings: tuple[str, ...]
    grain: float


_THEMES = (
    _Theme(  # paper
        grounds=(
            ((250, 245, 233), (238, 228, 208)),
            ((244, 246, 247), (222, 230, 236)),
            ((240, 245, 236), (216, 228, 212)),
            ((250, 238, 232), (240, 219, 212)),
        ),
        inks=((38, 70, 83), (42, 85, 130), (178, 74, 58), (92, 64, 110), (60, 107, 78), (176, 116, 32), (58, 58, 66)),
        rulings=("lines", "squares", "dots", "none", "none"),
        grain=3.0,
    ),
    _Theme(  # chalkboard
        grounds=(((52, 70, 64), (36, 52, 49)), ((62, 64, 70), (42, 44, 52))),
        inks=((244, 241, 230), (244, 214, 140), (160, 208, 214), (240, 172, 160), (182, 214, 160)),
        rulings=("none", "none", "lines"),
        grain=6.0,
    ),
    _Theme(  # blueprint
        grounds=(((38, 70, 112), (26, 50, 88)), ((34, 82, 104), (22, 58, 80))),
        inks=((236, 244, 250), (150, 206, 236), (248, 216, 150), (244, 178, 160)),
        rulings=("squares", "squares", "dots"),
        grain=3.0,
    ),
    _Theme(  # dusk: pastel card
        grounds=(
            ((246, 214, 190), (214, 176, 196)),
            ((190, 216, 224), (170, 186, 218)),
            ((242, 226, 178), (214, 212, 160)),
            ((206, 222, 200), (150, 190, 188)),
        ),
        inks=((60, 48, 92), (32, 66, 90), (138, 44, 62), (30, 84, 76), (252, 250, 244)),
        rulings=("none",),
        grain=4.0,
    ),
)
_THEME_SHARE = np.array([0.42, 0.2, 0.16, 0.22])


@dataclass(frozen=True, kw_only=True, eq=False)
class _Mark:
    """A drawn digit: its class, box (left, top, right, bottom in pixels, right and bottom exclusive) and VOC's flags."""

    label: int
    box: tuple[int, int, int, int]
    difficult: bool
    truncated: bool


def write_scenes(folder: Path, *, num_train: int = 1600, num_val: int = 800, size_px: int = 96, seed: int = 0) -> Path:
    """Write a VOC devkit of composed scenes to a new folder and return its `VOCdevkit/VOC2012`.

    The same arguments give the same bytes with the same library versions. A scene depends on the seed, its split and its number
    alone, so a larger set starts with the same scenes. The folder appears whole or not at all. Raises UsageError for counts under
    1 or a size under 32 px, RunError for a folder that exists already.
    """
    for name, value, low in (("num_train", num_train, 1), ("num_val", num_val, 1), ("size_px", size_px, 32)):
        if value < low:
            raise UsageError(f"{name} out of range", got=str(value), expected=f"at least {low}")
    if folder.exists():
        raise RunError(
            "the folder for the scenes exists already",
            where=str(folder),
            expected="a new folder, because nothing is overwritten",
            next_step="use the scenes in it, name another folder, or remove this one",
        )
    counts = {"train": num_train, "val": num_val}
    write_folder(folder, lambda fresh: _write_devkit(fresh, counts, size_px=size_px, seed=seed), replace=False)
    return folder / "VOCdevkit" / "VOC2012"


# ---- handwriting ----


def _handwriting(seed: int) -> dict[str, list[np.ndarray]]:
    """By split and class, digits as n x 12 x 12 heights in about [0, 1]: 8 x 8 with a margin, strokes sharpened."""
    from sklearn.datasets import load_digits  # takes half a second, which only the demo needs

    digits: Any = load_digits()
    padded = np.pad(digits.images / 16, ((0, 0), (2, 2), (2, 2)))
    around = sum(np.roll(padded, (dy, dx), (1, 2)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)) / 9
    heights = np.clip(padded + 0.4 * (padded - around), 0, None).astype(np.float32)
    rng = np.random.default_rng((seed, 0))
    hands: dict[str, list[np.ndarray]] = {"train": [], "val": []}
    for label in range(len(CLASSES)):
        rows = rng.permutation(np.flatnonzero(digits.target == label))
        num_val = round(len(rows) * _VAL_SHARE)
        hands["val"].append(heights[rows[:num_val]])
        hands["train"].append(heights[rows[num_val:]])
    return hands


def _stroke(height: np.ndarray, *, size_px: float, rng: np.random.Generator) -> np.ndarray:
    """Coverage in [0, 1] of a digit about `size_px` high, slightly rotated, slanted and stretched, cropped to its box."""
    angle, slant = np.deg2rad(rng.uniform(-14, 14)), rng.uniform(-0.12, 0.12)
    stretch, level = rng.uniform(0.88, 1.15), rng.uniform(0.42, 0.56)
    side = int(np.ceil(size_px * 1.8))
    scale = 8 / size_px  # cells of the small digit for one pixel
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    matrix = np.array([[1, slant], [0, 1]]) @ np.diag([1 / stretch, 1]) @ turn * scale
    shift = 6 - matrix @ np.array([side / 2, side / 2])
    affine = (*matrix[0], shift[0], *matrix[1], shift[1])
    smooth = Image.fromarray(height).transform((side, side), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC)
    # A steep ramp at the level: an edge about one pixel wide, wherever the small digit was half covered by ink.
    alpha = np.clip((np.asarray(smooth) - level) * 0.8 / scale + 0.5, 0, 1)
    rows, columns = np.flatnonzero(alpha.max(axis=1) > 0.5), np.flatnonzero(alpha.max(axis=0) > 0.5)
    return alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


# ---- scenes ----


def _scene(hands: Sequence[np.ndarray], *, size_px: int, rng: np.random.Generator) -> tuple[np.ndarray, list[_Mark]]:
    """An image, uint8 S x S x 3, and the digits in it."""
    theme = _THEMES[rng.choice(len(_THEMES), p=_THEME_SHARE)]
    canvas = _ground(theme, size_px=size_px, rng=rng)
    _doodle(canvas, theme, size_px=size_px, rng=rng)
    marks: list[_Mark] = []
    num_digits = 1 + rng.choice(len(_NUM_DIGITS), p=_NUM_DIGITS)
    for label in rng.choice(len(CLASSES), size=num_digits, p=_FREQUENCY / _FREQUENCY.sum()):
        height = hands[label][rng.integers(len(hands[label]))]
        mark = _write_digit(canvas, height, label=int(label), others=marks, num_digits=num_digits, theme=theme, rng=rng)
        if mark:
            marks.append(mark)
    canvas += rng.normal(0, theme.grain, canvas.shape[:2])[..., None]
    return np.clip(canvas + 0.5, 0, 255).astype(np.uint8), marks


def _write_digit(
    canvas: np.ndarray,
    height: np.ndarray,
    *,
    label: int,
    others: Sequence[_Mark],
    num_digits: int,
    theme: _Theme,
    rng: np.random.Generator,
) -> _Mark | None:
    """Draw a digit at a free position; returns None where there is none."""
    size_px = canvas.shape[0]
    trouble = rng.choice(["faint", "tiny", "cut"]) if rng.random() < _DIFFICULT_SHARE else ""
    largest = 0.62 - 0.04 * num_digits
    size = size_px * (rng.uniform(0.09, 0.11) if trouble == "tiny" else rng.uniform(0.36, largest))
    alpha = _stroke(height, size_px=size, rng=rng)
    for _ in range(40):
        place = _place(alpha.shape, size_px=size_px, cut=trouble == "cut", rng=rng)
        if all(_overlap(place, other.box) <= 0.03 for other in others):
            break
    else:
        return None
    top, left = place[1], place[0]
    box = (max(left, 0), max(top, 0), min(place[2], size_px), min(place[3], size_px))
    strength = rng.uniform(0.10, 0.16) if trouble == "faint" else rng.uniform(0.72, 0.97)
    ink = np.array(theme.inks[rng.integers(len(theme.inks))]) + rng.normal(0, 6, 3)
    inked = strength * alpha[box[1] - top : box[3] - top, box[0] - left : box[2] - left, None]
    patch = canvas[box[1] : box[3], box[0] : box[2]]
    patch += inked * (ink - patch)
    return _Mark(label=label, box=box, difficult=bool(trouble), truncated=box != place)


def _place(shape: tuple[int, ...], *, size_px: int, cut: bool, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """A random box for a digit of this height and width: inside the image, or about half of it outside one side."""
    height, width = shape
    margin = round(0.02 * size_px)
    left = int(rng.integers(margin, max(margin, size_px - width - margin) + 1))
    top = int(rng.integers(margin, max(margin, size_px - height - margin) + 1))
    if cut:
        beyond = rng.uniform(0.5, 0.65)
        side = rng.integers(4)
        if side == 0:
            left = -round(beyond * width)
        elif side == 1:
            left = size_px - round((1 - beyond) * width)
        elif side == 2:
            top = -round(beyond * height)
        else:
            top = size_px - round((1 - beyond) * height)
    return left, top, left + width, top + height


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """The share of the smaller box in their intersection."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return max(0, width) * max(0, height) / smaller


# ---- surfaces ----


def _ground(theme: _Theme, *, size_px: int, rng: np.random.Generator) -> np.ndarray:
    """float64 S x S x 3: a gradient of two colours, a soft cloud over it, and ruling."""
    one, two = (np.array(colour, dtype=float) for colour in theme.grounds[rng.integers(len(theme.grounds))])
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:size_px, 0:size_px] / (size_px - 1) - 0.5
    cloud = np.asarray(
        Image.fromarray(rng.normal(0, 1, (5, 5)).astype(np.float32)).resize((size_px, size_px), Image.Resampling.BICUBIC)
    )
    blend = np.clip(0.5 + 0.7 * (x * np.cos(angle) + y * np.sin(angle)) + 0.12 * cloud, 0, 1)[..., None]
    canvas = one + (two - one) * blend
    ruling = theme.rulings[rng.integers(len(theme.rulings))]
    if ruling != "none":
        canvas += 0.13 * _ruled(ruling, size_px=size_px, rng=rng)[..., None] * (np.array(theme.inks[0]) - canvas)
    return canvas


def _ruled(ruling: str, *, size_px: int, rng: np.random.Generator) -> np.ndarray:
    """Coverage in [0, 1] of lines, squares or dots, slightly tilted."""
    step = size_px * rng.uniform(0.09, 0.14)
    tilt = rng.normal(0, 0.02)
    y, x = np.mgrid[0:size_px, 0:size_px].astype(float)
    across, down = (
        np.abs((t + rng.uniform(0, step)) % step - step / 2) for t in (x - tilt * y, y + tilt * x)
    )  # distance from a line, in pixels
    half_width = size_px / 192
    across, down = (np.clip(half_width + 0.5 - distance, 0, 1) for distance in (across, down))
    if ruling == "lines":
        return down
    return across * down * 2.5 if ruling == "dots" else np.maximum(across, down)


def _doodle(canvas: np.ndarray, theme: _Theme, *, size_px: int, rng: np.random.Generator) -> None:
    """Draw clutter in thin strokes that are not digits."""
    zoom = 3  # drawn larger and reduced, for smooth edges
    for _ in range(rng.integers(0, 5)):
        layer = Image.new("L", (size_px * zoom, size_px * zoom))
        span = size_px * zoom * rng.uniform(0.06, 0.16)
        centre = rng.uniform(0.04, 0.96, 2) * size_px * zoom
        draw = _DOODLES[rng.integers(len(_DOODLES))]
        draw(ImageDraw.Draw(layer), centre, span, rng.uniform(0, 2 * np.pi), max(1, round(zoom * size_px / 64)))
        alpha = np.asarray(layer.resize((size_px, size_px), Image.Resampling.BOX)) / 255 * rng.uniform(0.2, 0.5)
        canvas += alpha[..., None] * (np.array(theme.inks[rng.integers(len(theme.inks))]) - canvas)


Draw = Callable[[ImageDraw.ImageDraw, np.ndarray, float, float, int], None]


def _polyline(points: Callable[[float], list[tuple[float, float]]]) -> Draw:
    """A function that draws a line through points around the origin, scaled from a span of 1."""

    def draw(pen: ImageDraw.ImageDraw, centre: np.ndarray, span: float, angle: float, width: int) -> None:
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        path = np.array(points(angle)) @ turn.T * span + centre
        pen.line([(float(x), float(y)) for x, y in path], fill=255, width=width, joint="curve")

    return draw


def _wave(_: float) -> list[tuple[float, float]]:
    return [(t, 0.25 * np.sin(6 * t)) for t in np.linspace(-1.3, 1.3, 30)]


def _spiral(_: float) -> list[tuple[float, float]]:
    return [(0.09 * t * np.cos(t), 0.09 * t * np.sin(t)) for t in np.linspace(0, 10, 50)]


def _arc(_: float) -> list[tuple[float, float]]:
    return [(1.6 * np.cos(t), 1.6 * np.sin(t)) for t in np.linspace(0, 1.4, 20)]


def _triangle(_: float) -> list[tuple[float, float]]:
    return [(np.cos(t), np.sin(t)) for t in np.arange(4.2) * 2 * np.pi / 3]


def _star(_: float) -> list[tuple[float, float]]:
    return [(np.cos(t), np.sin(t)) for t in np.arange(6.2) * 4 * np.pi / 5]


def _plus(_: float) -> list[tuple[float, float]]:
    return [(-0.7, 0), (0.7, 0), (0, 0), (0, -0.7), (0, 0.7)]


def _line(_: float) -> list[tuple[float, float]]:
    return [(-1.4, 0), (1.4, 0)]


_DOODLES = tuple(_polyline(points) for points in (_wave, _spiral, _arc, _triangle, _star, _plus, _plus, _line))


# ---- the devkit ----


def _write_devkit(folder: Path, counts: dict[str, int], *, size_px: int, seed: int) -> None:
    root = folder / "VOCdevkit" / "VOC2012"
    main = root / "ImageSets" / "Main"
    for place in (root / "JPEGImages", root / "Annotations", main):
        place.mkdir(parents=True)
    hands = _handwriting(seed)
    lists: dict[str, list[tuple[str, list[_Mark]]]] = {}
    for number, (split, count) in enumerate(counts.items(), start=1):
        lists[split] = []
        for index in range(count):
            name = f"{split}_{index + 1:05}"
            pixels, marks = _scene(hands[split], size_px=size_px, rng=np.random.default_rng((seed, number, index)))
            Image.fromarray(pixels).save(root / "JPEGImages" / f"{name}.jpg", quality=92)
            (root / "Annotations" / f"{name}.xml").write_text(_xml(name, marks, size_px=size_px), encoding="utf-8")
            lists[split].append((name, marks))
    lists["trainval"] = lists["train"] + lists["val"]
    for split, scenes in lists.items():
        write_text(main / f"{split}.txt", "".join(f"{name}\n" for name, _ in scenes))
        for label, class_name in enumerate(CLASSES):
            lines = [f"{name} {_value(marks, label):2}\n" for name, marks in scenes]
            write_text(main / f"{class_name}_{split}.txt", "".join(lines))


def _value(marks: Sequence[_Mark], label: int) -> int:
    """VOC's 1 (present), 0 (only difficult ones) or -1 (absent)."""
    difficult = [mark.difficult for mark in marks if mark.label == label]
    return -1 if not difficult else int(not all(difficult))


def _xml(name: str, marks: Sequence[_Mark], *, size_px: int) -> str:
    """VOC's annotation of an image; boxes count pixels from 1 and include both ends."""
    objects = "".join(
        f"\t<object>\n\t\t<name>{escape(CLASSES[mark.label])}</name>\n\t\t<pose>Unspecified</pose>\n"
        f"\t\t<truncated>{int(mark.truncated)}</truncated>\n\t\t<difficult>{int(mark.difficult)}</difficult>\n"
        f"\t\t<bndbox>\n\t\t\t<xmin>{mark.box[0] + 1}</xmin>\n\t\t\t<ymin>{mark.box[1] + 1}</ymin>\n"
        f"\t\t\t<xmax>{mark.box[2]}</xmax>\n\t\t\t<ymax>{mark.box[3]}</ymax>\n\t\t</bndbox>\n\t</object>\n"
        for mark in marks
    )
    return (
        f"<annotation>\n\t<folder>VOC2012</folder>\n\t<filename>{name}.jpg</filename>\n"
        "\t<source>\n\t\t<database>polytag demo scenes</database>\n\t\t<annotation>PASCAL VOC2012</annotation>\n"
        "\t\t<image>scikit-learn load_digits</image>\n\t</source>\n"
        f"\t<size>\n\t\t<width>{size_px}</width>\n\t\t<height>{size_px}</height>\n\t\t<depth>3</depth>\n\t</size>\n"
        f"\t<segmented>0</segmented>\n{objects}</annotation>\n"
    )
