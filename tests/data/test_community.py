"""Files that other tools wrote, of the same 100 images, against the truth; benchmarks/community.py has them all."""

import json
from pathlib import Path

import pytest

from polytag.contracts import ABSENT, PRESENT
from polytag.data.load import load_dataset
from polytag.errors import DataError

COMMUNITY = Path(__file__).parents[2] / "../shared/cases/community"
NO_SPLIT = "no split"
READ = {  # layout: what is left of the split
    "camera-traps": NO_SPLIT, "coco": "", "dm-coco": "", "dm-coco_labels": "", "dm-imagenet": NO_SPLIT, "dm-voc": "",
    "dm-voc_classification": "", "fo-coco": NO_SPLIT, "fo-kitti": NO_SPLIT, "fo-voc": NO_SPLIT, "fo-yolov5": NO_SPLIT,
    "imagefolder-tv": "", "kitti": NO_SPLIT, "kwcoco-box": "", "kwcoco-image": "", "lvis": "", "pylabel-yolo": NO_SPLIT,
    "sv-coco": "", "sv-voc": "", "sv-yolo": "",
}  # fmt: skip
PARTS = {"imagefolder-tv": 93, "pylabel-yolo": 56}  # layouts that cannot hold images without a label, or one split
REFUSED = {
    "dm-kitti": "no KITTI label files", "dm-yolo": "no label file names an object",
    "dm-yolo_ultralytics": "no label file names an object",
}  # fmt: skip


@pytest.fixture(scope="module")
def truth() -> dict[str, dict[str, object]]:
    """id -> split and labels; skips where this checkout has none."""
    if not COMMUNITY.is_dir():
        pytest.skip(f"no files of other tools at {COMMUNITY}")
    return {row["id"]: row for row in json.loads((COMMUNITY / "truth.json").read_text())["rows"]}


@pytest.mark.parametrize("layout", READ)
def test_what_a_tool_wrote_is_read_as_the_truth_says(layout, truth):
    dataset = load_dataset(COMMUNITY / layout)
    assert len(dataset) == PARTS.get(layout, 100)
    for path, split, target_C in zip(dataset.paths, dataset.split_N, dataset.target_NC.tolist(), strict=True):
        row = truth[path.stem]
        names = {
            target: {name for name, each in zip(dataset.label_set, target_C, strict=True) if each == target} for target in (1, 0)
        }
        assert names[PRESENT] == set(row["labels"])
        assert names[ABSENT].isdisjoint(row["labels"])
        assert split == ("" if READ[layout] == NO_SPLIT else row["split"])
    assert dataset.label_set.names == tuple(sorted(dataset.label_set.names)) or layout.startswith("pylabel")


@pytest.mark.parametrize("layout", REFUSED)
def test_what_a_tool_lost_is_refused_with_a_way_out(layout, truth):
    with pytest.raises(DataError, match=REFUSED[layout]) as error:
        load_dataset(COMMUNITY / layout)
    assert "export labels of whole images as another format" in error.value.next_step
