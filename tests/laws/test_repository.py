"""What the repository must not hold."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: an installed copy has no list of tracked files")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_no_large_file_and_no_weights(tracked):
    for path in tracked:
        assert path.stat().st_size < 2_000_000, f"{path.name}: images and weights stay outside the repository"
        assert path.suffix not in {".safetensors", ".pt", ".parquet", ".onnx"}, (
            f"{path.name}: weights and tables are made, not kept"
        )


def test_no_link(tracked):
    """A link to an environment beside the checkout would replace the environment itself elsewhere."""
    listed = subprocess.run(["git", "ls-files", "--stage"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not [line for line in listed.splitlines() if line.startswith("120000")]


def test_no_path_of_somebodys_machine(tracked):
    pattern = re.compile(r"(?<![\w.])/(?:home|Users|root|work)/\w+")
    for path in tracked:
        if path.suffix in {".py", ".md", ".toml", ".json", ".yaml", ".cff", ""} and path != Path(__file__):
            found = pattern.search(path.read_text(errors="replace"))
            assert not found, f"{path.relative_to(ROOT)} names {found and found[0]}"


def test_tests_mirror_the_source(tracked):
    source = ROOT / "src" / "polytag"
    rooms = {path.parent.name for path in tracked if path.parent.parent == source}
    for room in rooms:
        assert (ROOT / "tests" / room).is_dir(), f"tests/{room} is missing: tests mirror src"
