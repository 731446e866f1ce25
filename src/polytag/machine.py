"""What of the machine this process may use: processor, cores and memory. Read from the system, never set."""

import functools
import math
import os
import platform
import time
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_CPUINFO = Path("/proc/cpuinfo")
_STAT = Path("/proc/self/stat")


def num_cores() -> int:
    """Processor cores that this process may use: its affinity, and what a container's quota allows, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _quota_cores())))


def _quota_cores() -> float:
    """Cores' worth of time that the cgroup grants this process (version 2, else 1); infinite where there is no limit."""
    try:
        quota, period = (_CGROUP / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = ((_CGROUP / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        except OSError:
            return math.inf
    try:
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (ValueError, ZeroDivisionError):  # "max": no limit
        return math.inf


@functools.cache
def processor() -> str:
    """The processor's name, as far as the system tells it."""
    return next(iter(_cpuinfo("model name")), "") or platform.processor() or platform.machine()


def has_native_bf16() -> bool:
    """Whether the processor multiplies bfloat16 numbers itself; False where the system does not tell."""
    flags = set(" ".join(_cpuinfo("flags")).split())
    return bool(flags & {"avx512_bf16", "amx_bf16"})


def free_memory_bytes() -> float:
    """Memory that the system has available; all there is where it does not tell, infinite where even that is unknown."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else math.inf


def process_seconds() -> float:
    """Seconds since this process began, imports included; where the system does not tell, those that it has computed for."""
    try:
        began = int(_STAT.read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - began)
    except (OSError, ValueError, IndexError, AttributeError):  # not Linux
        return time.process_time()


def _cpuinfo(key: str) -> list[str]:
    """The values of a key, of the first core that has it."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:  # not Linux
        return []
    return [line.partition(":")[2].strip() for line in lines if line.split(":")[0].strip() == key][:1]
