"""A run folder from a stranger: its args.yaml and results.csv are read, or are one RunError; nothing else happens."""

import csv
import io
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polytag.data.read_options import ReadOptions
from polytag.errors import CheckpointError, PolytagError, RunError
from polytag.runs.args import RunArgs, read_run_args, write_args
from polytag.runs.folder import RunFolder
from polytag.runs.history import COLUMNS, read_history, write_history
from polytag.runs.recipe import FINETUNE

ADDRESS = "http://127.0.0.1:9/x"


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(path=tmp_path)
    write_args(folder, RunArgs(data=tmp_path / "data", options=ReadOptions(), recipe=FINETUNE))
    return folder


def refused(run: RunFolder) -> str:
    with pytest.raises(RunError) as error:
        read_run_args(run)
    assert error.value.what == "args.yaml cannot be read"
    assert error.value.where.startswith(str(run.args))
    assert error.value.expected
    assert len(str(error.value)) < 2000 + 3 * len(str(run.args))
    return str(error.value)


def edit(run: RunFolder, place: str, value: object) -> None:
    values = yaml.safe_load(run.args.read_text())
    *way, last = place.split("/")
    at = values
    for key in way:
        at = at[key]
    at[last] = value
    run.args.write_text(yaml.safe_dump(values))


# fmt: off
VARIANTS: list[tuple[str, object]] = [
    *(("data", value) for value in (None, 5, [], {}, "a" * 5000, True)),
    *(("relative", value) for value in (None, 5, [], {"x": 5}, {5: "x"})), ("dataset", None), ("dataset", 5),
    *(("reading", value) for value in (None, [], "csv", {"command": "rm"}, {"format": "pickle"}, {"image_dirs": "x"},
        {"image_dirs": [5]},
        {"min_box_area_px": float("nan")}, {"min_box_area_px": -1}, {"min_box_area_px": "1"}, {"separator": ""},
        {"class_columns": {}})),
    *(("recipe", value) for value in (None, [], {}, "finetune", {"name": 5}, {"name": "x", "command": "rm -rf"})),
    *(("recipe/backbone", value) for value in (None, 5, "hf-hub:x/y", "local-dir:/x", "a/b", ADDRESS, "", ["resnet18"])),
    *(("recipe/backbone_args", value) for value in (
        None, [], "x", {"pretrained": True}, {"pretrained_cfg": {"url": ADDRESS}}, {"checkpoint_path": "x.pth"},
        {"cache_dir": "/tmp"},
        {"features_only": True}, {"drop_rate": float("nan")}, {"drop_rate": 5}, {5: 5}, {"layers": [10**9]},
        {"act_layer": "os.system"},
        {"layers": [[1]]},
    )),
    *(("recipe/weights", value) for value in (None, 5, ["random"], "a" * 5000)),
    *(("recipe/image_size_px", value) for value in (0, -1, 10**9, 32.5, True, "32", float("inf"))),
    *((f"recipe/{name}", value) for name in ("mean", "std") for value in (0.5, [], [0.5], [float("nan")] * 3, ["a"] * 3,
        [-1] * 3, "abc")),
    ("recipe/std", [0, 0, 0]),
    *((f"recipe/{name}", value) for name in ("fit", "interpolation", "crops", "augment", "loss", "class_weights", "head_start",
        "optimizer", "schedule", "difficult", "cache") for value in (None, 5, "x", [])),
    *((f"recipe/{name}", value) for name in ("epochs", "batch_size", "seed") for value in (None, -1, 1.5, True, "3", 10**30,
        float("nan"))),
    *((f"recipe/{name}", value) for name in ("weight_decay", "warmup_epochs", "ema_decay", "save_every_minutes")
        for value in (None, -1, "x", True, float("nan"), float("inf"), 10**400)),
    *((f"recipe/{name}", value) for name in ("head_lr", "backbone_lr")
        for value in (-1, "x", True, float("nan"), float("inf"), 10**400)),
    ("surplus", 1),
]
TEXTS = (
    "", "x", "[]", "5", "\x00", "a: [", "data: 2020-99-99", "data: " + "9" * 5000, "[" * 100_000, "{a: " * 20_000, "- " * 100_000,
    "data: !!python/object/apply:os.system [id]", "a: &a [*a]", "a: 1\na: 2", "<<: {data: x}", "? [a]\n: b", "%YAML 3.0\n---\n",
        "\t",
    "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)),
    "a: " + "b" * 600_000, "--- a\n--- b\n", "data: !!binary aGk=", "data: !!timestamp 2020-99-99", "data: 0x" + "f" * 5000,
    "data: " + "1:" * 3000 + "1", "data: .nan", "data: ~", "'", '"\\x', "data: !!int ''", "!!map x",
)
# fmt: on


@pytest.mark.parametrize(("place", "value"), VARIANTS, ids=[f"{number}-{place}" for number, (place, _) in enumerate(VARIANTS)])
def test_every_wrong_value_of_args_yaml_is_one_clear_error(run: RunFolder, place: str, value: object):
    edit(run, place, value)
    refused(run)


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_an_args_yaml_of_something_else(run: RunFolder, text: str):
    run.args.write_text(text)
    refused(run)


def test_bytes_that_are_no_text(run: RunFolder):
    run.args.write_bytes(b"data: \xff\n")
    assert "bytes that are not UTF-8" in refused(run)


def test_what_was_written_is_read(run: RunFolder):
    args = read_run_args(run)
    merged = ReadOptions(settings="none")  # the options of polytag.yaml are in these already
    assert (args.recipe, args.options, args.data) == (FINETUNE, merged, run.path / "data")


def test_a_resume_downloads_nothing(run: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Pretrained weights that args.yaml names, and that are not on this machine: no address is asked."""
    import socket

    from huggingface_hub import constants

    from polytag.models.backbone import build_model

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(socket, "create_connection", None)
    monkeypatch.setattr(socket, "getaddrinfo", None)
    with pytest.raises(CheckpointError, match="the pretrained weights of resnet18 are not in the hub's cache"):
        build_model("resnet18", num_classes=2, weights="pretrained", may_download=False)


def test_weights_in_the_hubs_cache_are_read_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    import socket

    import timm
    import torch
    from huggingface_hub import constants
    from safetensors.torch import save_file

    from polytag.models.backbone import build_model

    config = timm.get_pretrained_cfg("test_resnet")
    folder = tmp_path / f"models--{config.hf_hub_id.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    tensors = timm.create_model("test_resnet").state_dict()
    save_file({name: value.contiguous() for name, value in tensors.items()}, snapshot / "model.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket, "create_connection", None)
    monkeypatch.setattr(socket, "getaddrinfo", None)
    for may_download in (True, False):
        model = build_model("test_resnet", num_classes=2, weights="pretrained", may_download=may_download)
        assert torch.equal(model.state_dict()["conv1.0.weight"], tensors["conv1.0.weight"])


# ---- results.csv ----

ROW = dict.fromkeys(COLUMNS, 1.0)


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "epoch,val_map\n1,x\n", "\x00", ",".join(COLUMNS) + "\n1", ",".join(COLUMNS) + "\n" + "x," * 8 + "x",
        *(",".join(COLUMNS) + "\n" + ",".join([cell, *["1"] * 8]) for cell in ("", "nan", "inf", "1.5", "-1", "1e9", "9" * 400,
        "1_0x")),
        *(",".join(COLUMNS) + "\n" + ",".join(["1", cell, *["1"] * 7]) for cell in ("nan", "inf", "-inf", "1e999", "true", "1 2",
        "=1+1")),
        ",".join(COLUMNS) + "\n" + ",".join(["1"] * 10), ",".join(reversed(COLUMNS)) + "\n", '"', '"a"b',
        ",".join(COLUMNS) + '\n"1',
        ",".join(COLUMNS) + "\n\n1", ",".join(COLUMNS) + "\n" + "1" * 200_000, ";".join(COLUMNS), "x" * 20_000_001,
    ],
    ids=range(30),
)  # fmt: skip
def test_a_results_csv_of_something_else(run: RunFolder, text: str):
    run.results.write_text(text)
    with pytest.raises(RunError, match=r"^results\.csv cannot be read") as error:
        read_history(run)
    assert len(str(error.value)) < 2000 + 3 * len(str(run.results))


def test_the_history_that_was_written_is_read(run: RunFolder):
    write_history(run, [ROW, ROW | {"epoch": 2.0, "train_map": float("nan")}])
    first, second = read_history(run)
    assert (first, second["epoch"], second["train_map"] != second["train_map"]) == (ROW, 2.0, True)


# ---- anything ----

ANY_YAML = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from([10**400, ADDRESS]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def mutated_bytes(content: bytes, data: st.DataObject) -> bytes:
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(changed) - 1))
        match data.draw(st.sampled_from(("cut", "byte", "insert", "repeat"))):
            case "cut":
                del changed[max(1, place) :]
            case "byte":
                changed[place] = data.draw(st.integers(0, 255))
            case "insert":
                changed[place:place] = data.draw(
                    st.sampled_from([b"[", b"{", b": ", b"- ", b"&a ", b"*a", b"!!int ", b"\n", b'"', b","])
                )
            case _:
                changed[place:place] = changed[place : place + 9] * 20
    return bytes(changed)


@given(data=st.data())
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_mutation_of_args_yaml_is_read_or_one_error(run: RunFolder, places: Callable[..., Any], data: st.DataObject):
    write_args(run, RunArgs(data=run.path / "data", options=ReadOptions(), recipe=FINETUNE))
    if data.draw(st.booleans()):
        values = deepcopy(yaml.safe_load(run.args.read_text()))
        at, key = data.draw(st.sampled_from(list(places(values))))
        at[key] = data.draw(ANY_YAML)
        run.args.write_text(yaml.safe_dump(values), errors="surrogatepass")
    else:
        run.args.write_bytes(mutated_bytes(run.args.read_bytes(), data))
    try:
        args = read_run_args(run)
    except RunError:
        return
    assert isinstance(args.recipe.epochs, int)


@given(data=st.data())
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_mutation_of_results_csv_is_read_or_one_error(run: RunFolder, data: st.DataObject):
    write_history(run, [ROW, ROW])
    run.results.write_bytes(mutated_bytes(run.results.read_bytes(), data))
    try:
        rows = read_history(run)
    except PolytagError:
        return
    assert all(set(row) == set(COLUMNS) for row in rows)
    text = io.StringIO()
    csv.writer(text).writerows([row.values() for row in rows])
