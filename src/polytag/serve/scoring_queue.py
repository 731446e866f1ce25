"""Images that wait for the model, and a thread for each core that takes what waits, as soon as it is free.

No timer collects a batch. A thread takes its share of the images that wait, so that the cores end together: with one image it
starts at once, and under load batches grow by themselves, where the model scores batches faster than single images.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np

from polytag.data.images.augment import views
from polytag.data.images.read import read_image
from polytag.errors import ImageError
from polytag.logits import sigmoid
from polytag.metrics.decisions import decide
from polytag.serve.measured import Measured
from polytag.serve.served_model import ServedModel

logger = logging.getLogger(__name__)

MAX_PIXELS = 64_000_000  # of an image; each core holds one decoded at a time
_FAILED = "the model failed; the log of the server has the reason"


class Full(Exception):
    """Too many images wait already."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What became of one image: three arrays of C values, or the reason that there are none.

    error      a sentence, or ""
    is_ours    whether the model failed, and not the image
    """

    logit_C: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    probability_C: np.ndarray = field(default_factory=lambda: np.zeros(0))
    present_C: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    error: str = ""
    is_ours: bool = False


@final
class Ticket:
    """The images of one request. `on_done` is called once, in a thread of the queue, when the last of them has its outcome."""

    def __init__(self, num_images: int, on_done: Callable[["Ticket"], None]):
        self.outcomes: list[Outcome | None] = [None] * num_images
        self.is_abandoned = False
        self._on_done = on_done
        self._num_missing = num_images
        self._lock = threading.Lock()

    def put(self, place: int, outcome: Outcome) -> None:
        """Give an image its outcome."""
        with self._lock:
            self.outcomes[place] = outcome
            self._num_missing -= 1
            is_done = self._num_missing == 0
        if is_done:
            self._on_done(self)


@dataclass(slots=True, eq=False)
class _Waiting:
    ticket: Ticket
    place: int
    model: ServedModel
    image: bytes | np.ndarray
    since: float


@final
class ScoringQueue:
    """Scores images in threads, one for each of `num_workers` cores, in the order in which they came."""

    def __init__(self, *, num_workers: int, max_batch: int, max_waiting: int, measured: Measured):
        self._num_workers, self._max_batch, self._max_waiting = num_workers, max_batch, max_waiting
        self._measured = measured
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"polytag-score-{number}", daemon=True) for number in range(num_workers)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    @property
    def num_waiting(self) -> int:
        """Images that no thread has taken yet."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether `submit` would raise Full for one image."""
        return len(self._waiting) >= self._max_waiting

    def submit(
        self, model: ServedModel, images: Sequence[bytes | np.ndarray], on_done: Callable[[Ticket], None], *, since: float
    ) -> Ticket:
        """Let images wait: contents of files, or views, uint8 V x S x S x 3. Raises Full, and then none of them waits.

        They are scored by this model even if another takes its place meanwhile. `since` is the `time.perf_counter()` of arrival.
        """
        ticket = Ticket(len(images), on_done)
        with self._changed:
            if self._is_closed or len(self._waiting) + len(images) > self._max_waiting:
                raise Full
            for place, image in enumerate(images):
                self._waiting.append(_Waiting(ticket, place, model, image, since))
            self._changed.notify(len(images))
        return ticket

    def close(self) -> None:
        """Let the threads end after what they are scoring."""
        with self._changed:
            self._is_closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def _work(self) -> None:
        prepared: ServedModel | None = None
        while batch := self._next_batch():
            try:
                if batch[0].model is not prepared:
                    batch[0].model.scorer.prepare_thread()
                    prepared = batch[0].model
                self._answer(batch)
            except Exception:
                logger.exception("a batch could not be scored")
                for each in batch:
                    if each.ticket.outcomes[each.place] is None:
                        each.ticket.put(each.place, Outcome(error=_FAILED, is_ours=True))
            del batch  # its images are not kept until the next ones come

    def _next_batch(self) -> list[_Waiting]:
        """Wait for images of one model; [] at the end."""
        with self._changed:
            while True:
                batch: list[_Waiting] = []
                share = -(-len(self._waiting) // self._num_workers)
                while self._waiting and len(batch) < share and (not batch or self._fits(self._waiting[0].model, batch)):
                    each = self._waiting.popleft()
                    if not each.ticket.is_abandoned:
                        batch.append(each)
                if batch or self._is_closed:
                    return batch
                if not self._waiting:
                    self._changed.wait()

    def _fits(self, model: ServedModel, batch: list[_Waiting]) -> bool:
        return model is batch[0].model and len(batch) < min(self._max_batch, model.batch_size)

    def _answer(self, batch: list[_Waiting]) -> None:
        """Decode and score, and give every image its outcome."""
        began = time.perf_counter()
        decoded: list[tuple[_Waiting, np.ndarray]] = []
        num_unreadable = 0
        for each in batch:
            pixels = _views_or_error(each)
            if isinstance(pixels, Outcome):
                num_unreadable += 1
                each.ticket.put(each.place, pixels)
            else:
                decoded.append((each, pixels))
        scoring = time.perf_counter()
        outcomes = _outcomes(batch[0].model, [pixels for _, pixels in decoded])
        ended = time.perf_counter()
        num_failed = sum(bool(outcome.error) for outcome in outcomes)
        self._measured.batch(
            waited_seconds=[began - each.since for each in batch],
            decode_seconds=scoring - began,
            score_seconds=ended - scoring,
            num_scored=len(outcomes) - num_failed,
            num_unreadable=num_unreadable,
            num_failed=num_failed,
        )
        for (each, _), outcome in zip(decoded, outcomes, strict=True):
            each.ticket.put(each.place, outcome)


def _views_or_error(each: _Waiting) -> np.ndarray | Outcome:
    if isinstance(each.image, np.ndarray):
        return each.image
    try:
        return views(read_image(each.image, max_pixels=MAX_PIXELS), each.model.preprocessing)
    except ImageError as error:
        return Outcome(error=f"{error.what}: {error.got}" if error.got else error.what)


def _outcomes(model: ServedModel, pixels: Sequence[np.ndarray]) -> list[Outcome]:
    """Score a batch. Where the model fails each image is scored alone, so that the others have their answers."""
    if not pixels:
        return []
    try:
        logit_NC = model.scorer.logits_of(np.stack(pixels))
        is_finite = [bool(np.isfinite(logit_C).all()) for logit_C in logit_NC]
    except Exception:
        if len(pixels) > 1:
            return [outcome for each in pixels for outcome in _outcomes(model, [each])]
        logger.exception("an image could not be scored")
        return [Outcome(error=_FAILED, is_ours=True)]
    probability_NC = sigmoid(logit_NC)
    present_NC: np.ndarray = decide(probability_NC, threshold_C=model.threshold_C)
    return [
        Outcome(logit_C=logit_NC[row], probability_C=probability_NC[row], present_C=present_NC[row])
        if is_finite[row]
        else Outcome(error="the model gives no finite score for it", is_ours=True)
        for row in range(len(pixels))
    ]
