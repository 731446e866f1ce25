"""What a stranger's file may reach: each way to parse, unpickle or make a network stands in one place, which checks."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src" / "polytag"
ONE_PLACE = {
    "json.load": (),
    "json.loads": ("parsing.py",),
    "yaml.load": ("parsing.py",),
    "yaml.safe_load": (),
    "yaml.full_load": (),
    "yaml.unsafe_load": (),
    "pickle.load": (),
    "pickle.loads": (),
    "timm.create_model": ("models/backbone.py",),
    "torch.hub.load": (),
    "load_file": ("models/backbone.py",),
}
"""A call, and the files that may make it."""
SAFE = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False), "read_array": ("allow_pickle", False)}
"""A call, and the argument without which it unpickles."""


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    tree = ast.parse(path.read_text())
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("path", sorted(SRC.rglob("*.py")), ids=lambda path: str(path.relative_to(SRC)))
def test_files_are_parsed_where_their_values_are_checked(path: Path):
    where = path.relative_to(SRC).as_posix()
    for name, call in calls(path):
        if name in ONE_PLACE:
            assert where in ONE_PLACE[name], f"{where}:{call.lineno} calls {name}: use parsing.py, plain.py or models/backbone.py"
        short = next((safe for safe in SAFE if name == safe or name.endswith("." + safe)), None)
        if short is not None:
            argument, value = SAFE[short]
            given = {each.arg: each.value for each in call.keywords}
            assert argument in given, f"{where}:{call.lineno} calls {name} without {argument}={value}"
            assert ast.literal_eval(given[argument]) is value, f"{where}:{call.lineno}: {argument}={value}"
