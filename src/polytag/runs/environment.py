"""env.json: what a run was made with."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from polytag import files
from polytag.machine import processor
from polytag.runs.folder import RunFolder


def write_environment(
    run: RunFolder,
    *,
    data_fingerprint: str,
    validation_fingerprint: str,
    arithmetic: str,
    num_threads: int,
    num_processes: int,
    images: Mapping[str, str],
    split: Mapping[str, object],
) -> None:
    """Write versions, hardware, threads, where images come from, how they were split, the data's fingerprints, polytag's commit."""
    names = ("polytag", "torch", "torchvision", "timm", "numpy", "pillow", "safetensors", "scikit-learn", "pyarrow")
    values = {
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in names},
        "system": platform.platform(),
        "processor": processor(),
        "num_threads": num_threads,
        "num_processes": num_processes,
        "arithmetic": arithmetic,
        "images": dict(images),
        "split": dict(split),
        "data_fingerprint": data_fingerprint,
        "validation_fingerprint": validation_fingerprint,
        "commit": _commit(),
        "command": sys.argv,
    }
    files.write_text(run.environment, json.dumps(values, indent=2) + "\n")


def _version(name: str) -> str:
    """Of an installed package; "" for one that is not, such as polytag itself where it runs from its source tree."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _commit() -> str:
    """The commit of the source tree polytag runs from; "" where it is installed without one."""
    if not (Path(__file__).parents[3] / ".git").exists() or os.environ.get("GIT_DIR"):
        return ""
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=5, check=False
        )
    except OSError:
        return ""
    return answer.stdout.strip()
