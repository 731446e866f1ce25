"""A folder of predictions, a file for each shard: what is there, whether it is the result that is wanted, and writing one more."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import final

import pyarrow as pa
import pyarrow.parquet as pq

from polytag import files
from polytag.data.remote.addresses import as_path, is_address, is_web, name_at
from polytag.data.remote.stores import files_below, put_file, read_store
from polytag.errors import FetchError, PredictionsError, RunError, UsageError
from polytag.predictions.shard_files import SUFFIX, ShardHeader, difference, read_shard_header

_MAGIC = b"PAR1"
_TAIL_BYTES = 1 << 16


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
        """Whether a file is there; raises PredictionsError where it is not the wanted result."""
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


@final
class StoreResults(Results):
    """A folder of an object store. A file appears there by one request, when all of it has arrived."""

    def __init__(self, address: str):
        """Raises FetchError where the store cannot be listed."""
        self._address = address if address.endswith("/") else address + "/"
        self._sizes = {name_at(file.address): file.num_bytes for file in files_below(self._address)}

    @property
    def address(self) -> str:
        return self._address

    def names(self) -> Collection[str]:
        return self._sizes

    def schema(self, name: str) -> pa.Schema:
        size = self._sizes[name]
        tail = self._range(name, max(0, size - _TAIL_BYTES), size)
        footer_bytes = int.from_bytes(tail[-8:-4], "little") + 8 if tail.endswith(_MAGIC) else 0
        if len(tail) < footer_bytes <= size:
            tail = self._range(name, size - footer_bytes, size)
        return pq.read_schema(pa.BufferReader(_MAGIC + tail[-footer_bytes:] if footer_bytes else tail))

    def _range(self, name: str, start: int, stop: int) -> bytes:
        return read_store(self._address + name, start=start, stop=stop) if stop > start else b""

    def write(self, name: str, fill: Callable[[Path], None]) -> None:
        with TemporaryDirectory(prefix="polytag-") as folder:
            path = Path(folder) / name
            fill(path)
            try:
                put_file(self._address + name, path)
            except FetchError as error:
                raise RunError(
                    f"could not save {name}",
                    where=self._address,
                    got=error.got or error.what,
                    expected="a store that can be written",
                    next_step="correct that, and run the same command again: it goes on behind the last whole shard",
                ) from error


def results_at(address: str) -> Results:
    """The folder at a path or address; raises UsageError and RunError, and FetchError for a store that cannot be listed."""
    if not is_address(address):
        return LocalResults(Path(as_path(address)))
    if is_web(address):
        raise UsageError(
            "nothing can be written to the web",
            where="--output",
            got=address,
            expected="a folder, or one of a store, such as s3://",
        )
    return StoreResults(address)
