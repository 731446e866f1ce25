"""Names that look like console markup are printed as they are."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from polytag.cli.main import app
from polytag.contracts import LabelSet, Predictions
from polytag.predictions.table import write_predictions

NAMES = ("[/b]cat", "[red]dog")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    target_NC = (rng.random((120, 2)) < 0.4).astype(np.int8)
    path = tmp_path / "scores.parquet"
    predictions = Predictions(
        ids=tuple(f"[/i]{row}" for row in range(120)),
        logit_NC=(2 * target_NC + rng.normal(size=(120, 2)) - 1).astype(np.float32),
        target_NC=target_NC,
        label_set=LabelSet(names=NAMES),
    )
    write_predictions(predictions, path)
    return path


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "TABLE"),
        ("evaluate", "TABLE", "--slice", "[/x]place", "--group", "[/x]place", "--columns", "COLUMNS"),
        ("thresholds", "TABLE", "--goal", "f1"),
        ("calibrate", "TABLE"),
        ("compare", "TABLE", "TABLE", "--permutations", "99"),
        ("labels", "issues", "TABLE"),
    ],
)
def test_a_verb_prints_the_names_of_classes_and_columns(table: Path, words: tuple[str, ...]):
    columns = table.with_name("columns.csv")
    lines = [f"[/i]{row},{'[/y]here' if row % 2 else '[z]there'}" for row in range(120)]
    columns.write_text("\n".join(["id,[/x]place", *lines]) + "\n")
    places = {"TABLE": str(table), "COLUMNS": str(columns)}
    done = CliRunner().invoke(app, [places.get(word, word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    for name in (*NAMES, *(("[/x]place", "[/y]here", "[z]there") if "COLUMNS" in words else ())):
        assert name in done.output
