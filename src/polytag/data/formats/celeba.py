"""CelebA's attributes, and those of CelebAMask-HQ: a list of 1 (present) and -1 (absent) for each image.

https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, also as the pair of CSV files that Kaggle has.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from polytag.contracts import ABSENT, Dataset
from polytag.data.formats.listing import child_folders, child_names, read_text
from polytag.data.formats.records import ReadingContext, Record, dataset_of
from polytag.data.formats.rows import CSV_SUFFIXES, cells_of, read_table
from polytag.errors import AnnotationError, DataError

_ATTRIBUTES = re.compile(r"list_attr_celeba.*\.(txt|csv)|CelebAMask-HQ-attribute-anno\.txt", re.IGNORECASE)
_PARTITION = re.compile(r"list_eval_partition.*\.(txt|csv)", re.IGNORECASE)
_SPLITS = {"0": "train", "1": "val", "2": "test"}
_FOLDERS = (
    "",
    "img_align_celeba",
    "img_align_celeba/img_align_celeba",
    "Img/img_align_celeba",
    "Img",
    "img_celeba",
    "images",
    "CelebA-HQ-img",
)

Row = tuple[str, Sequence[str], str]
"""An image, its values as they are written, and file and line."""


def is_celeba(data: Path) -> bool:
    """Whether there is a list of attributes under the name that CelebA gives it."""
    return _ATTRIBUTES.fullmatch(data.name) is not None if data.is_file() else bool(_named(data, ("", "Anno", "anno"), _ATTRIBUTES))


def read_celeba(data: Path, *, context: ReadingContext) -> Dataset:
    """Read the list of attributes, and the partition of the images where there is one.

    -1 is absent here, because the format says so; a list of 1 and 0 in its place is read too. Raises AnnotationError, with file and
    line, for any other value, a wrong number of values or rows, and an image without a partition where others have one.
    """
    root = data.parent if data.is_file() else data
    path = data if data.is_file() else _only(_named(data, ("", "Anno", "anno"), _ATTRIBUTES), root=data)
    names, rows = _table(path) if path.suffix.lower() in CSV_SUFFIXES else _list(path)
    above = root.parent if root.name.lower() == "anno" else root
    partitions = _named(above, ("", "Eval", "eval", "Anno"), _PARTITION)
    split_of_image = _partition(partitions[0]) if partitions else {}
    context.log.found("images", f"the names in {path.name}")
    context.log.found("labels", f"{path.name}: 1 is present and -1 absent, as CelebA has it")
    if partitions:
        context.log.found("split", f"{partitions[0].name}: 0 is train, 1 val, 2 test")
    folders = tuple(str(above / folder) for folder in _FOLDERS)
    records = _records(names, rows, split_of_image, partition=partitions[0] if partitions else None)
    return dataset_of(records, source=f"celeba {data}", context=context, folders=folders, declared=names)


def _named(root: Path, folders: Sequence[str], pattern: re.Pattern[str]) -> list[Path]:
    inside = [folder for folder in folders if not folder or folder in child_folders(root)]  # by its case, which a disk may ignore
    return [root / folder / name for folder in inside for name in child_names(root / folder) if pattern.fullmatch(name)]


def _only(paths: Sequence[Path], *, root: Path) -> Path:
    if len(paths) == 1:
        return paths[0]
    raise DataError(
        "several lists of attributes" if paths else "no list of attributes",
        where=str(root),
        got=", ".join(path.name for path in paths) or "no list_attr_celeba.txt or .csv",
        expected="one",
        next_step="give the file itself" if paths else "put list_attr_celeba.txt there, or choose another format",
    )


def _list(path: Path) -> tuple[tuple[str, ...], list[Row]]:
    lines = [(number, line.split()) for number, line in enumerate(read_text(path).splitlines(), start=1) if line.strip()]
    if len(lines) < 2 or not lines[0][1][0].isdecimal() or len(lines[0][1]) > 1:
        raise AnnotationError(
            "not a list of CelebA",
            where=f"{path}:1",
            got="another beginning",
            expected="the number of images, then the names of attributes",
        )
    names = tuple(lines[1][1])
    rows: list[Row] = []
    for number, (image, *values) in lines[2:]:
        if len(values) != len(names):
            raise AnnotationError(
                "a row does not fit the attributes",
                where=f"{path}:{number}",
                got=f"{len(values)} values",
                expected=f"{len(names)}, as in line {lines[1][0]}",
            )
        rows.append((image, values, f"{path}:{number}"))
    if len(rows) != int(lines[0][1][0][:18]):
        raise AnnotationError(
            "the list of attributes is not whole",
            where=f"{path}:1",
            got=f"{len(rows)} images",
            expected=f"{lines[0][1][0][:18]}, as its first line says",
            next_step="get the whole file again, or correct the number",
        )
    return names, rows


def _table(path: Path) -> tuple[tuple[str, ...], list[Row]]:
    table = read_table(path)
    image, *names = table.columns
    columns = [cells_of(table, name) for name in names]
    images = cells_of(table, image)
    rows: list[Row] = [
        (images[row] or "", [cell or "" for cell in cells], table.where(row))
        for row, cells in enumerate(zip(*columns, strict=True))
    ]
    return tuple(names), rows


def _partition(path: Path) -> Mapping[str, str]:
    """The split of each image."""
    if path.suffix.lower() in CSV_SUFFIXES:
        table = read_table(path)
        image, number = list(table.columns)[:2] if len(table.columns) > 1 else ("", "")
        if not image:
            raise AnnotationError(
                "no column of partitions", where=f"{path}:1", got=", ".join(table.columns), expected="image_id,partition"
            )
        cells = zip(cells_of(table, image), cells_of(table, number), strict=True)
        rows = [([name or "", value or ""], table.where(row)) for row, (name, value) in enumerate(cells)]
    else:
        rows = [
            (line.split(), f"{path}:{number}") for number, line in enumerate(read_text(path).splitlines(), start=1) if line.strip()
        ]
    found: dict[str, str] = {}
    for row, where in rows:
        if len(row) != 2 or row[1] not in _SPLITS:
            raise AnnotationError(
                "a partition that cannot be read",
                where=where,
                got=" ".join(row)[:200],
                expected="an image, and 0 (train), 1 (val) or 2 (test)",
            )
        found[row[0]] = _SPLITS[row[1]]
    return found


def _records(
    names: Sequence[str], rows: Sequence[Row], split_of_image: Mapping[str, str], *, partition: Path | None
) -> Iterator[Record]:
    absent = "-1" if any("-1" in values for _, values, _ in rows) else "0"
    for image, values, where in rows:
        for name, value in zip(names, values, strict=True):
            if value not in ("1", absent):
                raise AnnotationError(
                    "an attribute that is neither present nor absent",
                    where=where,
                    got=f"{value!r} for {name!r}",
                    expected=f"1 (present) or {absent} (absent)",
                )
        if partition is not None and image not in split_of_image:
            raise AnnotationError(
                "an image without a partition",
                where=where,
                got=repr(image[:200]),
                expected=f"a line in {partition}",
                next_step="add it there, or move that file away: the data then have no split",
            )
        present = [name for name, value in zip(names, values, strict=True) if value == "1"]
        yield Record(image=image, where=where, present=present, others=ABSENT, split=split_of_image.get(image, ""))
