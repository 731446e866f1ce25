"""`ReadOptions`: what a user may say about annotations that are to be read."""

from dataclasses import dataclass, field

from polytag.contracts import ABSENT_MEANS
from polytag.data.classes import ClassShaping
from polytag.data.formats.listing import TREATMENTS
from polytag.errors import UsageError

FORMATS = (
    "voc", "coco", "yolo", "kitti", "csv", "parquet", "excel", "folder", "imagefolder", "export", "cvat", "labelme", "tags",
    "keywords", "text", "celeba", "nuswide", "nih", "openimages", "hf", "webdataset",
    "datumaro-arrow",
)  # fmt: skip
"""The annotation formats that polytag reads."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Options for reading annotations. Each format uses the options that concern it.

    format            one of FORMATS, or "auto": recognised by the files in the folder
    difficult         VOC: treatment of a class of which an image contains only difficult objects: "ignore" (unknown), "positive"
                      or "negative"
    crowd             COCO: the same for a class with only crowd regions
    small             COCO: the same for a class with only boxes of fewer than `min_box_area_px`
    min_box_area_px   COCO: width times height, in square pixels of the original image; 0: no box is small
    separator         tables: the text between two labels in one cell; "auto": as the cells of the column tell; "none": each cell
                      is one label
    image_column, labels_column, split_column   tables: names of columns; "": the first of the documented names. Of an export,
                      labels_column is the control, field or attribute with the labels; "": the only one
    group_column      the column that names what dependent images share, such as a patient; "source": the image's folder; "": none
    columns_file      the table, by image id, that has this column; "": the annotations themselves, which are then a table
    class_columns     tables: names of the class columns, or shell patterns; (): all columns of 1 and 0 without another role
    ignore_columns    tables: names or shell patterns (`*`, `?`, `[ab]`) of columns to leave out
    minus_one         tables: what -1 means in a class column: "ignore" (unknown), "negative" or "positive"; "": unknown, but an
                      error where no cell is 0
    split_files       files that say which images are in which split, as NAME=FILE or FILE: see split_files.py; `split_column` is
                      then the column of such a table
    image_dirs        folders to search images in first; (): only the documented places
    shaping           the classes that the data set has, and their names
    absent_means      what a label is that nobody gave: "absent", or "unknown" where the annotations name only what is present.
                      An explicit absence, such as 0 in a class column, stays one
    settings          "auto": polytag.yaml beside the data is read too; "none": it is not
    given             fields that win over polytag.yaml even where they have their default, as on the command line
    accept_doubts     read on where something looks like a misreading, and note it, instead of raising an error
    strict            raise an error for everything that would be noted: what was left out, corrected or assumed

    Raises UsageError for any other value.
    """

    format: str = "auto"
    difficult: str = "ignore"
    crowd: str = "positive"
    small: str = "ignore"
    min_box_area_px: float = 0.0
    separator: str = "auto"
    image_column: str = ""
    labels_column: str = ""
    split_column: str = ""
    group_column: str = ""
    columns_file: str = ""
    class_columns: tuple[str, ...] = ()
    ignore_columns: tuple[str, ...] = ()
    minus_one: str = ""
    split_files: tuple[str, ...] = ()
    image_dirs: tuple[str, ...] = ()
    shaping: ClassShaping = field(default_factory=ClassShaping)
    absent_means: str = "absent"
    settings: str = "auto"
    given: tuple[str, ...] = ()
    accept_doubts: bool = False
    strict: bool = False

    def __post_init__(self):
        object.__setattr__(self, "columns_file", str(self.columns_file))
        for name in ("class_columns", "ignore_columns", "split_files", "image_dirs", "given"):
            object.__setattr__(self, name, tuple(map(str, getattr(self, name))))  # YAML returns a list, and a user a Path
        for name, value, allowed in (
            ("format", self.format, ("auto", *FORMATS)),
            ("treatment of difficult objects", self.difficult, tuple(TREATMENTS)),
            ("treatment of crowd regions", self.crowd, tuple(TREATMENTS)),
            ("treatment of small boxes", self.small, tuple(TREATMENTS)),
            ("meaning of -1", self.minus_one, ("", *TREATMENTS)),
            ("meaning of an absent label", self.absent_means, ABSENT_MEANS),
            ("way to settings", self.settings, ("auto", "none")),
        ):
            if value not in allowed:
                raise UsageError(f"unknown {name}", got=repr(value), expected="one of " + ", ".join(filter(None, allowed)))
        if not self.min_box_area_px >= 0:
            raise UsageError("a box area below zero", got=str(self.min_box_area_px), expected="square pixels, 0 or more")
        if self.columns_file and not self.group_column:
            raise UsageError(
                "a table of columns, none of which is used", got=self.columns_file, expected="--group COLUMN, naming one of them"
            )
        if self.accept_doubts and self.strict:
            raise UsageError("strict reading that accepts doubts", got="--strict and --yes", expected="one of them, or neither")
        if not self.separator:
            raise UsageError("an empty separator", got="''", expected="auto, none, or the characters between two labels")
