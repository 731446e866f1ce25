"""A run folder from a stranger in the inspector: its pages open or say what is wrong, and nothing is run, written or fetched."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from polytag.inspector.inspection import Inspection

ADDRESS = "http://127.0.0.1:9/x"
BEFORE = """
from starlette.testclient import TestClient
from polytag.data.read_options import ReadOptions
from polytag.errors import PolytagError
from polytag.inspector.app import create_app
from polytag.inspector.open import OpenOptions, open_inspection
from pathlib import Path

def look(run):
    try:
        inspection = open_inspection(Path(run), OpenOptions(), options=ReadOptions(), note=lambda text: None,
                                     on_progress=lambda number: None)
        app = create_app(inspection)
    except PolytagError as error:
        print(run, "refused:", error.what)
        return
    name = inspection.predictions.label_set.names[0]
    with TestClient(app, base_url="http://127.0.0.1") as client:
        targets = ("/", "/images/0", "/predict", "/review", f"/api/images/0/heat?class={{name}}", "/api/images/0/nearest")
        print(run, *(client.get(target).status_code for target in targets))

look({whole!r})
"""


def gift(run: Path, folder: Path, *, config: dict[str, object] | None = None, recipe: dict[str, object] | None = None) -> Path:
    """A copy of a run, with other values in best/config.json and args.yaml."""
    shutil.copytree(run, folder)
    path = folder / "best" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | (config or {})))
    values = yaml.safe_load((folder / "args.yaml").read_text())
    values["recipe"] |= recipe or {}
    (folder / "args.yaml").write_text(yaml.safe_dump(values))
    return folder


@pytest.mark.slow
def test_inspecting_a_hostile_run_connects_to_nothing_writes_nothing_and_unpickles_nothing(
    modelled: Inspection, tmp_path: Path, watched: Callable[..., str]
):
    assert modelled.checkpoint is not None
    whole = modelled.checkpoint.parent
    evil = tmp_path / "evil.pth"
    evil.write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    url = f"file://{evil}"
    asked: list[dict[str, object]] = [
        {"backbone_args": {"pretrained": True, "cache_dir": str(tmp_path / "out"), "pretrained_cfg": {"url": url}}},
        {"backbone_args": {"pretrained": True, "pretrained_cfg_overlay": {"url": ADDRESS}}},
        {"backbone_args": {"checkpoint_path": str(evil)}},
        {"backbone": "hf-hub:timm/test_resnet"},
        {"backbone": f"local-dir:{tmp_path}"},
    ]
    gifts = [gift(whole, tmp_path / f"config{number}", config=values) for number, values in enumerate(asked)]
    gifts += [gift(whole, tmp_path / f"args{number}", recipe=asked[number]) for number in (0, 4)]
    gifts.append(gift(whole, tmp_path / "pickles", recipe={"weights": str(evil)}))
    for name in ("state/state.pt", "best/pytorch_model.bin", "predictions-val.pkl"):
        (gifts[-1] / name).write_bytes(evil.read_bytes())
    mine = tmp_path / "mine"
    mine.write_text("mine")
    gifts.append(gift(whole, tmp_path / "links"))
    for name in ("review.sqlite", "review.sqlite-wal"):
        (gifts[-1] / name).unlink(missing_ok=True)
        (gifts[-1] / name).symlink_to(mine)
    printed = watched(
        BEFORE.format(whole=str(whole)), "".join(f"look({str(each)!r})\n" for each in gifts), home=tmp_path, allowed=[str(whole)]
    )
    lines = printed.splitlines()
    assert lines[0] == f"{whole} 200 200 200 200 200 200"
    assert lines[-1] == "EVENTS []", printed
    assert [line.endswith("200 200 200 200 409 200") for line in lines[1:6]] == [True] * 5, printed  # no heat map of such a model
    assert lines[-2] == f"{gifts[-1]} refused: the review is a link to another place"
    assert len(lines) == len(gifts) + 2, printed
    assert mine.read_text() == "mine"
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "ran").exists()
