"""`load_dataset`: annotations in any format as one checked Dataset. `docs/reference/formats.md` shows every layout."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from polytag.contracts import ABSENT, PRESENT, UNKNOWN, Dataset, LabelSet
from polytag.data.class_names import normal_name
from polytag.data.classes import Shaped, shape_classes
from polytag.data.formats.celeba import read_celeba
from polytag.data.formats.chest_xray import read_chest_xray
from polytag.data.formats.coco import read_coco
from polytag.data.formats.cvat import read_cvat
from polytag.data.formats.datumaro_arrow import read_datumaro_arrow
from polytag.data.formats.export import read_export
from polytag.data.formats.file_index import FileIndex
from polytag.data.formats.folders import read_folder, read_imagefolder
from polytag.data.formats.huggingface import read_huggingface
from polytag.data.formats.keywords import read_keywords
from polytag.data.formats.kitti import read_kitti
from polytag.data.formats.labelme import read_labelme
from polytag.data.formats.listing import existing_path
from polytag.data.formats.nuswide import read_nuswide
from polytag.data.formats.open_images import read_open_images
from polytag.data.formats.reading_log import ReadingLog
from polytag.data.formats.recognise import recognise
from polytag.data.formats.records import ReadingContext
from polytag.data.formats.rows import CSV_SUFFIXES, EXCEL_SUFFIXES, JSON_SUFFIXES, JSONL_SUFFIXES, PARQUET_SUFFIXES
from polytag.data.formats.table_columns import Columns
from polytag.data.formats.table_shapes import read_tables_of_any_shape
from polytag.data.formats.tables import find_tables, table_file
from polytag.data.formats.tags import read_tags
from polytag.data.formats.text_lists import read_text_lists
from polytag.data.formats.voc import read_voc
from polytag.data.formats.webdataset import read_webdataset
from polytag.data.formats.yolo import read_yolo
from polytag.data.groups import SOURCE, with_groups
from polytag.data.read_options import ReadOptions
from polytag.data.settings import Settings, with_settings
from polytag.data.split_files import with_split_files
from polytag.errors import DataError, UsageError

_TABLES = ("coco", "csv", "parquet", "excel", "imagefolder", "nih", "hf")  # the formats that have columns
_FOLDERS = ("voc", "kitti", "folder", "labelme", "tags", "keywords")  # the formats that are no file
_NAMES_A_SPLIT = ("yolo", "kitti")  # the formats that cannot leave it out: exports of undivided data are all of train


def load_dataset(data: str | Path, *, options: ReadOptions = ReadOptions()) -> Dataset:
    """Read annotations of any format into one checked Dataset with absolute image paths.

    `data` is a folder or a file. The usual names of splits become "train", "val" and "test"; the split is "" where the annotations
    name none. Every listed image exists; none is opened. With the option group_column, the images have their groups.
    Raises DataError where there is nothing to read or the format is not recognised; AnnotationError, with file and line, for
    invalid content.
    """
    path = existing_path(data)
    options, settings = with_settings(options, path)
    format = recognise(path) if options.format == "auto" else options.format
    if options.group_column not in ("", SOURCE) and not options.columns_file and format not in _TABLES:
        raise UsageError(
            "these annotations have no columns to group images by",
            where=f"{format} {path}",
            got=f"the column {options.group_column!r}",
            expected=f"a table by image id that has it; or {SOURCE!r}, the folder of each image",
            next_step="give --columns FILE, a CSV, Parquet or JSON Lines file with a column of image ids",
        )
    dataset = _read(path, format=format, options=options, settings=settings)
    if not len(dataset):
        raise DataError("no images", where=dataset.source, got="annotations that list none", expected="at least one image")
    return with_groups(dataset, options.group_column, file=options.columns_file) if options.group_column else dataset


def load_labels(
    data: str | Path, *, options: ReadOptions = ReadOptions(), classes: Sequence[str] = (), need_images: bool = False
) -> Dataset:
    """As `load_dataset`, for scores of these classes: options may name classes that these images lack, and unless `need_images`,
    listed images need not exist, and a table needs only ids.

    A table of label lists names only the classes that occur: it has these as well. A class that differs from one of them only in
    surrounding spaces or its Unicode form is that one, and where all are there, they have this order. Another class is left out
    where these images too lack the support that the options ask for. Raises as `load_dataset`.
    """
    path = existing_path(data)
    options, settings = with_settings(options, path)
    format = recognise(path) if options.format == "auto" else options.format
    if format == "imagefolder" and options.format == "auto" and not need_images and path.suffix.lower() in JSONL_SUFFIXES:
        format = "csv"  # a plain table: imagefolder's needs its images
    further, few = options.shaping.old_names(classes), options.shaping.min_support
    dataset = _read(path, format=format, options=options, settings=settings, need_images=need_images, further=further)
    spelled, wanted = {normal_name(name): name for name in classes}, set(classes)
    names = [spelled.get(name, name) for name in dataset.label_set]
    support_C = (dataset.target_NC == PRESENT).sum(axis=0)
    kept = {name: c for c, name in enumerate(names) if name in wanted or support_C[c] >= few or not wanted}
    if kept.keys() == wanted:
        kept = {name: kept[name] for name in classes}
    target_NC = dataset.target_NC if list(kept) == names else dataset.target_NC[:, list(kept.values())]
    return replace(dataset, label_set=LabelSet(names=tuple(kept)), target_NC=target_NC)


def dataset_of_data(data: Dataset | str | Path, *, options: ReadOptions = ReadOptions()) -> Dataset:
    """A Dataset as it is, or what `load_dataset` reads from a path; raises UsageError for a Dataset with options."""
    if not isinstance(data, Dataset):
        return load_dataset(data, options=options)
    if options != ReadOptions():
        raise UsageError(
            "options for reading a Dataset, which is read already", where=data.source, expected="a path with options, or a Dataset"
        )
    return data


def _read(
    path: Path,
    *,
    format: str,
    options: ReadOptions,
    settings: Settings | None,
    need_images: bool = True,
    further: Sequence[str] | None = None,  # classes of scores, whose labels these are; None: a data set by itself
) -> Dataset:
    if path.is_file() and format in _FOLDERS:
        raise DataError(f"the {format} format is a folder", where=str(path), got="a file", expected="a folder")
    log = ReadingLog(accept_doubts=options.accept_doubts)
    index = FileIndex(
        first=[os.path.abspath(folder) for folder in options.image_dirs],
        below=path.parent if path.is_file() else path,
        must_exist=need_images,
        log=log,
    )
    unsaid = ABSENT if options.absent_means == "absent" else UNKNOWN
    context = ReadingContext(index=index, log=log, further=further or (), unsaid=unsaid)
    dataset = _read_as(format, path, options=options, context=context, need_images=need_images)
    dataset = _with_undivided(dataset, format=format, log=log)
    if options.split_files and len(dataset):
        dataset = with_split_files(dataset, options.split_files, column=options.split_column, log=log)
    log.note(_note_on_splits(dataset))
    if settings is not None:
        log.found("settings", f"{settings.path.name}: {', '.join(settings.values)}")
    shaped = shape_classes(dataset, options.shaping, is_whole=further is None, has_own_names=log.has_own_names)
    for sentence in shaped.corrections:
        log.note(sentence)
    if shaped.doubt and need_images:
        log.doubt(_alike(shaped))
    interpretation = log.interpretation(format)
    if options.strict and interpretation.notes:
        raise DataError(
            "the annotations are not read strictly as they are",
            where=dataset.source,
            got="; ".join(interpretation.notes),
            expected="nothing left out, corrected or assumed",
            next_step="change the annotations, or read them without --strict",
        )
    asked = (*shaped.notes, *_notes_on_absent(shaped.dataset, options))  # which --strict allows
    return replace(
        shaped.dataset,
        interpretation=replace(interpretation, notes=(*interpretation.notes, *asked)),
        absent_means=options.absent_means,
    )


def _with_undivided(dataset: Dataset, *, format: str, log: ReadingLog) -> Dataset:
    """The data set without splits that divide nothing: `trainval` alone, or `train` alone in a format that has to name a split.

    Nor does `trainval` repeat the images of train and val.
    """
    if dataset.splits == ("trainval",) or (dataset.splits == ("train",) and format in _NAMES_A_SPLIT):
        if dataset.splits == ("train",):
            log.note(f"train is the only split, and {format} has to name one: the images have no split")
        return replace(dataset, split_N=("",) * len(dataset))
    if "trainval" not in dataset.splits:
        return dataset
    divided = {path for path, split in zip(dataset.paths, dataset.split_N, strict=True) if split in ("train", "val")}
    rows = enumerate(zip(dataset.paths, dataset.split_N, strict=True))
    return dataset.take([row for row, (path, split) in rows if split != "trainval" or path not in divided])


def _note_on_splits(dataset: Dataset) -> str:
    """A sentence about images without a split among images with one; "" where all or none have one."""
    num_without = dataset.split_N.count("")
    if num_without in (0, len(dataset)):
        return ""
    return (
        f"{num_without:,} of {len(dataset):,} images are without a split, such as {dataset.ids[dataset.split_N.index('')]!r}: they "
        "take no part in training and validation"
    )


def _alike(shaped: Shaped) -> DataError:
    return DataError(
        "class names that differ only in capitals or spaces",
        where=shaped.dataset.source,
        got=shaped.doubt,
        expected="one spelling for each class",
        next_step=f"{shaped.decision}; --yes keeps them as they are",
    )


def _notes_on_absent(dataset: Dataset, options: ReadOptions) -> Sequence[str]:
    if options.absent_means == "absent":
        return ()
    return (f"absent means unknown: {(dataset.target_NC == UNKNOWN).mean():.0%} of all labels are unknown",)


def _read_as(format: str, path: Path, *, options: ReadOptions, context: ReadingContext, need_images: bool) -> Dataset:
    match format:
        case "voc":
            return read_voc(path, difficult=options.difficult, context=context)
        case "coco":
            return read_coco(
                path,
                crowd=options.crowd,
                small=options.small,
                min_box_area_px=options.min_box_area_px,
                group_key=_columns(options).group,
                context=context,
            )
        case "yolo":
            return read_yolo(path, context=context)
        case "kitti":
            return read_kitti(path, context=context)
        case "celeba":
            return read_celeba(path, context=context)
        case "nuswide":
            return read_nuswide(path, need_images=need_images, context=context)
        case "nih":
            group = _columns(options).group
            return read_chest_xray(path, group=group, need_images=need_images, context=context)
        case "openimages":
            return read_open_images(path, need_images=need_images, context=context)
        case "text":
            return read_text_lists(path, separator=options.separator, context=context)
        case "cvat":
            return read_cvat(path, context=context)
        case "labelme":
            return read_labelme(path, label_field=options.labels_column, context=context)
        case "keywords":
            return read_keywords(path, context=context)
        case "tags":
            return read_tags(path, separator=options.separator, context=context)
        case "export":
            return read_export(path, label_field=options.labels_column, separator=options.separator, context=context)
        case "hf":
            return read_huggingface(path, columns=_columns(options), context=context)
        case "webdataset":
            return read_webdataset(path, columns=_columns(options), context=context)
        case "datumaro-arrow":
            return read_datumaro_arrow(path, context=context)
        case "folder":
            return read_folder(path, context=context)
        case "imagefolder":
            columns = _columns(options)
            return read_imagefolder(path, columns=replace(columns, image=columns.image or "file_name"), context=context)
        case _:
            suffixes = {"csv": CSV_SUFFIXES, "parquet": PARQUET_SUFFIXES, "excel": EXCEL_SUFFIXES}[format]
            files = [table_file(path, split="")] if path.is_file() else find_tables(path, suffixes)
            files = files or (find_tables(path, JSON_SUFFIXES) if format == "csv" else [])
            if not files:
                raise DataError(f"no {format} file", where=str(path), got="none", expected=f"a file ending in {suffixes[0]}")
            return read_tables_of_any_shape(
                files,
                root=path.parent if path.is_file() else path,
                columns=_columns(options),
                source=f"{format} {path}",
                need_images=need_images,
                context=context,
            )


def _columns(options: ReadOptions) -> Columns:
    is_own_column = options.group_column not in ("", SOURCE) and not options.columns_file
    return Columns(
        image=options.image_column,
        labels=options.labels_column,
        split="" if options.split_files else options.split_column,
        group=options.group_column if is_own_column else "",
        classes=options.class_columns,
        ignore=options.ignore_columns,
        separator=options.separator,
        minus_one=options.minus_one,
    )
