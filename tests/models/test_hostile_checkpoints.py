"""A checkpoint from a stranger: whatever its files hold, it is read, or one CheckpointError; nothing is run, written or fetched."""

import contextlib
import hashlib
import json
import os
import re
import resource
import struct
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes

from polytag.contracts import LabelSet, Preprocessing
from polytag.errors import CheckpointError
from polytag.inference.predict import predict
from polytag.models.backbone import build_model
from polytag.models.backbone_args import BACKBONE_ARGS
from polytag.models.checkpoint import Checkpoint, save_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint; tests write their variants beside it."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("whole") / "best"
    save_checkpoint(
        folder,
        tensors=build_model("test_resnet", num_classes=2).state_dict(),
        backbone="test_resnet",
        backbone_args={},
        preprocessing=Preprocessing(image_size_px=32),
        label_set=LabelSet(names=("a", "b")),
        thresholds=(0.5, 0.5),
        facts={"recipe": "test", "val_map": None},
        card=lambda checkpoint_id: "",
    )
    return folder


@pytest.fixture
def variant(whole: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "gift"
    folder.mkdir()
    for path in whole.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def loaded(folder: Path) -> torch.nn.Module:
    return Checkpoint.read(folder).load_model()


def refused(folder: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as error:
        loaded(folder)
    assert len(str(error.value)) < 2000 + 3 * len(str(folder))
    return error.value


def edit(folder: Path, place: str, value: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    *way, last = place.split("/")
    at = config
    for key in way:
        at = at[key]
    at[last] = value
    (folder / "config.json").write_text(json.dumps(config))


DEEP: Any = []
for _ in range(500):
    DEEP = [DEEP]
ADDRESS = "http://127.0.0.1:9/x"
# fmt: off
VARIANTS: list[tuple[str, object]] = [
    *(("version", value) for value in (None, True, 1.0, "1", 10**30, -1, [1], 2)),
    *(("head", value) for value in (None, 5, "", "auto", "concat-pool", "os.system", ["linear"], "a" * 100_000, "\ud800")),
    *(
        ("backbone", value)
        for value in (
            None, 5, True, "", "no_such_model", "hf-hub:timm/resnet18", "local-dir:/tmp", "timm/resnet18", "../resnet18",
            "resnet18\n",
            "test_resnet.no_such_tag", "a" * 100_000, "resnet18:latest", "C:\\x", ["resnet18"], "\ud800", ADDRESS,
        )
    ),
    *(
        ("backbone_args", value)
        for value in (
            None, "abc", [], 5,
            {"pretrained": True}, {"pretrained_cfg": {"url": ADDRESS}}, {"pretrained_cfg": "a1_in1k"}, {"checkpoint_path": "x.pth"},
            {"pretrained_cfg_overlay": {"file": "x.pth"}}, {"cache_dir": "/tmp"}, {"features_only": True}, {"out_indices": [0]},
            {"pretrained_strict": False}, {"pretrained_filter_fn": "x"}, {"feature_cfg": {}}, {"pruned": True}, {"device": "meta"},
            {"dtype": "float16"}, {"scriptable": True}, {"num_classes": 3}, {"in_chans": 1}, {"model_name": "x"}, {"": 1},
            {"kwargs": {}}, {"block_args": []}, {"pretrained_model_args": {}}, {"use_naflex": True},
            {"drop_rate": "x"}, {"drop_rate": float("nan")}, {"drop_rate": -1}, {"drop_rate": 2}, {"drop_rate": True},
            {"drop_rate": [0.1]}, {"drop_rate": None}, {"act_layer": "x"}, {"act_layer": "a" * 5000}, {"act_layer": "os.system"},
            {"act_layer": ["relu"]}, {"global_pool": "x"}, {"global_pool": 7}, {"norm_layer": "eval('1')"}, {"aa_layer": "x"},
            {"layers": [10**9] * 4}, {"layers": [200] * 4}, {"layers": []}, {"layers": [1] * 1000}, {"layers": [[1], [1]]},
            {"layers": [True] * 4}, {"layers": "2222"}, {"layers": DEEP}, {"channels": [8192] * 4}, {"channels": [0] * 4},
            {"channels": [-1] * 4}, {"stem_width": 10**400}, {"stem_width": 1.5}, {"stem_width": 8192}, {"output_stride": 0},
            {"output_stride": 7}, {"cardinality": 8192}, {"cardinality": 0}, {"embed_dim": 8}, {"img_size": 32}, {"drop_rate": {}},
            {"base_width": 0}, {"down_kernel_size": -1}, {"block_reduce_first": 0}, {"replace_stem_pool": 1}, {"avg_down": "no"},
        )
    ),
    *(("preprocessing", value) for value in (None, [], "squash", DEEP)),
    *(("preprocessing/image_size_px", value) for value in (None, 32.5, True, "32", 0, -32, 7, 4097, 10**9, 10**400, float("inf"))),
    *(
        (f"preprocessing/{name}", value)
        for name in ("mean", "std")
        for value in (
            None, 0.5, [], [0.5], [0.5] * 4, [0.5, 0.5, None], [float("nan")] * 3, [float("inf")] * 3, [-1, 0, 0], [10**400] * 3,
            [True] * 3, ["a"] * 3, [[0.5]] * 3, [1e300] * 3,
        )
    ),
    ("preprocessing/std", [0, 0, 0]),
    ("preprocessing/std", [1e-300] * 3),
    *((f"preprocessing/{name}", value) for name in ("fit", "interpolation", "crops") for value in (None, 1, "x", ["squash"], "")),
    *(("preprocessing/crop_fraction", value) for value in (None, 0, 2, -1, "0.9", True, float("nan"), [0.9])),
    ("preprocessing/surplus", 1),
    *(
        ("classes", value)
        for value in (
            None, [], "ab", {}, [1, 2], ["a"], ["a", "b", "c"], ["a", "a"], ["a", ""], ["a", " "], ["a", None], ["a", ["b"]],
            ["a", "b" * 100_000], ["a", "\ud800"], {"a": 0, "b": 1}, [f"class {number}" for number in range(100_000)],
        )
    ),
    *(
        ("thresholds", value)
        for value in (
            None, 0.5, [], [0.5], [0.5] * 3, [0.5, None], [0.5, "0.5"], [0.5, True], [0.5, -0.1], [0.5, 1.1], [10**400] * 2,
            [float("nan")] * 2, {"a": 0.5, "b": 0.5}, [[0.5], [0.5]],
        )
    ),
    *(
        ("calibration", value)
        for value in (
            5, [], {}, "platt", {"method": "platt"}, {"method": "platt", "id": "0" * 16, "maps": [], "thresholds": [0.5, 0.5]},
            {"method": 1, "id": "", "maps": None, "thresholds": [0.5, 0.5]},
            {"method": "platt", "id": "", "maps": [{"kind": "platt", "slope": float("nan")}] * 2, "thresholds": [0.5, 0.5]},
            {"method": "platt", "id": "", "maps": [{"kind": "platt", "slope": 10**400}] * 2, "thresholds": [0.5, 0.5]},
            {"method": "platt", "id": "", "maps": [{"kind": "platt", "slope": -1}] * 2, "thresholds": [0.5, 0.5]},
            {"method": "platt", "id": "", "maps": [{"kind": "platt", "slope": 1, "logit": "ab"}] * 2, "thresholds": [0.5, 0.5]},
            {"method": "platt", "id": "", "maps": [["kind"]] * 2, "thresholds": [0.5, 0.5]},
        )
    ),
    *(("weights_sha256", value) for value in (None, "", 5, "z" * 64, "A" * 64, "0" * 63, "0" * 64, ["0"], "0" * 10**6)),
    *(
        ("facts", value)
        for value in (
            None, [], "x", {"a": {}}, {"a": DEEP}, {"a": "x" * 10**5}, {"a": float("nan")}, {"a": 10**400},
            {str(number): 1 for number in range(1000)}, {"\ud800": 1},
        )
    ),
    ("surplus", 1),
]
# fmt: on


@pytest.mark.parametrize(("place", "value"), VARIANTS, ids=[f"{number}-{place}" for number, (place, _) in enumerate(VARIANTS)])
def test_every_wrong_value_of_config_json_is_one_clear_error(variant: Path, place: str, value: object):
    edit(variant, place, value)
    error = refused(variant)
    assert error.where.startswith(str(variant))
    assert error.expected


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "{", "[]", "null", "1", '"x"', "\x00", "[" * 100_000, '{"a":' * 100_000, "9" * 5000,
        '{"version": ' + "9" * 5000 + "}",
        '{"version": 1, "version": 1}', "NaN", '{"version": Infinity}', '{"version": 1e999}', '{"version": 1}', "\ufeff{}",
        "[]" * 5,
        "[[],[],[]" + ",[]" * 1_100_000 + "]", " " * 64_000_001, '"' + "\\ud800" + '"', '{"a": "\t"}',
    ],
    ids=range(23),
)  # fmt: skip
def test_a_config_that_is_no_config(variant: Path, text: str):
    (variant / "config.json").write_text(text)
    assert refused(variant).what == "config.json is not that of a checkpoint"


@pytest.mark.parametrize("content", [b"\xff\xfe{\x00}\x00", b"\x80", b"PK\3\4", bytes(range(256))])
def test_a_config_that_is_no_text(variant: Path, content: bytes):
    (variant / "config.json").write_bytes(content)
    assert refused(variant).what == "config.json is not that of a checkpoint"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_files_that_are_no_files(variant: Path, name: str):
    (variant / name).unlink()
    os.mkfifo(variant / name)
    refused(variant)
    (variant / name).unlink()
    (variant / name).symlink_to("/dev/zero")
    refused(variant)
    (variant / name).unlink()
    (variant / name).mkdir()
    refused(variant)
    (variant / name).rmdir()
    refused(variant)


# ---- the weights ----


def with_weights(folder: Path, content: bytes) -> None:
    """Weights of another content, whose SHA-256 the configuration states: the checksum holds damage back, and no stranger."""
    (folder / "model.safetensors").write_bytes(content)
    edit(folder, "weights_sha256", hashlib.sha256(content).hexdigest())


def framed(header: str, body: bytes = b"", *, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header.encode()) if length is None else length) + header.encode() + body


ONE_FLOAT = '{"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\0" * 7, b"\0" * 8, framed("{}"), framed("{"), framed("[]"), framed("null"), framed("{}", length=2**63),
        framed("{}", length=2**64 - 1), framed("{}", length=99_999_999), framed(" " * 17_000_000), framed("[" * 100_000),
        framed('{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}', b"\0" * 8),
        framed('{"a": {"dtype": "F32", "shape": [1000000000, 1000000000, 1000000000], "data_offsets": [0, 4]}}', b"\0" * 4),
        framed('{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}', b"\0" * 4),
        framed('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}', b"\0" * 4),
        framed('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 18446744073709551615]}}', b"\0" * 4),
        framed('{"a": {"dtype": "PICKLE", "shape": [1], "data_offsets": [0, 4]}}', b"\0" * 4),
        framed(f'{{"a": {ONE_FLOAT}, "b": {ONE_FLOAT}}}', b"\0" * 4),
        framed('{"a": 5}'), framed('{"__metadata__": {"a": 5}}'), b"PK\3\4" + b"\0" * 100, b"\x80\x02}q\0." * 10,
    ],
    ids=range(23),
)  # fmt: skip
def test_weights_that_are_no_weights(variant: Path, content: bytes):
    with_weights(variant, content)
    refused(variant)


CHANGES: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
    "missing": lambda tensors: tensors.pop("bn1.weight"),
    "extra": lambda tensors: tensors.update(extra=torch.zeros(1)),
    "a name of control characters": lambda tensors: tensors.update({"\x1b]52;c;x\x07": torch.zeros(1)}),
    "another shape": lambda tensors: tensors.update({"bn1.weight": torch.zeros(3)}),
    "transposed": lambda tensors: tensors.update({"fc.weight": tensors["fc.weight"].T.contiguous()}),
    "empty": lambda tensors: tensors.update({"bn1.weight": torch.zeros(0)}),
    "whole numbers": lambda tensors: tensors.update({"bn1.weight": tensors["bn1.weight"].long()}),
    "truth values": lambda tensors: tensors.update({"bn1.weight": tensors["bn1.weight"] > 0}),
    "complex numbers": lambda tensors: tensors.update({"bn1.weight": tensors["bn1.weight"].to(torch.complex64)}),
    "numbers of eight bits": lambda tensors: tensors.update({"bn1.weight": tensors["bn1.weight"].to(torch.float8_e4m3fn)}),
    "a counter of floats": lambda tensors: tensors.update({"bn1.num_batches_tracked": torch.tensor(1.0)}),
    "NaN": lambda tensors: tensors["fc.bias"].fill_(float("nan")),
    "infinity": lambda tensors: tensors["fc.bias"].fill_(float("inf")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_weights_that_do_not_fit(variant: Path, whole: Path, change: Callable[[dict[str, torch.Tensor]], object]):
    tensors = load_file(whole / "model.safetensors")
    change(tensors)
    try:
        content = safetensors_bytes(tensors)
    except KeyError as error:
        pytest.skip(f"this version of safetensors writes no {error}")
    with_weights(variant, content)
    assert str(refused(variant)).replace("\n", "").isprintable()


def test_weights_that_overflow_give_an_error_and_no_scores(variant: Path, whole: Path):
    tensors = load_file(whole / "model.safetensors")
    tensors["fc.weight"].fill_(3e38)
    with_weights(variant, safetensors_bytes(tensors))
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    Image.fromarray(pixels).save(variant / "a.png")
    with pytest.raises(CheckpointError, match="the model gives scores that are not finite"):
        list(predict(variant, variant / "a.png", device="cpu"))


def test_a_network_larger_than_its_weights_takes_no_memory(variant: Path):
    """vit_7b has 6.7 thousand million weights; the gift's file has half a million."""
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    for name, args in (("vit_7b_patch16_dinov3", {}), ("test_resnet", {"channels": [8192] * 4, "layers": [200] * 4})):
        edit(variant, "backbone", name)
        edit(variant, "backbone_args", args)
        assert refused(variant).what == "the weights are not this backbone's"
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 300  # MB
    assert time.monotonic() - started < 60


# ---- what is right stays right ----


def test_the_whole_checkpoint_and_half_precision_are_loaded(variant: Path, whole: Path):
    expected = loaded(whole).state_dict()
    tensors = load_file(whole / "model.safetensors")
    with_weights(variant, safetensors_bytes({k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}))
    for name, value in loaded(variant).state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-2, atol=1e-2)


def test_only_arguments_of_the_architecture_are_permitted():
    forbidden = "pretrained|checkpoint|cache|_dir|(^|_)path$|url|file|hub|cfg|features_only|fn|cls|device|dtype|classes|in_chans"
    assert not [name for name in BACKBONE_ARGS if re.search(forbidden, name)]


def test_the_reference_lists_them_all():
    text = (Path(__file__).parents[2] / "docs" / "reference" / "recipes.md").read_text()
    section = text.partition("### Arguments of a backbone")[2].partition("\n## ")[0]
    listed = [name for line in section.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line)]
    assert sorted(listed) == sorted(BACKBONE_ARGS)


@given(data=st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_mutation_of_config_json_is_read_or_one_error(
    variant: Path, whole: Path, places: Callable[..., Any], data: st.DataObject
):
    """A value anywhere in the file is replaced by anything that JSON can hold; or the text is cut, or bytes of it changed."""
    config = json.loads((whole / "config.json").read_text())
    kind = data.draw(st.sampled_from(("value", "removal", "bytes", "cut")))
    if kind in ("value", "removal"):
        mutated = deepcopy(config)
        at, key = data.draw(st.sampled_from(list(places(mutated))))
        if kind == "value":
            at[key] = data.draw(ANY_JSON)
        else:
            del at[key]
        text = json.dumps(mutated).encode()
    else:
        text = bytearray((whole / "config.json").read_bytes())
        place = data.draw(st.integers(0, len(text) - 1))
        if kind == "cut":
            del text[place:]
        else:
            text[place] = data.draw(st.integers(0, 255))
    (variant / "config.json").write_bytes(text)
    with contextlib.suppress(CheckpointError):
        Checkpoint.read(variant)


ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([10**400, ADDRESS, "test_vit"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


# ---- in a process that is watched ----

BEFORE = """
from polytag.cli.main import main
sys.argv = ["polytag"]
import polytag.inference.predict, polytag.models.checkpoint, polytag.models.backbone, timm, PIL.JpegImagePlugin
"""
PREDICT = """
for gift in {gifts!r}:
    sys.argv = ["polytag", "predict", gift, {image!r}, "--device", "cpu"]
    try:
        main()
    except SystemExit as end:
        print("status", end.code)
"""


def test_predicting_with_a_hostile_checkpoint_connects_to_nothing_and_writes_nothing(
    whole: Path, tmp_path: Path, watched: Callable[..., str]
):
    """Every gift asks timm for an address, a file or a folder in another way; an audit hook sees what Python opens and connects."""
    Image.fromarray(np.full((40, 40, 3), 200, np.uint8)).save(tmp_path / "a.jpg")
    (tmp_path / "evil.pth").write_bytes(b"import os")
    url = f"file://{tmp_path}/evil.pth"
    gifts: list[str] = []
    for number, (backbone, args) in enumerate(
        (
            ("test_resnet", {"pretrained": True, "cache_dir": str(tmp_path / "out"), "pretrained_cfg": {"url": url}}),
            ("test_resnet", {"pretrained": True}),
            ("test_resnet", {"pretrained": True, "pretrained_cfg_overlay": {"url": ADDRESS}}),
            ("test_resnet", {"checkpoint_path": str(tmp_path / "evil.pth")}),
            ("hf-hub:timm/test_resnet", {}),
            (f"local-dir:{tmp_path}", {}),
            (ADDRESS, {}),
            ("test_resnet", {}),
        )
    ):
        folder = tmp_path / f"gift{number}"
        folder.mkdir()
        for path in whole.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        edit(folder, "backbone", backbone)
        edit(folder, "backbone_args", args)
        gifts.append(str(folder))
    printed = watched(BEFORE, PREDICT.format(image=str(tmp_path / "a.jpg"), gifts=gifts), home=tmp_path)
    assert printed.count("status 1") == len(gifts) - 1, printed
    assert printed.splitlines()[-1] == "EVENTS []", printed
    assert not (tmp_path / "out").exists()
