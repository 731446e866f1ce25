"""A command that is shown can be pasted: a path or a name in it goes through `polytag.text.word`, which quotes it for a shell."""

import re
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src" / "polytag"
COMMAND = re.compile(r"polytag [a-z]+ [^`\n\"]*")
FIELD = re.compile(r"\{([^{}]*)")
NEVER_IN_NEED = {
    "_FETCHABLE", "name", "found.path.stem",  # of models
    "address", "done.address", "EXPORT_FOLDER",  # of repositories
    "also", "grouped", "options", "wanted", "without_torch",  # put together of words
}  # fmt: skip


@pytest.mark.parametrize("path", sorted(SRC.rglob("*.py")), ids=lambda path: str(path.relative_to(SRC)))
def test_paths_in_shown_commands_are_words(path: Path):
    for line in path.read_text().splitlines():
        for command in COMMAND.findall(line):
            for value in FIELD.findall(command):
                assert value.startswith("word(") or value in NEVER_IN_NEED, f"{path.relative_to(SRC)}: {command}"


def test_a_word_is_quoted_where_a_shell_needs_it():
    from polytag.text import word

    assert [word(each) for each in (Path("runs/my run"), "runs/a-2", "it's", "$HOME")] == [
        "'runs/my run'", "runs/a-2", "'it'\"'\"'s'", "'$HOME'",
    ]  # fmt: skip
