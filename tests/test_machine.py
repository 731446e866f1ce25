"""What a process may use of the machine: affinity, a container's quota, and systems without this information."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from polytag import machine


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 64),
        ({"cpu.max": "max 100000\n"}, 64),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "10000 100000\n"}, 1),
        ({"cpu.max": "0 0\n"}, 64),
        ({"cpu.max": "nonsense"}, 64),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
    ],
)
def test_cores_are_those_that_a_container_grants(files, cores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert machine.num_cores() == cores


def test_affinity_counts_and_not_the_machine():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert machine.num_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("text", "name", "bf16"),
    [
        ("processor : 0\nmodel name\t: A CPU @ 3: GHz\nflags\t\t: fpu avx512_bf16 sse\n", "A CPU @ 3: GHz", True),
        ("model name : B\nflags : fpu amx_bf16_not_quite\n", "B", False),
        (None, None, False),
    ],
)
def test_the_processor_as_the_system_tells_it(text, name, bf16, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    machine.processor.cache_clear()
    try:
        assert machine.processor() == name if name else machine.processor()
        assert machine.has_native_bf16() is bf16
    finally:
        machine.processor.cache_clear()


def test_free_memory_is_some_and_no_more_than_there_is():
    assert 1e6 < machine.free_memory_bytes() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_a_process_knows_how_long_ago_it_began(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    script = "import time; time.sleep(0.5); from polytag.machine import process_seconds; print(process_seconds())"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert 0.45 <= float(done.stdout) <= time.monotonic() - began + 0.05
    monkeypatch.setattr(machine, "_STAT", tmp_path / "stat")
    assert machine.process_seconds() == pytest.approx(time.process_time(), abs=1.0)
