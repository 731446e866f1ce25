"""The folder of a run: the name of every file in it, its making and its lock."""

import contextlib
import errno
import io
import os
import stat
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from polytag import files
from polytag.errors import RunError


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """Paths of a run, most of them written by `polytag train`. Rooms that may import `runs` take every name from here.

    best, last      Checkpoint folders: of the best epoch, and of the last
    state, lock     what a resume needs, and the lock of the process that trains or changes what the model decides
    args            the recipe, the data and how they are read; `groups` of dependent images, if it was trained with any
    results         one row per epoch
    plan            of a run with a limit of minutes, what it does in them
    environment     versions, hardware, threads, where images came from
    predictions     of the validation images; `uncalibrated` is the same before a calibration
    running_predictions   the same of the best epoch so far, while the run trains
    training_predictions   out-of-fold scores of the training images, once someone asks for them
    thresholds, calibration, metrics, report, plots, grids, review   what evaluation, review and their reports leave
    assignment      of a run of folds: the fold of each image
    trackers, tensorboard   the run's ids in the trackers that follow it, and TensorBoard's files
    """

    path: Path

    best = property(lambda self: self.path / "best")
    last = property(lambda self: self.path / "last")
    state = property(lambda self: self.path / "state" / "state.pt")
    lock = property(lambda self: self.path / "state" / "lock")
    args = property(lambda self: self.path / "args.yaml")
    groups = property(lambda self: self.path / "groups.csv")
    results = property(lambda self: self.path / "results.csv")
    plan = property(lambda self: self.path / "plan.json")
    environment = property(lambda self: self.path / "env.json")
    predictions = property(lambda self: self.path / "predictions-val.parquet")
    uncalibrated = property(lambda self: self.path / "predictions-val-uncalibrated.parquet")
    running_predictions = property(lambda self: self.path / "state" / "predictions-val.parquet")
    training_predictions = property(lambda self: self.path / "predictions-train-out-of-fold.parquet")
    thresholds = property(lambda self: self.path / "thresholds.json")
    calibration = property(lambda self: self.path / "calibration.json")
    metrics = property(lambda self: self.path / "metrics.json")
    report = property(lambda self: self.path / "report.html")
    plots = property(lambda self: self.path / "plots")
    grids = property(lambda self: self.path / "grids")
    review = property(lambda self: self.path / "review.sqlite")
    assignment = property(lambda self: self.path / "folds.csv")
    trackers = property(lambda self: self.path / "state" / "trackers.json")
    tensorboard = property(lambda self: self.path / "tensorboard")

    def fold(self, number: int) -> "RunFolder":
        """The run of a fold, from 1, in a run of folds."""
        return RunFolder(path=self.path / f"fold-{number}")

    @property
    def is_run(self) -> bool:
        """Whether `polytag train` made this folder."""
        return self.args.is_file()

    @property
    def is_finished(self) -> bool:
        """Whether training ended: metrics.json is written last."""
        return self.metrics.is_file()

    @property
    def has_folds(self) -> bool:
        """Whether this is a run of folds, whose models are in the runs of the folds."""
        return self.assignment.is_file() and not self.best.is_dir()


def predictions_path(path: Path) -> Path:
    """The predictions file of a run folder; any other path unchanged."""
    predictions = RunFolder(path=path).predictions
    return predictions if predictions.is_file() else path


def run_of(path: Path) -> RunFolder | None:
    """The run that a folder, or a checkpoint or a predictions file in it, is of; None for any other path."""
    for run in (RunFolder(path=path), RunFolder(path=path.parent)):
        if run.is_run and path in (run.path, run.best, run.last, run.predictions, run.uncalibrated):
            return run
    return None


def run_names(paths: Sequence[Path]) -> list[str]:
    """The name of each run: that of its folder or file, with as much of its path as makes it distinct."""
    places = [path.parent if path == RunFolder(path=path.parent).predictions and path.parent != Path() else path for path in paths]
    places = [place.resolve() if place.name in ("", "..") else place for place in places]
    stems = [place if place.is_dir() else place.with_suffix("") for place in places]
    for num_parts in range(1, max(len(stem.parts) for stem in stems) + 1):
        names = [str(Path(*stem.parts[-num_parts:])) for stem in stems]
        if len(set(names)) == len(names):
            return names
    names = [str(path) for path in paths]  # the same run twice, or one name with two endings
    return [name if names.count(name) == 1 else f"{name} ({1 + names[:row].count(name)})" for row, name in enumerate(names)]


def create_run_folder(wanted: Path) -> RunFolder:
    """Make a new folder; a name in use becomes `<name>-2`, `-3`, ... and two runs that start at once never share one."""
    for number in range(1, 10_000):
        path = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise RunError(
                "the run folder cannot be made",
                where=str(path),
                got=error.strerror or str(error),
                expected="a place that can be written",
                next_step="give --output another folder",
            ) from error
        run = RunFolder(path=path)
        run.lock.parent.mkdir()
        return run
    raise RunError("ten thousand runs of this name", where=str(wanted), next_step="give --output another name")


def open_run_folder(path: Path) -> RunFolder:
    """The folder of an existing run, to be written into; raises RunError where there is none, and as `require_own_folders` does."""
    run = RunFolder(path=path)
    if not run.is_run:
        raise RunError(
            "no run here to resume",
            where=str(path),
            got="no args.yaml" if path.is_dir() else "no such folder",
            expected="a run folder that `polytag train` made",
        )
    require_own_folders(run)
    return run


def require_own_folders(run: RunFolder) -> None:
    """Raises RunError where a folder of the run is a link that leads out of it: a run may be a stranger's, and nothing is written
    outside it. A link in the place of a file is replaced by the file."""
    root = os.path.realpath(run.path)
    for folder in (run.best, run.last, run.state.parent, run.plots, run.grids, run.tensorboard):
        target = os.path.realpath(folder)
        if folder.is_symlink() and os.path.commonpath((root, target)) != root:
            raise RunError(
                "a folder of the run is a link to another place",
                where=str(folder),
                got=f"a link to {target}",
                expected="a folder in the run: nothing is written outside it",
                next_step="remove the link, and put the folder itself there if you trust its content",
            )


@contextlib.contextmanager
def locked(run: RunFolder, *, doing: str, wait_seconds: float = 0) -> Generator[None]:
    """Hold the run for this process, which others are told is `doing` this. Two processes never train in a run or change what its
    model decides at the same time.

    Raises RunError where another process still holds it after `wait_seconds`, and where the run cannot be written. The lock dies
    with the process. A file system without locks has none.
    """
    with files.saving(run.lock):
        run.lock.parent.mkdir(exist_ok=True)
        handle = os.open(run.lock, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0), 0o666)
    with os.fdopen(handle, "r+b", buffering=0) as file:
        deadline = time.monotonic() + wait_seconds
        while not _lock(file):
            if time.monotonic() >= deadline:
                raise RunError(
                    "another process holds this run folder",
                    where=str(run.path),
                    got=file.read(200).decode(errors="replace"),
                    expected="one process per run",
                    next_step="wait for it to end, then try again",
                )
            time.sleep(0.05)
        _note_holder(file, f"{doing}, process {os.getpid()}")
        try:
            yield
        finally:
            _note_holder(file, "")


def is_held(run: RunFolder) -> bool:
    """Whether a process holds the run now, as far as its lock and the note in it tell. Writes nothing.

    The lock is tried, for a moment and shared, only where the note names a process: one that was killed leaves its note.
    """
    try:
        with files.open_regular(run.lock) as file:
            return bool(file.read(1)) and not _lock(file.raw, shared=True)  # pyright: ignore[reportArgumentType]  a file's own
    except OSError:
        return False


def _lock(file: io.FileIO, *, shared: bool = False) -> bool:
    """Whether no other process holds the lock of this file."""
    try:
        import fcntl

        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except ImportError:  # Windows: no lock, and `create_run_folder` already keeps new runs apart
        return True
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)  # others: a file system without locks
    return True


def _note_holder(file: io.FileIO, text: str) -> None:
    """Write who holds the lock into its file: only into one that has no other name, since a run may be a stranger's."""
    status = os.fstat(file.fileno())
    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
        with contextlib.suppress(OSError):  # a full disk
            file.seek(0)
            file.truncate()
            file.write(text.encode())
