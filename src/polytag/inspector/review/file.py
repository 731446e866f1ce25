"""The SQLite file of a review: made with the first decision, opened with care, and its troubles told in words."""

import os
import sqlite3
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from polytag.errors import RunError

VERSION = 1
_APPLICATION = 0x706F_7461  # "pota": how SQLite's own field says whose file this is
_PATIENCE_SECONDS = 10.0  # of waiting for another process that is just writing
_SCHEMA = (
    """CREATE TABLE decisions (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        split TEXT NOT NULL,
        image_id TEXT NOT NULL,
        class_name TEXT NOT NULL,
        label INTEGER CHECK (label IN (1, 0, -1)),
        given INTEGER NOT NULL CHECK (given IN (1, 0, -1)),
        reviewer TEXT NOT NULL,
        note TEXT NOT NULL,
        time TEXT NOT NULL,
        undoes INTEGER UNIQUE REFERENCES decisions (number),
        restores INTEGER REFERENCES decisions (number)
    )""",
    "CREATE INDEX of_label ON decisions (split, image_id, class_name, number)",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {VERSION}",
)


class ReviewFile:
    """One connection behind a lock, opened when first needed: SQLite keeps processes apart, the lock keeps threads apart."""

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection | None]:
        """The connection, for queries; None where nobody has decided anything yet."""
        with self._lock, self._explaining("read"):
            self._let_go_of_a_lost_file()
            if self._connection is None and not os.path.exists(self.path):
                yield None
                return
            connection = self._open()
            yield connection if _is_ready(connection, self.path) else None

    @contextmanager
    def writing(self) -> Generator[sqlite3.Connection]:
        """The connection in a transaction that no other can enter; on the disk when the block ends, or undone by an exception."""
        with self._lock, self._explaining("save to"):
            self._let_go_of_a_lost_file()
            connection = self._open()
            _is_ready(connection, self.path)  # before anything in a file of somebody else is changed
            _use_write_ahead_log(connection)
            connection.execute("BEGIN IMMEDIATE")
            try:
                if not _is_ready(connection, self.path):
                    for statement in _SCHEMA:
                        connection.execute(statement)
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite may have rolled back by itself; what matters is the first exception
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
        self._connection = self._identity = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = sqlite3.connect(self.path, timeout=_PATIENCE_SECONDS, isolation_level=None, check_same_thread=False)
            self._connection = connection
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")
            self._identity = _identity(self.path)
        return self._connection

    def _let_go_of_a_lost_file(self) -> None:
        """A file that was deleted or replaced would still take decisions through its open handle, and lose them."""
        if self._connection is not None and _identity(self.path) != self._identity:
            self._close()

    @contextmanager
    def _explaining(self, doing: str) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            self._close()  # the next call starts afresh, from what is on the disk
            raise _run_error(error, self.path, doing=doing) from error


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """SQLite does not wait for others here, so we do. A file system without shared memory keeps its rollback journal: as safe."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _is_ready(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the table is there; raises RunError for a database of somebody else, or of another version."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if (application, version) == (_APPLICATION, VERSION):
        return True
    if application == _APPLICATION:
        raise RunError(
            "the review is of another version of polytag",
            where=str(path),
            got=f"version {version}",
            expected=f"version {VERSION}",
            next_step="use the polytag that wrote it, or move the file away and begin anew",
        )
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise RunError(
            "not a review",
            where=str(path),
            got="an SQLite database of something else",
            expected="the file that the inspector wrote",
            next_step="move it away; the first decision makes a new one",
        )
    return False


def _run_error(error: sqlite3.Error, path: Path, *, doing: str) -> RunError:
    """What went wrong, by SQLite's own codes (sqlite.org/rescode.html)."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the kind; absent from errors of Python's module
    what = f"could not {doing} {path.name}"
    kept = "every decision that was acknowledged is kept"
    if code == sqlite3.SQLITE_FULL:
        return RunError(f"{what}: the disk is full", where=str(path), expected="free space", next_step=f"free some space; {kept}")
    if code == sqlite3.SQLITE_IOERR:
        return RunError(
            f"{what}: the disk refused",
            where=str(path),
            got=str(error),
            expected="a disk with free space that can be written",
            next_step=f"see whether it is full or failing; {kept}",
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return RunError(
            f"{what}: another program holds it",
            where=str(path),
            got=f"no turn within {_PATIENCE_SECONDS:g} seconds",
            expected="programs that let go of it after each decision",
            next_step=f"close the other program, and try again; {kept}",
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return RunError(
            what,
            where=str(path),
            got=str(error),
            expected="a folder that can be written, for the review and the two files that SQLite keeps beside it",
            next_step="make the folder writable, or copy the run to a place that is",
        )
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return RunError(
            "not a review, or a damaged one",
            where=str(path),
            got=str(error),
            expected="the file that the inspector wrote",
            next_step="move it away, and begin anew or from a copy; `sqlite3 FILE .recover` may save what it holds",
        )
    return RunError(what, where=str(path), got=str(error), expected="the file that the inspector wrote")
