"""What an argument of a prediction stands for: loose images, and files that hold images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from polytag.data.formats.listing import IMAGE_SUFFIXES, find_images, is_clutter, is_image, left_out_note
from polytag.data.images.stored import ARCHIVE_SUFFIXES, is_container, row_container, stored_places
from polytag.errors import AnnotationError, DataError


@dataclass(frozen=True, kw_only=True)
class Listed:
    """What an argument stands for.

    images      loose images, in order
    files       the name and the place of each file that holds images; the name is the path below a folder, or that of the file
    is_folder   whether the argument is a folder
    note        a sentence about what was left out, or ""
    """

    images: Sequence[str] = ()
    files: Sequence[tuple[str, str]] = ()
    is_folder: bool = False
    note: str = ""


def listed(source: str) -> Listed:
    """For a folder every image that training would find below it, sorted, or else the files below it that may hold images.

    A file that is neither stands for itself, and so does what is not there.
    """
    path = Path(source)
    if path.is_dir():
        return _in_folder(path)
    if is_container(path) and path.is_file():
        return Listed(files=[(path.name, path.as_posix())])
    return Listed(images=[source])


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


def _in_folder(folder: Path) -> Listed:
    below = find_images(folder)
    files = _files_below(folder)
    note = left_out_note([f"{folder / name}" for name in below.left_out])
    if not below.images:
        return Listed(files=[(name, (folder / name).as_posix()) for name in files], is_folder=True, note=note)
    if files:
        packed = f"left out of {folder}, because images lie beside them: {', '.join(files[:4])}" + (
            ", ..." if len(files) > 4 else ""
        )
        note = f"{note}; {packed}" if note else packed
    return Listed(images=[str(folder / name) for name in below.images], is_folder=True, note=note)


def _files_below(folder: Path) -> list[str]:
    found = sorted(path.relative_to(folder) for path in folder.rglob("*") if is_container(path) and path.is_file())
    return [path.as_posix() for path in found if not any(map(is_clutter, path.parts))]
