"""Keeps the places by UMAP in the cache, so that the inspector computes them once and not at every start.

Shapes: N images, D features.
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

import numpy as np

from polytag.data.cache.store import PLACES, make_room, store_folder
from polytag.files import NewFile
from polytag.inference.umap_process import UmapProcess

_VERSION = 1


def places_by_umap(feature_ND: np.ndarray, process: UmapProcess) -> np.ndarray:
    """Return `process.places(feature_ND)`, from the cache where the same features were placed before. Raises as it does.

    The file's name is a digest of the features. A later umap-learn does not move the images: regions that were drawn on the map,
    and their addresses, stay. A damaged, missing or unwritable file costs time and is never an error.
    """
    digest = hashlib.sha256(f"umap {_VERSION} {feature_ND.dtype} {feature_ND.shape}\0".encode())
    digest.update(np.ascontiguousarray(feature_ND).data)
    path = store_folder() / f"{digest.hexdigest()}{PLACES}"
    place_N2 = _read(path, num_images=len(feature_ND))
    if place_N2 is None:
        place_N2 = process.places(feature_ND)
        with suppress(OSError):
            _write(path, place_N2)
    return place_N2


def _read(path: Path, *, num_images: int) -> np.ndarray | None:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            place_N2 = arrays["place_N2"]  # NPZ checks its CRC
        os.utime(path)  # marks it as used: the file that is unused for longest is removed first
    except Exception:  # a damaged archive raises errors of zipfile, zlib and NumPy
        return None
    return place_N2 if place_N2.dtype == np.float64 and place_N2.shape == (num_images, 2) else None


def _write(path: Path, place_N2: np.ndarray) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not make_room(place_N2.nbytes, folder=path.parent):
        return
    new = NewFile(path, durable=False)
    try:
        np.savez(new.file, place_N2=place_N2)
        new.commit()
    finally:
        new.abandon()
