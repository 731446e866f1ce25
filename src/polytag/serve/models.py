"""The model that answers, and the next one, which is loaded aside and takes its place when it has been tried."""

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import final

from polytag.errors import PolytagError
from polytag.models.checkpoint_files import CONFIG, EXPORT
from polytag.serve.measured import Measured
from polytag.serve.served_model import ServedModel

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
_SUFFIXES = (".json", ".onnx", ".safetensors", ".bin", ".xml")
_MAX_FILES = 100

Looks = tuple[tuple[str, int, int, int], ...]


@final
class Models:
    """Holds the model of a folder, and loads it again when the folder's files have changed or when it is told to.

    What is loaded is tried before it answers; a model that cannot be loaded, or fails, is refused with a line in the log, and the
    model before it goes on. `load` reads and tries it; what it raises at the start is raised.
    """

    def __init__(self, folder: Path, *, measured: Measured, load: Callable[[], ServedModel]):
        self._folder, self._measured, self._load = folder, measured, load
        self._looks = looks_of(folder)
        self.current = load()
        self._asked, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="polytag-reload", daemon=True)

    @property
    def name(self) -> str:
        """By which clients call the model."""
        return self.current.name

    def start(self) -> None:
        """Watch the folder from now on, in a thread."""
        self._thread.start()

    def ask(self) -> None:
        """Load the model again soon, whether or not its files have changed. Safe to call from a signal handler's callback."""
        self._asked.set()

    def close(self) -> None:
        """End the watch."""
        self._stop.set()
        self._asked.set()

    def _watch(self) -> None:
        """A change counts once the files have stayed the same for a look, so that a copy in progress is not read half."""
        seen = self._looks
        while True:
            is_asked = self._asked.wait(LOOK_SECONDS)
            if self._stop.is_set():
                return
            self._asked.clear()
            before, seen = seen, looks_of(self._folder)
            if is_asked or (seen == before and seen != self._looks):
                self._looks = seen
                self._reload(is_asked=is_asked)

    def _reload(self, *, is_asked: bool) -> None:
        before = self.current
        try:
            made = self._load()
        except Exception as error:
            self._measured.reload("refused")
            if isinstance(error, PolytagError):
                reason = "; ".join(line.strip() for line in str(error).splitlines())
                logger.error("the new model is refused, and %s goes on: %s", before.id, reason)
            else:
                logger.exception("the new model is refused, and %s goes on", before.id)
            return
        self.current = made
        self._measured.reload("loaded")
        logger.warning("model %s answers in place of %s (%s)", made.id, before.id, "SIGHUP" if is_asked else "its files changed")


def looks_of(folder: Path) -> Looks:
    """Name, number, size and time of the files that a model is read from; () where there are none."""
    for place in (folder, folder / "best"):
        found = _looks_in(place)
        if {EXPORT, CONFIG} & {name for name, *_ in found}:
            return tuple(sorted(found + _looks_in(place / "openvino")))
    return ()


def _looks_in(folder: Path) -> list[tuple[str, int, int, int]]:
    try:
        with os.scandir(folder) as entries:
            found = [(each.name, each.stat()) for each in entries if each.name.endswith(_SUFFIXES) and each.is_file()]
    except OSError:
        return []
    return [(name, status.st_ino, status.st_size, status.st_mtime_ns) for name, status in found[:_MAX_FILES]]
