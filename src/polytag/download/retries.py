"""Trying again where a server or a store may answer the next time, a bounded number of times."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from polytag.errors import FetchError

T = TypeVar("T")
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504, 507, 509})
"""Statuses of HTTP after which the same request may succeed."""
_PROGRESS_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Patience:
    """The limits of trying: the seconds that a connection may be silent, the tries, and the pause before the second one.

    A pause is a random share, from a half to the whole, of a time that doubles with each try, so that the tasks of a cluster do
    not come back all at once.
    """

    timeout_seconds: float = 30.0
    max_tries: int = 6
    pause_seconds: float = 0.5
    max_pause_seconds: float = 20.0

    def pause(self, num_failures: int, *, at_least: float = 0.0) -> float:
        """Seconds before the next try, after this many failures."""
        longest = min(self.pause_seconds * 2 ** (num_failures - 1), self.max_pause_seconds)
        return max(longest * random.uniform(0.5, 1), min(at_least, self.max_pause_seconds))


PATIENCE = Patience()


class Interrupted(Exception):
    """The next try may succeed; `after_seconds` is what the server asks to wait."""

    def __init__(self, reason: str, *, after_seconds: float = 0.0):
        super().__init__(reason)
        self.after_seconds = after_seconds


class NotThere(FetchError):
    """There is no file at an address."""


def with_retries(
    work: Callable[[], T], *, where: str, patience: Patience = PATIENCE, progress: Callable[[], int] | None = None
) -> T:
    """What `work` returns. Where it raises Interrupted it is called again; raises FetchError after `max_tries` in a row.

    With `progress`, the number of bytes so far, only tries that bring less than 1 MiB count.
    """
    num_failures, before = 0, progress() if progress else 0
    while True:
        try:
            return work()
        except Interrupted as error:
            now = progress() if progress else 0
            num_failures = 1 if now - before >= _PROGRESS_BYTES else num_failures + 1
            before = now
            if num_failures >= patience.max_tries:
                raise FetchError(
                    f"an address could not be read, {num_failures} times in a row",
                    where=where,
                    got=str(error),
                    expected="the file",
                    next_step="run the same command again when the server or the network is well",
                ) from error
            time.sleep(patience.pause(num_failures, at_least=error.after_seconds))
