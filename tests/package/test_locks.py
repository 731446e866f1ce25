"""What `make` installs is written down to the last byte, and nothing that builds or installs comes from outside the lock."""

import re
import tomllib
from pathlib import Path

import pytest

import polytag

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("requirements.lock", "requirements-uv.lock")


def requirements_in(lock: str) -> dict[str, list[str]]:
    """The lines of a lock, `name==version` with the hashes of its files; a version that depends on the Python stands twice."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / lock).read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return {line.split("--hash")[0].strip(): re.findall(r"--hash=(\S+)", line) for line in text.splitlines()}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_has_one_version_and_its_hashes_and_names_no_registry(lock: str):
    assert "://" not in (ROOT / lock).read_text()
    for requirement, hashes in requirements_in(lock).items():
        assert re.match(r"[a-z0-9-]+==[^ ]+( ; .*)?$", requirement)
        assert hashes, f"{requirement} has no hash"
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", each) for each in hashes)


def test_what_builds_the_package_is_locked():
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    locked = {requirement.split("==")[0] for requirement in requirements_in("requirements.lock")}
    assert {re.match(r"[\w-]+", requirement)[0] for requirement in needed} | {"editables"} <= locked


def test_make_installs_by_hash_and_builds_with_what_is_installed():
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    (version,) = re.findall(r"^UV_VERSION := (.*)$", makefile, re.MULTILINE)
    assert list(requirements_in("requirements-uv.lock")) == [f"uv=={version}"]
    installs = [line for line in makefile.splitlines() if re.search(r"pip (install|sync) --", line) and "echo" not in line]
    assert len(installs) == 6
    for line in installs:
        assert "--require-hashes" in line or "--no-deps --no-build-isolation" in line, line


def test_the_version_is_said_once_and_the_citation_agrees():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "src/polytag/__init__.py"
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.findall("^version: (.*)$", citation, re.MULTILINE) == [polytag.__version__]
    assert re.findall('^repository-code: "(.*)"$', citation, re.MULTILINE) == [project["project"]["urls"]["Repository"]]
