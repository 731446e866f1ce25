"""What is in every image file: its digest, whether it can be decoded, a small copy for the comparison with others.

Images are read in blocks, by threads, because Pillow and SHA-256 release Python's lock. The results of a block are kept in the
cache folder until all blocks are done, so that an interrupted check of many images goes on where it was; a complete one leaves
nothing. What an interrupted one leaves counts as part of the cache, which is bounded.
"""

import base64
import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from polytag.data.cache.image_cache import images_key
from polytag.data.cache.store import CHECKED, make_room, store_folder
from polytag.data.duplicates.near_duplicates import small_copy
from polytag.data.images.read import read_image
from polytag.data.images.stored import is_image_there, open_image
from polytag.errors import ImageError, RunError
from polytag.files import write_text
from polytag.machine import num_cores
from polytag.parsing import parse_json

_BLOCK = 1000  # images


@dataclass(frozen=True, kw_only=True)
class ImageContent:
    """One file: its digest ("" where it was not read), the reason that it cannot be decoded ("" where it can), its small copy."""

    sha256: str = ""
    reason: str = ""
    copy: bytes = b""


def read_contents(
    paths: Sequence[str], *, near: bool, num_threads: int = 0, on_image: Callable[[], None] | None = None
) -> dict[str, ImageContent]:
    """Read every distinct file once; `near` makes small copies. `on_image` is called once for each file, in order."""
    distinct = list(dict.fromkeys(paths))
    contents: dict[str, ImageContent] = {}
    kept: list[Path] = []
    pool = ThreadPoolExecutor(max_workers=num_threads or num_cores())
    try:
        for start in range(0, len(distinct), _BLOCK):
            block = distinct[start : start + _BLOCK]
            file = store_folder() / f"{images_key([Path(path) for path in block], f'check {near}')}{CHECKED}"
            results = _kept(file, num_images=len(block))
            if results is None:
                results = _read_block(pool, block, near=near, on_image=on_image)
                if start + _BLOCK < len(distinct):
                    _keep(file, results)
            elif on_image:
                for _ in block:
                    on_image()
            kept.append(file)
            contents.update(zip(block, results, strict=True))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C waits for the images in progress only
    for file in kept:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)
    return contents


def existing(paths: Sequence[str]) -> dict[str, ImageContent]:
    """Whether every distinct file exists; none is opened."""
    there, missing = ImageContent(), ImageContent(reason="the image is missing: no such file")
    return {path: there if is_image_there(path) else missing for path in dict.fromkeys(paths)}


def _read_block(
    pool: ThreadPoolExecutor, block: Sequence[str], *, near: bool, on_image: Callable[[], None] | None
) -> list[ImageContent]:
    results: list[ImageContent] = []
    for content in pool.map(lambda path: _read(Path(path), near=near), block):
        results.append(content)
        if on_image:
            on_image()
    return results


def _read(path: Path, *, near: bool) -> ImageContent:
    try:
        image = read_image(path)
        with open_image(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return ImageContent(sha256=digest, copy=small_copy(image) if near else b"")
    except ImageError as error:
        return ImageContent(reason=f"{error.what}: {error.got}")
    except OSError as error:  # removed since it was decoded
        return ImageContent(reason=f"the image cannot be opened: {error.strerror}")


def _keep(file: Path, results: Sequence[ImageContent]) -> None:
    text = json.dumps([(each.sha256, each.reason, base64.b64encode(each.copy).decode()) for each in results])
    with contextlib.suppress(OSError, RunError):  # a cache that cannot be written costs time only
        file.parent.mkdir(parents=True, exist_ok=True)
        if make_room(len(text)):
            write_text(file, text)


def _kept(file: Path, *, num_images: int) -> list[ImageContent] | None:
    """The results of a block that an interrupted check has read; None where there are none, or damaged ones."""
    try:
        rows = parse_json(file.read_text(encoding="utf-8"))
        results = [
            ImageContent(sha256=str(sha256), reason=str(reason), copy=base64.b64decode(copy, validate=True))
            for sha256, reason, copy in (rows if isinstance(rows, list) else ())
        ]
    except (OSError, ValueError, TypeError):
        return None
    return results if len(results) == num_images else None
