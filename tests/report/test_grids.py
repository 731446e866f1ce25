"""Grid files: their size, the marks of the truth, names that every file system takes, images that cannot be read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polytag.contracts import LabelSet, Predictions
from polytag.errors import RunError, UsageError
from polytag.report import grids
from polytag.report.grids import draw_grid, file_stem, tile_corner, write_grids
from polytag.report.ranking import ranked_rows


def test_files_and_their_size(tmp_path: Path, predictions: Predictions):
    written = write_grids(tmp_path / "grids", predictions=predictions)
    ends = ("top", "bottom", "bottom-positives")
    assert [path.name for path in written] == [
        f"{name}-{end}.png"
        for name in ("dog", "cat", "boat")
        for end in ends[: 3 if (predictions.target_NC[:, predictions.label_set.index(name)] == 1).any() else 2]
    ]
    for path in written:
        if path.name.endswith("-positives.png"):
            continue
        with Image.open(path) as grid:
            assert grid.format == "PNG"
            assert grid.size == (2 * 24 + 10 * 104 + 9 * 10, 76 + 5 * (104 + 20 + 10) + 24 - 10)  # ten tiles by five


def test_only_the_named_classes(tmp_path: Path, predictions: Predictions):
    assert [path.name for path in write_grids(tmp_path, predictions=predictions, class_names=["cat"], top=3)] == [
        "cat-top.png",
        "cat-bottom.png",
        "cat-bottom-positives.png",
    ]
    with pytest.raises(UsageError, match="unknown class name"):
        write_grids(tmp_path, predictions=predictions, class_names=["unicorn"])


@pytest.mark.parametrize("threshold", [0.5, 0.8])
@pytest.mark.parametrize("lowest", [False, True])
def test_the_frame_shows_the_decision_and_the_sign_the_label(predictions: Predictions, lowest: bool, threshold: float):
    grid = np.asarray(draw_grid(predictions, class_name="dog", lowest=lowest, threshold=threshold)).astype(int)
    rows = ranked_rows(predictions, class_name="dog", top=50, lowest=lowest)
    assert {row.target for row in rows} == {1, 0, -1}
    sign_of: dict[int, np.ndarray] = {}
    for row in rows:
        left, top = tile_corner(row.rank)
        is_right = (row.probability > threshold) == (row.target == 1)
        colour = grids.UNDECIDED if row.target == -1 else grids.RIGHT if is_right else grids.WRONG
        for y, x in ((50, 0), (50, 103), (103, 50), (0, 50)):
            assert tuple(grid[top + y, left + x]) == colour
        # The sign is what is paper-white in the badge, whatever its colour: it must show the label by itself.
        sign = (grid[top : top + 20, left : left + 20].min(axis=-1) > 235).astype(int)
        sign_of.setdefault(row.target, sign)
        assert np.abs(sign - sign_of[row.target]).sum() <= 8, "one truth, one sign"
    for one, other in ((1, 0), (1, -1), (0, -1)):
        assert np.abs(sign_of[one] - sign_of[other]).sum() > 20, "different truths, different signs"


def test_ranks_decide_nothing_so_their_frames_are_grey(predictions: Predictions):
    ranks = replace(predictions, scale="rank")
    grid = np.asarray(draw_grid(ranks, class_name="dog"))
    for row in ranked_rows(ranks, class_name="dog", top=50):
        left, top = tile_corner(row.rank)
        assert tuple(grid[top + 50, left]) == grids.UNDECIDED
    assert not (grid == grids.WRONG).all(-1).any()


def test_the_lowest_scored_positives_are_those_of_the_report_at_the_threshold_of_the_class(
    tmp_path: Path, predictions: Predictions
):
    threshold_C = [0.3, 0.6, 0.9]
    write_grids(tmp_path, predictions=predictions, threshold=threshold_C)
    for name, threshold in zip(predictions.label_set, threshold_C, strict=True):
        rows = ranked_rows(predictions, class_name=name, top=20, lowest=True, positives=True)
        path = tmp_path / f"{name}-bottom-positives.png"
        assert path.is_file() == bool(rows)
        if not rows:
            continue
        with Image.open(path) as image:
            grid = np.asarray(image)
        expected = draw_grid(predictions, class_name=name, top=20, lowest=True, positives=True, threshold=threshold)
        assert (grid == np.asarray(expected)).all()
        for row in rows:
            left, top = tile_corner(row.rank)
            assert tuple(grid[top + 50, left]) == (grids.RIGHT if row.probability > threshold else grids.WRONG)


def test_the_image_is_shown_whole(predictions: Predictions):
    grid = np.asarray(draw_grid(predictions, class_name="dog", top=1))
    (row,) = ranked_rows(predictions, class_name="dog", top=1)
    colour = Image.open(row.image_path).getpixel((0, 0))
    left, top = tile_corner(1)
    inside = (grid[top + 3 : top + 101, left + 3 : left + 101] == colour).all(-1)
    wide = row.row % 2  # 80 x 50 or 50 x 80, fitted into 98 x 98
    assert (inside.any(0).sum(), inside.any(1).sum()) == ((98, 61) if wide else (61, 98))


def test_images_that_cannot_be_read_are_grey_tiles(tmp_path: Path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not an image")
    predictions = Predictions(
        ids=("none", "gone", "broken", "folder"),
        logit_NC=np.arange(4, dtype=np.float32)[:, None],
        target_NC=np.array([[1], [0], [-1], [1]]),
        label_set=LabelSet(names=("dog",)),
        image_paths=("", str(tmp_path / "gone.jpg"), str(tmp_path / "broken.jpg"), str(tmp_path)),
    )
    grid = np.asarray(draw_grid(predictions, class_name="dog"))
    for rank in range(1, 5):
        left, top = tile_corner(rank)
        assert tuple(grid[top + 80, left + 50]) == grids.MATTE


def test_ordinary_names_stay():
    names = ("diningtable", "traffic light", "T-shirt_2", "café", "猫")
    label_set = LabelSet(names=names)
    assert [file_stem(name, label_set) for name in names] == list(names)


def test_hostile_names_become_safe_and_stay_apart(tmp_path: Path):
    names = (
        *(
            "../../etc/passwd",
            "a/b",
            "a\\b",
            "a:b",
            "<script>",
            'q"uote',
            ".",
            "..",
            "dog.",
            " dog",
            "dog",
            "DOG",
        ),
        *("x" * 300, "猫" * 300, "cafe\u0301", "caf\u00e9", "?", "*"),
    )
    label_set = LabelSet(names=names)
    stems = [file_stem(name, label_set) for name in names]
    assert len({stem.casefold() for stem in stems}) == len(names)
    for stem in stems:
        assert not set(stem) & set('/\\:*?"<>|\0\t\u202e')
        assert not stem.startswith((".", " "))
        (tmp_path / f"{stem}-bottom.png").touch()
    assert len(list(tmp_path.iterdir())) == len(names)


def test_a_folder_that_cannot_be_made_is_a_run_error(tmp_path: Path, predictions: Predictions):
    (tmp_path / "file").touch()
    with pytest.raises(RunError) as error:
        write_grids(tmp_path / "file", predictions=predictions, top=1)
    assert str(error.value) == (
        f"could not save file\n  where: {tmp_path / 'file'}\n  got: File exists\n  expected: a folder that can be written"
    )
