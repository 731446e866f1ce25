"""Places images by UMAP of their features, in a process of its own, which can be ended at any moment and takes its memory with it.

`umap-learn` stays out of the caller's process: it warns on import, sets the locale, compiles for seconds, and cannot be interrupted
while it searches for neighbours. Shapes: N images, D features.
"""

import importlib.util
import os
import re
import subprocess
import sys
import warnings
from threading import Lock
from typing import BinaryIO, final

import numpy as np

from polytag.errors import UsageError
from polytag.inference.projection import is_finite

MIN_IMAGES = 20  # the neighbourhoods of UMAP have 15 images
_MAX_REASON = 200  # characters
_BLOCK = 2048  # images that are widened at a time


class UmapStopped(Exception):
    """UMAP was ended by `stop`."""


def has_umap() -> bool:
    """Whether `umap-learn` is installed, which polytag itself never needs."""
    return importlib.util.find_spec("umap") is not None


@final
class UmapProcess:
    """UMAP of some features, once. Safe to call from many threads.

    progress   share of the epochs that are computed; 0 while the neighbours of the images are searched for
    """

    def __init__(self) -> None:
        self.progress = 0.0
        self._lock, self._is_stopped = Lock(), False
        self._process: subprocess.Popen[bytes] | None = None

    def places(self, feature_ND: np.ndarray) -> np.ndarray:
        """Return the coordinates of the images by UMAP of the cosine: float64, N x 2, the same ones each time on one machine.

        NaN for an image that is not finite, or that has nothing in common with any other. Takes seconds for 1,000 images and
        minutes for 50,000, on one core. Raises UmapStopped; UsageError, in a sentence without paths, with fewer than 20 images and
        where `umap-learn` fails.
        """
        finite_N = is_finite(feature_ND)
        if finite_N.sum() < MIN_IMAGES:
            raise UsageError(f"UMAP needs at least {MIN_IMAGES} images, and {finite_N.sum()} have features")
        process = self._started(int(finite_N.sum()))
        try:
            place_n2 = self._answer(process, feature_ND if finite_N.all() else feature_ND[finite_N])
        finally:
            self._end(process)
        place_N2 = np.full((len(feature_ND), 2), np.nan)
        place_N2[finite_N] = place_n2
        return place_N2

    def stop(self) -> None:
        """End the computation, and wait until its process has ended, which takes a moment."""
        with self._lock:
            self._is_stopped, process = True, self._process
        if process is not None:
            process.kill()
            process.wait()

    def _started(self, num_images: int) -> "subprocess.Popen[bytes]":
        path = os.pathsep.join(each for each in sys.path if each)
        with self._lock:
            if self._is_stopped:
                raise UmapStopped
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "polytag.inference.umap_process", str(num_images)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": path},
            )
            return self._process

    def _answer(self, process: "subprocess.Popen[bytes]", feature_nD: np.ndarray) -> np.ndarray:
        assert process.stdin is not None
        assert process.stdout is not None
        reason = ""
        try:
            for start in range(0, len(feature_nD), _BLOCK):
                process.stdin.write(feature_nD[start : start + _BLOCK].astype(np.float32).tobytes())
            process.stdin.close()
        except OSError:  # it has ended: what it said tells why
            pass
        for line in iter(process.stdout.readline, b""):
            word, _, rest = line.decode(errors="replace").strip().partition(" ")
            if word == "progress":
                self.progress = float(rest)
            elif word == "failed":
                reason = rest
            elif word == "places":
                content = process.stdout.read()
                if len(content) == 8 * len(feature_nD):
                    return np.frombuffer(content, np.float32).reshape(-1, 2).astype(np.float64)
        status = process.wait()
        if self._is_stopped:
            raise UmapStopped
        raise UsageError(f"UMAP failed: {reason or _ended(status)}")

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:  # what could not be written any more
                pass
        with self._lock:
            self._process = None


def _ended(status: int) -> str:
    if status < 0:
        return f"the system ended its process by signal {-status}, as it does where memory is short"
    return f"its process ended with status {status} and without an answer"


class _Epochs:
    """The file that tqdm writes the progress of UMAP to."""

    def __init__(self, answer: BinaryIO):
        self._answer = answer

    def write(self, text: str) -> None:
        if len(numbers := text.split()) == 2:
            self._answer.write(f"progress {int(numbers[0]) / int(numbers[1])}\n".encode())
            self._answer.flush()

    def flush(self) -> None:
        """Nothing waits."""


def main() -> None:
    """Read float32 features of so many images; answer with lines of progress and the places, or why there are none."""
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    feature_nD = np.frombuffer(sys.stdin.buffer.read(), np.float32).reshape(int(sys.argv[1]), -1)
    warnings.simplefilter("ignore")
    try:
        from umap import UMAP  # pyright: ignore[reportMissingImports]

        progress = {"disable": False, "file": _Epochs(answer), "bar_format": "{n} {total}"}
        found = UMAP(metric="cosine", random_state=0, n_jobs=1, tqdm_kwds=progress).fit_transform(feature_nD)
        answer.write(b"places\n" + np.asarray(found, np.float32).tobytes())
    except Exception as error:
        text = re.sub(r"\S*[/\\]\S*", "…", " ".join(str(error).split()))  # a page shows it: no path
        answer.write(f"failed {type(error).__name__}: {text[:_MAX_REASON]}\n".encode())
    answer.flush()


if __name__ == "__main__":
    main()
