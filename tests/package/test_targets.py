"""What runs the checks elsewhere calls the Makefile, so that a person, a hook and CI run the same."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def workflow() -> Iterator[str]:
    for job in yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"].values():
        yield from (step["run"] for step in job["steps"] if "run" in step)


def hooks() -> Iterator[str]:
    for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]:
        assert repo["repo"] == "local"
        yield from (hook["entry"] for hook in repo["hooks"])


def script() -> Iterator[str]:
    code = re.sub(r"^#.*$", "", (ROOT / ".ci" / "run").read_text(), flags=re.MULTILINE)
    return iter(re.findall(r"\bmake [a-z-]+", code))


@pytest.mark.parametrize(
    ("commands", "targets"),
    [
        (workflow, {"check", "demo", "test", "test-fast", "test-lowest", "build"}),
        (hooks, {"check", "test-fast"}),
        (script, {"check", "demo", "docs", "test"}),
    ],
    ids=["workflow", "hooks", ".ci/run"],
)
def test_every_command_is_a_target_of_the_makefile(commands, targets: set[str]):
    assert {command.removeprefix("make ") for command in commands()} == targets
    assert targets <= TARGETS
