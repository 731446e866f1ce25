"""What the server counts and times, as text that Prometheus reads (exposition format 0.0.4)."""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import final

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_IMAGES = (1, 2, 4, 8, 16, 32, 64)


@final
class _Histogram:
    """Counts of observations in buckets; the caller holds the lock."""

    def __init__(self, bounds: Sequence[float]):
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str) -> list[str]:
        total, lines = 0, []
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{name}_sum {self._sum!r}", f"{name}_count {total}"]


@final
class Measured:
    """Counters and histograms since the start of the process. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_requests: Counter[tuple[str, int]] = Counter()
        self._num_images: Counter[str] = Counter(scored=0, unreadable=0, failed=0)
        self._num_reloads: Counter[str] = Counter(loaded=0, refused=0)
        self._waited, self._decoded, self._scored = (_Histogram(_SECONDS) for _ in range(3))
        self._batches = _Histogram(_IMAGES)

    def request(self, route: str, status: int) -> None:
        """Count an answer."""
        with self._lock:
            self._num_requests[route, status] += 1

    def reload(self, outcome: str) -> None:
        """Count a model that took its place ("loaded") or did not ("refused")."""
        with self._lock:
            self._num_reloads[outcome] += 1

    def batch(
        self,
        *,
        waited_seconds: Sequence[float],
        decode_seconds: float,
        score_seconds: float,
        num_scored: int,
        num_unreadable: int,
        num_failed: int,
    ) -> None:
        """Count and time a batch: the wait of every image, decoding and scoring of all."""
        with self._lock:
            for seconds in waited_seconds:
                self._waited.observe(seconds)
            self._decoded.observe(decode_seconds)
            if num_scored + num_failed:
                self._scored.observe(score_seconds)
                self._batches.observe(num_scored + num_failed)
            self._num_images["scored"] += num_scored
            self._num_images["unreadable"] += num_unreadable
            self._num_images["failed"] += num_failed

    def text(self, *, gauges: Mapping[str, tuple[str, Callable[[], float]]], model: Mapping[str, str]) -> str:
        """All metrics. `gauges` maps a name to its help and its value now; `model` are the labels of the model that answers."""
        with self._lock:
            lines = _counter("polytag_requests_total", "Answers by route and status.", {
                f'route="{route}",status="{status}"': value for (route, status), value in sorted(self._num_requests.items())
            })  # fmt: skip
            for name, help_text, counts in (
                ("polytag_images_total", "Images by outcome.", self._num_images),
                ("polytag_reloads_total", "Models that took their place, or were refused.", self._num_reloads),
            ):
                lines += _counter(name, help_text, {f'outcome="{key}"': value for key, value in counts.items()})
            for name, help_text, histogram in (
                ("polytag_queue_seconds", "From the arrival of an image to its batch.", self._waited),
                ("polytag_decode_seconds", "Decoding and resizing the images of a batch.", self._decoded),
                ("polytag_score_seconds", "Scoring a batch.", self._scored),
                ("polytag_batch_images", "Images of a batch.", self._batches),
            ):
                lines += [f"# HELP {name} {help_text}", f"# TYPE {name} histogram", *histogram.lines(name)]
        for name, (help_text, value) in gauges.items():
            lines += [f"# HELP {name} {help_text}", f"# TYPE {name} gauge", f"{name} {value()!r}"]
        labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in model.items())
        lines += ["# HELP polytag_model_info The model that answers.", "# TYPE polytag_model_info gauge"]
        return "\n".join([*lines, f"polytag_model_info{{{labels}}} 1", ""])


def _counter(name: str, help_text: str, values: Mapping[str, int]) -> list[str]:
    return [f"# HELP {name} {help_text}", f"# TYPE {name} counter", *(f"{name}{{{key}}} {value}" for key, value in values.items())]


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
