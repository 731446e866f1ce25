"""`polytag serve` at full load for as long as is asked: its memory stays flat, and no request fails.

    python benchmarks/serve_soak.py MINUTES [EXPORT]

32 clients of `serve_load.py` send the validation photographs of voc-mini, minute by minute. Meanwhile, as in a day: every 20 s the
model is loaded again (SIGHUP), a client goes away in the middle of a body, and unreadable images, forms with broken parts and
malformed tensors are sent. Memory is the server's own (PSS), read every 5 s. It stops by itself; without EXPORT it makes one as
`serve.py` does.
"""

import contextlib
import http.client
import itertools
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from machine import SHARED, VOC_MINI, write
from serve import clients_of, exported, free_port, photographs, processor_seconds, server, spread

CLIENTS, LOOK_SECONDS, DISTURB_SECONDS = 32, 5.0, 20.0


def disturb(process: psutil.Process, port: int, *, name: str, stop: threading.Event, counts: dict[str, int]) -> None:
    """What strangers and operators do, now and then; each answer has the status that it should have, or is counted as wrong."""
    form = b"--x\r\nContent-Disposition: form-data; filename=a\r\n\r\nno image\r\n--x--\r\n"
    asks = (
        ("POST", "/predict", b"no image", "image/jpeg", 422),
        ("POST", "/predict", b"", "image/jpeg", 422),
        ("POST", "/predict", form, "multipart/form-data; boundary=x", 422),
        ("POST", "/predict", form[:-8], "multipart/form-data; boundary=x", 400),
        ("POST", f"/v2/models/{name}/infer", b'{"inputs": [{"name": "image"', "application/json", 400),
        ("GET", "/metrics", None, "", 200),
        ("GET", "/v2/health/ready", None, "", 200),
    )
    for number in itertools.count():
        for method, path, body, kind, expected in asks:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request(method, path, body=body, headers={"Content-Type": kind})
            counts["asked"] += 1
            counts["wrong"] += connection.getresponse().status != expected
            connection.close()
        with socket.create_connection(("127.0.0.1", port)) as gone:
            gone.sendall(f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 100000\r\n\r\nhalf".encode())
        if number % 2 == 0:
            process.send_signal(signal.SIGHUP)
            counts["reloads_asked"] += 1
        if stop.wait(DISTURB_SECONDS / 2):
            return


def soak(minutes: float, export: Path, folder: Path) -> dict[str, object]:
    """Load for so many minutes."""
    port, stop = free_port(), threading.Event()
    counts = {"asked": 0, "wrong": 0, "reloads_asked": 0}
    memory_mb: list[tuple[float, float]] = []
    statuses: dict[str, int] = {}
    latencies_ms: list[float] = []
    command = [sys.executable, "-m", "polytag", "serve", str(export), "--port", str(port)]
    with server(command, port=port) as process:
        began, used = time.monotonic(), processor_seconds(process)

        def look() -> None:
            while not stop.wait(LOOK_SECONDS):
                memory_mb.append((time.monotonic() - began, process.memory_full_info().pss / 1e6))

        threads = [threading.Thread(target=look)]
        threads.append(
            threading.Thread(
                target=disturb, args=(process, port), kwargs={"name": export.name, "stop": stop, "counts": counts}, daemon=True
            )
        )
        for thread in threads:
            thread.start()
        while (left := 60 * minutes - (time.monotonic() - began)) > 1:
            found = clients_of(port, clients=CLIENTS, seconds=min(60.0, left), folder=folder)
            for status, count in found["statuses"].items():
                statuses[status] = statuses.get(status, 0) + count
            latencies_ms += found["latencies_ms"]
            print(f"{(time.monotonic() - began) / 60:.1f} min", statuses, f"{memory_mb[-1][1]:.0f} MB", flush=True)
        seconds, used = time.monotonic() - began, processor_seconds(process) - used
        stop.set()
        for thread in threads:
            thread.join(60)
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            connection.request("GET", "/metrics")
            metrics = connection.getresponse().read().decode()
    return {
        "minutes": round(seconds / 60, 2),
        "clients": CLIENTS,
        "statuses_of_photographs": statuses,
        "requests_per_second": round(sum(statuses.values()) / seconds, 1),
        "processor_ms_per_request": round(1000 * used / sum(statuses.values()), 2),
        "p99_ms": round(statistics.quantiles(latencies_ms, n=100)[98], 1),
        "disturbances": counts,
        "reloads": [line for line in metrics.splitlines() if line.startswith("polytag_reloads_total")],
        "memory_mb": memory_of(memory_mb),
    }


def memory_of(memory_mb: list[tuple[float, float]]) -> dict[str, object]:
    """The spread in each fifth of the time, and the slope after the first fifth, by least squares."""
    fifth = max(1, len(memory_mb) // 5)
    later = memory_mb[fifth:]
    slope, _ = statistics.linear_regression([second / 60 for second, _ in later], [mb for _, mb in later])
    fifths = [spread([mb for _, mb in memory_mb[start : start + fifth]]) for start in range(0, 5 * fifth, fifth)]
    return {"n": len(memory_mb), "fifths": fifths, "slope_mb_per_minute": round(slope, 3)}


def main() -> None:
    if len(sys.argv) < 2:
        print("skipped: it needs a number of minutes")
        return
    if not VOC_MINI.is_dir():
        print(f"skipped: no photographs in {SHARED.name}")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export = Path(sys.argv[2]) if len(sys.argv) > 2 else exported(folder)
        write("serve_soak", soak(float(sys.argv[1]), export, photographs(folder / "photographs")))


if __name__ == "__main__":
    main()
