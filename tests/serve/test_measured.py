"""The metrics, read by a reader of its own that follows the exposition format and nothing of the code."""

import json
import re
import threading

import pytest

from polytag.models.exported import Exported
from polytag.serve.measured import Measured

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? (NaN|[+-]?Inf|[-+0-9.eE]+)(?: [0-9]+)?")
LABEL = re.compile(rf'({NAME})="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')


def read_exposition(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Name -> labels -> value, of the text format 0.0.4; fails for whatever that format does not allow."""
    assert text.endswith("\n")
    kinds: dict[str, str] = {}
    helped: set[str] = set()
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name = line.split(" ", 3)[2]
            assert name not in helped
            helped.add(name)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert kind in ("counter", "gauge", "histogram")
            assert name not in kinds, "samples of a metric stand together"
            kinds[name] = kind
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            name, labels = match[1], match[2] or ""
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            assert list(kinds)[-1] in (name, base), f"{name} stands under its own type"
            pairs = LABEL.findall(labels)
            assert "".join(f'{key}="{value}",' for key, value in pairs).rstrip(",") == labels, line
            values = found.setdefault(name, {})
            assert tuple(pairs) not in values, "a sample stands once"
            values[tuple(pairs)] = float(match[3].replace("Inf", "inf"))
    assert helped == set(kinds)
    for name, kind in kinds.items():
        if kind == "counter":
            assert name.endswith("_total")
        if kind == "histogram":
            buckets = [(float(key[0][1].replace("+Inf", "inf")), value) for key, value in found[f"{name}_bucket"].items()]
            assert [key[0][0] for key in found[f"{name}_bucket"]] == ["le"] * len(buckets)
            assert buckets == sorted(buckets)
            assert [value for _, value in buckets] == sorted(value for _, value in buckets)
            assert buckets[-1] == (float("inf"), found[f"{name}_count"][()])
    return found


def test_what_is_counted_is_what_was_asked(serve_live, small_export: Exported, jpegs):
    import http.client

    with serve_live(small_export.folder) as (server, _):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)

        def ask(method, path, body=None, kind="image/jpeg", **headers):
            connection.request(method, path, body=body, headers={"Content-Type": kind, **headers})
            return connection.getresponse().read()

        for content in (*jpegs[:3], b"no image"):
            ask("POST", "/predict", content)
        ask("POST", "/predict", jpegs[0], kind="text/plain")
        ask("GET", "/nowhere/" + "x" * 200)
        ask("GET", "/v2/health/ready")
        ask("GET", "/v2", Host="evil.example")
        connection.close()
        text = ask("GET", "/metrics").decode()
        connection.close()
    found = read_exposition(text)
    requests = {(dict(key)["route"], dict(key)["status"]): value for key, value in found["polytag_requests_total"].items()}
    assert requests == {
        ("predict", "200"): 3, ("predict", "422"): 1, ("predict", "415"): 1, ("other", "404"): 1, ("health", "200"): 1,
        ("metadata", "421"): 1,
    }  # fmt: skip
    images = {dict(key)["outcome"]: value for key, value in found["polytag_images_total"].items()}
    assert images == {"scored": 3, "unreadable": 1, "failed": 0}
    assert found["polytag_queue_seconds_count"][()] == 4
    assert found["polytag_batch_images_sum"][()] == 3
    assert found["polytag_score_seconds_count"][()] == 3
    assert 0 < found["polytag_score_seconds_sum"][()] < 30
    assert found["polytag_waiting_images"][()] == 0
    ((labels, one),) = found["polytag_model_info"].items()
    assert one == 1
    assert dict(labels)["id"] == small_export.id
    assert dict(labels)["engine"] == "onnx"


def test_names_from_strangers_stay_inside_their_label():
    name = 'a"b\\c\nd{e="f"} 1'
    text = Measured().text(gauges={}, model={"name": name})
    ((labels, _),) = read_exposition(text)["polytag_model_info"].items()
    assert json.loads(f'"{labels[0][1]}"') == name


def test_threads_lose_no_count():
    measured = Measured()

    def count() -> None:
        for _ in range(2000):
            measured.request("predict", 200)
            measured.batch(
                waited_seconds=[0.5, 1e9], decode_seconds=0, score_seconds=0.01, num_scored=2, num_unreadable=0, num_failed=0
            )

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read_exposition(measured.text(gauges={}, model={"name": "m"}))
    assert found["polytag_requests_total"] == {(("route", "predict"), ("status", "200")): 8000}
    assert found["polytag_queue_seconds_count"][()] == 16000
    assert found["polytag_batch_images_sum"][()] == 16000
    assert found["polytag_queue_seconds_sum"][()] == pytest.approx(8000 * (1e9 + 0.5))
