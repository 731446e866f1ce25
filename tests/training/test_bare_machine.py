"""A machine that only trains: from the source tree, without what pages, charts and servers need."""

import json
import os
import subprocess
import sys
from pathlib import Path

SRC = Path(__file__).resolve().parents[2] / "src"
_SCRIPT = """
import importlib.metadata, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("altair", "vl_convert", "fastapi", "uvicorn"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
found = importlib.metadata.version
def version(name):
    if name == "polytag":
        raise importlib.metadata.PackageNotFoundError(name)
    return found(name)
importlib.metadata.version = version

sys.argv = ["polytag", *sys.argv[1:]]
from polytag.cli.main import main
main()
"""


def test_training_needs_no_charts_no_server_and_no_installation(colours: Path, tmp_path: Path):
    options = [
        "--backbone", "test_resnet", "--weights", "random", "--image-size", "32", "--epochs", "1", "--cache", "gpu",
        "--device", "cpu",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, "train", str(colours), *options, "--output", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(SRC), "POLYTAG_CACHE": str(tmp_path / "cache")},
    )
    assert done.returncode == 0, done.stderr
    assert "no plots and no report: altair is not installed" in " ".join(done.stdout.split())
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["mAP"]["num_classes"] == 3
    assert not (tmp_path / "run" / "report.html").exists()
