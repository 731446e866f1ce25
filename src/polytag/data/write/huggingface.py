"""Hugging Face's layouts: imagefolder with its metadata, and Parquet shards with the images inside, as on the Hub."""

import json
import re
from pathlib import Path
from typing import Any

from polytag import files
from polytag.contracts import PRESENT, UNKNOWN, Dataset
from polytag.data.formats.rows import OWN_COLUMNS
from polytag.data.formats.shards import UNKNOWN_LABELS, shard_of
from polytag.data.images.stored import open_image
from polytag.data.write.images import image_names, place_image, require_images, require_new
from polytag.data.write.limits import USUAL_SPLITS, require_plain_classes, require_splits
from polytag.data.write.tables import require_free_names

_NAMES = {"": "data", "val": "validation"}  # of splits, as `datasets` finds them; images without a split are its train
_NO_FILE = re.compile(r'^\.|[\\/:*?"<>|\x00-\x1f]')  # hidden, or not the name of a file on every system
_ROWS_OF_GROUP = 100  # as `datasets` writes data sets of images
_BYTES_OF_SHARD = 500_000_000
_LAYOUT: Any = {  # only lists of labels are compressed: images lie as they are, each one read away
    "compression": dict.fromkeys(("labels.list.element", f"{UNKNOWN_LABELS}.list.element"), "snappy"),
    "use_dictionary": False,
}


def write_imagefolder(dataset: Dataset, folder: Path) -> Path:
    """Write `<split>/metadata.jsonl` beside the images of the split: id, file_name, split, and 1, 0 or null for each class.

    `datasets.load_dataset("imagefolder", data_dir=...)` reads it. Images without a split are in the folder itself. Raises DataError
    for a class that is named like another key, RunError where the folder is in use or cannot be written.
    """
    require_new(folder)
    require_images(dataset)
    require_free_names(dataset)
    require_splits(
        dataset, (USUAL_SPLITS | {""},), what="an imagefolder has no folders for these splits", expected="train, val and test"
    )
    names = image_names(dataset)
    values = {PRESENT: 1, UNKNOWN: None}

    def fill(fresh: Path) -> None:
        for split in dataset.splits:
            place = fresh / _NAMES.get(split, split) if split else fresh
            place.mkdir(parents=True, exist_ok=True)
            with (place / "metadata.jsonl").open("w", encoding="utf-8", newline="\n") as file:
                for row, of_row in enumerate(dataset.split_N):
                    if of_row == split:
                        image = place_image(dataset.paths[row], place / names[row])
                        labels = zip(dataset.label_set, dataset.target_NC[row].tolist(), strict=True)
                        own = dict(zip(OWN_COLUMNS, (dataset.ids[row], image.name, split), strict=True))
                        line = own | {name: values.get(target, 0) for name, target in labels}
                        file.write(json.dumps(line, ensure_ascii=False) + "\n")

    files.write_folder(folder, fill, replace=False)
    return folder


def write_hf_parquet(dataset: Dataset, folder: Path) -> Path:
    """Write `data/<split>-00000-of-00001.parquet` with the bytes of every image, and labels as a sequence of ClassLabel.

    `datasets.load_dataset("parquet", ...)` and the Hub show images and names. Where some label is unknown, a second sequence,
    `unknown_labels`, names the classes that are. Images keep their files' bytes, uncompressed, and their ids as `path`.
    Raises DataError for splits and classes that are not read back, RunError where the folder is in use or cannot be written.
    """
    import pyarrow as pa  # takes 0.1 s, which other formats avoid
    import pyarrow.parquet as pq

    require_new(folder)
    require_images(dataset)
    named = {split for split in dataset.splits if not _NO_FILE.search(split)}
    require_splits(
        dataset,
        ({split for split in named if shard_of(Path(_shard_name(split, 0, 1))).split == split},),
        what="no shards can be named after these splits",
        expected="names of files, other than 'data' and 'shard'",
    )
    require_plain_classes(dataset)
    schema = _schema(pa, dataset)

    def fill(fresh: Path) -> None:
        (fresh / "data").mkdir()
        for split in dataset.splits:
            rows = [row for row, of_row in enumerate(dataset.split_N) if of_row == split]
            shards = _shards(dataset, rows)
            for number, shard in enumerate(shards):
                path = fresh / "data" / _shard_name(split, number, len(shards))
                with pq.ParquetWriter(path, schema, **_LAYOUT) as writer:
                    for start in range(0, len(shard), _ROWS_OF_GROUP):
                        rows_of_group = shard[start : start + _ROWS_OF_GROUP]
                        columns = {name: [_cell(dataset, row, name) for row in rows_of_group] for name in schema.names}
                        writer.write_table(pa.table(columns, schema=schema))

    files.write_folder(folder, fill, replace=False)
    return folder


def _shard_name(split: str, number: int, count: int) -> str:
    return f"{_NAMES.get(split, split)}-{number:05d}-of-{count:05d}.parquet"


def _schema(pa: Any, dataset: Dataset) -> Any:
    """Arrow's schema with the features that `datasets` finds in its metadata."""
    labels = {"feature": {"names": list(dataset.label_set), "_type": "ClassLabel"}, "_type": "Sequence"}
    features: dict[str, object] = {"id": {"dtype": "string", "_type": "Value"}, "image": {"_type": "Image"}, "labels": labels}
    fields = [
        pa.field("id", pa.string()),
        pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        pa.field("labels", pa.list_(pa.int64())),
    ]
    if (dataset.target_NC == UNKNOWN).any():
        features[UNKNOWN_LABELS] = labels
        fields.append(pa.field(UNKNOWN_LABELS, pa.list_(pa.int64())))
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def _cell(dataset: Dataset, row: int, name: str) -> object:
    if name == "id":
        return dataset.ids[row]
    if name == "image":
        with open_image(dataset.paths[row]) as file:
            return {"bytes": file.read(), "path": dataset.ids[row]}
    value = PRESENT if name == "labels" else UNKNOWN
    return (dataset.target_NC[row] == value).nonzero()[0].tolist()


def _shards(dataset: Dataset, rows: list[int]) -> list[list[int]]:
    """The rows of each shard: of about half a gigabyte of images."""
    shards: list[list[int]] = [[]]
    num_bytes = 0
    for row in rows:
        with open_image(dataset.paths[row]) as file:
            size = file.seek(0, 2)
        if shards[-1] and num_bytes + size > _BYTES_OF_SHARD:
            shards.append([])
            num_bytes = 0
        shards[-1].append(row)
        num_bytes += size
    return shards
