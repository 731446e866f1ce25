"""Safe unpacking of an untrusted tar file: regular files and folders only, checked paths, limits of size and number."""

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from polytag.errors import FetchError

_CHUNK_BYTES = 1 << 18


def unpack(
    path: Path, target: Path, *, folder: str, max_members: int, on_progress: Callable[[int, int], None] = lambda _done, _total: None
) -> None:
    """Unpack the regular files below `folder` of an uncompressed tar into `target`, which no other process writes into.

    Every member is checked, extracted or not; tarfile's own `filter="data"` can be escaped on Python 3.11. `on_progress` receives
    the bytes done and the total bytes. Raises FetchError for a path outside the target, a link, a device or a sparse file, more
    than `max_members` members, more bytes than the archive itself has, or a broken archive.
    """
    total = path.stat().st_size
    num_members = num_bytes = 0
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                num_members += 1
                num_bytes += member.size
                if num_members > max_members:
                    raise _unsafe(path, member.name, f"more than {max_members:,} members")
                if member.size < 0 or num_bytes > total:
                    raise _unsafe(path, member.name, f"{num_bytes:,} bytes of content in an archive of {total:,}")
                parts = _checked_parts(path, member.name)
                if not member.isdir() and (not member.isreg() or member.issparse()):
                    kind = {tarfile.SYMTYPE: "a symbolic link", tarfile.LNKTYPE: "a hard link"}.get(member.type, "a special file")
                    raise _unsafe(path, member.name, kind)
                if parts[: len(PurePosixPath(folder).parts)] != PurePosixPath(folder).parts:
                    continue
                place = target.joinpath(*parts)
                if member.isdir():
                    place.mkdir(parents=True, exist_ok=True)
                else:
                    place.parent.mkdir(parents=True, exist_ok=True)
                    _write_member(archive, member, place)
                on_progress(archive.offset, total)
    except (tarfile.TarError, EOFError, ValueError, OverflowError, FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise FetchError("the archive is broken", where=str(path), got=str(error), expected="a tar file") from error
    if not (target / folder).is_dir():
        raise FetchError("the archive lacks the data", where=str(path), expected=f"a folder {folder}")


def _checked_parts(path: Path, name: str) -> tuple[str, ...]:
    """The parts of a member's name; raises FetchError unless it is a plain relative path on every system."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or any(character in name for character in "\\:\0"):
        raise _unsafe(path, name, "a path that could leave the folder")
    return parts


def _write_member(archive: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> None:
    content = archive.extractfile(member)
    assert content is not None
    with content, open(place, "wb") as file:
        shutil.copyfileobj(content, file, _CHUNK_BYTES)
        if file.tell() != member.size:
            raise tarfile.ReadError(f"{member.name} ends after {file.tell():,} of {member.size:,} bytes")


def _unsafe(path: Path, member: str, got: str) -> FetchError:
    return FetchError(
        "the archive is not safe to unpack; nothing of it remains",
        where=f"{path}: {member!r}",
        got=got,
        expected="regular files and folders inside the archive's own folder",
    )
