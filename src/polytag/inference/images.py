"""What is scored: images by number, wherever they lie."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
from PIL.Image import Image

from polytag.data.images.read import read_image
from polytag.data.remote.addresses import is_address, read_image_at
from polytag.download.retries import NotThere
from polytag.errors import ImageError

_NUM_AHEAD = 32  # images at addresses that are fetched before they are asked for


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """N images.

    names   their ids: paths and addresses as they were given, of images inside a file with their place
    read    an image by its number, 8-bit RGB and upright; called in threads, about in order. Raises ImageError for an image that
            cannot be read, and FetchError where a store fails, so that nothing is known of the image
    """

    names: Sequence[Path | str]
    read: Callable[[int], Image]

    def __len__(self) -> int:
        return len(self.names)


def local_images(paths: Sequence[Path]) -> Images:
    """Images that are files, or lie inside a tar, zip, Arrow or Parquet file."""
    return Images(names=paths, read=lambda row: read_image(paths[row]))


def loose_images(names: Sequence[str]) -> Images:
    """Images that are files, or lie at addresses, from which they are fetched ahead."""
    paths = [name if is_address(name) else Path(name) for name in names]
    addresses = {row: path for row, path in enumerate(paths) if isinstance(path, str)}
    if not addresses:
        return local_images([path for path in paths if isinstance(path, Path)])
    ahead = _Ahead(addresses)

    def read(row: int) -> Image:
        path = paths[row]
        if isinstance(path, Path):
            return read_image(path)
        try:
            return read_image(ahead.content(row))
        except NotThere as error:
            raise ImageError("the image is missing", where=path, got=error.got) from error

    return Images(names=paths, read=read)


def images_in_turn(parts: Sequence[Images], *, are_distinct: bool = False) -> Images:
    """The images of one after the other; with `are_distinct`, each name once."""
    if len(parts) == 1 and not are_distinct:
        return parts[0]
    seen: set[Path | str] = set()
    names: list[Path | str] = []
    where: list[tuple[int, int]] = []
    for number, part in enumerate(parts):
        for row, name in enumerate(part.names):
            if are_distinct and name in seen:
                continue
            seen.add(name)
            names.append(name)
            where.append((number, row))
    where_N = np.array(where, np.int64).reshape(-1, 2)

    def read(row: int) -> Image:
        number, inner = where_N[row].tolist()
        return parts[number].read(inner)

    return Images(names=names, read=read)


class _Ahead:
    """The contents at addresses, of which the next ones are fetched while others are decoded."""

    def __init__(self, addresses: dict[int, str]):
        self._addresses = addresses
        self._rows = list(addresses)
        self._place = {row: place for place, row in enumerate(self._rows)}
        self._pool = ThreadPoolExecutor(_NUM_AHEAD // 2, thread_name_prefix="polytag-fetch")
        self._fetched: OrderedDict[int, Future[bytes]] = OrderedDict()
        self._next = 0
        self._lock = Lock()

    def content(self, row: int) -> bytes:
        with self._lock:
            until = min(self._place[row] + _NUM_AHEAD, len(self._rows))
            for other in self._rows[self._next : until]:
                self._fetched[other] = self._pool.submit(read_image_at, self._addresses[other])
            self._next = max(self._next, until)
            future = self._fetched.pop(row, None) or self._pool.submit(read_image_at, self._addresses[row])
        return future.result()
