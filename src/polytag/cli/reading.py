"""Options for reading annotations, declared once and shared by every verb that takes DATA."""

from typing import Annotated

import typer

Format = Annotated[
    str,
    typer.Option("--format", help="voc, coco, yolo, csv, parquet, folder or imagefolder; auto recognises it."),
]
Difficult = Annotated[
    str,
    typer.Option("--difficult", help="VOC's difficult-only labels (0): ignore, positive or negative."),
]
