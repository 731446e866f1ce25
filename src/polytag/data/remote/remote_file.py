"""A file at an address."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """Its size, and its version: an ETag, a generation or a time of change, "" where there is none."""

    address: str
    num_bytes: int
    version: str
