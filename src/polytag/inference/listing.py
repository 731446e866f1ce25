"""What an argument of a prediction stands for: loose images, and files that hold images, here or at an address."""

from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from polytag.data.formats.listing import IMAGE_SUFFIXES, find_images, is_clutter, is_image, left_out_note
from polytag.data.images.stored import ARCHIVE_SUFFIXES, CONTAINER_SUFFIXES, is_container, row_container, stored_places
from polytag.data.images.video import VIDEO_SUFFIXES, VideoFrames, is_video
from polytag.data.remote.addresses import as_path, download, file_at, is_address, is_web, name_at, suffix_at
from polytag.data.remote.remote_file import RemoteFile
from polytag.data.remote.stores import files_below, store_file
from polytag.errors import AnnotationError, DataError
from polytag.inference.images import Images, images_in_turn, local_images, loose_images

_HOLD_IMAGES = CONTAINER_SUFFIXES | VIDEO_SUFFIXES


@dataclass(frozen=True, kw_only=True)
class Listed:
    """What an argument stands for.

    images      loose images, in order
    facts       of each image in a store its size and version, for those that a store has listed
    files       the name and the place of each file that holds images; the name is the path below a folder, or that of the file
    is_folder   whether the argument is a folder
    note        a sentence about what was left out, or ""
    """

    images: Sequence[str] = ()
    facts: Sequence[str] = ()
    files: Sequence[tuple[str, str]] = ()
    is_folder: bool = False
    note: str = ""


def listed(source: str) -> Listed:
    """For a folder every image that training would find below it, sorted, or else the files below it that hold images.

    A file that is neither stands for itself, and so does what is not there. Raises FetchError where a store cannot be listed.
    """
    if is_address(source):
        return _at_address(source)
    source = as_path(source)
    path = Path(source)
    if path.is_dir():
        return _in_folder(path)
    if (is_container(path) or is_video(path)) and path.is_file():
        return Listed(files=[(path.name, path.as_posix())])
    return Listed(images=[source])


@contextmanager
def opened(sources: Sequence[str], *, every_seconds: float, are_distinct: bool = False) -> Generator[tuple[Images, str]]:
    """The images of all arguments, and a sentence about what was left out of folders, or "".

    Files at addresses that hold images are downloaded, and removed at the end. Raises DataError where there is no image.
    """
    with ExitStack() as stack:
        parts: list[Images] = []
        notes: list[str] = []
        loose: list[str] = []
        for source in sources:
            each = listed(source)
            loose += each.images
            if each.files:
                parts += [loose_images(loose)] if loose else []
                loose = []
                parts += [stack.enter_context(opened_file(place, every_seconds=every_seconds)) for _, place in each.files]
            notes += [each.note] if each.note else []
        parts += [loose_images(loose)] if loose else []
        images = images_in_turn(parts, are_distinct=are_distinct)
        if not len(images):
            raise no_images(sources, notes)
        yield images, "; ".join(notes)


@contextmanager
def opened_file(place: str, *, every_seconds: float, need_column: bool = False) -> Generator[Images]:
    """The images in a file, which is downloaded from an address and removed at the end.

    With `need_column` a table without a column of images is an error. Raises AnnotationError and FetchError.
    """
    if not is_address(place):
        with _inside(Path(place), place, every_seconds, need_column) as images:
            yield images
        return
    with TemporaryDirectory(prefix="polytag-") as folder:
        path = Path(folder) / f"images{suffix_at(place)}"
        download(file_at(place), path)
        with _inside(path, place, every_seconds, need_column) as images:
            yield images


def images_inside(path: Path, *, need_column: bool = False) -> list[Path]:
    """The images inside a tar, zip, Arrow or Parquet file, without hidden ones; raises AnnotationError.

    With `need_column` a table without a column of images is an error.
    """
    places = stored_places(path)
    if path.suffix.lower() in ARCHIVE_SUFFIXES:
        places = [place for place in places if is_image(place) and not any(part.startswith(".") for part in place.split("/"))]
    elif need_column and not places and not row_container(path).column_names:
        raise AnnotationError(
            "the table has no column of images", where=str(path), expected="a binary column, or a struct with bytes"
        )
    return [path / place for place in places]


def no_images(sources: Sequence[str], notes: Sequence[str]) -> DataError:
    """The error of arguments that stand for no image."""
    return DataError(
        "no images to predict on",
        where=", ".join(sources),
        got="; ".join(note for note in notes if note),
        expected="image files ("
        + ", ".join(sorted(IMAGE_SUFFIXES))
        + "), or folders or tar, zip, Arrow or Parquet files that hold some",
    )


@contextmanager
def _inside(path: Path, name: str, every_seconds: float, need_column: bool) -> Generator[Images]:
    """The images in a file of the disk, under the name of its place."""
    if is_video(path):
        frames = VideoFrames(path, every_seconds=every_seconds)
        try:
            yield Images(names=[f"{name}#t={seconds}" for seconds in frames.times], read=frames.read)
        finally:
            frames.close()
        return
    images = local_images(images_inside(path, need_column=need_column))
    if str(path) == name:
        yield images
    else:
        yield Images(names=[f"{name}/{Path(each).relative_to(path).as_posix()}" for each in images.names], read=images.read)


def _in_folder(folder: Path) -> Listed:
    below = find_images(folder)
    note = left_out_note([f"{folder / name}" for name in below.left_out])
    found = sorted(path.relative_to(folder) for path in folder.rglob("*") if _holds_images(path.suffix) and path.is_file())
    files = [path.as_posix() for path in found if not any(map(is_clutter, path.parts))]
    return _of_folder(
        [str(folder / name) for name in below.images], [(name, (folder / name).as_posix()) for name in files], str(folder), note
    )


def _at_address(address: str) -> Listed:
    if is_web(address):
        if address.endswith("/"):
            raise DataError("a folder of the web cannot be listed", where=address, expected="the address of a file")
        holds_images = _holds_images(suffix_at(address))
        return Listed(files=[(name_at(address), address)]) if holds_images else Listed(images=[address])
    if address.endswith("/") or store_file(address) is None:
        return _in_store(address, files_below(address))
    holds_images = _holds_images(suffix_at(address))
    return Listed(files=[(name_at(address), address)]) if holds_images else Listed(images=[address])


def _in_store(address: str, below: Iterable[RemoteFile]) -> Listed:
    root = address.rstrip("/") + "/"
    shown = [file for file in below if not any(map(is_clutter, file.address.removeprefix(root).split("/")))]
    images = [file for file in shown if is_image(file.address)]
    files = [(file.address.removeprefix(root), file.address) for file in shown if _holds_images(suffix_at(file.address))]
    facts = [f"{file.num_bytes} {file.version}" for file in images]
    return _of_folder([file.address for file in images], files, address, "", facts)


def _of_folder(
    images: Sequence[str], files: Sequence[tuple[str, str]], folder: str, note: str, facts: Sequence[str] = ()
) -> Listed:
    if not images:
        return Listed(files=files, is_folder=True, note=note)
    if files:
        names = ", ".join(name for name, _ in files[:4]) + (", ..." if len(files) > 4 else "")
        packed = f"left out of {folder}, because it has loose images: {names}"
        note = f"{note}; {packed}" if note else packed
    return Listed(images=images, facts=facts, is_folder=True, note=note)


def _holds_images(suffix: str) -> bool:
    return suffix.lower() in _HOLD_IMAGES
