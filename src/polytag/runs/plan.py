"""plan.json: what a run does with the minutes that it has, and the recipe that does the same again without a clock."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from polytag import files
from polytag.errors import PolytagError, RunError
from polytag.parsing import MAX_JSON_BYTES, Malformed, parse_json, read_small_text
from polytag.plain import WrongValue, from_plain
from polytag.runs.recipe import Recipe

VERSION = 2


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A backbone and a head that were tried on some training images.

    held_out_map       of a probe, cross-validated on `num_images` of them
    score_seconds      to decode and score an image
    """

    backbone: str
    head: str
    held_out_map: float
    num_images: int
    score_seconds: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What fits into the time, from what was measured on this machine with these images.

    recipe           every choice, with the step at which training ends
    num_probe, num_val   training images for the probe (0: random weights have none), and validation images, that are used
    epochs           of fine-tuning that fit, a fraction
    learn_seconds    to decode an image and learn from it once
    seconds          that each stage should take: "measuring", "probe", "fine-tuning", "closing"
    candidates       what was tried, the chosen one first
    needs_less       there is time for more epochs than are of use
    stopped_after    the share of the time after which Ctrl-C ended the training early; 0: it did not
    """

    recipe: Recipe
    num_probe: int
    num_val: int
    epochs: float
    learn_seconds: float
    seconds: Mapping[str, float]
    candidates: Sequence[Candidate] = ()
    needs_less: bool = False
    stopped_after: float = 0.0

    def text(self) -> str:
        """A line for people."""
        recipe, epochs = self.recipe, f"{self.epochs:.1f} epochs"
        stages = "a probe alone" if not recipe.epochs else f"a probe and {epochs}" if self.num_probe else epochs
        return f"{recipe.backbone} at {recipe.image_size_px} px, {stages}"


def write_plan(plan: Plan, path: Path, *, ends: Sequence[tuple[int, int]] = (), stopped_after: float = 0.0) -> None:
    """Write plan.json, with what the clock and Ctrl-C have changed meanwhile; raises RunError where it cannot be written."""
    recipe = replace(plan.recipe, ends=tuple(ends) or plan.recipe.ends)
    values = {"version": VERSION, **asdict(replace(plan, recipe=recipe, stopped_after=round(stopped_after, 4)))}
    files.write_text(path, json.dumps(values, indent=1, allow_nan=False) + "\n")


@dataclass(frozen=True, kw_only=True)
class _Stored:
    version: int
    recipe: Recipe
    num_probe: int
    num_val: int
    epochs: float
    learn_seconds: float
    seconds: dict[str, object] = field(default_factory=dict)
    candidates: Sequence[Candidate] = ()
    needs_less: bool = False
    stopped_after: float = 0.0


def read_plan(path: Path) -> Plan:
    """The content of a plan.json; raises RunError for any other file. Every value is checked as on the command line."""
    expected = f"the plan.json of a run of `polytag train --minutes`, version {VERSION}"
    try:
        values = from_plain(dict, parse_json(read_small_text(path, max_bytes=MAX_JSON_BYTES)))
        if (version := values.get("version")) != VERSION:  # before all else: other versions have other names
            raise WrongValue("version", version, expected=expected)
        stored = from_plain(_Stored, values)
        seconds = from_plain(Mapping[str, float], stored.seconds, name="seconds")  # pyright: ignore[reportArgumentType]
    except OSError as error:
        raise RunError("no plan here", where=str(path), got=error.strerror or str(error), expected=expected) from error
    except Malformed as error:
        raise RunError("the plan cannot be read", where=error.place(path), got=error.problem, expected=expected) from error
    except WrongValue as error:
        raise RunError("the plan cannot be read", where=str(path), got=error.got, expected=error.expected) from error
    except PolytagError as error:  # of the recipe
        got = f"{error.what}: {error.got}" if error.got else error.what
        raise RunError("the plan cannot be read", where=str(path), got=got, expected=error.expected or expected) from error
    return Plan(
        recipe=stored.recipe, num_probe=stored.num_probe, num_val=stored.num_val, epochs=stored.epochs,
        learn_seconds=stored.learn_seconds, seconds=seconds, candidates=stored.candidates, needs_less=stored.needs_less,
        stopped_after=stored.stopped_after,
    )  # fmt: skip


def repeated(plan: Plan) -> Recipe:
    """The recipe that takes the same steps again, however long they take."""
    return replace(plan.recipe, minutes=0.0)
