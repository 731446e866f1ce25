"""A package of the npm registry at one version with one SHA-512: fetched when it is needed, kept in the cache, data until a browser
runs it.
"""

import base64
import hashlib
import io
import os
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from polytag import files
from polytag.errors import FetchError

OFFICIAL = "https://registry.npmjs.org"
_TIMEOUT_SECONDS = 30.0
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Package:
    """One version of a package.

    integrity   of the tarball, as npm writes it: "sha512-" and Base64
    num_bytes   of the tarball
    """

    name: str
    version: str
    integrity: str
    num_bytes: int

    @property
    def file_name(self) -> str:
        return f"{self.name}-{self.version}.tgz"


ONNXRUNTIME_WEB = Package(
    name="onnxruntime-web",
    version="1.30.0",
    integrity="sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
    num_bytes=33_106_585,
)


def registry() -> str:
    """The address that npm itself takes: of $NPM_CONFIG_REGISTRY, or the official one."""
    return (os.environ.get("NPM_CONFIG_REGISTRY") or OFFICIAL).rstrip("/")


def cached_place(package: Package) -> Path:
    """Where the tarball is kept, and may be put by hand."""
    return files.cache_folder() / "npm" / package.file_name


def files_of(
    package: Package, names: tuple[str, ...], *, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, bytes]:
    """The contents of these files of a package, from the cache or from the registry.

    `on_progress` receives the bytes that have arrived and their total. Raises FetchError where the registry cannot be reached or
    has another file.
    """
    place = cached_place(package)
    content = place.read_bytes() if place.is_file() else b""
    if _integrity(content) != package.integrity:
        content = _fetched(package, on_progress=on_progress)
        place.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(place, content)
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        found = {name: archive.extractfile(f"package/{name}") for name in names}
        return {name: file.read() for name, file in found.items() if file is not None}


def _integrity(content: bytes) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


def _fetched(package: Package, *, on_progress: Callable[[int, int], None]) -> bytes:
    address = f"{registry()}/{package.name}/-/{package.file_name}"
    if urlsplit(address).scheme not in ("http", "https"):
        raise _not_fetched(package, address, got="no web address")
    content = bytearray()
    try:
        request = urllib.request.Request(address, headers={"User-Agent": "polytag"})
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
            while len(content) <= package.num_bytes and (chunk := response.read(_CHUNK_BYTES)):
                content += chunk
                on_progress(len(content), package.num_bytes)
    except urllib.error.HTTPError as error:
        error.close()
        raise _not_fetched(package, address, got=f"HTTP {error.code} {error.reason}") from error
    except (OSError, HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise _not_fetched(package, address, got=str(reason) or type(reason).__name__) from error
    if (found := _integrity(bytes(content))) != package.integrity:
        raise _not_fetched(package, address, got=f"{len(content):,} bytes, {found[:24]}")
    return bytes(content)


def _not_fetched(package: Package, address: str, *, got: str) -> FetchError:
    return FetchError(
        f"{package.name} {package.version} cannot be fetched from the npm registry",
        where=address,
        got=got,
        expected=f"{package.num_bytes:,} bytes, {package.integrity[:24]}...",
        next_step=f"check the network, name a mirror in NPM_CONFIG_REGISTRY, or put that file at {cached_place(package)}",
    )
