"""Reads the annotated boxes of the images of a run."""

from collections.abc import Mapping
from functools import cache
from threading import Lock
from typing import Any, final

from polytag.data.formats.boxes import Boxes, BoxesReader, boxes_reader
from polytag.inspector.browse.dataset_rows import dataset_rows
from polytag.inspector.inspection import Inspection


@final
class AnnotatedBoxes:
    """Reads boxes by row of the run. The annotations are opened with the first request. Safe to call from many threads."""

    def __init__(self, inspection: Inspection):
        self._inspection = inspection
        self._lock = Lock()
        self._opened = cache(self._open)
        self.image_of_row = cache(self._image_of_row)

    def boxes(self, row: int) -> Boxes:
        """Return the boxes of an image, or a note about why there are none."""
        with self._lock:  # a large file is read once, and concurrent requests wait for it
            reader, row_in_data = self._opened()[0], int(self._opened()[1][row])
            if reader is None:
                return Boxes(note="the annotations of this run have no boxes, or cannot be read")
            if row_in_data < 0:
                return Boxes(note="this image is not in the data set")
            return reader(row_in_data)

    def _image_of_row(self) -> Mapping[int, str]:
        """Return the id of each image of the run by its row in the data set."""
        ids = self._inspection.predictions.ids
        return {row: ids[i] for i, row in enumerate(dataset_rows(self._inspection).tolist()) if row >= 0}

    def _open(self) -> tuple[BoxesReader | None, Any]:
        inspection = self._inspection
        if inspection.data is None or inspection.data_path is None:
            return None, dataset_rows(inspection)
        reader = boxes_reader(inspection.data_path, dataset=inspection.data, options=inspection.data_options)
        return reader, dataset_rows(inspection)
