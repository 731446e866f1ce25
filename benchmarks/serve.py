"""`polytag serve` beside LitServe with ONNX Runtime, and beside scoring in one process without HTTP.

    python benchmarks/serve.py PYTHON_OF_LITSERVE [EXPORT]

PYTHON_OF_LITSERVE is the interpreter of an environment with litserve, onnxruntime, pillow and python-multipart. Without EXPORT, a
probe of EfficientNet Lite 0 is trained on voc-mini at 256 px and exported, also in int8. Every side answers the same validation
photographs as JPEG files, one in a form, sent by `serve_load.py` from another process over connections that stay open, with 8 and
with 32 clients. Sides take turns, `ROUNDS` times.

LitServe runs with as many workers as there are cores, of one thread each, and its fast queue; with and without batches of 8. Ratios
are given to each. "onnx" is the same engine and the same graph as LitServe's, "int8" what the export holds in int8 for OpenVINO.
Processor time is that of all processes of a server, clients not counted.
"""

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from machine import SHARED, VOC_MINI, write
from polytag.data.images.augment import views
from polytag.data.images.read import read_image
from polytag.inference.scorers import scorer_of
from polytag.machine import num_cores
from polytag.models.exported import Exported

HERE = Path(__file__).parent
ROUNDS, SECONDS, WARM_UP_SECONDS, CLIENTS = 5, 6.0, 2.0, (8, 32)
WEIGHTS = SHARED / "weights" / "tf_efficientnet_lite0.safetensors"


def exported(folder: Path) -> Path:
    """A probe, as ONNX and for OpenVINO."""
    run, out = folder / "run", folder / "model"
    options = ["--recipe", "probe", "--backbone", "tf_efficientnet_lite0", "--weights", str(WEIGHTS), "--image-size", "256"]
    polytag = [sys.executable, "-m", "polytag"]
    subprocess.run([*polytag, "train", str(VOC_MINI), *options, "--output", str(run)], stdout=subprocess.DEVNULL, check=True)
    to = ["--to", "onnx,openvino", "--int8"]
    subprocess.run([*polytag, "export", str(run), str(out), *to], stdout=subprocess.DEVNULL, check=True)
    return out


def photographs(folder: Path) -> Path:
    """Links to the validation photographs."""
    folder.mkdir()
    for name in (VOC_MINI / "ImageSets" / "Main" / "val.txt").read_text().split():
        (folder / f"{name}.jpg").symlink_to((VOC_MINI / "JPEGImages" / f"{name}.jpg").resolve())
    return folder


@contextlib.contextmanager
def server(command: list[str], *, port: int) -> Iterator[psutil.Process]:
    """A server that accepts connections; it ends with the block."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=HERE.parent)
    try:
        ends = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None, f"the server ended: {command}"
            assert time.monotonic() < ends, f"the server did not start: {command}"
            time.sleep(0.1)
        yield psutil.Process(process.pid)
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        process.kill()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def processor_seconds(process: psutil.Process) -> float:
    """Of a process and all that it started."""
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            used = each.cpu_times()
            total += used.user + used.system
    return total


def memory_mb(process: psutil.Process) -> float:
    """Of a process and all that it started, what is shared counted once as far as the system tells."""
    return sum(each.memory_full_info().pss for each in (process, *process.children(recursive=True))) / 1e6


def clients_of(port: int, *, clients: int, seconds: float, folder: Path) -> dict:
    """What `serve_load.py` says."""
    command = [sys.executable, str(HERE / "serve_load.py"), f"127.0.0.1:{port}", str(clients), str(seconds), str(folder)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measured(process: psutil.Process, port: int, *, clients: int, folder: Path) -> dict[str, float]:
    """One turn of one side."""
    before = processor_seconds(process)
    found = clients_of(port, clients=clients, seconds=SECONDS, folder=folder)
    used = processor_seconds(process) - before
    latencies = sorted(found["latencies_ms"])
    assert set(found["statuses"]) == {"200"}, found["statuses"]
    return {
        "requests_per_second": len(latencies) / found["seconds"],
        "p50_ms": statistics.median(latencies),
        "p99_ms": latencies[int(0.99 * (len(latencies) - 1))],
        "processor_ms_per_request": 1000 * used / len(latencies),
    }


def in_process(folder: Path, export: Path, precision: str) -> dict[str, float]:
    """Decoding, resizing and scoring the same files in threads, a core each, without HTTP and without a queue."""
    engine = "onnx" if precision == "fp32" else "auto"
    scorer = scorer_of(Exported.read(export), engine=engine, precision=precision)
    preprocessing = Exported.read(export).preprocessing
    contents = [path.read_bytes() for path in sorted(folder.iterdir())]
    counts = [0] * num_cores()
    ends = time.perf_counter() + SECONDS

    def work(number: int) -> None:
        scorer.prepare_thread()
        while time.perf_counter() < ends:
            content = contents[(counts[number] * num_cores() + number) % len(contents)]
            scorer.logits_of(views(read_image(content), preprocessing)[None])
            counts[number] += 1

    began, used = time.perf_counter(), time.process_time()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(num_cores())]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    num_images = sum(counts)
    return {
        "requests_per_second": num_images / (time.perf_counter() - began),
        "processor_ms_per_request": 1000 * (time.process_time() - used) / num_images,
    }


def spread(values: list[float]) -> dict[str, float]:
    """Least, median and largest."""
    return {"min": round(min(values), 3), "median": round(statistics.median(values), 3), "max": round(max(values), 3)}


def sides_of(litserve: str, export: Path) -> dict[str, list[str]]:
    """The command of each side, without its port."""
    own = [sys.executable, "-m", "polytag", "serve", str(export), "--port", "PORT", "--engine"]
    peer = [litserve, str(HERE / "serve_litserve.py"), str(export), "PORT", str(num_cores())]
    return {
        "polytag onnx": [*own, "onnx"],
        "polytag int8": [*own, "auto", "--precision", "int8"],
        "litserve batch 1": [*peer, "1", "1"],
        "litserve batch 8": [*peer, "8", "1"],
    }


def compared(litserve: str, export: Path, folder: Path) -> dict[str, object]:
    """Every side with every number of clients, in turn."""
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    memory: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, command in sides_of(litserve, export).items():
            port = free_port()
            with server([str(port) if word == "PORT" else word for word in command], port=port) as process:
                clients_of(port, clients=8, seconds=WARM_UP_SECONDS, folder=folder)
                for clients in CLIENTS:
                    turn = measured(process, port, clients=clients, folder=folder)
                    found.setdefault(name, {}).setdefault(f"{clients} clients", []).append(turn)
                    print(name, clients, {key: round(value, 2) for key, value in turn.items()}, flush=True)
                memory.setdefault(name, []).append(memory_mb(process))
        for name, precision in (("onnx", "fp32"), ("int8", "int8")):
            turn = in_process(folder, export, precision)
            found.setdefault(f"in process {name}", {}).setdefault("no clients", []).append(turn)
            print("in process", name, {key: round(value, 2) for key, value in turn.items()}, flush=True)
    values = {
        name: {clients: {key: spread([turn[key] for turn in turns]) for key in turns[0]} for clients, turns in sides.items()}
        for name, sides in found.items()
    }
    return {"sides": values, "memory_mb": {name: spread(mb) for name, mb in memory.items()}, "ratios": ratios(found)}


def ratios(found: dict[str, dict[str, list[dict[str, float]]]]) -> dict[str, object]:
    """Polytag's figures divided by LitServe's of the same round, and those of scoring in process divided by polytag's."""
    made: dict[str, object] = {}
    for side in (name for name in found if name.startswith("polytag")):
        for clients, turns in found[side].items():
            for peer in (name for name in found if name.startswith("litserve")):
                pairs = list(zip(turns, found[peer][clients], strict=True))
                made[f"{side} / {peer}, {clients}"] = {key: spread([own[key] / its[key] for own, its in pairs]) for key in turns[0]}
        pairs = list(zip(found[side]["32 clients"], found[side.replace("polytag", "in process")]["no clients"], strict=True))
        rate, processor = "requests_per_second", "processor_ms_per_request"
        made[f"{side}, 32 clients, beside in process"] = {
            rate: spread([own[rate] / alone[rate] for own, alone in pairs]),
            "processor_ms_in_process_by_served": spread([alone[processor] / own[processor] for own, alone in pairs]),
        }
    return made


def version_of(python: str, package: str) -> str:
    script = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    if len(sys.argv) < 2:
        print("skipped: it needs the interpreter of an environment with litserve, onnxruntime and pillow")
        return
    litserve = sys.argv[1]
    if not VOC_MINI.is_dir():
        print(f"skipped: no photographs in {SHARED.name}")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export = Path(sys.argv[2]) if len(sys.argv) > 2 else exported(folder)
        load_before = os.getloadavg()[0]
        values = compared(litserve, export, photographs(folder / "photographs"))
        write(
            "serve",
            {
                "rounds": ROUNDS,
                "seconds_each": SECONDS,
                "load_average_before": round(load_before, 1),
                "litserve": {
                    package: version_of(litserve, package) for package in ("litserve", "onnxruntime", "pillow", "uvicorn")
                },
                **values,
            },
        )


if __name__ == "__main__":
    main()
