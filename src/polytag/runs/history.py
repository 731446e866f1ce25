"""results.csv: the history of a run, one row per epoch."""

import csv
import io
import math
from collections.abc import Mapping, Sequence

from polytag import files
from polytag.runs.folder import RunFolder

COLUMNS = (
    "epoch", "train_loss", "val_loss", "train_map", "val_map", "head_lr", "backbone_lr", "images_per_second", "seconds",
)  # fmt: skip
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
    """The rows, none where there is no file; an empty cell is NaN."""
    if not run.results.is_file():
        return ()
    with open(run.results, newline="", encoding="utf-8") as file:
        return [{key: float(value) if value else math.nan for key, value in row.items()} for row in csv.DictReader(file)]
