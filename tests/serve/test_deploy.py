"""The Dockerfile and the unit of systemd, as far as a machine without Docker and without systemd as its first process can tell."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer

from polytag.cli.main import app
from polytag.models.exported import Exported

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE, UNIT = ROOT / "deploy" / "Dockerfile", ROOT / "deploy" / "polytag-serve.service"


def last_stage() -> list[tuple[str, str]]:
    """(instruction, arguments) of the stage that runs, lines joined."""
    text = re.sub(r"\\\n", " ", DOCKERFILE.read_text())
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    pairs = [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]
    return pairs[max(row for row, (name, _) in enumerate(pairs) if name == "FROM") :]


def one(name: str) -> str:
    (found,) = [arguments for instruction, arguments in last_stage() if instruction == name]
    return found


def parsed(arguments: list[str]) -> dict[str, object]:
    """What our command line makes of `polytag serve ...`; fails for an option that does not exist."""
    assert arguments[0] == "serve"
    command = typer.main.get_command(app).commands["serve"]  # pyright: ignore[reportAttributeAccessIssue]
    return command.make_context("serve", arguments[1:]).params


def test_the_image_runs_a_command_that_exists_as_a_user_without_rights():
    program, *arguments = json.loads(one("ENTRYPOINT")) + json.loads(one("CMD"))
    values = parsed(arguments)
    assert (program, values["host"], values["port"], values["model"]) == ("polytag", "0.0.0.0", 8421, Path("/model"))
    uid = int(one("USER"))
    assert uid > 0
    assert f"--uid {uid} --no-create-home" in one("RUN")
    assert one("STOPSIGNAL") == "SIGTERM"
    assert one("EXPOSE") == str(values["port"])
    assert not any(name in ("VOLUME", "ADD") for name, _ in last_stage())
    (extras,) = re.findall(r'"/source\[([a-z,]+)\]"', DOCKERFILE.read_text())
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras.split(",")) == {"web", "runtime"} <= set(known)
    assert "ORT_DISABLE_TELEMETRY=1" in one("ENV")


def test_the_health_check_follows_the_server(serve_live, small_export: Exported):
    _, _, command = one("HEALTHCHECK").partition("CMD ")
    python, *arguments = json.loads(command)
    assert python == "python"
    with serve_live(small_export.folder) as (server, serving):
        here = [each.replace(":8421/", f":{server.port}/") for each in arguments]
        assert here != arguments

        def status() -> int:
            return subprocess.run([sys.executable, *here], capture_output=True).returncode

        assert status() == 0
        serving.app.is_draining = True
        assert status() != 0
    assert status() != 0


def unit() -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None, strict=False)
    found.optionxform = str  # pyright: ignore[reportAttributeAccessIssue]
    found.read_string(UNIT.read_text())
    return found


def test_the_unit_runs_a_command_that_exists_and_stops_later_than_it_drains():
    service = unit()["Service"]
    program, *arguments = shlex.split(service["ExecStart"])
    values = parsed(arguments)
    assert program.endswith("/bin/polytag")
    assert (values["host"], values["port"]) == ("127.0.0.1", 8421)
    assert float(service["TimeoutStopSec"]) > values["drain_seconds"]  # pyright: ignore[reportOperatorIssue]
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert service["KillSignal"] == "SIGTERM"
    for key, value in (("DynamicUser", "yes"), ("ProtectSystem", "strict"), ("NoNewPrivileges", "yes"), ("ProtectHome", "yes")):
        assert service[key] == value
    assert service["CapabilityBoundingSet"] == ""


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_reads_the_unit(tmp_path: Path):
    """With a program that is there in the place of ours."""
    text = UNIT.read_text().replace("/opt/polytag/bin/polytag", shutil.which("true") or "/bin/true")
    (tmp_path / UNIT.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(tmp_path / UNIT.name)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert UNIT.name not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr
