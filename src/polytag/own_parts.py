"""Parts that a user brings as Python objects, such as a loss: what identifies one, and where its code failed.

A part is recorded by its name and a digest, never by its code: nothing that is recorded is ever imported or run. The digest is of
the source of the user's own functions and classes without comments and layout, of the functions and constants of the same module
that they refer to, and of the values that objects hold. Code of installed packages counts by its name alone, so that an update of
PyTorch makes no part another one.
"""

import ast
import functools
import hashlib
import inspect
import random
import re
import sys
import sysconfig
import textwrap
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from polytag.plain import WrongValue

PARTS = ("augment", "loss", "backbone")
"""What a run can have of its own; callbacks only look on."""
OWN_BACKBONE = "own"
"""What a recipe and a checkpoint call a backbone that is no model of timm."""
FEATURES = "features"
"""What they call it where features of another program take the place of images."""
_INSTALLED = tuple({sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_MAX_DEPTH = 12


@dataclass(frozen=True, kw_only=True)
class PartRecord:
    """What a run or a checkpoint keeps of a part: its qualified name, for people, and the SHA-256 that identifies it."""

    name: str
    digest: str

    def __post_init__(self):
        if not self.name.isprintable() or not 1 <= len(self.name) <= 200:
            raise WrongValue("name", self.name, expected="1 to 200 printable characters")
        if not re.fullmatch("[0-9a-f]{64}", self.digest):
            raise WrongValue("digest", self.digest, expected="64 hexadecimal digits")

    def __str__(self) -> str:
        return f"{self.name} ({self.digest[:8]})"


def record_of(part: object, *, with_weights: bool = True) -> PartRecord:
    """The record of a part. Without weights, of a module's parameters and buffers only names and shapes count."""
    digest = hashlib.sha256()
    for text in _described(part, path=(), with_weights=with_weights):
        digest.update(text.encode(errors="backslashreplace") + b"\0")
    return PartRecord(name=name_of(part), digest=digest.hexdigest())


def name_of(part: object) -> str:
    """The qualified name of a function or class, of an object's class, or of what a partial calls; at most 200 characters."""
    while isinstance(part, functools.partial):
        part = part.func
    named: Any = part if hasattr(part, "__qualname__") else type(part)
    name = f"{getattr(named, '__module__', None) or 'builtins'}.{named.__qualname__}"
    return "".join(each if each.isprintable() else "?" for each in name)[:200]


def place_of(error: BaseException) -> str:
    """The file and line in which an error was raised, preferring the user's own code to that of installed packages."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_installed(frame.filename) and not _is_polytags(frame.filename)]
    last = (own or frames or [None])[-1]
    return f"{last.filename}:{last.lineno}" if last is not None else ""


def _described(value: Any, *, path: tuple[int, ...], with_weights: bool) -> Iterator[str]:
    """What identifies a value, as texts; one that is being described already, or lies too deep, counts by its kind."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | Path):
        yield f"{kind} {value!r}"
        return
    if id(value) in path or len(path) > _MAX_DEPTH or isinstance(value, random.Random) or kind.startswith("numpy.random."):
        yield kind
        return
    describe = functools.partial(_described, path=(*path, id(value)), with_weights=with_weights)
    if isinstance(value, Enum):
        yield f"{kind} {value.name}"
    elif isinstance(value, ModuleType):
        yield f"module {value.__name__}"
    elif isinstance(value, Mapping):
        yield f"{kind} of {len(value)}"
        for key, item in value.items():
            yield from describe(key)
            yield from describe(item)
    elif isinstance(value, list | tuple):
        yield f"{kind} of {len(value)}"
        for item in value:
            yield from describe(item)
    elif isinstance(value, set | frozenset):
        yield f"{kind} of {len(value)}"
        yield from sorted("\0".join(describe(item)) for item in value)
    elif isinstance(value, functools.partial):
        yield kind
        yield from describe([value.func, value.args, value.keywords])
    elif isinstance(value, MethodType):
        yield kind
        yield from describe([value.__func__, value.__self__])
    elif isinstance(value, FunctionType | type):
        yield from _described_code(value, describe)
    elif hasattr(value, "__qualname__"):  # built in
        yield f"{kind} {name_of(value)}"
    else:
        yield from _described_object(value, describe, with_weights=with_weights)


def _described_code(value: Any, describe: Callable[[Any], Iterator[str]]) -> Iterator[str]:
    """A function or a class: by name where it is installed, else by its source and what it refers to in its module."""
    yield f"{value.__module__}.{value.__qualname__}" if _is_library(value) else value.__qualname__
    if _is_library(value):
        return
    codes = _codes_of(value)
    source = _source_of(value)
    yield source or "\n".join(map(_bytecode, codes))
    if isinstance(value, type):
        yield from describe(list(value.__bases__))
    else:
        yield from describe([value.__defaults__, value.__kwdefaults__])
        yield from describe([_content(cell) for cell in value.__closure__ or ()])
    scope: Mapping[str, Any] = vars(sys.modules[value.__module__]) if value.__module__ in sys.modules else {}
    scope = value.__globals__ if isinstance(value, FunctionType) else scope
    for name in sorted({name for code in codes for name in _names_in(code)}):
        found = scope.get(name)
        if isinstance(found, bool | int | float | str | tuple) or (
            isinstance(found, FunctionType | type) and found is not value and found.__module__ == value.__module__
        ):
            yield name
            yield from describe(found)


def _described_object(value: Any, describe: Callable[[Any], Iterator[str]], *, with_weights: bool) -> Iterator[str]:
    """An object: its class and what it holds. Arrays and tensors count by their numbers."""
    yield from describe(type(value))
    if hasattr(value, "__array__") and hasattr(value, "shape") and hasattr(value, "dtype"):
        yield f"{value.dtype} {tuple(value.shape)}"
        if with_weights:
            array: Any = value.detach().cpu().float().numpy() if hasattr(value, "detach") else value
            yield hashlib.sha256(array.tobytes()).hexdigest()
        return
    held: dict[str, Any] | None = getattr(value, "__dict__", None)
    slots = [name for each in type(value).__mro__ for name in _listed(vars(each).get("__slots__", ())) if hasattr(value, name)]
    if held is None and not slots:
        text = repr(value)  # such as torch.float32; an object that shows its address is known by its class alone
        yield "" if " at 0x" in text else text
        return
    held = {**(held or {}), **{name: getattr(value, name) for name in slots}}
    for name in sorted(held):
        if name != "training" and "hooks" not in name:  # a module's, which change as it is used
            yield name
            yield from describe(held[name])


def _listed(slots: Any) -> list[str]:
    return [name for name in ((slots,) if isinstance(slots, str) else slots) if name not in ("__dict__", "__weakref__")]


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet filled
        return None


def _source_of(value: Any) -> str:
    """The source without comments and layout; "" where there is none, as in an interactive session or of a lambda."""
    if value.__name__ == "<lambda>":  # whose lines hold more than itself
        return ""
    try:
        return ast.unparse(ast.parse(textwrap.dedent(inspect.getsource(value))))
    except (OSError, TypeError, SyntaxError):
        return ""


def _codes_of(value: Any) -> list[CodeType]:
    if isinstance(value, FunctionType):
        return [value.__code__]
    held = [getattr(each, "__func__", each) for each in vars(value).values()]
    held = [each.fget if isinstance(each, property) else each for each in held]
    return [each.__code__ for each in held if isinstance(each, FunctionType)]


def _names_in(code: CodeType) -> set[str]:
    return {*code.co_names}.union(*(_names_in(each) for each in code.co_consts if isinstance(each, CodeType)))


def _bytecode(code: CodeType) -> str:
    consts = [_bytecode(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts]
    return repr((code.co_code, consts, code.co_names, code.co_varnames))


def _is_library(value: Any) -> bool:
    """Whether a function or class is Python's own or of an installed package."""
    module = sys.modules.get(value.__module__)
    file = getattr(module, "__file__", None)
    if value.__module__ == "__main__":
        return False
    return (
        _is_installed(file) or _is_polytags(file) if file else module is not None and value.__module__ in sys.builtin_module_names
    )


def _is_installed(file: str) -> bool:
    return file.startswith(_INSTALLED) or file.startswith("<frozen")


def _is_polytags(file: str) -> bool:
    return Path(file).is_relative_to(Path(__file__).parent)
