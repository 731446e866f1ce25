"""What training reports while it runs. Nothing in this room prints: a `Callback` shows the events as it likes."""

from collections.abc import Mapping
from typing import Protocol

from polytag.contracts import Dataset


class Callback(Protocol):
    """Receives the events of a run."""

    def read(self, dataset: Dataset) -> None:
        """The annotations have been read; `dataset.interpretation` says as what."""

    def note(self, text: str) -> None:
        """A sentence worth reading once."""

    def phase(self, name: str, num_images: int) -> None:
        """A pass over `num_images` images begins; the previous one has ended."""

    def progress(self, num_images: int, **numbers: float) -> None:
        """`num_images` more images of this pass are done; `numbers` are running figures such as loss and mAP."""

    def epoch(self, row: Mapping[str, float]) -> None:
        """An epoch has ended: its row of results.csv."""


class SilentCallback:
    """A Callback that shows nothing."""

    def read(self, dataset: Dataset) -> None: ...
    def note(self, text: str) -> None: ...
    def phase(self, name: str, num_images: int) -> None: ...
    def progress(self, num_images: int, **numbers: float) -> None: ...
    def epoch(self, row: Mapping[str, float]) -> None: ...
