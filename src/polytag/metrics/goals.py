"""What a threshold is chosen for: the goals of `polytag thresholds`."""

import math
import re
from dataclasses import dataclass

from polytag.errors import UsageError

MAX_BETA = 100
SHARES = ("precision", "recall", "top", "fnr")


@dataclass(frozen=True, kw_only=True)
class Goal:
    """The goal of a threshold: "f", the best F-beta; "precision", "recall" or "top", a share; "fnr", a false negative rate;
    "default" (0.5); or "none", for thresholds that were set one by one.

    `level` is beta, above 0 and at most 100, or the share or rate, in (0, 1); raises UsageError for another.
    """

    kind: str
    level: float = math.nan

    def __post_init__(self):
        assert self.kind in ("default", "none", "f", *SHARES)
        if self.kind == "f" and not 0 < self.level <= MAX_BETA:
            got, expected = f"f{self.level:g}", f"a beta above 0 and at most {MAX_BETA}"
            raise UsageError("a goal out of range", got=got, expected=expected)
        if self.kind in SHARES and not 0 < self.level < 1:
            raise UsageError("a goal out of range", got=f"{self.kind}={self.level:g}", expected="a share between 0 and 1")

    @classmethod
    def parse(cls, text: str) -> "Goal":
        """ "f1", "f2", "f0.5", "precision=0.9", "recall=0.95", "top=0.05", "fnr=0.1"; raises UsageError for anything else."""
        kind, _, level = text.partition("=")
        try:
            if re.fullmatch(r"f\d+(\.\d+)?", text, re.ASCII):
                return cls(kind="f", level=float(text[1:]))
            if kind in SHARES:
                return cls(kind=kind, level=float(level))
        except ValueError:
            pass
        raise UsageError(
            "unknown goal",
            where="--goal",
            got=repr(text),
            expected="f1, f2 (any F-beta), precision=P, recall=R, top=SHARE or fnr=RATE",
        )

    def __str__(self) -> str:
        return {"default": "default", "none": "", "f": f"f{self.level:g}"}.get(self.kind, f"{self.kind}={self.level:g}")


def require_possible(goal: Goal, *, confidence: float | None, joint: bool, shared: bool, has_groups: bool) -> None:
    """Raises UsageError for options that this goal does not have, or that exclude each other."""
    if confidence is not None and not 0 < confidence < 1:
        raise UsageError("confidence out of range", got=str(confidence), expected="a probability between 0 and 1")
    if confidence is not None and goal.kind == "fnr":
        raise UsageError(
            "this goal takes no confidence",
            got=f"{goal} with a confidence",
            expected="the goal alone",
            next_step="leave the confidence out: the expected false negative rate is guaranteed without one",
        )
    if confidence is not None and goal.kind in ("f", "default"):
        raise UsageError(
            "there is no guarantee for this goal",
            got=f"{goal} with a confidence",
            expected="precision=P, recall=R or top=SHARE",
            next_step="leave the confidence out: the threshold of the best F-beta guarantees nothing",
        )
    if joint and confidence is None:
        raise UsageError("a joint guarantee without a confidence", got="joint", expected="a confidence, such as 0.95")
    if shared and confidence is not None:
        raise UsageError(
            "there is no guarantee for a shared threshold",
            got=f"shared with a confidence of {confidence:g}",
            expected="one of the two",
            next_step="leave out one: the decisions of one image are not independent, so they prove nothing together",
        )
    if has_groups and goal.kind != "fnr" and confidence is None:
        raise UsageError(
            "groups with a goal that they do not change",
            where="--group",
            got=str(goal),
            expected="fnr=RATE, a confidence with precision=P, recall=R or top=SHARE, or no groups",
        )
