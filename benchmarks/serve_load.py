"""Clients of `serve.py` and `serve_soak.py`: each sends its next image as soon as it has the answer to the last.

    python benchmarks/serve_load.py HOST:PORT CLIENTS SECONDS FOLDER

They send the JPEG files of FOLDER, one in a form, over connections that stay open, and print as JSON how many answers came with
which status and how long each took. One process, plain sockets; it stops by itself.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

BOUNDARY = b"----polytag-benchmark"


def request_of(content: bytes, *, host: str) -> bytes:
    """A whole request: a form with one file."""
    head = b'--%s\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n' % BOUNDARY
    body = head + content + b"\r\n--%s--\r\n" % BOUNDARY
    lines = b"POST /predict HTTP/1.1\r\nHost: %s\r\nContent-Type: multipart/form-data; boundary=%s\r\nContent-Length: %d\r\n\r\n"
    return lines % (host.encode(), BOUNDARY, len(body)) + body


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(
        self, requests: list[bytes], *, first: int, ends: float, found: list[tuple[int, float]], done: asyncio.Future[None]
    ):
        self._requests, self._next, self._ends, self._found, self._done = requests, first, ends, found, done
        self._heard, self._began = bytearray(), 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        if time.perf_counter() >= self._ends:
            self._transport.close()
            return
        self._began = time.perf_counter()
        self._transport.write(self._requests[self._next % len(self._requests)])
        self._next += 1

    def data_received(self, data: bytes) -> None:
        self._heard += data
        head = self._heard.find(b"\r\n\r\n")
        if head < 0:
            return
        lines = bytes(self._heard[:head]).lower().split(b"\r\n")
        length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
        if len(self._heard) < head + 4 + length:
            return
        self._found.append((int(lines[0].split(b" ")[1]), time.perf_counter() - self._began))
        self._heard.clear()
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None or time.perf_counter() < self._ends:
            self._found.append((0, time.perf_counter() - self._began))  # a lost connection is a failed request
        if not self._done.done():
            self._done.set_result(None)


async def load(host: str, *, clients: int, seconds: float, folder: Path) -> list[tuple[int, float]]:
    """(status, seconds) of every answer."""
    contents = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]
    requests = [request_of(content, host=host) for content in contents]
    found: list[tuple[int, float]] = []
    ends = time.perf_counter() + seconds
    loop = asyncio.get_running_loop()
    dones = [loop.create_future() for _ in range(clients)]
    name, _, port = host.partition(":")
    for number, done in enumerate(dones):
        first = number * len(requests) // clients
        await loop.create_connection(
            lambda first=first, done=done: Client(requests, first=first, ends=ends, found=found, done=done), name, int(port)
        )
    await asyncio.wait(dones, timeout=seconds + 30)
    return found


def main() -> None:
    host, clients, seconds, folder = sys.argv[1:]
    began = time.perf_counter()
    found = asyncio.run(load(host, clients=int(clients), seconds=float(seconds), folder=Path(folder)))
    statuses = [status for status, _ in found]
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - began,
                "statuses": {str(status): statuses.count(status) for status in sorted(set(statuses))},
                "latencies_ms": [round(1000 * took, 2) for status, took in found if status == 200],
            }
        )
    )


if __name__ == "__main__":
    main()
