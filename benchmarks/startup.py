"""How long `polytag --help` takes, whole process, in turn with an empty Python."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from machine import write

NUM_RUNS = 15
COMMANDS = {
    "polytag_help": [str(Path(sys.executable).with_name("polytag")), "--help"],
    "python_nothing": [sys.executable, "-c", "pass"],
}


def main() -> None:
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(NUM_RUNS + 1):
        for name, command in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            seconds[name].append(time.perf_counter() - started)
    write(
        "startup",
        {
            "n": NUM_RUNS,
            "seconds": {
                name: {"min": min(values[1:]), "median": statistics.median(values[1:]), "max": max(values[1:])}
                for name, values in seconds.items()
            },
        },
    )


if __name__ == "__main__":
    main()
