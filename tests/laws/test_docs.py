"""Documents that cannot drift: snippets run, commands exist, links lead somewhere, the map of the house is the house."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from polytag.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def identify(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=identify)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The blocks of a page share one namespace, top to bottom; a block marked ```python norun is only compiled."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "snippet"}
    for match in re.finditer(r"^```python( norun)?\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        code = compile(match[2], f"{identify(page)} block", "exec")
        if not match[1]:
            exec(code, namespace)


def commands_in(page: Path) -> list[str]:
    blocks = re.findall(r"^```(?:bash|console|sh)?\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip().removeprefix("$ ") for line in lines if re.match(r"\s*(\$ )?polytag ", line)]


@pytest.mark.parametrize("page", PAGES, ids=identify)
def test_commands_shown_are_commands_there_are(page: Path):
    """Every `polytag ...` line in a code block names a verb and options that exist."""
    root = typer.main.get_command(app)
    for line in commands_in(page):
        words = shlex.split(line, comments=True)[1:]
        command = root
        while words and hasattr(command, "commands"):
            name = words.pop(0)
            if name.startswith("-"):
                break
            assert name in command.commands, f"{identify(page)}: `{line}` names no verb of polytag"
            command = command.commands[name]
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        for word in words:
            if word.startswith("--"):
                assert word.split("=")[0] in known, f"{identify(page)}: `{line}` has an option that does not exist: {word}"


def test_every_verb_is_in_the_reference():
    text = (ROOT / "docs" / "reference" / "commands.md").read_text()

    def verbs(command, path):
        for name, child in getattr(command, "commands", {}).items():
            yield from verbs(child, [*path, name])
        if not hasattr(command, "commands"):
            yield " ".join(path), command

    for name, command in verbs(typer.main.get_command(app), ["polytag"]):
        assert f"## `{name}`" in text, f"docs/reference/commands.md lacks {name}"
        section = text.split(f"## `{name}`")[1].split("\n## ")[0]
        for parameter in command.params:
            if parameter.opts[0].startswith("--") and "--help" not in parameter.opts:
                assert f"`{parameter.opts[0]}`" in section, f"docs/reference/commands.md: {name} lacks {parameter.opts[0]}"


@pytest.mark.parametrize("page", PAGES, ids=identify)
def test_links_inside_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        if not re.match(r"https?:|mailto:", target):
            assert (page.parent / target).exists(), f"{identify(page)} links to {target}, which is not there"


def test_the_map_in_the_readme_is_the_house():
    text = (ROOT / "README.md").read_text()
    source = ROOT / "src" / "polytag"
    for path in [*source.glob("*.py"), *(room for room in source.iterdir() if (room / "__init__.py").is_file())]:
        name = path.name + ("/" if path.is_dir() else "")
        if not name.startswith("__"):
            assert f"  {name}" in text, f"README.md: the map lacks src/polytag/{name}"
