"""A folder of predictions, a file for each shard: what is there, whether it is the result that is wanted, and writing one more."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from pathlib import Path
from typing import final

import pyarrow as pa
import pyarrow.parquet as pq

from polytag import files
from polytag.errors import PredictionsError, UsageError
from polytag.predictions.shard_files import SUFFIX, ShardHeader, difference, read_shard_header


class Results(ABC):
    """A folder of files of predictions. A file is there whole or not at all."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Of the folder, with a slash at the end."""

    @abstractmethod
    def names(self) -> Collection[str]:
        """Of the files that are there; none where there is no folder yet."""

    @abstractmethod
    def schema(self, name: str) -> pa.Schema:
        """Of a Parquet file; raises OSError, ArrowException or UnicodeDecodeError for what is none."""

    @abstractmethod
    def write(self, name: str, fill: Callable[[Path], None]) -> None:
        """Put a file in place that `fill` writes; raises RunError. Where `fill` raises, nothing is there."""

    def is_done(self, name: str, wanted: ShardHeader) -> bool:
        """Whether a file is there; raises PredictionsError where it is not the wanted result.

        An empty precision is not compared.
        """
        if name not in self.names():
            return False
        where = self.address + name
        try:
            found = read_shard_header(self.schema(name), where)
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            raise PredictionsError(
                "what has the name of a shard's predictions is none",
                where=where,
                got=str(error).splitlines()[0] if str(error) else type(error).__name__,
                expected="a file that `polytag predict --output FOLDER` wrote, or none",
                next_step="remove it, and predict again",
            ) from error
        if reason := difference(found, wanted):
            raise PredictionsError(
                "the folder holds other predictions of a shard of this name",
                where=where,
                got=reason,
                expected="predictions of the same model, made from the same images",
                next_step="predict into a new folder; or remove the file, if it is no longer wanted, and predict again",
            )
        return True


@final
class LocalResults(Results):
    """A folder of this machine, which is made where it is missing."""

    def __init__(self, folder: Path):
        """Raises UsageError for a path that is something else, RunError where it cannot be made."""
        if folder.exists() and not folder.is_dir():
            raise UsageError("--output is a file, not a folder", where=str(folder), expected="a folder, or the name of a new one")
        with files.saving(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._names = {path.name for path in folder.iterdir()}

    @property
    def address(self) -> str:
        return f"{self._folder.as_posix()}/"

    def names(self) -> Collection[str]:
        return self._names

    def schema(self, name: str) -> pa.Schema:
        files.require_regular(self._folder / name)
        return pq.read_schema(self._folder / name)

    def write(self, name: str, fill: Callable[[Path], None]) -> None:
        assert name.endswith(SUFFIX)
        fill(self._folder / name)


def results_at(address: str) -> Results:
    """The folder at a path or address; raises UsageError and RunError."""
    return LocalResults(Path(address))
