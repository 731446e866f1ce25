"""Finds the rows of the scored images in the labelled data set."""

import numpy as np

from polytag.inspector.inspection import Inspection


def dataset_rows(inspection: Inspection) -> np.ndarray:
    """Return for each image of the run its row in `inspection.data`, or -1.

    Images are matched by split and id, and by their file where several images have the id. Without a data set all rows are -1.
    """
    data, predictions = inspection.data, inspection.predictions
    found_N = np.full(len(predictions), -1)
    if data is None:
        return found_N
    rows_of: dict[str, list[int]] = {}
    for row, (split, name) in enumerate(zip(data.split_N, data.ids, strict=True)):
        if inspection.split in ("", split):
            rows_of.setdefault(name, []).append(row)
    for i, (name, path) in enumerate(zip(predictions.ids, predictions.image_paths, strict=True)):
        rows = rows_of.get(name, [])
        if len(rows) > 1:
            rows = [row for row in rows if str(data.paths[row]) == path]
        if len(rows) == 1:
            found_N[i] = rows[0]
    return found_N
