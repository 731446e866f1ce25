"""A package of the npm registry at one version with one SHA-512: fetched when it is needed, kept in the cache, data until a browser
runs it.
"""

import base64
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from polytag import files
from polytag.download.requests import read_content
from polytag.errors import FetchError


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
    """The address that npm itself takes: of $NPM_CONFIG_REGISTRY, or what npm says. "" where there is neither."""
    address = os.environ.get("NPM_CONFIG_REGISTRY") or _of_npm()
    return address.rstrip("/")


def _of_npm() -> str:
    npm = shutil.which("npm")
    if npm is None:
        return ""
    try:
        told = subprocess.run([npm, "config", "get", "registry"], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):  # an npm that does not run names none
        return ""
    return told.stdout.strip()


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
    base = registry()
    address = f"{base}/{package.name}/-/{package.file_name}"
    if not base:
        raise _not_fetched(package, address, got="npm names no registry, and NPM_CONFIG_REGISTRY is not set")
    try:
        content = read_content(
            address, max_bytes=package.num_bytes, on_progress=lambda num_bytes: on_progress(num_bytes, package.num_bytes)
        )
    except FetchError as error:
        raise _not_fetched(package, address, got=error.got or error.what) from error
    if (found := _integrity(content)) != package.integrity:
        raise _not_fetched(package, address, got=f"{len(content):,} bytes, {found[:24]}")
    return content


def _not_fetched(package: Package, address: str, *, got: str) -> FetchError:
    return FetchError(
        f"{package.name} {package.version} cannot be fetched from the npm registry",
        where=address,
        got=got,
        expected=f"{package.num_bytes:,} bytes, {package.integrity[:24]}...",
        next_step=f"check the network, name a registry in NPM_CONFIG_REGISTRY, or put that file at {cached_place(package)}",
    )
