"""`--parts FILE.py`: a Python file of the user's with parts of their own, which is executed because the command line names it."""

import importlib.util
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from polytag.errors import UsageError
from polytag.own_parts import PARTS, place_of

BackboneFile = Annotated[
    Path | None,
    typer.Option("--parts", metavar="FILE.py", help="The file with the backbone of your own; it is executed."),
]
PartsFile = Annotated[
    Path | None,
    typer.Option("--parts", metavar="FILE.py", help="Your own augment, loss, backbone or callbacks; this file is executed."),
]


def parts_of(path: Path | None) -> dict[str, Any]:
    """The arguments of `train` and `resume` that a file defines: augment, loss, backbone and callbacks; none without a file.

    Raises UsageError for a file that is missing, that fails, or that defines none of them.
    """
    if path is None:
        return {}
    if not path.is_file() or path.suffix != ".py":
        raise UsageError(
            "no file of parts", where="--parts", got=str(path), expected="a Python file, FILE.py, that defines " + ", ".join(PARTS)
        )
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    if path.stem in sys.modules:
        raise UsageError(
            "the file of parts has the name of another module",
            where="--parts",
            got=str(path),
            expected="a name that no module has",
            next_step=f"rename it, such as my_{path.name}",
        )
    sys.modules[path.stem] = module  # where the source of its classes is looked for
    try:
        specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever a user's file raises; it may be a script that ends itself
        place = place_of(error)
        raise UsageError(
            "the file of parts cannot be executed",
            where=place if str(path) in place else str(path),
            got=f"{type(error).__name__}: {error}",
            expected="Python that defines " + ", ".join(PARTS),
        ) from error
    found = {name: getattr(module, name) for name in (*PARTS, "callbacks") if getattr(module, name, None) is not None}
    if not found:
        raise UsageError(
            "the file defines no part",
            where=str(path),
            got=", ".join(name for name in vars(module) if not name.startswith("_")) or "nothing",
            expected=f"one of {', '.join(PARTS)}, callbacks",
        )
    return found


def backbone_of(path: Path | None) -> Any:
    """The backbone that a file of parts defines, None without a file. Raises UsageError as `parts_of`, and where there is none."""
    found = parts_of(path)
    if path is not None and "backbone" not in found:
        raise UsageError("the file defines no backbone", where=str(path), got=", ".join(found), expected="backbone")
    return found.get("backbone")
