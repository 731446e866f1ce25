"""The benchmark for a GPU is run where there is one; here, that its every other line still runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_dry_run_goes_through_and_writes_no_result(tmp_path: Path):
    before = sorted((ROOT / "benchmarks" / "results").iterdir())
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--dry-run"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    measured = [line.split(" ", 1)[0] for line in done.stdout.splitlines()]
    assert measured == [
        "images", "job", "plain", "same_answers", "sustained", "peak_bf16_tflops", "gflops_an_image", "share_of_peak",
        "times_shorter_than_plain",
    ]  # fmt: skip
    assert "without a CUDA graph" not in done.stdout
    assert sorted((ROOT / "benchmarks" / "results").iterdir()) == before
