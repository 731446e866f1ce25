"""webdataset's tar shards: each sample an image and a JSON file of the same name."""

import io
import json
import tarfile
from pathlib import Path

from polytag import files
from polytag.contracts import PRESENT, UNKNOWN, Dataset
from polytag.data.formats.shards import UNKNOWN_LABELS
from polytag.data.images.read import suffix_of
from polytag.data.images.stored import open_image
from polytag.data.write.images import image_names, require_images, require_new
from polytag.data.write.limits import USUAL_SPLITS, require_plain_classes, require_splits
from polytag.errors import ImageError

_IMAGES_OF_SHARD = 10_000
_BYTES_OF_SHARD = 1_000_000_000


def write_webdataset(dataset: Dataset, folder: Path) -> Path:
    """Write `<split>-000000.tar` and so on, with KEY.jpg and KEY.json for each image, and `classes.txt` with the classes in order.

    The JSON holds the id, the labels, and the classes that are unknown. Shards have at most 10,000 images and about a gigabyte.
    Raises DataError for splits and classes that are not read back, RunError where the folder is in use or cannot be written.
    """
    require_new(folder)
    require_images(dataset)
    require_splits(
        dataset,
        (USUAL_SPLITS | {""},),
        what="webdataset has no names of shards for these splits",
        expected="train, val and test",
    )
    require_plain_classes(dataset)
    keys = image_names(dataset, without=".")  # a sample's key ends at the first full stop

    def fill(fresh: Path) -> None:
        (fresh / "classes.txt").write_text("".join(f"{name}\n" for name in dataset.label_set), encoding="utf-8", newline="\n")
        for split in dataset.splits:
            rows = [row for row, of_row in enumerate(dataset.split_N) if of_row == split]
            start, number = 0, 0
            while start < len(rows):
                with tarfile.open(fresh / f"{split or 'data'}-{number:06d}.tar", "w", format=tarfile.PAX_FORMAT) as shard:
                    start += _write_shard(shard, dataset, rows[start : start + _IMAGES_OF_SHARD], keys)
                number += 1

    files.write_folder(folder, fill, replace=False)
    return folder


def _write_shard(shard: tarfile.TarFile, dataset: Dataset, rows: list[int], keys: list[str]) -> int:
    """Write samples until the shard is full; returns their number."""
    for number, row in enumerate(rows):
        with open_image(dataset.paths[row]) as file:
            image = file.read()
        _add(shard, keys[row] + _suffix(image, dataset.paths[row]), image)
        _add(shard, f"{keys[row]}.json", json.dumps(_labels(dataset, row), ensure_ascii=False).encode())
        if shard.offset > _BYTES_OF_SHARD:
            return number + 1
    return len(rows)


def _labels(dataset: Dataset, row: int) -> dict[str, object]:
    targets = list(zip(dataset.label_set, dataset.target_NC[row].tolist(), strict=True))
    labels: dict[str, object] = {"id": dataset.ids[row], "labels": [name for name, target in targets if target == PRESENT]}
    unknown = [name for name, target in targets if target == UNKNOWN]
    return labels | ({UNKNOWN_LABELS: unknown} if unknown else {})


def _suffix(image: bytes, path: Path) -> str:
    try:
        return suffix_of(image)
    except ImageError:  # what cannot be decoded keeps its name, and is told when it is read
        return path.suffix.lower() or ".jpg"


def _add(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    shard.addfile(member, io.BytesIO(content))
