"""plan.json is read back as it was written; what is no plan is an error that names the file."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from polytag.errors import RunError
from polytag.runs.plan import Plan, read_plan, repeated, write_plan
from polytag.runs.recipe import FINETUNE

PLAN = Plan(
    recipe=replace(FINETUNE, minutes=3.0, ends=((0, 40), (7, 36))),
    num_probe=800,
    num_val=200,
    epochs=1.4,
    learn_seconds=0.01,
    seconds={"probe": 9.5},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_plan(PLAN, tmp_path / "plan.json")
    return tmp_path / "plan.json"


def test_a_plan_is_read_as_it_was_written(path: Path):
    assert read_plan(path) == PLAN
    assert repeated(PLAN) == replace(PLAN.recipe, minutes=0.0)


EXPECTED = "the plan.json of a run of `polytag train --minutes`, version 2"


@pytest.mark.parametrize(
    ("changes", "recipe", "got", "expected"),
    [
        ({"version": 1, "old_name": 3}, {}, "version: 1", EXPECTED),
        ({"version": None}, {}, "version: None", EXPECTED),
        ({"color": 1}, {}, "an unknown name: 'color'", None),
        ({}, {"epochs": 10**9}, "epochs out of range: 1000000000", "0 to 100000"),
        ({}, {"ends": [[0, -5]]}, "training cannot end so: ends: ((0, -5),)", None),
        ({}, {"name": "/../../x"}, "the recipe's name cannot be used: '/../../x'", None),
        ({}, {"loss": "x"}, "unknown loss: 'x'", "one of auto, bce, focal, asl, ll-r"),
    ],
)
def test_what_is_no_plan_is_an_error_that_names_the_file(
    path: Path, changes: dict[str, Any], recipe: dict[str, Any], got: str, expected: str | None
):
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"recipe": values["recipe"] | recipe} | changes))
    with pytest.raises(RunError) as error:
        read_plan(path)
    assert (error.value.what, error.value.where, error.value.got) == ("the plan cannot be read", str(path), got)
    assert expected is None or error.value.expected == expected


def test_other_files_are_no_plan(path: Path):
    path.write_text("[]")
    with pytest.raises(RunError) as error:
        read_plan(path)
    assert error.value.got == "a list of 0"
