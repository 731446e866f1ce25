"""The value `Calibration`: a map per class that corrects logits so that their sigmoid is a calibrated probability. Reads no file.

Every map is strictly increasing and invertible, and converts a threshold without changing a decision. In floating point it never
reverses two scores; those whose calibrated values round to one float become a tie.
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
from polytag.logits import LARGEST, SMALLEST, sigmoid
from polytag.plain import from_plain

KINDS = ("temperature", "platt", "isotonic", "pooled")


@dataclass(frozen=True, kw_only=True)
class ClassMap:
    """The map of one class: slope · logit + bias; or, with knots, linear between them and with this slope outside them.

    kind                "temperature", "platt", "isotonic", or "pooled": the temperature of all classes together
    logit, calibrated   the knots: at least two, both strictly increasing and of the same length; or none

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
            raise ValueError("the calibration has a number that is not finite")
        rising = all(a < b for knots in (self.logit, self.calibrated) for a, b in pairwise(knots))
        if self.slope <= 0 or not rising or len(self.logit) != len(self.calibrated) or len(self.logit) == 1:
            raise ValueError("the calibration is not strictly increasing")

    def apply(self, logit_N: np.ndarray) -> np.ndarray:
        """Calibrated logits, float64."""
        return self._lines(np.asarray(logit_N, np.float64), self.logit, self.calibrated, undo=False)

    def undo(self, calibrated_N: np.ndarray) -> np.ndarray:
        """The logits that `apply` maps to these, float64."""
        return self._lines(np.asarray(calibrated_N, np.float64), self.calibrated, self.logit, undo=True)

    def _lines(self, value_N: np.ndarray, from_K: Sequence[float], to_K: Sequence[float], *, undo: bool) -> np.ndarray:
        if not from_K:
            return (value_N - self.bias) / self.slope if undo else value_N * self.slope + self.bias
        slope = 1 / self.slope if undo else self.slope
        beyond_N = slope * (np.minimum(value_N - from_K[0], 0) + np.maximum(value_N - from_K[-1], 0))
        inside_N = np.clip(value_N, from_K[0], from_K[-1])
        after_N = np.clip(np.searchsorted(from_K, inside_N, side="right"), 1, len(from_K) - 1)  # the knot that ends the segment
        low_N, high_N = np.asarray(to_K)[after_N - 1], np.asarray(to_K)[after_N]
        return np.clip(np.interp(inside_N, from_K, to_K), low_N, high_N) + beyond_N  # a rounded line may pass its end

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        knots = {"logit": list(self.logit), "calibrated": list(self.calibrated)} if self.logit else {}
        return {"kind": self.kind, "slope": self.slope, **({} if self.logit else {"bias": self.bias}), **knots}


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The maps of all classes, in the order of the label set, and the method that fitted them.

    The map of a class with too few images is "pooled" instead of the kind of the method.
    """

    method: str
    maps: tuple[ClassMap, ...]

    @cached_property
    def id(self) -> str:
        """16 hexadecimal digits that change with any number; predictions refer to their calibration by it."""
        return hashlib.sha256(json.dumps([each.to_json() for each in self.maps]).encode()).hexdigest()[:16]

    def apply(self, logit_NC: np.ndarray) -> np.ndarray:
        """Calibrated logits of the same shape and dtype, computed in float64. A dtype of float32 ties what it rounds together."""
        assert logit_NC.shape[1] == len(self.maps)
        calibrated = [each.apply(logit_N) for each, logit_N in zip(self.maps, logit_NC.T, strict=True)]
        return np.stack(calibrated, axis=1).astype(logit_NC.dtype)

    def undo(self, logit_NC: np.ndarray) -> np.ndarray:
        """The logits before calibration, float64."""
        return np.stack([each.undo(logit_N) for each, logit_N in zip(self.maps, logit_NC.T, strict=True)], axis=1)

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON, which `from_json` reads."""
        return {"method": self.method, "id": self.id, "maps": [each.to_json() for each in self.maps]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Calibration":
        """The calibration of these values. Raises ValueError if they are invalid or were modified."""
        stored = from_plain(_Stored, values, name="calibration")
        made = cls(method=stored.method, maps=stored.maps)
        if made.id != stored.id:
            raise ValueError(f"the numbers of calibration {stored.id} were modified")
        return made


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """A calibration in JSON."""

    method: str
    id: str
    maps: tuple[ClassMap, ...]


def calibrated(predictions: Predictions, calibration: Calibration | None) -> Predictions:
    """The predictions with calibrated logits and the id of the calibration; unchanged without a calibration."""
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


def convert_thresholds(
    thresholds: Sequence[float], *, undo: Calibration | None = None, apply: Calibration | None = None
) -> tuple[float, ...]:
    """Thresholds (probabilities) converted from one calibration to another, with the same decisions.

    0 (always) and 1 (never) do not change, and no other threshold becomes one of them.
    """
    found: list[float] = []
    for column, threshold in enumerate(thresholds):
        if not 0 < threshold < 1 or undo is apply is None:
            found.append(float(threshold))
            continue
        logit = np.array([math.log(threshold) - math.log1p(-threshold)])
        logit = undo.maps[column].undo(logit) if undo else logit
        logit = apply.maps[column].apply(logit) if apply else logit
        found.append(min(max(float(sigmoid(logit)[0]), SMALLEST), LARGEST))
    return tuple(found)
