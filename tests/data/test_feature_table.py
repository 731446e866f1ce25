"""Feature tables of other programs: every layout gives the same vectors, and what is wrong is named with its row."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polytag.contracts import Dataset, LabelSet
from polytag.data.feature_table import open_feature_table
from polytag.errors import DataError, PolytagError, PredictionsError
from polytag.predictions.joining import rows_of_images

IDS = [f"images/{row:03}.png" for row in range(9000)]  # more than are read at once
RNG = np.random.default_rng(0)
FEATURE_ND = RNG.normal(size=(len(IDS), 5)).astype(np.float32)


def parquet(folder: Path, columns: dict[str, Any], name: str = "table.parquet") -> Path:
    pq.write_table(pa.table(columns), folder / name, row_group_size=2500)
    return folder / name


def lists(values: np.ndarray, kind: Any) -> pa.Array:
    return pa.array(list(values), type=kind)


def npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "table.npz", **arrays)
    return folder / "table.npz"


def npy(folder: Path, values: np.ndarray, ids: list[str]) -> Path:
    np.save(folder / "table.npy", values)
    (folder / "table.txt").write_text("\n".join(ids) + "\n")
    return folder / "table.npy"


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "list float": lambda folder: parquet(folder, {"id": IDS, "embedding": lists(FEATURE_ND, pa.list_(pa.float32()))}),
    "list double": lambda folder: parquet(folder, {"v": lists(FEATURE_ND, pa.list_(pa.float64())), "file_name": IDS}),
    "fixed list": lambda folder: parquet(folder, {"path": IDS, "x": lists(FEATURE_ND, pa.list_(pa.float32(), 5))}),
    "large list": lambda folder: parquet(folder, {"image_id": IDS, "features": lists(FEATURE_ND, pa.large_list(pa.float32()))}),
    "two lists": lambda folder: parquet(
        folder, {"id": IDS, "labels": [[1, 2]] * len(IDS), "embedding": lists(FEATURE_ND, pa.list_(pa.float32()))}
    ),
    "columns": lambda folder: parquet(
        folder, {"label": [3] * len(IDS), **{f"f{c}": FEATURE_ND[:, c] for c in (3, 0, 4, 1, 2)}, "id": IDS}
    ),
    "numbered from 1": lambda folder: parquet(folder, {"name": IDS, **{f"{c + 1}": FEATURE_ND[:, c] for c in range(5)}}),
    "npz": lambda folder: npz(folder, ids=np.array(IDS), embeddings=FEATURE_ND, model=np.array("dinov3")),
    "npz, double, bytes": lambda folder: npz(folder, file_names=np.array(IDS, dtype="S"), arr=FEATURE_ND.astype(np.float64)),
    "npy": lambda folder: npy(folder, FEATURE_ND, IDS),
    "npy, fortran": lambda folder: npy(folder, np.asfortranarray(FEATURE_ND), IDS),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_vectors(layout: str, tmp_path: Path):
    table = open_feature_table(LAYOUTS[layout](tmp_path))
    assert (table.ids, table.num_features) == (tuple(IDS), 5)
    assert (np.concatenate(list(table.batches())) == FEATURE_ND).all()
    rows = np.array([8999, 0, 4096, 4095, 7, 7, 123])
    assert (table.take(rows) == FEATURE_ND[rows]).all()
    assert table.take(np.zeros(0, np.int64)).shape == (0, 5)


@pytest.mark.parametrize("kind", ["float16", "int8", "uint8"])
def test_short_numbers(kind: str, tmp_path: Path):
    values = (FEATURE_ND[:50] * 20).clip(0, 100).astype(kind)
    as_list = parquet(tmp_path, {"id": IDS[:50], "embedding": lists(values, pa.list_(pa.from_numpy_dtype(np.dtype(kind))))})
    for path in (as_list, npz(tmp_path, ids=np.array(IDS[:50]), features=values)):
        assert (open_feature_table(path).take(np.arange(50)) == values.astype(np.float32)).all()


def test_ids_that_are_bytes_are_text(tmp_path: Path):
    ids = pa.array([name.encode() for name in IDS[:50]])
    path = parquet(tmp_path, {"id": ids, "embedding": lists(FEATURE_ND[:50], pa.list_(pa.float32()))})
    assert open_feature_table(path).ids == tuple(IDS[:50])


def broken(at: int, value: float) -> np.ndarray:
    values = FEATURE_ND.astype(np.float64)
    values[at, 2] = value
    return values


def nulls(column: list[Any]) -> Callable[[Path], Path]:
    return lambda folder: parquet(folder, {"id": ["a", "b"], "embedding": pa.array(column, pa.list_(pa.float32()))})


def text(path: Path) -> Path:
    path.write_text("id,f0\na,1\n")
    return path


WRONG: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nan": (lambda folder: parquet(folder, {"id": IDS, "x": lists(broken(5000, np.nan), pa.list_(pa.float64()))}),
            "a feature is not finite\n  where: PATH, row 5001\n  got: nan at position 2 of 'images/5000.png'\n"
            "  expected: finite numbers that float32 holds\n"
            "  next: compute the features of this image again, or remove its row"),
    "too large": (lambda folder: npz(folder, ids=np.array(IDS), x=broken(7, 1e300)),
                  "a feature is not finite\n  where: PATH, row 8\n"
                  "  got: 1e+300 at position 2 of 'images/007.png'\n  expected: finite numbers that float32 holds\n"
                  "  next: compute the features of this image again, or remove its row"),
    "lengths": (nulls([[1.0, 2.0], [1.0]]), "the vectors have different lengths\n  where: PATH, row 2\n  got: 1 numbers of 'b'\n"
                "  expected: 2, as in the first row"),
    "null vector": (nulls([[1.0, 2.0], None]), "an image has no vector\n  where: PATH, row 2\n  got: null of 'b'\n"
                    "  expected: numbers in every row"),
    "null number": (nulls([[1.0, 2.0], [None, 1.0]]),
                    "an image has no vector\n  where: PATH, row 2\n  got: null among its numbers of 'b'\n"
                    "  expected: numbers in every row"),
    "null in a column": (lambda folder: parquet(folder, {"id": ["a", "b"], "f0": [1.0, 2.0], "f1": pa.array([None, 1.0])}),
                         "an image has no vector\n  where: PATH, row 1\n  got: null in f1 of 'a'\n"
                         "  expected: numbers in every row"),
    "twice": (lambda folder: npy(folder, FEATURE_ND[:4], ["a", "b", "a", "a"]),
              "1 ids of the feature table are not unique\n  where: PATH\n  got: 'a' 3 times\n  expected: one row for each image"),
    "no ids": (lambda folder: parquet(folder, {"size": [1], "f0": [1.0], "f1": [1.0]}),
               "the feature table has no column of image ids\n  where: PATH\n  got: size, f0, f1\n"
               "  expected: a column id, file_name, path or similar"),
    "no vectors": (lambda folder: parquet(folder, {"id": ["a"], "size": [1.0]}),
                   "the vectors of the feature table are not found\n  where: PATH\n  got: id (string), size (double)\n"
                   "  expected: one column of lists of numbers, such as embedding; or a column for each position, such as f0, f1, "
                   "f2, ...\n  next: keep the id and the vectors alone"),
    "a gap": (lambda folder: parquet(folder, {"id": ["a"], "f0": [1.0], "f2": [1.0]}),
              "the vectors of the feature table are not found\n  where: PATH\n  got: id (string), f0 (double), f2 (double)\n"
              "  expected: one column of lists of numbers, such as embedding; or a column for each position, such as f0, f1, f2, "
              "...\n  next: keep the id and the vectors alone"),
    "empty id": (lambda folder: parquet(folder, {"id": ["a", None], "x": [[1.0], [2.0]]}),
                 "a row has no image id\n  where: PATH, row 2\n  expected: an id in every row"),
    "no row": (lambda folder: parquet(folder, {"id": pa.array([], pa.string()), "x": pa.array([], pa.list_(pa.float32()))}),
               "the feature table is empty\n  where: PATH\n  expected: a row for each image"),
    "one axis": (lambda folder: npz(folder, ids=np.array(["a"]), x=np.ones(3)),
                 "the features are not a table of numbers\n  where: PATH\n  got: x: float64 of shape (3,)\n"
                 "  expected: numbers of shape (images, features)"),
    "other counts": (lambda folder: npz(folder, ids=np.array(["a"]), x=np.ones((3, 2))),
                     "the ids do not match the vectors\n  where: PATH\n  got: 1 ids, 3 vectors\n  expected: as many"),
    "objects": (lambda folder: npz(folder, ids=np.array(["a", 1], dtype=object), x=np.ones((2, 2))),
                "arrays of Python objects are not supported\n  where: PATH\n"
                "  got: an array of dtype object, which can run any code when it is read\n  expected: a whole .npz file\n"
                "  next: save names as text, with np.array(names, dtype=str)"),
    "no array": (lambda folder: text(folder / "table.npz"),
                 "the feature table cannot be read\n  where: PATH\n  got: bytes that no array of NumPy begins with\n"
                 "  expected: a whole .npz file"),
    "several arrays": (lambda folder: npz(folder, ids=np.array(["a"]), one=np.ones((1, 2)), two=np.ones((1, 2))),
                       "the arrays of the feature table are not found\n  where: PATH\n  got: ids, one, two\n"
                       "  expected: the arrays ids and features\n  next: np.savez(path, ids=ids, features=features)"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named_with_its_row(case: str, tmp_path: Path):
    path = WRONG[case][0](tmp_path)
    with pytest.raises(DataError) as error:
        list(open_feature_table(path).batches())
    assert str(error.value) == WRONG[case][1].replace("PATH", str(path))


def test_files_that_are_no_feature_table(tmp_path: Path):
    (tmp_path / "table.csv").write_text("id,f0\na,1\n")
    np.save(tmp_path / "alone.npy", FEATURE_ND)
    for name, what in (
        ("table.csv", "no feature table"),
        ("none.npy", "the feature table does not exist"),
        ("alone.npy", "an NPY file has no ids"),
    ):
        with pytest.raises(DataError) as error:
            open_feature_table(tmp_path / name)
        assert error.value.what == what


@pytest.mark.parametrize("layout", ["list float", "columns", "npz", "npy"])
def test_damaged_files_are_errors_of_polytag(layout: str, tmp_path: Path):
    path = LAYOUTS[layout](tmp_path)
    content, chance = path.read_bytes(), random.Random(layout)
    for _ in range(40):
        damaged = bytearray(content)
        for _ in range(chance.randrange(1, 6)):
            near_an_end = chance.choice(
                (chance.randrange(2000), len(damaged) - 1 - chance.randrange(2000), chance.randrange(len(damaged)))
            )
            damaged[near_an_end] = chance.randrange(256)
        path.write_bytes(damaged[: chance.choice((len(damaged), chance.randrange(len(damaged))))])
        try:
            table = open_feature_table(path)
            assert sum(map(len, table.batches())) == len(table.ids)
        except PolytagError:
            pass


def dataset(ids: list[str], paths: list[str]) -> Dataset:
    return Dataset(
        ids=tuple(ids), paths=tuple(map(Path, paths)), target_NC=np.ones((len(ids), 1), np.int8), split_N=("train",) * len(ids),
        label_set=LabelSet(names=("cat",)), source="by hand",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("table_ids", "rows", "how"),
    [
        (["train/b.jpg", "train/a.jpg"], [1, 0], "id"),
        (["/data/train/b.jpg", "x", "/data/train/a.jpg"], [2, 0], "path"),
        (["b.jpg", "a.jpg", "c.jpg"], [1, 0], "file name"),
        (["features/b.pt", "features/a.pt"], [1, 0], "file name without its ending"),
        (["train/b.jpg", "z"], [-1, 0], "id"),
        (["b", "c"], [-1, 0], "file name without its ending"),
        (["x/b.jpg", "y/b.jpg", "train/a.jpg"], [2, -1], "id"),
    ],
)
def test_images_and_rows_are_joined_by_the_name_that_finds_most(table_ids: list[str], rows: list[int], how: str):
    found, by = rows_of_images(
        dataset(["train/a.jpg", "train/b.jpg"], ["/data/train/a.jpg", "/data/train/b.jpg"]), table_ids, source="t"
    )
    assert (found.tolist(), by) == (rows, how)


def test_a_table_of_other_images():
    with pytest.raises(PredictionsError) as error:
        rows_of_images(dataset(["Cat 1.jpg"], ["/Cat 1.jpg"]), ["cat 1.JPG"], source="t.parquet")
    assert str(error.value) == (
        "no image of the data is in the table\n  where: t.parquet\n  got: ids such as cat 1.JPG (1 in all)\n"
        "  expected: ids such as Cat 1.jpg (1 in all)\n"
        "  next: the ids differ only in capital letters or spaces: use the same spelling"
    )
