"""What is scored: images by number, wherever they lie."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL.Image import Image

from polytag.data.images.read import read_image


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
