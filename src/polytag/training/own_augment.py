"""An augmentation of the user's own, in place of a preset: any callable that makes one random view of an image.

It runs in the threads that prepare batches, and its randomness is a function of (seed, epoch, image), as that of the presets: the
number of threads, their order and an interruption change nothing.

- A parameter named `rng` receives NumPy's generator of the image. Such augmentations run side by side, and so do those of
  torchvision and albumentations.
- Any other callable draws from the generators of `random`, `numpy.random` and PyTorch, which are seeded around each call, so one of
  these runs at a time.
"""

import copy
import inspect
import random
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.overrides import TorchFunctionMode

from polytag.contracts import Preprocessing
from polytag.data.images.augment import single_view, views
from polytag.errors import PolytagError, UsageError
from polytag.own_parts import name_of, place_of

_ONE_AT_A_TIME = threading.Lock()
_EXPECTED = "a PIL image, or uint8 of shape H x W x 3 (an array) or 3 x H x W (a tensor)"
_NO_FLOATS = "polytag normalises images itself: leave out ToDtype, ToTensor and Normalize"
_FILLING = {
    torch.Tensor.uniform_, torch.Tensor.normal_, torch.Tensor.bernoulli_, torch.Tensor.random_, torch.Tensor.exponential_,
    torch.Tensor.log_normal_, torch.Tensor.cauchy_, torch.Tensor.geometric_, torch.Tensor.multinomial, torch.Tensor.bernoulli,
    torch.rand, torch.randn, torch.randint, torch.randperm, torch.normal, torch.bernoulli, torch.multinomial, torch.poisson,
}  # fmt: skip
_LIKE: dict[Any, Callable[..., Tensor]] = {
    torch.rand_like: torch.rand,
    torch.randn_like: torch.randn,
    torch.randint_like: torch.randint,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnAugmentation:
    """The user's callable, and how it is called.

    `part` takes an upright RGB image as PIL has it and returns a view of any size, which is fitted to the input as in scoring.
    """

    part: Callable[..., Any]
    preprocessing: Preprocessing
    _own: threading.local = field(default_factory=threading.local)

    @property
    def name(self) -> str:
        """Qualified, for messages."""
        return name_of(self.part)

    def view(self, image: Image.Image, rng: np.random.Generator, *, where: str) -> np.ndarray:
        """uint8 1 x S x S x 3: a view of an image; `where` names it. Raises UsageError where the callable fails or returns
        anything but an image."""
        try:
            made = self._called(image, rng)
        except PolytagError:
            raise
        except Exception as error:  # whatever a user's code raises
            raise UsageError(
                f"the augmentation {self.name} failed",
                where=place_of(error),
                got=f"{type(error).__name__}: {error}",
                expected=f"a view of the image {where}",
            ) from error
        return views(self._image_of(made, where=where), single_view(self.preprocessing))

    def _called(self, image: Image.Image, rng: np.random.Generator) -> Any:
        if _takes_rng(self.part):
            return self.part(image, rng=rng)
        seed = int(rng.integers(2**32))
        if _is_of(self.part, "albumentations") and hasattr(self.part, "set_random_seed"):
            own = self._copy_of_thread()
            own.set_random_seed(seed)
            return own(image=np.array(image))["image"]
        with _Drawing(torch.Generator().manual_seed(seed)):
            if _draws_from_torch_alone(self.part):
                return self.part(image)
            with _ONE_AT_A_TIME, _seeded(seed):
                if _is_of(self.part, "albumentations"):
                    return self.part(image=np.array(image))["image"]
                return self.part(image)

    def _copy_of_thread(self) -> Any:
        """albumentations keeps the generator in the object, so each thread has an object of its own."""
        if not hasattr(self._own, "part"):
            self._own.part = copy.deepcopy(self.part)
        return self._own.part

    def _image_of(self, made: Any, *, where: str) -> Image.Image:
        if isinstance(made, Image.Image):
            return made.convert("RGB")
        array = made.permute(1, 2, 0).cpu().numpy() if isinstance(made, Tensor) and made.ndim == 3 else made
        if isinstance(array, np.ndarray) and array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8 and array.size:
            return Image.fromarray(np.ascontiguousarray(array))
        got = type(made).__qualname__
        if isinstance(made, Tensor | np.ndarray):
            got = f"{str(made.dtype).removeprefix('torch.')} of shape {' x '.join(map(str, made.shape)) or '()'}"
        is_float = isinstance(made, Tensor | np.ndarray) and "float" in str(made.dtype)
        raise UsageError(
            f"the augmentation {self.name} returned no image",
            where=where,
            got=got,
            expected=_EXPECTED,
            next_step=_NO_FLOATS if is_float else "",
        )

    def check(self, image: Image.Image, *, where: str, seed: int) -> None:
        """Try it on an image. Raises UsageError as `view` does, and where a second call with the same seeds gives another view."""
        before = torch.default_generator.get_state()
        first, second = (self.view(image, np.random.default_rng((seed, 1, 0)), where=where) for _ in range(2))
        if (first == second).all() and torch.equal(before, torch.default_generator.get_state()):
            return
        raise UsageError(
            f"the augmentation {self.name} has randomness that cannot be seeded",
            where=where,
            got="two views of one image with the same seed that differ"
            if (first != second).any()
            else "a draw from PyTorch's generator, which training uses at the same time",
            expected="the same view for the same seed, so that an interrupted run can go on to the same bits",
            next_step="give it a parameter rng, and draw from this numpy.random.Generator alone",
        )


def _takes_rng(part: Callable[..., Any]) -> bool:
    try:
        return "rng" in inspect.signature(part).parameters
    except (TypeError, ValueError):  # built in
        return False


def _is_of(part: object, package: str) -> bool:
    return type(part).__module__.partition(".")[0] == package


def _draws_from_torch_alone(part: object) -> bool:
    """Whether it is made of torchvision's transforms alone, without a function of the user's."""
    if not isinstance(part, torch.nn.Module):
        return False
    modules = list(part.modules())
    return all(_is_of(each, "torchvision") and type(each).__name__ != "Lambda" for each in modules if not _is_container(each))


def _is_container(module: torch.nn.Module) -> bool:
    return type(module) in (torch.nn.ModuleList, torch.nn.Sequential)


class _Drawing(TorchFunctionMode):
    """In this thread, PyTorch's random functions draw from this generator instead of the one that all threads share.

    Training draws from the shared one at the same time, for dropout.
    """

    def __init__(self, generator: torch.Generator):
        super().__init__()
        self._generator = generator

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of PyTorch."""
        kwargs = dict(kwargs or {})
        if func in _LIKE:
            tensor, *others = args
            func, args = _LIKE[func], (*others, tensor.shape)
            kwargs = {"dtype": tensor.dtype, **{key: value for key, value in kwargs.items() if key != "memory_format"}}
        if func in _FILLING and kwargs.get("generator") is None:
            kwargs["generator"] = self._generator
        return func(*args, **kwargs)


@contextmanager
def _seeded(seed: int) -> Generator[None]:
    """The shared generators of `random` and `numpy.random` seeded, and afterwards as before."""
    kept = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
