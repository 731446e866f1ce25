"""A VOC devkit: lists for each class, and the images."""

from pathlib import Path

from polytag import files
from polytag.contracts import ABSENT, PRESENT, UNKNOWN, Dataset
from polytag.data.write.images import image_names, place_image, require_images, require_new
from polytag.data.write.limits import USUAL_SPLITS, require_plain_classes, require_splits
from polytag.errors import DataError

_VOC_LABELS = {PRESENT: " 1", ABSENT: "-1", UNKNOWN: " 0"}  # two characters wide, as in the devkit
_VOC_SPLITS = (USUAL_SPLITS, {"trainval", "test"}, {""})


def write_voc(dataset: Dataset, folder: Path) -> Path:
    """Write `ImageSets/Main/<class>_<split>.txt` and `JPEGImages`; UNKNOWN becomes 0, which VOC reads as "only difficult".

    Images are hard links where the file system allows, else copies; those inside a file become files. Their names are the ids
    without the characters that a VOC list cannot represent. Data without a split are written as `trainval`.
    Raises as `convert` does.
    """
    require_new(folder)
    _require_voc_names(dataset)
    voc_ids = image_names(dataset)
    require_images(dataset)

    def fill(fresh: Path) -> None:
        main, images = fresh / "ImageSets" / "Main", fresh / "JPEGImages"
        main.mkdir(parents=True)
        images.mkdir()
        for path, voc_id in dict(zip(dataset.paths, voc_ids, strict=True)).items():
            place_image(path, images / voc_id)
        rows = {split or "trainval": [i for i, name in enumerate(dataset.split_N) if name == split] for split in dataset.splits}
        if "train" in rows and "val" in rows:
            rows["trainval"] = sorted({voc_ids[i]: i for i in rows["train"] + rows["val"]}.values())
        for split, indices in rows.items():
            (main / f"{split}.txt").write_text("".join(f"{voc_ids[i]}\n" for i in indices), encoding="utf-8", newline="\n")
            for c, name in enumerate(dataset.label_set):
                lines = (
                    f"{voc_ids[i]} {_VOC_LABELS[label]}\n" for i, label in zip(indices, _column(dataset, indices, c), strict=True)
                )
                (main / f"{name}_{split}.txt").write_text("".join(lines), encoding="utf-8", newline="\n")

    files.write_folder(folder, fill, replace=False)
    return folder


def _column(dataset: Dataset, rows: list[int], c: int) -> list[int]:
    return dataset.target_NC[rows, c].tolist()


def _require_voc_names(dataset: Dataset) -> None:
    require_splits(
        dataset,
        _VOC_SPLITS,
        what="VOC has no lists for these splits",
        expected="train, val and test; or trainval and test; or no split at all",
    )
    require_plain_classes(dataset)
    for name in dataset.label_set:
        if "/" in name or "\\" in name or "\0" in name or name.startswith("."):
            raise DataError(
                "a class name that cannot be part of a file name, as VOC needs",
                where=dataset.source,
                got=repr(name),
                expected="no slash, and no full stop at the start",
                next_step="rename the class, or convert to csv or parquet",
            )
