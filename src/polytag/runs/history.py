"""results.csv: the history of a run, one row per epoch."""

import csv
import io
import math
from collections.abc import Mapping, Sequence

from polytag import files
from polytag.errors import RunError
from polytag.parsing import Malformed, read_small_text
from polytag.plain import WrongValue
from polytag.runs.folder import RunFolder

COLUMNS = (
    "epoch", "train_loss", "val_loss", "train_map", "val_map", "head_lr", "backbone_lr", "images_per_second", "seconds",
)  # fmt: skip
MAX_RESULTS_BYTES = 20_000_000  # 100,000 epochs
Row = Mapping[str, float]


def write_history(run: RunFolder, rows: Sequence[Row]) -> None:
    """Write one row per epoch; epoch 0 is the probe before any fine-tuning. An undefined number is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(["" if math.isnan(row[name]) else f"{row[name]:.6g}" for name in COLUMNS])
    files.write_text(run.results, text.getvalue())


def read_history(run: RunFolder) -> Sequence[Row]:
    """The rows, none where there is no file; an empty cell is NaN. Raises RunError, with the line, for any other file."""
    path = run.results
    if not path.is_file():
        return ()
    try:
        lines = list(csv.reader(io.StringIO(read_small_text(path, max_bytes=MAX_RESULTS_BYTES), newline=""), strict=True))
        header = lines[0] if lines else []
        if header != list(COLUMNS):
            raise WrongValue("columns", ",".join(header), expected=", ".join(COLUMNS))
        return [_row(cells, line=number) for number, cells in enumerate(lines[1:], start=2)]
    except (OSError, csv.Error, Malformed, WrongValue) as error:
        raise RunError(
            f"{path.name} cannot be read",
            where=str(path),
            got=error.got if isinstance(error, WrongValue) else str(error),
            expected=error.expected if isinstance(error, WrongValue) else "the file that `polytag train` wrote",
            next_step=f"remove {path.name}, and there are no curves, or copy the run folder again",
        ) from error


def _row(cells: Sequence[str], *, line: int) -> Row:
    if len(cells) != len(COLUMNS):
        raise WrongValue(f"line {line}", cells, expected=f"{len(COLUMNS)} cells")
    row: dict[str, float] = {}
    for name, cell in zip(COLUMNS, cells, strict=True):
        try:
            row[name] = float(cell) if cell else math.nan
        except ValueError:
            row[name] = math.inf
        if math.isinf(row[name]) or (math.isnan(row[name]) and cell):
            raise WrongValue(f"line {line}, {name}", cell, expected="a finite number, or nothing")
    if not (0 <= row["epoch"] <= 100_000 and row["epoch"].is_integer()):
        raise WrongValue(f"line {line}, epoch", cells[0], expected="a whole number from 0 to 100,000")
    return row
