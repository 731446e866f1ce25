"""Opens and creates the SQLite file of a review, and explains its errors."""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from polytag.errors import RunError

VERSION = 1
_APPLICATION = 0x706F_7461  # "pota", in the field of SQLite that identifies the application
_WRITE_SECONDS = 10.0  # for a decision to wait for other threads and processes that are writing, in all
_READ_SECONDS = 3.0  # likewise for a read, which no writer delays once the write-ahead log is on
_MAX_WRITERS = 8  # of the 40 threads that answer requests
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
# Tables that came later. A file without them gets them with its next row, and is read as one whose tables are empty; an earlier
# polytag reads and writes the decisions of a file that has them, so the version is the same.
_ADDED = (
    """CREATE TABLE IF NOT EXISTS batches (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        split TEXT NOT NULL,
        reviewer TEXT NOT NULL,
        time TEXT NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        undoes INTEGER UNIQUE REFERENCES batches (number)
    )""",
    """CREATE TABLE IF NOT EXISTS marks (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        batch INTEGER NOT NULL REFERENCES batches (number),
        split TEXT NOT NULL,
        image_id TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('tag', 'note')),
        text TEXT NOT NULL,
        is_on INTEGER NOT NULL CHECK (is_on IN (1, 0))
    )""",
    "CREATE INDEX IF NOT EXISTS of_image ON marks (split, image_id, kind, number)",
)


class ReviewFile:
    """A connection to read and one to write, each behind a lock: no read waits for a decision that waits for another program.

    SQLite isolates processes, the locks isolate threads.
    """

    def __init__(self, path: Path):
        self.path = path
        self._reader, self._writer = _Connection(path), _Connection(path)
        self._places = threading.BoundedSemaphore(_MAX_WRITERS)

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection | None]:
        """Yield the connection for queries, which see one state of the file; None before the first decision."""
        with self._reader.held("read", seconds=_READ_SECONDS) as open_within:
            if not self._reader.is_open and not os.path.exists(self.path):
                yield None
                return
            connection, _ = open_within()
            connection.execute("BEGIN")  # else a first decision could come between two of the checks
            try:
                yield connection if _is_ready(connection, self.path) else None
            finally:
                with suppress(sqlite3.Error):  # SQLite may have rolled back already, and the first exception matters
                    connection.execute("ROLLBACK")

    @contextmanager
    def writing(self) -> Generator[sqlite3.Connection]:
        """Yield the connection in an exclusive transaction. It is on the disk when the block ends; an exception rolls it back.

        One deadline includes the wait for other threads and for other programs. Raises RunError after it, and at once where
        `_MAX_WRITERS` threads wait already, so that waiting decisions never take all threads of a server.
        """
        if not self._places.acquire(blocking=False):
            raise _locked_error(self.path, doing="save to", got=f"{_MAX_WRITERS} decisions that wait for it")
        try:
            with self._writer.held("save to", seconds=_WRITE_SECONDS) as open_within:
                connection, deadline = open_within()
                _is_ready(connection, self.path)  # raises before a file of another program is changed
                _use_write_ahead_log(connection, deadline=deadline)
                connection.execute("BEGIN IMMEDIATE")
                try:
                    if not _is_ready(connection, self.path):
                        for statement in _SCHEMA:
                            connection.execute(statement)
                    for statement in _ADDED:
                        connection.execute(statement)
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    with suppress(sqlite3.Error):  # as above
                        connection.execute("ROLLBACK")
                    raise
        finally:
            self._places.release()

    def close(self) -> None:
        self._reader.close()
        self._writer.close()


class _Connection:
    """One connection, opened with the first use, for one thread at a time."""

    def __init__(self, path: Path):
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    @contextmanager
    def held(self, doing: str, *, seconds: float) -> Generator[Callable[[], tuple[sqlite3.Connection, float]]]:
        """Hold the connection; yields what opens it, and says until when it may wait for other programs. Raises RunError."""
        deadline = time.monotonic() + seconds
        if not self._lock.acquire(timeout=seconds):
            raise _locked_error(self._path, doing=doing, got=f"locked for {seconds:g} seconds")
        try:
            if self._connection is not None and _identity(self._path) != self._identity:
                self._close()  # deleted or replaced: the open handle would accept decisions and lose them
            yield lambda: (self._open(deadline), deadline)
        except sqlite3.Error as error:
            self._close()  # the next call opens the file again
            raise _run_error(error, self._path, doing=doing, seconds=seconds) from error
        finally:
            self._lock.release()

    def close(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
        self._connection = self._identity = None

    def _open(self, deadline: float) -> sqlite3.Connection:
        connection = self._connection
        if connection is None:
            _require_own_file(self._path)
            connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            self._connection = connection
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")
            self._identity = _identity(self._path)
        left_ms = max(0, round(1000 * (deadline - time.monotonic())))
        connection.execute(f"PRAGMA busy_timeout = {left_ms}")
        return connection


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _require_own_file(path: Path) -> None:
    """Raises RunError for a link out of its folder, which may be a stranger's. SQLite follows none to its two other files."""
    if path.is_symlink() and os.path.dirname(os.path.realpath(path)) != os.path.realpath(path.parent):
        raise RunError(
            "the review is a link to another place",
            where=str(path),
            got=f"a link to {os.path.realpath(path)}",
            expected="a review file in this folder: nothing is written outside it",
            next_step="remove the link, and put the file itself there if you trust it",
        )


def _use_write_ahead_log(connection: sqlite3.Connection, *, deadline: float) -> None:
    """Turn on the write-ahead log, and wait for other processes, which SQLite does not do here.

    A file system without shared memory stays with the rollback journal, which is as safe.
    """
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _is_ready(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the table exists; raises RunError for a database of another program or version."""
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
            next_step="use the polytag that wrote it, or move the file away and start a new review",
        )
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise RunError(
            "not a review",
            where=str(path),
            got="an SQLite database of another program",
            expected="a review file of the inspector",
            next_step="move it away; the first decision creates a new one",
        )
    return False


def _locked_error(path: Path, *, doing: str, got: str) -> RunError:
    return RunError(
        f"could not {doing} {path.name}: another program has locked it",
        where=str(path),
        got=got,
        expected="programs that unlock it after each decision",
        next_step="close the other program, and try again; every acknowledged decision is safe",
    )


def _run_error(error: sqlite3.Error, path: Path, *, doing: str, seconds: float) -> RunError:
    """Return the error with its reason, by SQLite's result codes (sqlite.org/rescode.html)."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code; errors of Python's module have none
    what = f"could not {doing} {path.name}"
    safe = "every acknowledged decision is safe"
    if code == sqlite3.SQLITE_FULL:
        return RunError(f"{what}: the disk is full", where=str(path), expected="free space", next_step=f"free some space; {safe}")
    if code == sqlite3.SQLITE_IOERR:
        return RunError(
            f"{what}: the disk returned an error",
            where=str(path),
            got=str(error),
            expected="a writable disk with free space",
            next_step=f"check whether the disk is full or failing; {safe}",
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return _locked_error(path, doing=doing, got=f"locked for {seconds:g} seconds")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return RunError(
            what,
            where=str(path),
            got=str(error),
            expected="a writable folder, for the review and the two files that SQLite adds to it",
            next_step="make the folder writable, or copy the run to a writable folder",
        )
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return RunError(
            "not a review, or a damaged one",
            where=str(path),
            got=str(error),
            expected="a review file of the inspector",
            next_step="move it away, and start a new review or use a copy; `sqlite3 FILE .recover` may save what it holds",
        )
    return RunError(what, where=str(path), got=str(error), expected="a review file of the inspector")
