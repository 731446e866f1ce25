"""What the arguments of a prediction of many images hold, as shards in a stable order: files of images, and parts of lists."""

import hashlib
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote

from polytag.data.images.video import is_video
from polytag.data.remote.addresses import file_at, is_address
from polytag.errors import UsageError
from polytag.inference.images import Images, loose_images
from polytag.inference.listing import listed, no_images, opened_file
from polytag.predictions.shard_files import SUFFIX, ShardIdentity

IMAGES_PER_SHARD = 4096
_LOOSE = "images"  # the list of images that were given one by one
_MAX_NAME_BYTES = 200  # file systems allow 255


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A file that holds images, or a part of a list of images.

    name     of its result, without the ending
    place    the file; "" of a part of a list
    images   of a part of a list
    facts    of each image in a store its size and version; () for files of the disk, whose own are asked for
    every_seconds   from frame to frame of a video; 0 of others
    number, num_shards, list   see `ShardIdentity`
    """

    name: str
    place: str = ""
    images: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    every_seconds: float = 0.0
    number: int = 0
    num_shards: int = 0
    list: str = ""

    @property
    def result(self) -> str:
        """The name of its file of predictions."""
        return self.name + SUFFIX


def shards_of(
    sources: Sequence[str], *, every_seconds: float = 1.0, images_per_shard: int = IMAGES_PER_SHARD
) -> tuple[list[Shard], str]:
    """The shards of files, folders and addresses, in order, and a sentence about what was left out of folders, or "".

    A tar, zip, Arrow, Parquet or video file is a shard. The images of a folder, in the order of their names, are a list, and those
    that are given one by one another; a list is cut into parts of `images_per_shard`. Raises DataError where there is none,
    UsageError for two shards of one name.
    """
    found: list[Shard] = []
    loose: list[str] = []
    notes: list[str] = []
    for source in sources:
        each = listed(source)
        for name, place in each.files:
            every = every_seconds if is_video(name) else 0.0
            found.append(Shard(name=file_name(name), place=place, every_seconds=every))
        if each.is_folder and each.images:
            found += _cut(each.images, _folder_name(source), images_per_shard, each.facts)
        else:
            loose += each.images
        notes += [each.note] if each.note else []
    found += _cut(list(dict.fromkeys(loose)), _LOOSE, images_per_shard)
    if not found:
        raise no_images(sources, notes)
    _require_distinct(found)
    return found, "; ".join(notes)


def _cut(images: Sequence[str], name: str, images_per_shard: int, facts: Sequence[str] = ()) -> Iterator[Shard]:
    parts = [tuple(images[start : start + images_per_shard]) for start in range(0, len(images), images_per_shard)]
    digest = hashlib.sha256()
    for image in images:
        digest.update(os.fsencode(image) + b"\0")
    for number, part in enumerate(parts):
        start = number * images_per_shard
        yield Shard(
            name=f"{name}-{number:05}",
            images=part,
            facts=tuple(facts[start : start + len(part)]),
            number=number,
            num_shards=len(parts),
            list=digest.hexdigest(),
        )


def _folder_name(source: str) -> str:
    path = source if "://" in source else os.path.abspath(source)
    return file_name(path.rstrip("/").rpartition("/")[2] or "root")


def file_name(name: str) -> str:
    """A name that is one part of a path on every system, another one for every other name."""
    letters = [quote(letter, safe="", errors="surrogatepass") if _is_odd(letter) else letter for letter in name]
    quoted = "".join(letters)
    quoted = "%2E" + quoted[1:] if quoted.startswith(".") else quoted
    content = quoted.encode()
    if len(content) <= _MAX_NAME_BYTES:
        return quoted
    digest = hashlib.sha256(content).hexdigest()[:16]
    return content[: _MAX_NAME_BYTES - 17].decode("utf-8", "ignore") + "%" + digest


def _is_odd(letter: str) -> bool:
    return letter in '%/\\:*?"<>|' or not letter.isprintable()


def _require_distinct(shards: Sequence[Shard]) -> None:
    first: dict[str, Shard] = {}
    for shard in shards:
        other = first.setdefault(shard.name.casefold(), shard)  # some systems take two names that differ in letter case for one
        if other is not shard:
            raise UsageError(
                "two shards whose predictions would have one name",
                where=shard.result,
                got=f"{_shown(other)} and {_shown(shard)}",
                expected="sources of different names",
                next_step="give the folder that holds both, or predict into two folders",
            )


def _shown(shard: Shard) -> str:
    return shard.place or f"the images from {shard.images[0]} on"


# ---- one shard ----


def identity_of(shard: Shard) -> ShardIdentity:
    """The images that its predictions are made from, as they are now.

    Raises OSError where the file is gone, FetchError for one at an address.
    """
    if shard.place:
        num_bytes, changed = _size_and_change(shard.place)
        return ShardIdentity(name=shard.name, num_bytes=num_bytes, changed=changed, every=shard.every_seconds)
    digest = hashlib.sha256()
    for row, image in enumerate(shard.images):
        facts = shard.facts[row] if shard.facts else "" if is_address(image) else _facts(image)
        digest.update(os.fsencode(image) + b"\0" + facts.encode() + b"\0")
    return ShardIdentity(
        name=shard.name, number=shard.number, num_shards=shard.num_shards, list=shard.list, images=digest.hexdigest()
    )


def _size_and_change(place: str) -> tuple[int, str]:
    if is_address(place):
        file = file_at(place)
        return file.num_bytes, file.version
    status = os.stat(place)
    return status.st_size, str(status.st_mtime_ns)


def _facts(image: str) -> str:
    try:
        status = os.stat(image)
    except OSError:  # the image is missing, or inside another file
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


@contextmanager
def opened_shard(shard: Shard) -> Generator[Images]:
    """The images of a shard. A file at an address is downloaded, and removed at the end.

    Raises AnnotationError for a file that cannot be read, or has no column of images, and FetchError.
    """
    if shard.place:
        with opened_file(shard.place, every_seconds=shard.every_seconds, need_column=True) as images:
            yield images
    else:
        yield loose_images(shard.images)
