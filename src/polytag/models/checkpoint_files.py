"""Opens the files of a model's folder, and says what is wrong in its JSON.

Those of a checkpoint are opened together, so that both are of one save while another process replaces the folder.
"""

import contextlib
import os
import stat
import weakref
from collections.abc import Generator
from pathlib import Path

from polytag.errors import PolytagError
from polytag.parsing import Malformed
from polytag.plain import WrongValue

CONFIG, WEIGHTS, EXPORT = "config.json", "model.safetensors", "export.json"


class OpenFile:
    """A file that was opened for reading. It stays the same file when its name is given to another, until nobody refers to it."""

    def __init__(self, path: Path, handle: int):
        self.path = path
        self._handle = handle
        weakref.finalize(self, os.close, handle)

    def read(self, *, at_most: int = -1) -> bytes:
        """The whole content, or its first `at_most` bytes. Raises OSError."""
        with open(self._handle, "rb", closefd=False) as file:
            file.seek(0)
            return file.read(at_most)

    def __reduce__(self):
        """For another process: the file that has the name there. Raises OSError where there is none."""
        return open_file, (self.path,)


def open_file(path: Path, *, folder: int | None = None) -> OpenFile:
    """Open a regular file, by its name in an open folder where one is given. Raises OSError, also for a device or a pipe."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags) if folder is None else os.open(path.name, flags, dir_fd=folder)
    file = OpenFile(path, handle)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        raise OSError(f"{path.name} is not a file")
    return file


def open_together(folder: Path) -> tuple[OpenFile, OpenFile | None]:
    """config.json and the weights, None where they are missing: both of the same save. Raises OSError.

    A save exchanges the folder for a new one and then empties the old one, so what is missing in an old one is in the new one.
    """
    if os.name == "nt":  # no handles of folders
        return open_file(folder / CONFIG), open_file(folder / WEIGHTS) if (folder / WEIGHTS).is_file() else None
    while True:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                config = open_file(folder / CONFIG, folder=handle)
                weights = open_file(folder / WEIGHTS, folder=handle)
            except FileNotFoundError:
                if _is_in_place(handle, folder):
                    return open_file(folder / CONFIG, folder=handle), None
            else:
                return config, weights
        finally:
            os.close(handle)


def _is_in_place(handle: int, folder: Path) -> bool:
    return os.path.samestat(os.fstat(handle), os.stat(folder))


@contextlib.contextmanager
def explained(what: str, path: Path, *, expected: str, error: type[PolytagError]) -> Generator[None]:
    """Raises this error, with the file and what is wrong in it, where the values of a JSON file are parsed and checked."""
    try:
        yield
    except Malformed as problem:
        raise error(what, where=problem.place(path), got=problem.problem, expected=expected) from problem
    except WrongValue as wrong:
        raise error(what, where=str(path), got=wrong.got, expected=wrong.expected) from wrong
    except (ValueError, PolytagError) as problem:
        got = "; ".join(line.strip() for line in str(problem).splitlines())
        raise error(what, where=str(path), got=got, expected=expected) from problem
