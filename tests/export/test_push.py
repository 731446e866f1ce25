"""What is pushed is one commit that timm and polytag load alike; it says what was measured, and names nothing of this machine."""

import getpass
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from polytag.cli.main import app, main
from polytag.contracts import LabelSet, Preprocessing
from polytag.errors import ExportError, HubError, UsageError
from polytag.export.push import push_model
from polytag.export.timm_config import compare_with_timm, hub_config_text, without_path
from polytag.inference.predict import predict
from polytag.models.backbone import build_model
from polytag.models.checkpoint import Checkpoint, save_checkpoint
from polytag.models.exported import Checked, Exported, ExportedFile, read_model, sha256

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")  # of the hub's client
REPO, TO = "ann/small", "hf://ann/small"
NAMES = {"config.json", "model.safetensors", "README.md"}


@pytest.fixture(scope="module")
def run(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a folder whose name is nobody's business, with thresholds for F1 and a calibration."""
    from polytag.runs.recipe import PROBE
    from polytag.training.train import train

    secret = tmp_path_factory.mktemp("private-folder-of-ann")
    shutil.copytree(colours.parent, secret / "colours")
    recipe = replace(PROBE, backbone="test_resnet", weights="random", image_size_px=32, seed=1)
    folder = train(secret / "colours" / "labels.csv", recipe=recipe, output=secret / "run").folder.path
    for command in (["calibrate", str(folder), "--method", "platt"], ["thresholds", str(folder), "--goal", "f1"]):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def exported(run: Path, tmp_path: Path) -> Exported:
    """The folder of an export whose graphs are any bytes: a push compares their SHA-256, and leaves running them to `export`."""
    folder, checkpoint = tmp_path / "small", Checkpoint.read(run)
    graphs = {"pixels.onnx": b"pixels" * 2000, "image.onnx": b"image" * 2000}
    (folder / "selftest").mkdir(parents=True)
    for name, content in (graphs | {"selftest/expected.json": b"{}", "README.md": b"of /srv/ann"}).items():
        (folder / name).write_bytes(content)
    of = f"8 generated, 1 of csv {run.parent}/x.csv"
    checked = Checked(images=9, of=of, decisions=27, max_logit_difference=0, decisions_changed=0)
    made = Exported(
        folder=folder,
        id=checkpoint.id,
        calibration_id=checkpoint.calibration_id,
        label_set=checkpoint.label_set,
        thresholds=checkpoint.thresholds,
        preprocessing=checkpoint.preprocessing,
        files={
            name: ExportedFile(engine="onnx", precision="fp32", sha256=sha256(content), checked=checked)
            for name, content in graphs.items()
        },
    )
    (folder / "export.json").write_text(made.text())
    return made


def card_of(hub: Any, repo: str = REPO) -> tuple[dict[str, Any], str]:
    """The front matter and the text."""
    _, front, text = hub.repos[repo].files["README.md"].decode().split("---\n", 2)
    return yaml.safe_load(front), text


def test_a_push_is_one_commit_that_is_read_back(hub: Any, run: Path):
    done = push_model(run, TO)
    repo = hub.repos[REPO]
    assert len(repo.commits) == 2, "the first is the hub's own"
    assert set(repo.files) - {".gitattributes"} == NAMES == {name for name, _ in done.files}
    assert (done.is_new, done.is_same, done.url) == (True, False, f"{hub.url}/{REPO}/commit/{repo.head}")
    own, read = Checkpoint.read(run), Checkpoint.read(TO)
    assert (read.id, read.thresholds, read.calibration, read.preprocessing, read.backbone_args, read.label_set) == (
        own.id, own.thresholds, own.calibration, own.preprocessing, own.backbone_args, own.label_set,
    )  # fmt: skip
    assert read.calibration is not None
    image = min((run.parent / "colours" / "images").iterdir())
    there, here = (next(iter(predict(model, [image], device="cpu", precision="fp32"))) for model in (TO, own))
    assert np.array_equal(there.logit_C, here.logit_C)
    assert done.compared.images == 8 + 6, "generated images, and a quarter of the 24 validation images"
    assert done.compared.max_logit_difference <= 1e-5


def test_a_head_that_timm_does_not_have_is_pushed_for_polytag_alone(hub: Any, tmp_path: Path, images: list[Path]):
    torch.manual_seed(0)
    own = save_checkpoint(
        tmp_path / "best",
        tensors=build_model("test_efficientnet", num_classes=2, head="concat-pool").state_dict(),
        backbone="test_efficientnet",
        backbone_args={},
        head="concat-pool",
        preprocessing=Preprocessing(image_size_px=32),
        label_set=LabelSet(names=("a", "b")),
        thresholds=(0.5, 0.4),
        facts={},
        card=lambda checkpoint_id: "",
    )
    done = CliRunner().invoke(app, ["push", str(own.folder), TO])
    assert done.exit_code == 0, done.output
    assert "timm cannot load this model: it has no such head. `polytag train --head linear` makes one that it loads." in done.output
    assert "timm.create_model" not in done.output
    assert list(json.loads(hub.repos[REPO].files["config.json"])) == ["polytag"]
    front, text = card_of(hub)
    assert front["library_name"] == "polytag"
    assert "timm" not in front["tags"]
    assert "timm cannot load it: the head concat-pool is polytag's." in text
    assert "timm.create_model" not in text
    read = Checkpoint.read(TO)
    assert (read.id, read.head, read.thresholds) == (own.id, "concat-pool", own.thresholds)
    there, here = (next(iter(predict(model, images[:1], device="cpu", precision="fp32"))) for model in (TO, own))
    assert np.array_equal(there.logit_C, here.logit_C)


def test_nothing_names_a_folder_a_user_or_a_host(hub: Any, run: Path, exported: Exported):
    push_model(run, TO, export=exported.folder)
    words = ["private-folder-of-ann", str(run.parent), f"{Path.home()}/", sys.prefix, "site-packages"]
    words_of_texts = [getpass.getuser(), socket.gethostname(), "/tmp"]
    for name, content in hub.repos[REPO].files.items():
        is_text = not name.endswith((".onnx", ".safetensors", ".png"))
        patterns = [re.escape(word.encode()) for word in words]
        patterns += [rb"\b%b\b" % re.escape(word.encode()) for word in words_of_texts if is_text]
        found = [pattern for pattern in patterns if re.search(pattern, content)]
        assert not found, f"{name} names {found}"
    config = json.loads(hub.repos[REPO].files["config.json"])
    assert config["polytag"]["facts"]["data"] == "labels.csv"
    assert without_path("voc C:\\Users\\ann\\VOC2012") == without_path("voc /srv/ann/VOC2012") == "VOC2012"


def test_an_export_that_names_folders_is_not_pushed(hub: Any, run: Path, exported: Exported, tmp_path: Path):
    folder = tmp_path / "old"
    shutil.copytree(exported.folder, folder)
    (folder / "selftest" / "notes.txt").write_text(f"made in {sys.prefix}/lib")
    with pytest.raises(ExportError, match="names folders of this machine"):
        push_model(run, TO, export=folder)
    assert REPO not in hub.repos


def test_the_card_says_what_was_measured(hub: Any, run: Path):
    push_model(run, TO)
    front, text = card_of(hub)
    metrics = json.loads((run / "metrics.json").read_text())
    checkpoint = Checkpoint.read(run)
    assert (front["library_name"], front["pipeline_tag"]) == ("timm", "image-classification")
    assert "license" not in front
    assert {"polytag", "multi-label"} <= set(front["tags"])
    (result,) = front["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == pytest.approx(metrics["mAP"]["value"], abs=1e-6)
    assert "over 3 classes, 95% interval" in result["metrics"][0]["name"]
    assert result["dataset"] == {"type": "labels-csv", "name": "labels.csv", "split": "validation"}
    for name, threshold in zip(checkpoint.label_set, checkpoint.thresholds, strict=True):
        row = re.search(rf"^\| {name} \| (.*) \|$", text, re.MULTILINE)
        assert row is not None
        cells = row[1].split(" | ")
        measured = metrics["per_class"][name]
        assert cells[0] == f"{measured['ap']:.3f}"
        assert cells[2].rstrip("*\\") == str(measured["support"])
        assert cells[5] == f"{threshold:.4g}"
    assert "48 training images, 24 validation images" in text
    assert checkpoint.facts["data_fingerprint"] in text
    assert "for the goal `f1`" in text
    assert f"by the method platt (`{checkpoint.calibration_id}`)" in text


def test_the_hub_reads_the_card(hub: Any, run: Path):
    from huggingface_hub import ModelCard

    push_model(run, TO, license="apache-2.0")
    card = ModelCard(hub.repos[REPO].files["README.md"].decode())
    (result,) = card.data.eval_results
    assert (card.data.license, result.metric_type, result.dataset_split) == ("apache-2.0", "mean_average_precision", "validation")


def test_a_checkpoint_without_its_run_says_so(hub: Any, checkpoint: Checkpoint):
    push_model(checkpoint, TO)
    front, text = card_of(hub)
    assert "model-index" not in front
    assert "pushed without the run" in text
    assert "big, old tree" in text


TIMM = """
import sys
import numpy as np
{card}
x = torch.from_numpy(np.load(sys.argv[1]))
with torch.inference_mode():
    np.save(sys.argv[2], model(x).numpy())
"""


def test_timm_loads_it_from_the_hub_and_answers_alike(hub: Any, run: Path, tmp_path: Path):
    """The Python of the card, as it is."""
    push_model(run, TO)
    image = tmp_path / "photo.jpg"
    Image.open(min((run.parent / "colours" / "images").iterdir())).resize((64, 64)).save(image)
    input_N3SS = np.random.default_rng(0).normal(0, 1, (16, 3, 32, 32)).astype(np.float32)
    np.save(tmp_path / "x.npy", input_N3SS)
    code = card_of(hub)[1].partition("```python\n")[2].partition("```")[0].replace('"photo.jpg"', repr(str(image)))
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", TIMM.format(card=code), tmp_path / "x.npy", tmp_path / "y.npy"],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with torch.inference_mode():
        own_NC = Checkpoint.read(run).load_model()(torch.from_numpy(input_N3SS)).numpy()
    assert own_NC.std() > 1e-3
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), own_NC, rtol=1e-6, atol=1e-5)
    assert eval(done.stdout) == [
        name for name in Checkpoint.read(run).label_set if name in next(iter(predict(run, [image], precision="fp32"))).labels
    ]


def written(folder: Path, checkpoint: Checkpoint) -> Path:
    shutil.copy(checkpoint.folder / "model.safetensors", folder)
    (folder / "config.json").write_text(hub_config_text(checkpoint, num_features=64))
    return folder


@pytest.mark.parametrize("args", [{"act_layer": "silu"}, {"no_such": 1}])
def test_what_timm_answers_differently_is_refused(checkpoint: Checkpoint, tmp_path: Path, args: dict[str, Any]):
    folder = written(tmp_path, checkpoint)
    own = checkpoint.load_model()
    assert compare_with_timm(folder, checkpoint, own, paths=(), on_image=lambda num_images: None).max_logit_difference == 0
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_args": args}))
    with pytest.raises(HubError, match="nothing is pushed"):
        compare_with_timm(folder, checkpoint, own, paths=(), on_image=lambda num_images: None)


@pytest.mark.parametrize(
    ("fit", "crops", "expected"),
    [("squash", "center", (1.0, "squash")), ("crop", "center", (0.875, "center")), ("squash", "five", (0.875, "squash"))],
)
def test_what_timm_is_told_of_the_input(checkpoint: Checkpoint, fit: str, crops: str, expected: tuple[float, str]):
    preprocessing = Preprocessing(image_size_px=32, fit=fit, crops=crops, interpolation="bilinear")
    config = json.loads(hub_config_text(replace(checkpoint, preprocessing=preprocessing), num_features=64))["pretrained_cfg"]
    assert (config["crop_pct"], config["crop_mode"], config["interpolation"]) == (*expected, "bilinear")


def test_a_backbone_of_fixed_size_gets_its_size(checkpoint: Checkpoint):
    vit = replace(checkpoint, backbone="test_vit.r160_in1k", preprocessing=Preprocessing(image_size_px=96))
    config = json.loads(hub_config_text(vit, num_features=64))
    assert (config["architecture"], config["model_args"]) == ("test_vit", {"img_size": 96})
    assert (config["pretrained_cfg"]["fixed_input_size"], config["pretrained_cfg"]["tag"]) == (True, "r160_in1k")


# ---- with an export


def test_an_export_goes_along_and_the_next_push_without_one_removes_it(hub: Any, run: Path, exported: Exported):
    push_model(run, TO, export=exported.folder)
    own = {path.relative_to(exported.folder).as_posix() for path in exported.folder.rglob("*") if path.is_file()}
    assert {name.removeprefix("export/") for name in hub.repos[REPO].files if name.startswith("export/")} == own
    read = read_model(f"{TO}/export")
    assert isinstance(read, Exported)
    assert (read.id, read.thresholds) == (exported.id, exported.thresholds)
    assert {file.checked.of for file in read.files.values()} == {"x.csv"}
    assert all(read.file(name) == exported.file(name) for name in ("pixels.onnx", "image.onnx"))
    push_model(run, TO)
    assert not any(name.startswith("export/") for name in hub.repos[REPO].files)
    assert len(hub.repos[REPO].commits) == 3


def test_an_export_of_another_model_is_refused(hub: Any, checkpoint: Checkpoint, exported: Exported):
    with pytest.raises(ExportError, match="of another model"):
        push_model(checkpoint, TO, export=exported.folder)
    assert REPO not in hub.repos


# ---- again, and by others


def test_the_same_again_makes_no_commit_and_the_license_stays(hub: Any, run: Path):
    first = push_model(run, TO, license="cc-by-4.0")
    second = push_model(run, TO)
    assert (second.is_same, second.is_new, second.license) == (True, False, "cc-by-4.0")
    assert len(hub.repos[REPO].commits) == 2
    assert first.license == card_of(hub)[0]["license"] == "cc-by-4.0"


@pytest.mark.parametrize(
    "card", [b"no front matter", b"---\n[1, 2\n---\n", b"---\nlicense: [a]\n---\n", b"\xff\xfe", b"---\n- a\n---\n"]
)
def test_a_card_that_says_nothing_of_use(hub: Any, run: Path, card: bytes):
    hub.add(REPO, {"README.md": card, "notes.txt": b"mine"})
    assert push_model(run, TO).license == ""
    assert hub.repos[REPO].files["notes.txt"] == b"mine"


def test_two_pushes_at_once_do_not_mix(hub: Any, run: Path):
    hub.add(REPO, {"README.md": b"old"})

    def meanwhile(num_images: int) -> None:
        if len(hub.repos[REPO].commits) == 2:
            hub.add(REPO, {"README.md": b"theirs"})

    with pytest.raises(HubError, match="HTTP 412") as caught:
        push_model(run, TO, on_image=meanwhile)
    assert "do it again" in caught.value.next_step
    assert set(hub.repos[REPO].files) == {".gitattributes", "README.md"}


def test_private_and_public(hub: Any, run: Path):
    push_model(run, TO, private=True)
    assert hub.repos[REPO].private
    push_model(run, TO)
    assert hub.repos[REPO].private, "a push changes nothing of that"
    hub.add("ann/open", {})
    with pytest.raises(HubError, match="the repository is public"):
        push_model(run, "hf://ann/open", private=True)
    assert len(hub.repos["ann/open"].commits) == 2


# ---- what goes wrong


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize(
    ("fault", "what", "word"),
    [
        ("GET /api/models/.*", 503, "a hub that works"),
        ("POST /api/repos/create", 403, "role write"),
        ("POST /api/repos/create", 429, "wait some minutes"),
        ("POST .*preupload.*", 401, "hf auth login"),
        ("PUT .*", 503, "a hub that works"),
        ("POST .*commit.*", 403, "role write"),
        ("POST .*commit.*", 409, "do it again"),
        ("POST .*commit.*", "cut", "check the network"),
    ],
)
def test_a_fault_leaves_nothing_half_pushed(hub: Any, checkpoint: Checkpoint, fault: str, what: int | str, word: str):
    hub.faults[fault] = what
    hub.said = f"sent: {os.environ['HF_TOKEN']}"
    with pytest.raises(HubError) as caught:
        push_model(checkpoint, TO)
    assert word in str(caught.value)
    assert os.environ["HF_TOKEN"] not in str(caught.value)
    assert REPO not in hub.repos or len(hub.repos[REPO].commits) == 1
    if what == "cut":
        hub.faults.clear()
        push_model(checkpoint, TO)
        assert set(hub.repos[REPO].files) - {".gitattributes"} == NAMES


def test_who_may_not_is_told_before_anything_is_compared(hub: Any, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch):
    def never(num_images: int) -> None:
        raise AssertionError

    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match="no account of the hub is known here"):
        push_model(checkpoint, TO, on_image=never)
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match="the hub cannot be reached"):
        push_model(checkpoint, TO, on_image=never)


@pytest.mark.parametrize("to", ["ann/small", "hf://ann", "hf://ann/small/export", f"hf://ann/small@{'0' * 40}", "https://x/y"])
def test_what_is_no_place(checkpoint: Checkpoint, to: str):
    with pytest.raises((UsageError, HubError), match=r"no place on the hub|no address of a model"):
        push_model(checkpoint, to)
    with pytest.raises(UsageError, match="not the name of a license"):
        push_model(checkpoint, TO, license="mine: {all}")


def test_a_branch_that_is_not_there(hub: Any, checkpoint: Checkpoint):
    hub.add(REPO, {})
    with pytest.raises(HubError, match="behind the @"):
        push_model(checkpoint, f"{TO}@next")


def test_the_command(hub: Any, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "argv", ["polytag", "push", str(run), TO, "--license", "apache-2.0"])
    with pytest.raises(SystemExit) as caught:
        main()
    printed = capsys.readouterr()
    assert caught.value.code == 0
    assert f"{hub.url}/{REPO}/commit/{hub.repos[REPO].head}" in printed.out
    assert f"polytag predict {TO} IMAGE..." in printed.out
    assert os.environ["HF_TOKEN"] not in printed.out + printed.err
    assert printed.err == ""
