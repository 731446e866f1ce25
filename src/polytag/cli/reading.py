"""Options for reading annotations, one per field of `ReadOptions`, shared by every verb that reads DATA; and those of groups."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytag.cli.shaping import SHAPING_OPTIONS, shaping_of

if TYPE_CHECKING:
    from polytag.data.read_options import ReadOptions


def _option(flag: str, help: str, *, default: str = "", metavar: str | None = None) -> Any:
    return typer.Option(flag, help=help, metavar=metavar, show_default=default or False, rich_help_panel="Reading the labels")


_TREATMENT = "ignore|positive|negative"
Format = Annotated[
    str | None,
    _option(
        "--format",
        "voc, coco, yolo, kitti, csv, parquet, excel, imagefolder, folder, text, export, cvat, labelme, tags, keywords, celeba, "
        "nuswide, nih, openimages, hf, webdataset or datumaro-arrow.",
        metavar="NAME",
        default="auto: recognised",
    ),
]
OPTIONS: dict[str, Any] = {  # field of ReadOptions: the option
    "format": Format,
    "difficult": Annotated[
        str | None, _option("--difficult", "VOC: classes with only difficult objects.", metavar=_TREATMENT, default="ignore")
    ],
    "crowd": Annotated[
        str | None, _option("--crowd", "COCO: classes with only crowd regions.", metavar=_TREATMENT, default="positive")
    ],
    "small": Annotated[
        str | None,
        _option("--small", "COCO: classes with only boxes under --min-box-area.", metavar=_TREATMENT, default="ignore"),
    ],
    "min_box_area_px": Annotated[
        float | None, _option("--min-box-area", "COCO: square pixels; smaller boxes count as small.", metavar="PX", default="0")
    ],
    "separator": Annotated[
        str | None,
        _option(
            "--separator", "Tables: the text between labels in one cell; none: one label per cell.", metavar="TEXT", default="auto"
        ),
    ],
    "image_column": Annotated[str | None, _option("--image-column", "Tables: the column of images.", metavar="NAME")],
    "labels_column": Annotated[str | None, _option("--labels-column", "Tables, exports: where labels are.", metavar="NAME")],
    "split_column": Annotated[str | None, _option("--split-column", "Tables: the column of splits.", metavar="NAME")],
    "class_columns": Annotated[
        list[str] | None,
        _option("--class-column", "Tables: a class column, or a pattern; repeatable.", metavar="NAME"),
    ],
    "ignore_columns": Annotated[
        list[str] | None, _option("--ignore-column", "Tables: a column to leave out, or a pattern; repeatable.", metavar="NAME")
    ],
    "minus_one": Annotated[
        str | None,
        _option("--minus-one", "Tables: what -1 means; ignore is unknown, as without it if some cell is 0.", metavar=_TREATMENT),
    ],
    "split_files": Annotated[
        list[str] | None,
        _option(
            "--split-file", "A list of the images of a split, or a table of splits by image id; repeatable.", metavar="[NAME=]FILE"
        ),
    ],
    "image_dirs": Annotated[
        list[str] | None,
        _option("--image-dir", "A folder to search images in first; repeatable.", metavar="DIR"),
    ],
    "absent_means": Annotated[
        str | None,
        _option(
            "--absent-means",
            "A label that nobody gave; unknown for labels that are only positive.",
            metavar="absent|unknown",
            default="absent",
        ),
    ],
    "accept_doubts": Annotated[bool | None, _option("--yes", "Read on where something looks like a misreading, and say so.")],
    "strict": Annotated[bool | None, _option("--strict", "Stop where anything is left out, corrected or assumed.")],
}


GroupOfImages = Annotated[
    str | None,
    typer.Option(
        "--group",
        metavar="COLUMN",
        help="The images of each value belong together: a patient, a scene, a video. A column of DATA or --columns, or source.",
    ),
]
ColumnsById = Annotated[
    Path | None, typer.Option("--columns", metavar="FILE.csv", help="A table by image id, with the column of --group.")
]


def with_grouping(options: "ReadOptions", *, group: str | None, columns: Path | None) -> "ReadOptions":
    """The options with these groups. Raises UsageError for a table of columns without a column."""
    return dataclasses.replace(options, group_column=group or "", columns_file=str(columns or ""))


def reads_annotations(verb: Callable[..., None]) -> Callable[..., None]:
    """Decorate a verb with these options instead of its parameter `options`, which receives them as one ReadOptions.

    They include those for the classes, and win over polytag.yaml. A parameter of the verb with the name of a field takes
    precedence. Raises UsageError as ReadOptions does.
    """
    own = inspect.signature(verb).parameters
    assert "options" in own
    added = {name: annotation for name, annotation in (OPTIONS | SHAPING_OPTIONS).items() if name not in own}

    @functools.wraps(verb)
    def with_options(**values: Any) -> None:
        from polytag.data.read_options import ReadOptions

        given = {name: value for name in added if (value := values.pop(name)) not in (None, [])}
        reading = {name: value for name, value in given.items() if name in OPTIONS}
        verb(options=ReadOptions(**reading, shaping=shaping_of(given), given=tuple(given)), **values)

    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for name, parameter in own.items() if name != "options"]
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in added.items()
    ]
    with_options.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue]  typer reads it
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_options
