"""Whatever a stranger's file holds, no verb prints a control character other than a line break or a tab."""

import ast
import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src" / "polytag"
HOSTILE = "\x1b]52;c;ZXZpbA==\x07\x1b[1A\x9b31m\u202e"
ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.mark.parametrize("path", sorted(SRC.rglob("*.py")), ids=lambda path: str(path.relative_to(SRC)))
def test_text_leaves_through_one_place(path: Path):
    if path.relative_to(SRC).as_posix() in ("cli/say.py", "cli/terminal.py"):
        return
    for node in ast.walk(ast.parse(path.read_text())):
        name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        assert name not in ("print", "Console"), (
            f"{path.relative_to(SRC)}:{getattr(node, 'lineno', 0)} calls {name}: text of a stranger reaches the terminal through "
            "cli/say.py and cli/terminal.py alone, which make it harmless"
        )


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores with labels whose ids are hostile; class names like that are refused when a file is read."""
    path = tmp_path_factory.mktemp("hostile") / "s.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "prob_cat", "prob_dog", "true_cat", "true_dog"])
        writer.writerows([f"{HOSTILE}{row}", row / 30, 1 - row / 30, row * 7 % 2, row * 3 % 2] for row in range(30))
    return path


VERBS = {
    "evaluate": lambda scores: ("evaluate", scores),
    "evaluate an unknown class": lambda scores: ("evaluate", scores, "--class-column", HOSTILE),
    "thresholds": lambda scores: ("thresholds", scores),
    "calibrate": lambda scores: ("calibrate", scores),
    "compare": lambda scores: ("compare", scores, scores),
    "label issues": lambda scores: ("labels", "issues", scores),
    "grid": lambda scores: ("grid", scores, "--class", HOSTILE),
    "inspect": lambda scores: ("inspect", scores.with_name(HOSTILE)),
    "predict": lambda scores: ("predict", scores.with_name(HOSTILE), scores),
    "train": lambda scores: ("train", scores.with_name(HOSTILE)),
    "data check": lambda scores: ("data", "check", scores),
    "class names": lambda scores: ("evaluate", with_class(scores, f"cat{HOSTILE}")),
}


def with_class(scores: Path, name: str) -> Path:
    path = scores.with_name("classes.csv")
    path.write_text(scores.read_text(encoding="utf-8").replace("_cat", f"_{name}"), encoding="utf-8")
    return path


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_prints_what_acts_on_a_terminal(verb: str, scores: Path):
    command = [sys.executable, "-m", "polytag", *map(str, VERBS[verb](scores))]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False, env=None)
    printed = (done.stdout + done.stderr).decode("utf-8", "surrogateescape")
    assert len(printed) > 20
    assert "Traceback" not in printed
    found = ACTING.findall(printed)
    assert not found, (verb, found[:5])
