"""Grids of the images that a model scores highest and lowest for a class, with their labels, as PNG files."""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from polytag import files
from polytag.contracts import ABSENT, PRESENT, UNKNOWN, LabelSet, Predictions
from polytag.report.ranking import TOP, TOP_POSITIVES, RankedRow, num_targets, ranked_rows, side_of
from polytag.report.thumbnails import num_threads, read_thumbnail

NUM_COLUMNS = 10
TILE_PX, GAP_PX, CAPTION_PX, MARGIN_PX, HEADER_PX = 104, 10, 20, 24, 76
BORDER_PX, BADGE_PX = 3, 20
IMAGE_PX = TILE_PX - 2 * BORDER_PX

INK, MUTED, PAPER, MATTE = (28, 31, 35), (104, 112, 122), (255, 255, 255), (240, 242, 244)
RIGHT, WRONG, UNDECIDED = (37, 99, 168), (184, 74, 0), (128, 136, 146)
"""Blue: the decision at the threshold agrees with the label. Orange: it does not. Grey: unknown label, or ranks. Safe for
colour-blind readers."""

_MAX_THUMBNAILS = 4096  # in memory: 130 MB


@dataclass(frozen=True, kw_only=True)
class _Title:
    """What a grid is of."""

    class_name: str
    lowest: bool
    positives: bool

    def text(self, num: int) -> str:
        what = "lowest" if self.lowest else "highest"
        if self.positives:
            return f"the {num} {what} scored positive" + ("s" if num != 1 else "")
        return f"the {num} {what} score" + ("s" if num != 1 else "")


def write_grids(
    folder: Path,
    *,
    predictions: Predictions,
    threshold: float | Sequence[float] | np.ndarray = 0.5,
    top: int = TOP,
    class_names: Sequence[str] = (),
) -> list[Path]:
    """Write the grids of these classes, or of all by default; returns the files.

    `<class>-top.png` and `<class>-bottom.png` are the highest and the lowest scored images, `<class>-bottom-positives.png` the
    20 lowest scored ones that are labelled with the class, at most `top`; a class without a positive has none. `threshold` is that
    of all classes, or one of each. A row has ten images. An unreadable image is a grey tile. `file_stem` replaces class names that
    a file system would reject or confuse. Twenty classes took 2 s on two cores.

    Raises UsageError for an unknown class name; RunError if the folder cannot be written.
    """
    names = predictions.label_set.names
    threshold_C = np.broadcast_to(np.asarray(threshold, float), len(names))
    with files.saving(folder):
        folder.mkdir(parents=True, exist_ok=True)

    @lru_cache(_MAX_THUMBNAILS)
    def thumbnail(path: str) -> Image.Image | None:
        return read_thumbnail(path, size_px=IMAGE_PX)

    def write(class_name: str) -> list[Path]:
        written: list[Path] = []
        for lowest, positives, num in ((False, False, top), (True, False, top), (True, True, min(top, TOP_POSITIVES))):
            rows = ranked_rows(predictions, class_name=class_name, top=num, lowest=lowest, positives=positives)
            if positives and not rows:
                continue
            title = _Title(class_name=class_name, lowest=lowest, positives=positives)
            thumbnails = [thumbnail(row.image_path) for row in rows]
            grid = _drawn(rows, thumbnails, title=title, threshold=float(threshold_C[names.index(class_name)]))
            path = folder / file_name(class_name, predictions.label_set, lowest=lowest, positives=positives)
            content = BytesIO()
            grid.save(content, "PNG", compress_level=3)
            files.write_bytes(path, content.getvalue())
            written.append(path)
        return written

    with ThreadPoolExecutor(num_threads()) as pool:
        return [path for paths in pool.map(write, class_names or names) for path in paths]


def draw_grid(
    predictions: Predictions,
    *,
    class_name: str,
    threshold: float = 0.5,
    top: int = TOP,
    lowest: bool = False,
    positives: bool = False,
) -> Image.Image:
    """One grid as an RGB image: ten tiles per row, the score below each, the label a sign, the decision the colour of the frame.

    With `positives`, only images that are labelled with the class. `threshold` is that of the class. Raises UsageError for an
    unknown class name.
    """
    rows = ranked_rows(predictions, class_name=class_name, top=top, lowest=lowest, positives=positives)
    thumbnails = [read_thumbnail(row.image_path, size_px=IMAGE_PX) for row in rows]
    return _drawn(rows, thumbnails, title=_Title(class_name=class_name, lowest=lowest, positives=positives), threshold=threshold)


def file_name(class_name: str, label_set: LabelSet, *, lowest: bool, positives: bool) -> str:
    """The name of the file of a grid: `<class>-top.png`, `<class>-bottom-positives.png`."""
    return f"{file_stem(class_name, label_set)}-{'bottom' if lowest else 'top'}{'-positives' if positives else ''}.png"


def file_stem(class_name: str, label_set: LabelSet) -> str:
    """A file name for a class that every file system accepts, and that no two classes of the label set share.

    Letters, digits, space, "-", "_" and "." stay; anything else becomes "_". If that changed the name, if it was cut to 60
    characters, or if another class differs only in case or in Unicode form, 8 digits of the name's SHA-256 are appended.
    """
    safe = "".join(sign if sign.isalnum() or sign in " -_." else "_" for sign in unicodedata.normalize("NFC", class_name))
    stem = safe[:60].strip(" .")
    same = Counter(_folded(name) for name in label_set)
    if stem == class_name and len(stem.encode()) <= 200 and same[_folded(class_name)] == 1:
        return stem
    digits = hashlib.sha256(class_name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{stem or 'class'}-{digits}"


def tile_corner(rank: int) -> tuple[int, int]:
    """Left and top pixel of the tile of a rank, from 1."""
    row, column = divmod(rank - 1, NUM_COLUMNS)
    return MARGIN_PX + column * (TILE_PX + GAP_PX), HEADER_PX + row * (TILE_PX + CAPTION_PX + GAP_PX)


def _frame_colour(row: RankedRow, threshold: float) -> tuple[int, int, int]:
    """The colour of the decision about an image, as in the report."""
    return {"right": RIGHT, "wrong": WRONG, "": UNDECIDED}[side_of(row, threshold)]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _drawn(rows: Sequence[RankedRow], thumbnails: Sequence[Image.Image | None], *, title: _Title, threshold: float) -> Image.Image:
    num_rows = max(1, -(-len(rows) // NUM_COLUMNS))
    width_px = 2 * MARGIN_PX + NUM_COLUMNS * TILE_PX + (NUM_COLUMNS - 1) * GAP_PX
    height_px = HEADER_PX + num_rows * (TILE_PX + CAPTION_PX + GAP_PX) + MARGIN_PX - GAP_PX
    grid = Image.new("RGB", (width_px, height_px), PAPER)
    draw = ImageDraw.Draw(grid)
    _draw_header(grid, draw, rows, title=title, threshold=threshold)
    caption_font = ImageFont.load_default(13)
    for row, thumbnail in zip(rows, thumbnails, strict=True):
        left, top = tile_corner(row.rank)
        right, bottom = left + TILE_PX - 1, top + TILE_PX - 1
        draw.rectangle((left, top, right, bottom), fill=MATTE)
        if thumbnail is None:
            draw.text(((left + right) / 2, (top + bottom) / 2), "no image", fill=MUTED, font=caption_font, anchor="mm")
        else:
            grid.paste(thumbnail, (left + (TILE_PX - thumbnail.width) // 2, top + (TILE_PX - thumbnail.height) // 2))
        colour = _frame_colour(row, threshold)
        draw.rectangle((left, top, right, bottom), outline=colour, width=BORDER_PX)
        grid.paste(colour, (left, top), _badge(row.target))
        grid.paste(PAPER, (left, top), _sign(row.target))
        draw.text(((left + right) / 2, bottom + 11), row.text, fill=INK, font=caption_font, anchor="mm")
    return grid


def _draw_header(
    grid: Image.Image, draw: ImageDraw.ImageDraw, rows: Sequence[RankedRow], *, title: _Title, threshold: float
) -> None:
    title_font, note_font = ImageFont.load_default(20), ImageFont.load_default(13)
    num_present, num_absent, num_unknown = num_targets(rows)
    name = " ".join(title.class_name.split())
    draw.text((MARGIN_PX, 28), name if len(name) <= 48 else name[:47] + "…", fill=INK, font=title_font, anchor="lm")
    left, sides = MARGIN_PX, [side_of(row, threshold) for row in rows]
    draw.text((left, 54), title.text(len(rows)), fill=MUTED, font=note_font, anchor="lm")
    if any(sides):
        left += round(draw.textlength(title.text(len(rows)), font=note_font)) + 22
        num_wrong = sides.count("wrong")
        colour = WRONG if num_wrong else MUTED
        draw.text((left, 54), f"{num_wrong} wrong at {threshold:.3g}", fill=colour, font=note_font, anchor="lm")
    right = grid.width - MARGIN_PX
    for target, text in (
        (UNKNOWN, f"{num_unknown} unknown"),
        (ABSENT, f"{num_absent} absent"),
        (PRESENT, f"{num_present} present"),
    ):
        right -= round(draw.textlength(text, font=note_font))
        draw.text((right, 54), text, fill=MUTED, font=note_font, anchor="lm")
        right -= BADGE_PX + 6
        grid.paste(UNDECIDED, (right, 44), _badge(target))
        grid.paste(PAPER, (right, 44), _sign(target))
        right -= 22


@lru_cache
def _badge(target: int) -> Image.Image:
    """The mask of the badge: a square in the corner of the tile, with its free corner rounded."""
    side = 4 * BADGE_PX
    mask = Image.new("L", (side, side))
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, side - 1, side - 1), radius=24, fill=255, corners=(False, False, True, False))
    return mask.resize((BADGE_PX, BADGE_PX), Image.Resampling.LANCZOS)


@lru_cache
def _sign(target: int) -> Image.Image:
    """The mask of the sign: a tick (present), a cross (absent) or a question mark (unknown)."""
    side = 4 * BADGE_PX
    mask = Image.new("L", (side, side))
    draw = ImageDraw.Draw(mask)
    if target == PRESENT:
        draw.line([(20, 42), (35, 57), (60, 25)], fill=255, width=9, joint="curve")
    elif target == ABSENT:
        draw.line([(24, 24), (56, 56)], fill=255, width=9)
        draw.line([(56, 24), (24, 56)], fill=255, width=9)
    else:
        draw.text((side / 2, side / 2), "?", fill=255, font=ImageFont.load_default(60), anchor="mm", stroke_width=1)
    return mask.resize((BADGE_PX, BADGE_PX), Image.Resampling.LANCZOS)
