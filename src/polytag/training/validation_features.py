"""The features of the validation images, kept from the pass that scores them anyway, and cached at the end of a run.

So the map, nearest images and "Train on these" of the inspector find them there, and need not read the images once more.
"""

import time
from collections.abc import Callable
from typing import final

import numpy as np

from polytag.inference.feature_cache import cache_of
from polytag.inference.predictor import Extracted, Predictor
from polytag.inference.scored import Scored
from polytag.training.context import TrainingContext

_MOST_BYTES = 300e6  # of one pass; those of the best one are kept beside it


@final
class ValidationFeatures:
    """The features of the best validation so far, where they fit into memory, one process scores all, and a cache is wanted."""

    def __init__(self, context: TrainingContext):
        self._context = context
        self._is_wanted = context.recipe.cache != "none" and context.parts.backbone is None and context.processes.count == 1
        self._parts: list[Scored] = []
        self._num_bytes, self._started = 0, 0.0
        self._best: tuple[Extracted, float] | None = None  # and the seconds of their pass

    def begin(self) -> Callable[[Scored], None] | None:
        """Begin a pass: return what takes the features of its batches, in their order; None where none are wanted."""
        self._parts, self._num_bytes, self._started = [], 0, time.monotonic()
        return self._add if self._is_wanted else None

    def _add(self, scored: Scored) -> None:
        self._num_bytes += scored.output_ND.nbytes
        if self._num_bytes <= _MOST_BYTES:
            self._parts.append(scored)
        else:
            self._parts = []

    def keep(self) -> None:
        """The pass that has just ended is the best so far."""
        read = [part for part in self._parts if len(part.rows)]
        self._best = None
        if read and self._num_bytes <= _MOST_BYTES:
            features = np.concatenate([part.output_ND for part in read])
            failures = tuple(failure for part in self._parts for failure in part.failures)
            extracted = features, np.concatenate([part.rows for part in read]), failures
            self._best = extracted, time.monotonic() - self._started
        self._parts = []

    def write(self, predictor: Predictor) -> None:
        """Cache them; call it where this model, read from the disk, gives what the best pass gave."""
        cache = cache_of(predictor, self._context.val_set.paths) if self._best is not None else None
        if cache is not None and self._best is not None:
            cache.put(*self._best)
