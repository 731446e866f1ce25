"""The value `Calibration`: how a class's logits are mended until their sigmoid is a probability. Reads no file.

Every map is strictly increasing, so it changes no ranking (average precision stays, but for ties by rounding), can be undone, and
carries a threshold with it without changing a decision.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from polytag.contracts import Predictions
from polytag.logits import sigmoid

KINDS = ("temperature", "platt", "isotonic", "pooled")


@dataclass(frozen=True, kw_only=True)
class ClassMap:
    """One class: slope · logit + bias; or, with knots, straight lines between them and this slope beyond the first and the last.

    kind                "temperature", "platt", "isotonic", or "pooled": the temperature of all classes together
    logit, calibrated   the knots: equally many, at least two, both strictly increasing; or none

    Raises ValueError for a map that is not finite and strictly increasing.
    """

    kind: str
    slope: float
    bias: float = 0.0
    logit: tuple[float, ...] = ()
    calibrated: tuple[float, ...] = ()

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind of calibration {self.kind!r}")
        numbers = (self.slope, self.bias, *self.logit, *self.calibrated)
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError("a calibration with a number that is not finite")
        rising = all(a < b for knots in (self.logit, self.calibrated) for a, b in pairwise(knots))
        if self.slope <= 0 or not rising or len(self.logit) != len(self.calibrated) or len(self.logit) == 1:
            raise ValueError("a calibration that does not rise")

    def apply(self, logit_N: np.ndarray) -> np.ndarray:
        """Calibrated logits, float64."""
        return self._lines(np.asarray(logit_N, np.float64), self.logit, self.calibrated, undo=False)

    def undo(self, calibrated_N: np.ndarray) -> np.ndarray:
        """The logits that `apply` gave these for, float64."""
        return self._lines(np.asarray(calibrated_N, np.float64), self.calibrated, self.logit, undo=True)

    def _lines(self, value_N: np.ndarray, from_K: Sequence[float], to_K: Sequence[float], *, undo: bool) -> np.ndarray:
        if not from_K:
            return (value_N - self.bias) / self.slope if undo else value_N * self.slope + self.bias
        slope = 1 / self.slope if undo else self.slope
        beyond_N = slope * (np.minimum(value_N - from_K[0], 0) + np.maximum(value_N - from_K[-1], 0))
        return np.interp(value_N, from_K, to_K) + beyond_N

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        knots = {"logit": list(self.logit), "calibrated": list(self.calibrated)} if self.logit else {}
        return {"kind": self.kind, "slope": self.slope, **({} if self.logit else {"bias": self.bias}), **knots}


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The maps of all classes, in the order of the label set, and the method that was asked for.

    A class may have another kind than the method: where it had too few images, "pooled".
    """

    method: str
    maps: tuple[ClassMap, ...]

    @cached_property
    def id(self) -> str:
        """16 hexadecimal digits that change with any number: what predictions say they were calibrated with."""
        return hashlib.sha256(json.dumps([each.to_json() for each in self.maps]).encode()).hexdigest()[:16]

    def apply(self, logit_NC: np.ndarray) -> np.ndarray:
        """Calibrated logits of the same shape and kind of float."""
        assert logit_NC.shape[1] == len(self.maps)
        mended = [each.apply(logit_N) for each, logit_N in zip(self.maps, logit_NC.T, strict=True)]
        return np.stack(mended, axis=1).astype(logit_NC.dtype)

    def undo(self, logit_NC: np.ndarray) -> np.ndarray:
        """The logits before, float64."""
        return np.stack([each.undo(logit_N) for each, logit_N in zip(self.maps, logit_NC.T, strict=True)], axis=1)

    def to_json(self) -> dict[str, Any]:
        """Plain values, that `from_json` reads back."""
        return {"method": self.method, "id": self.id, "maps": [each.to_json() for each in self.maps]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Calibration":
        """Raises ValueError, KeyError or TypeError for what is not a calibration, or was changed since."""
        maps = tuple(
            ClassMap(
                kind=each["kind"],
                slope=float(each["slope"]),
                bias=float(each.get("bias", 0.0)),
                logit=tuple(map(float, each.get("logit", ()))),
                calibrated=tuple(map(float, each.get("calibrated", ()))),
            )
            for each in values["maps"]
        )
        made = cls(method=values["method"], maps=maps)
        if made.id != values["id"]:
            raise ValueError(f"a calibration of id {values['id']} whose numbers were changed")
        return made


def calibrated(predictions: Predictions, calibration: Calibration | None) -> Predictions:
    """The predictions with mended logits, that say what mended them; as they are where there is no calibration."""
    if calibration is None:
        return predictions
    assert not predictions.calibration
    assert predictions.has_probabilities
    return replace(
        predictions,
        logit_NC=calibration.apply(predictions.logit_NC),
        calibration=calibration.id,
        scale="logit",
        given_probability_NC=None,
    )


def carried(thresholds: Sequence[float], *, undo: Calibration | None = None, apply: Calibration | None = None) -> tuple[float, ...]:
    """Thresholds (probabilities) taken out of one calibration and into another: the same decisions. 0 and 1 stay."""
    found: list[float] = []
    for column, threshold in enumerate(thresholds):
        if not 0 < threshold < 1 or undo is apply is None:
            found.append(float(threshold))
            continue
        logit = np.array([math.log(threshold) - math.log1p(-threshold)])
        logit = undo.maps[column].undo(logit) if undo else logit
        logit = apply.maps[column].apply(logit) if apply else logit
        found.append(float(sigmoid(logit)[0]))
    return tuple(found)
