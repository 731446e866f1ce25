"""Seconds that a decision takes with what it is worth: 200,000 images and 20 classes, through the inspector's API.

The reviewer answers one label after another. After each, the page asks for mAP under the corrected labels, and here also for the
next labels in both orders. `decision` is a decision alone; `decision_meanwhile` one that is sent while another thread asks for the
worth and the queue again and again. Last, 20,000 labels of all classes are decided as one batch.
"""

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from starlette.testclient import TestClient

from label_queue import NUM_CLASSES, NUM_IMAGES, inspection_of
from machine import write
from polytag.inspector.app import create_app

NUM_DECISIONS, NUM_IN_BATCH = 40, 20_000


def main() -> None:
    seconds: dict[str, list[float]] = {}

    def timed(name: str, ask: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        answer = ask()
        seconds.setdefault(name, []).append(time.perf_counter() - started)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def decide(entry: dict[str, Any]) -> Any:
        body = {"image": entry["image"], "class_name": entry["class_name"], "label": 1 - entry["given"], "reviewer": "Ann"}
        return client.post("/api/review/decisions", json=body | {"based_on": entry["number"]})

    def queue(order: str, **more: Any) -> Any:
        return client.get("/api/review/queue", params={"order": order, "limit": 60} | more)

    with tempfile.TemporaryDirectory() as folder, TestClient(create_app(inspection_of(Path(folder) / "review.sqlite"))) as client:
        while queue("suspicion").json()["status"] == "computing":
            time.sleep(0.5)
        timed("first_worth", lambda: client.get("/api/review/worth"))
        timed("first_queue_by_map", lambda: queue("map"))
        for _ in range(NUM_DECISIONS):
            entry = timed("queue_by_suspicion", lambda: queue("suspicion"))["entries"][0]
            timed("decision", lambda entry=entry: decide(entry))
            timed("worth", lambda: client.get("/api/review/worth"))
            timed("queue_by_map", lambda: queue("map"))
        entries, is_over = queue("suspicion").json()["entries"][:NUM_DECISIONS], threading.Event()

        def ask_on() -> None:
            while not is_over.is_set():
                client.get("/api/review/worth")
                queue("map")

        asking = threading.Thread(target=ask_on)
        asking.start()
        for entry in entries:
            timed("decision_meanwhile", lambda entry=entry: decide(entry))
        is_over.set()
        asking.join()
        drawn = np.random.default_rng(0).choice(NUM_IMAGES * NUM_CLASSES, NUM_IN_BATCH, replace=False)
        decisions = [
            {"image": f"{cell // NUM_CLASSES:06}.jpg", "class_name": f"class {cell % NUM_CLASSES}", "label": 1, "based_on": 10**9}
            for cell in drawn.tolist()
        ]
        timed("batch", lambda: client.post("/api/review/batch", json={"decisions": decisions, "reviewer": "Ann"}))
        timed("worth_after_batch", lambda: client.get("/api/review/worth"))
        timed("worth_again", lambda: client.get("/api/review/worth"))
    result: dict[str, object] = {
        "what": f"{NUM_IMAGES:,} images x {NUM_CLASSES} classes; median and largest seconds of each request"
    }
    result |= {
        name: {"n": len(each), "median": round(float(np.median(each)), 4), "largest": round(max(each), 4)}
        for name, each in seconds.items()
    }
    write("decision_worth", result)


if __name__ == "__main__":
    main()
