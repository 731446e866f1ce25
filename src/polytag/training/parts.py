"""The parts of a run that are its user's own: an augmentation, a loss, a backbone, given as Python objects.

A run folder keeps a record of each part, and a resume asks for the same ones again. Nothing in a run folder names code that is run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from polytag.errors import RunError, UsageError
from polytag.own_parts import OWN_BACKBONE, PARTS, PartRecord, record_of
from polytag.runs.recipe import Recipe

_WORD_OF = {"augment": "augmentation", "loss": "loss", "backbone": "backbone"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """The user's own parts, each None where polytag's is used.

    augment    a function of an image: `training.own_augment`
    loss       a function of logits and targets: `training.own_loss`
    backbone   a module, or a function that makes one: `models.own_backbone`
    """

    augment: Any = None
    loss: Any = None
    backbone: Any = None

    def __post_init__(self):
        for name, part in self._given.items():
            if not callable(part):
                raise UsageError(
                    f"the {_WORD_OF[name]} cannot be called", where=name, got=type(part).__qualname__, expected="a callable"
                )
            if isinstance(part, type) and name != "backbone":  # a class of modules makes one
                raise UsageError(
                    f"the {_WORD_OF[name]} is a class",
                    where=name,
                    got=part.__qualname__,
                    expected=f"an object: {part.__qualname__}()",
                )

    @property
    def _given(self) -> dict[str, Any]:
        return {name: part for name in PARTS if (part := getattr(self, name)) is not None}

    @cached_property
    def records(self) -> dict[str, PartRecord]:
        """What the run folder keeps of each part, by its kind."""
        return {name: record_of(part, with_weights=name != "backbone") for name, part in self._given.items()}

    def backbone_name(self, recipe: Recipe) -> str:
        """Of the user's own or the recipe's backbone, for people."""
        return recipe.backbone if self.backbone is None else self.records["backbone"].name

    def recipe_of(self, recipe: Recipe) -> Recipe:
        """The recipe, whose backbone and its arguments give way to the user's own; raises UsageError for arguments of another,
        and where it is missing."""
        if self.backbone is None:
            if recipe.backbone == OWN_BACKBONE:
                raise UsageError(
                    "the recipe has a backbone of its own",
                    where="backbone",
                    got="none",
                    expected="the module, or a function that makes one",
                    next_step="give it: `--parts FILE.py`, or in Python train(..., backbone=...)",
                )
            return recipe
        if recipe.backbone_args:
            raise UsageError(
                "a backbone of your own takes no arguments of timm",
                where="--backbone-arg",
                got=", ".join(recipe.backbone_args),
                expected="none: make the module with its arguments",
            )
        return replace(recipe, backbone=OWN_BACKBONE)

    @property
    def facts(self) -> dict[str, str]:
        """Lines for the head of the report."""
        return {f"own {_WORD_OF[name]}": str(record) for name, record in self.records.items()}

    def require_same(self, recorded: Mapping[str, PartRecord], *, where: str) -> None:
        """Raises RunError unless these are the parts of a run by their records."""
        for kind in PARTS:
            begun, given = recorded.get(kind), self.records.get(kind)
            if (begun and begun.digest) == (given and given.digest):
                continue
            word = _WORD_OF[kind]
            raise RunError(
                f"the run has another {word}" if begun and given else f"the run has {'a' if begun else 'no'} {word} of its own",
                where=where,
                got=str(given) if given else f"no {kind}",
                expected=str(begun) if begun else f"no {kind}",
                next_step=f"give the same {kind} again: `--parts FILE.py`, or in Python resume(run_folder, {kind}=...)"
                if begun
                else f"leave {kind} out, or start a new run",
            )


NO_PARTS = Parts()
