"""COCO JSON with annotations of whole images, and the images; labels that are unknown as LVIS says it."""

import json
from collections.abc import Iterator
from pathlib import Path

from polytag import files
from polytag.contracts import ABSENT, PRESENT, UNKNOWN, Dataset
from polytag.data.images.read import read_frame
from polytag.data.write.images import image_names, place_image, require_images, require_new
from polytag.data.write.limits import USUAL_SPLITS, require_plain_classes, require_splits
from polytag.errors import ImageError

_UNSPLIT = "default"  # as CVAT calls the file of images without a split


def write_coco(dataset: Dataset, folder: Path) -> Path:
    """Write `annotations/instances_<split>.json` and the images in `images/<split>`.

    An annotation has no box: it is a label of the whole image. Where some label is unknown, every image lists the classes that it
    certainly lacks as LVIS's `neg_category_ids`, and a class that it neither has nor lacks is unknown.
    Raises DataError for splits and classes that are not read back, RunError where the folder is in use or cannot be written.
    """
    require_new(folder)
    require_images(dataset)
    require_splits(
        dataset,
        (USUAL_SPLITS, {""}),
        what="COCO has no file for these splits",
        expected="train, val and test; or no split at all",
    )
    require_plain_classes(dataset)
    is_partial = bool((dataset.target_NC == UNKNOWN).any())
    names = image_names(dataset)

    def fill(fresh: Path) -> None:
        (fresh / "annotations").mkdir()
        for split in dataset.splits:
            name = split or _UNSPLIT
            place = fresh / "images" / name
            place.mkdir(parents=True)
            rows = [row for row, of_row in enumerate(dataset.split_N) if of_row == split]
            images = [_image(dataset, row, place_image(dataset.paths[row], place / names[row]), is_partial) for row in rows]
            content = {
                "images": images,
                "annotations": list(_annotations(dataset, rows)),
                "categories": [{"id": c, "name": class_name} for c, class_name in enumerate(dataset.label_set, start=1)],
            }
            path = fresh / "annotations" / f"instances_{name}.json"
            path.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")

    files.write_folder(folder, fill, replace=False)
    return folder


def _image(dataset: Dataset, row: int, path: Path, is_partial: bool) -> dict[str, object]:
    image: dict[str, object] = {"id": row + 1, "file_name": path.name}
    try:
        (width, height), orientation = read_frame(path)
        image["width"], image["height"] = (height, width) if orientation >= 5 else (width, height)
    except ImageError:
        pass  # an image that cannot be read has no size
    if is_partial:
        image["neg_category_ids"] = [c for c, target in enumerate(dataset.target_NC[row].tolist(), start=1) if target == ABSENT]
        image["not_exhaustive_category_ids"] = []
    return image


def _annotations(dataset: Dataset, rows: list[int]) -> Iterator[dict[str, object]]:
    number = 0
    for row in rows:
        for c, target in enumerate(dataset.target_NC[row].tolist(), start=1):
            if target == PRESENT:
                number += 1
                yield {"id": number, "image_id": row + 1, "category_id": c, "iscrowd": 0}
