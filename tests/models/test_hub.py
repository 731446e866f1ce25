"""A model on the hub: read from one commit, also without a network; what a stranger put there is not run, and not all fetched."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from polytag.cli.main import app
from polytag.errors import CheckpointError, ExportError, HubError, RunError
from polytag.inference.predict import predict
from polytag.models.checkpoint import Checkpoint
from polytag.models.exported import read_model
from polytag.models.hub import Address, address_of, fetch_file, local_folder

REPO = "ann/small"


def files_of(checkpoint: Checkpoint) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in checkpoint.folder.iterdir()}


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("hf://ann/voc", Address(repo="ann/voc")),
        ("hf://ann/voc@v1.0", Address(repo="ann/voc", revision="v1.0")),
        ("hf://ann/voc@refs/pr/1", Address(repo="ann/voc", revision="refs/pr/1")),
        ("hf://ann/voc/export", Address(repo="ann/voc", folder="export")),
        ("hf://ann/voc@a/b/export", Address(repo="ann/voc", revision="a/b", folder="export")),
        ("runs/voc", None),
        ("/hf/ann/voc", None),
    ],
)
def test_addresses(text: str, address: Address | None):
    assert address_of(text) == address
    assert address_of(Path(text)) == address, "a Path has lost a slash"
    if address:
        assert str(address) == text


@pytest.mark.parametrize(
    "text",
    ["hf://", "hf://ann", "hf://ann/voc/other", "hf://../voc", "hf://ann/..", "hf://ann/voc@../../x", "hf://ann/voc@a/../b",
     "hf://ann/voc.git", "hf://ann/v oc", "hf://ann/voc@", "hf://-ann/voc", "hf://ann/voc\n"],
)  # fmt: skip
def test_what_is_no_address(text: str):
    with pytest.raises(HubError, match="no address of a model on the hub"):
        address_of(text)


def test_a_checkpoint_is_read_and_predicts(hub: Any, checkpoint: Checkpoint, tmp_path: Path):
    hub.add(REPO, files_of(checkpoint) | {"pytorch_model.bin": b"evil", "model.py": b"evil", "export/export.json": b"{}"})
    read = Checkpoint.read(f"hf://{REPO}")
    assert (read.id, read.thresholds, read.label_set) == (checkpoint.id, checkpoint.thresholds, checkpoint.label_set)
    fetched = {line.partition("/resolve/")[2].partition("/")[2] for line in hub.asked if "/resolve/" in line}
    assert fetched == {"config.json", "model.safetensors"}
    image = tmp_path / "grey.png"
    Image.new("RGB", (50, 40), (90, 120, 60)).save(image)
    there, here = (next(iter(predict(model, [image], device="cpu", precision="fp32"))) for model in (f"hf://{REPO}", checkpoint))
    assert np.array_equal(there.logit_C, here.logit_C)


def test_files_are_of_one_commit_though_the_branch_moves(hub: Any, checkpoint: Checkpoint):
    """The weights are asked for at the commit that config.json came from."""
    commit = hub.add(REPO, files_of(checkpoint))
    Checkpoint.read(f"hf://{REPO}")
    asked = {line for line in hub.asked if line.endswith("model.safetensors")}
    assert asked == {f"{method} /{REPO}/resolve/{commit}/model.safetensors" for method in ("HEAD", "GET")}


def test_a_branch_is_read_anew_and_a_commit_never_again(hub: Any, checkpoint: Checkpoint):
    first = hub.add(REPO, files_of(checkpoint))
    assert local_folder(f"hf://{REPO}").name == first
    second = hub.add(REPO, {"README.md": b"new"})
    assert local_folder(f"hf://{REPO}").name == second
    hub.asked.clear()
    assert local_folder(f"hf://{REPO}@{first}").name == first
    assert hub.asked == []


@pytest.mark.parametrize("how", ["offline", "no network", "broken hub"])
def test_without_a_network_the_cache_is_read(hub: Any, checkpoint: Checkpoint, how: str, monkeypatch: pytest.MonkeyPatch):
    hub.add(REPO, files_of(checkpoint))
    hub.add("ann/other", files_of(checkpoint))
    read = Checkpoint.read(f"hf://{REPO}")
    if how == "broken hub":
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        hub.faults["HEAD .*"] = 503
    else:
        name, value = ("HF_HUB_OFFLINE", True) if how == "offline" else ("ENDPOINT", "http://127.0.0.1:9")
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    assert Checkpoint.read(f"hf://{REPO}") == read
    with pytest.raises(HubError) as caught:
        Checkpoint.read("hf://ann/other")
    assert {"offline": "HF_HUB_OFFLINE is set", "no network": "no answer from", "broken hub": "HTTP 503"}[how] in caught.value.got


def test_errors_say_what_to_do(hub: Any, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch):
    hub.add(REPO, files_of(checkpoint), private=True)
    hub.add("ann/empty", {})
    token = os.environ["HF_TOKEN"]
    assert Checkpoint.read(f"hf://{REPO}").id == checkpoint.id
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "/nowhere")
    for address, word in (
        (f"hf://{REPO}", "hf auth login"),
        ("hf://ann/nothing", "check the name"),
        (f"hf://{REPO}@v9", "hf auth login"),
        ("hf://ann/empty", "polytag push"),
        ("hf://ann/empty@v9", "behind the @"),
    ):
        with pytest.raises(HubError) as caught:
            Checkpoint.read(address)
        assert word in str(caught.value), address
        assert token not in str(caught.value)


def test_a_server_that_repeats_the_token_does_not_get_it_shown(hub: Any):
    token = os.environ["HF_TOKEN"]
    hub.said = f"Bearer {token}\x1b[2J is no good"
    hub.faults["HEAD .*"] = hub.faults["GET .*"] = 403
    with pytest.raises(HubError) as caught:
        Checkpoint.read(f"hf://{REPO}")
    assert token not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_large_file_is_not_fetched(hub: Any):
    hub.add(REPO, {"config.json": b"x" * 1000})
    with pytest.raises(HubError, match="too large"):
        fetch_file(Address(repo=REPO), "config.json", max_bytes=999)
    assert not any(line.startswith("GET") and "resolve" in line for line in hub.asked)
    assert fetch_file(Address(repo=REPO), "config.json", max_bytes=1000).stat().st_size == 1000


@pytest.mark.usefixtures("no_waiting")
def test_a_download_that_is_cut_is_tried_again_and_then_an_error(hub: Any, checkpoint: Checkpoint, tmp_path: Path):
    hub.add(REPO, files_of(checkpoint))
    hub.faults["GET .*safetensors"] = "cut"
    with pytest.raises(HubError, match="check the network"):
        Checkpoint.read(f"hf://{REPO}")
    assert not list(tmp_path.rglob("*.incomplete"))
    hub.faults["GET .*safetensors"] = "cut once"
    assert Checkpoint.read(f"hf://{REPO}").load_model() is not None


@pytest.mark.parametrize("verb", ["thresholds", "calibrate"])
def test_a_model_on_the_hub_is_not_changed_in_place(verb: str):
    done = CliRunner().invoke(app, [verb, f"hf://{REPO}"])
    assert isinstance(done.exception, RunError)
    assert "polytag push" in done.exception.next_step


# ---- what strangers put there


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b""),
        ("config.json", b"[" * 100_000),
        ("config.json", b'{"polytag": 7}'),
        ("config.json", b'{"architecture": "resnet18", "num_classes": 3, "pretrained_cfg": {"url": "http://127.0.0.1/x"}}'),
        ("config.json", b"\xff\xfe\x00"),
        ("model.safetensors", b"\x80\x04\x95 a pickle"),
    ],
)
def test_what_is_no_checkpoint_is_one_error(hub: Any, checkpoint: Checkpoint, name: str, content: bytes):
    hub.add(REPO, files_of(checkpoint) | {name: content})
    with pytest.raises(CheckpointError):
        Checkpoint.read(f"hf://{REPO}").load_model()


@pytest.mark.parametrize("name", ["../../../secret", "/etc/passwd", "a/../../b", "", "a\\b", "x" * 300])
def test_an_export_names_no_file_outside(hub: Any, name: str):
    hub.add(REPO, {"export/export.json": json.dumps({"files": {name: "0" * 64}}).encode()})
    with pytest.raises(ExportError, match=r"export\.json is not that of an export"):
        read_model(f"hf://{REPO}/export")
    assert {line.partition("/resolve/")[2].partition("/")[2] for line in hub.asked if "/resolve/" in line} == {"export/export.json"}


READ = """
from polytag.models.checkpoint import Checkpoint
from polytag.models.exported import read_model
from polytag.errors import PolytagError
for address in ("hf://ann/small", "hf://ann/small/export", "hf://ann/evil"):
    try:
        print(read_model(address).id)
    except PolytagError as error:
        print(type(error).__name__)
"""


def test_nothing_of_the_hub_is_run(hub: Any, checkpoint: Checkpoint, watched: Callable[..., str], tmp_path: Path):
    """Only the hub is connected to, and only its cache is written."""
    files = files_of(checkpoint)
    config = json.loads(files["config.json"]) | {"backbone": "local-dir:/etc", "auto_map": {"AutoModel": "model.py"}}
    hub.add("ann/small", files | {"model.py": b"import os; os.system('touch /tmp/pwned')", "export/export.json": b"{}"})
    hub.add("ann/evil", files | {"config.json": json.dumps(config).encode()})
    before = f"import os; os.environ.update(HF_ENDPOINT={hub.url!r}, HF_HOME={str(tmp_path / 'cache')!r}, HF_HUB_DISABLE_XET='1')\n"
    printed = watched(
        before + "import huggingface_hub, huggingface_hub.hf_api, huggingface_hub.file_download, polytag.models.checkpoint",
        READ,
        home=tmp_path,
        # the client tries whether the cache's folder takes links, and sets the mode of open files in it
        allowed=(f"('127.0.0.1', {hub.port})", f"('127.0.0.1', {hub.port}, ", "('dummy_file_", ", 436, -1)"),
    )
    assert printed.splitlines()[:3] == [checkpoint.id, "ExportError", "CheckpointError"]
    assert printed.splitlines()[-1] == "EVENTS []", printed
