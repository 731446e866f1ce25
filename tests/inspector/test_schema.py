"""Schemathesis over the OpenAPI document: whatever is asked, no answer is a 5xx or one that the document does not name."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polytag.contracts import LabelSet, Predictions
from polytag.inspector.app import create_app
from polytag.inspector.inspection import Inspection, compared

# Words that exist are worth more than random ones: behind a 404 lies little code.
CLASSES = ("red", "blue", 'g"r<e>n&')  # two of them the model's
IDS = ("a.png", "../b.png", "no file.png", "", "\u202e\"'<c>")
KNOWN = {
    "classes": [*CLASSES, "no such class"],
    "ids": [each for each in IDS if each],
    "rows": [0, 1, 2, 3, 4],
    "columns": ["camera", "age"],
    "values": ["1", "2"],
    "names": ["Ada"],
    "row_lists": ["0", "0,1,2", "3,9"],
    "runs": ["other", "third", "no such run"],
}
BINDINGS = {
    "query.class": "classes",
    "query.image": "ids",
    "query.column": "columns",
    "query.value": "values",
    "path.row": "rows",
    "query.rows": "row_lists",
    "body.image": "ids",
    "body.class_name": "classes",
    "body.reviewer": "names",
    "body.based_on": "rows",
    "query.against": "runs",
}
SETTINGS = """
seed = 0
continue-on-failure = true
suppress-health-check = ["too_slow"]

[generation]
max-examples = 12
deterministic = true
database = "none"
no-shrink = true

[phases.stateful]
enabled = false

# Names of reviewers have rules that a schema cannot say: no control characters, not blank.
[[operations]]
include-method = "POST"
include-path-regex = "^/api/review/"
checks.positive_data_acceptance.enabled = false
"""


def settings() -> str:
    lines = [SETTINGS, "[dictionaries]"]
    lines += [f"{name} = {{ values = {json.dumps(values)} }}" for name, values in KNOWN.items()]
    lines.append("[parameters]")
    lines += [f'"{key}" = {{ dictionary = "{name}", probability = 0.7 }}' for key, name in BINDINGS.items()]
    return "\n".join(lines)


def small_inspection(folder: Path) -> Inspection:
    """Three classes, five images: one whole, one broken, one missing, one a folder, one without a path."""
    Image.new("RGB", (30, 20), "red").save(folder / "a.png")
    (folder / "b.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    rng = np.random.default_rng(0)
    predictions = Predictions(
        ids=IDS,
        logit_NC=rng.normal(size=(5, 3)),
        target_NC=np.array([[1, 0, -1], [0, 1, -1], [1, 0, -1], [0, 0, -1], [1, 1, -1]], dtype=np.int8),
        label_set=LabelSet(names=CLASSES),
        image_paths=(str(folder / "a.png"), str(folder / "b.png"), str(folder / "nowhere.png"), str(folder), ""),
    )
    return Inspection(
        name="small",
        review_file=folder / "review.sqlite",
        predictions=predictions,
        threshold_C=np.array([0.5, 0.2, 1.0]),
        compared=[
            compared("other", replace(predictions, logit_NC=-predictions.logit_NC), first=predictions),
            compared("third", replace(predictions, scale="rank").take([0, 3]), first=predictions),
        ],
        column_N={"camera": ("1", "2", None, "1", "2"), "age": (1.0, float("nan"), 3.0, None, 5.0)},
    )


def run_schemathesis(address: str, *arguments: str, folder: Path) -> None:
    """Run the command; fails with what it says."""
    (folder / "schemathesis.toml").write_text(settings())
    command = [sys.executable, "-m", "schemathesis.cli", "--no-color", "run", f"{address}/api/openapi.json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env={**os.environ, "NO_COLOR": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Selected: ([1-9]\d*)/\d+\n +Tested: \1\n", done.stdout), done.stdout


@pytest.mark.slow(20)
def test_every_answer_is_one_that_the_document_names(live, tmp_path, monkeypatch):
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    with live(create_app(small_inspection(tmp_path))) as server:
        run_schemathesis(server.url, folder=tmp_path)


@pytest.mark.slow(10)
def test_every_answer_of_the_model_too(live, modelled, tmp_path, monkeypatch):
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    with live(create_app(replace(modelled, review_file=tmp_path / "review.sqlite"))) as server:
        run_schemathesis(server.url, "--include-path-regex", "predict|heat|nearest|boxes", folder=tmp_path)
