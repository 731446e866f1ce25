"""Addresses: which text is one, and the file at it, whether of the web or of a store."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from polytag.data.remote.remote_file import RemoteFile
from polytag.data.remote.stores import PACKAGE_OF, download_store, read_store_image, store_file
from polytag.data.remote.web import download_web, read_web, web_file
from polytag.download.retries import NotThere
from polytag.errors import UsageError

WEB = ("http", "https")
LOCAL = ("file", "local")
MAX_IMAGE_BYTES = 1 << 28
"""Of one image at an address, which is read whole."""


def is_address(text: str) -> bool:
    """Whether a text is an address, and not the path of a file. Raises UsageError for one that is not read."""
    scheme, found, _ = text.partition("://")
    if not found or len(scheme) < 2 or not all(letter.isalnum() or letter in "+-." for letter in scheme):
        return False
    known = (*WEB, *PACKAGE_OF, *LOCAL)
    if scheme not in known:
        raise UsageError(
            "addresses of this kind are not read",
            where=text[:200],
            got=f"{scheme}://",
            expected="one of " + ", ".join(f"{each}://" for each in known),
        )
    return scheme not in LOCAL


def as_path(text: str) -> str:
    """A path, also of a file:// address; any other text as it is."""
    scheme, found, rest = text.partition("://")
    return (unquote(rest) if scheme == "file" else rest) if found and scheme in LOCAL else text


def is_web(address: str) -> bool:
    """Whether an address is of the web, where no folder can be listed."""
    return address.partition("://")[0] in WEB


def suffix_at(address: str) -> str:
    """The ending of the file's name at an address, in small letters, such as ".tar"."""
    return os.path.splitext(name_at(address))[1].lower()


def name_at(address: str) -> str:
    """The name of the file at an address."""
    path = urlsplit(address).path if is_web(address) else address.partition("://")[2]
    return path.rstrip("/").rpartition("/")[2]


def file_at(address: str) -> RemoteFile:
    """Size and version; raises NotThere and FetchError."""
    file = web_file(address) if is_web(address) else store_file(address)
    if file is None:
        raise NotThere("there is no file at this address", where=address, got="a folder", expected="a file")
    return file


def read_image_at(address: str) -> bytes:
    """The content of an image; raises NotThere, ImageError for too many bytes, and FetchError."""
    return (read_web if is_web(address) else read_store_image)(address, max_bytes=MAX_IMAGE_BYTES)


def download(file: RemoteFile, path: Path) -> None:
    """Write the file at an address to the disk; raises FetchError, and RunError for a full disk."""
    (download_web if is_web(file.address) else download_store)(file, path)
