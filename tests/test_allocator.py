"""The allocator's settings, each in a process of its own: they hold for a whole process."""

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")]

_FAULTS = """
import resource, sys
import torch
from polytag import allocator
if sys.argv[1] != "plain":
    getattr(allocator, sys.argv[1])()
def work():
    for _ in range(8):
        torch.zeros(20_000_000) + 1
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(script: str, *arguments: str) -> str:
    return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True).stdout.strip()


def test_freed_memory_is_kept_for_the_next_batch_or_returned():
    faults = {name: int(run(_FAULTS, name)) for name in ("keep_freed_memory", "plain", "return_freed_memory")}
    assert faults["keep_freed_memory"] < faults["plain"] / 10
    assert faults["return_freed_memory"] > faults["plain"] / 2


def test_the_library_leaves_the_allocator_alone():
    script = """
import ctypes
from polytag.allocator import keep_freed_memory
from polytag.models.device import choose_arithmetic
settings = []
class Library:
    def __init__(self, *_, **__): pass
    mallopt = staticmethod(lambda *setting: settings.append(setting))
ctypes.CDLL = Library
choose_arithmetic("cpu", "fp32")
print(len(settings))
keep_freed_memory()
print(len(settings))
"""
    assert run(script).split() == ["0", "4"]
