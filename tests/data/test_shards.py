"""Data sets with their images inside: Hugging Face's shards and saved folders, webdataset's tar files, datumaro's Arrow."""

import contextlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from polytag.contracts import PRESENT, UNKNOWN, Dataset
from polytag.data.formats.recognise import recognise
from polytag.data.images.stored import open_image
from polytag.data.load import load_dataset
from polytag.data.read_options import ReadOptions
from polytag.errors import AnnotationError, DataError, PolytagError

COMMUNITY = Path(__file__).parents[2] / "../shared/cases/community"
CLASS_LABEL = {"names": ["dog", "cat", "bird"], "_type": "ClassLabel"}
PATHS = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def image(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4 + number, 5), (9 * number, 0, 0)).save(file, "PNG")
    return file.getvalue()


def labels_of(dataset: Dataset) -> dict[str, list[str] | None]:
    return {
        name: None if (row == UNKNOWN).all() else [dataset.label_set.names[c] for c in np.flatnonzero(row == PRESENT)]
        for name, row in zip(dataset.ids, dataset.target_NC, strict=True)
    }


def hf_table(
    columns: Mapping[str, list[object]], features: Mapping[str, object], *, first: int = 0, bytes_: bool = True
) -> pa.Table:
    count = len(next(iter(columns.values())))
    images = [{"bytes": image(first + row) if bytes_ else None, "path": f"{first + row}.png"} for row in range(count)]
    info = json.dumps({"info": {"features": {"image": {"_type": "Image"}, **features}}})
    table = pa.table({"image": pa.array(images, PATHS), **columns})
    return table.replace_schema_metadata({"huggingface": info})


def write_parquet(path: Path, columns: Mapping[str, list[object]], features: Mapping[str, object], **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(hf_table(columns, features, **options), path)  # pyright: ignore[reportArgumentType]


LISTS = {"feature": CLASS_LABEL, "_type": "List"}


def write_shards(folder: Path) -> None:
    write_parquet(folder / "data/train-00000-of-00002.parquet", {"labels": [[0, 1], []]}, {"labels": LISTS})
    write_parquet(folder / "data/train-00001-of-00002.parquet", {"labels": [[1], None]}, {"labels": LISTS}, first=2)
    write_parquet(folder / "data/validation-00000-of-00001.parquet", {"labels": [[0]]}, {"labels": LISTS}, first=4)


def test_parquet_shards_with_the_names_of_their_classes(tmp_path: Path):
    write_shards(tmp_path)
    dataset = load_dataset(tmp_path)
    assert recognise(tmp_path) == "hf"
    assert dataset.label_set.names == ("dog", "cat", "bird")
    assert labels_of(dataset) == {"0.png": ["dog", "cat"], "1.png": [], "2.png": ["cat"], "3.png": None, "4.png": ["dog"]}
    assert dataset.split_N == ("train", "train", "train", "train", "val")
    assert dataset.paths[2] == tmp_path / "data/train-00001-of-00002.parquet/image/0"
    assert [open_image(path).read() for path in dataset.paths] == [image(number) for number in range(5)]
    assert dict(dataset.interpretation.found)["images"] == "inside train-00000-of-00002.parquet and 2 more"
    one = load_dataset(tmp_path / "data/validation-00000-of-00001.parquet")
    assert labels_of(one) == {"4.png": ["dog"]}


@pytest.mark.parametrize(
    ("columns", "features", "options", "labels"),
    [
        ({"label": [2, -1]}, {"label": CLASS_LABEL}, {}, [["bird"], None]),
        ({"fine": [2, 0], "height": [5, 6]}, {"fine": CLASS_LABEL}, {}, [["bird"], ["dog"]]),
        ({"labels": [["b", "a"], []]}, {"labels": {"feature": {"dtype": "string"}, "_type": "Sequence"}}, {}, [["a", "b"], []]),
        ({"tags": ["a|b", "b"]}, {}, {}, [["a", "b"], ["b"]]),
        ({"a": [1, 0], "b": [1, None]}, {}, {}, [["a", "b"], []]),
        ({"x": [[0], [1]], "y": [[1], [2]]}, {"x": [CLASS_LABEL], "y": LISTS}, {"labels_column": "y"}, [["cat"], ["bird"]]),
    ],
)
def test_the_columns_that_labels_may_be_in(columns, features, options, labels, tmp_path: Path):
    write_parquet(tmp_path / "train.parquet", columns, features)
    assert list(labels_of(load_dataset(tmp_path, options=ReadOptions(**options))).values()) == labels


def test_two_columns_of_labels_are_asked_about(tmp_path: Path):
    write_parquet(tmp_path / "train.parquet", {"x": [0], "y": [1]}, {"x": CLASS_LABEL, "y": CLASS_LABEL})
    with pytest.raises(AnnotationError, match="several columns of labels") as error:
        load_dataset(tmp_path)
    assert (error.value.got, error.value.next_step) == ("x, y", "name it with the option labels_column")


def test_shards_without_bytes_say_so_or_use_the_files(tmp_path: Path):
    write_parquet(tmp_path / "set/train.parquet", {"labels": [["a"], ["b"]]}, {}, bytes_=False)
    with pytest.raises(AnnotationError) as error:
        load_dataset(tmp_path / "set")
    assert str(error.value) == (
        f"a shard that names its images but does not hold them\n  where: {tmp_path / 'set/train.parquet'}\n"
        "  got: no bytes in column 'image', only names such as '0.png'\n"
        "  expected: the bytes of the images, or image files of these names\n"
        "  next: name the folder of the images with the option image_dirs (--image-dir); or write the data set with "
        "`save_to_disk` or `push_to_hub`, which put the images in"
    )
    (tmp_path / "images").mkdir()
    for number in range(2):
        (tmp_path / f"images/{number}.png").write_bytes(image(number))
    dataset = load_dataset(tmp_path / "set", options=ReadOptions(image_dirs=(str(tmp_path / "images"),)))
    assert dataset.paths == (tmp_path / "images/0.png", tmp_path / "images/1.png")


def test_missing_shards_are_asked_about(tmp_path: Path):
    write_shards(tmp_path)
    (tmp_path / "data/train-00001-of-00002.parquet").unlink()
    with pytest.raises(AnnotationError, match=r"some shards are missing\n.*\n  got: 1 of 2 shards of 'train'"):
        load_dataset(tmp_path)
    assert len(load_dataset(tmp_path, options=ReadOptions(accept_doubts=True))) == 3


def test_a_class_number_without_a_name(tmp_path: Path):
    write_parquet(tmp_path / "train.parquet", {"labels": [[0], [3]]}, {"labels": LISTS})
    with pytest.raises(AnnotationError, match=r"a class number without a name\n.*train.parquet, column 'labels', row 1\n  got: 3"):
        load_dataset(tmp_path)


def test_several_configurations(tmp_path: Path):
    for name in ("large", "small"):
        write_parquet(tmp_path / name / "train.parquet", {"labels": [["a"]]}, {})
    with pytest.raises(DataError, match="several data sets in one folder"):
        load_dataset(tmp_path)


def write_saved(folder: Path) -> None:
    for number, name in enumerate(("train", "test")):
        (folder / name).mkdir(parents=True)
        table = hf_table({"labels": [[0, 2], [1]]}, {"labels": LISTS}, first=2 * number)
        with (
            pa.OSFile(str(folder / name / "data-00000-of-00001.arrow"), "wb") as sink,
            pa.ipc.new_stream(sink, table.schema) as writer,
        ):
            writer.write_table(table, max_chunksize=1)
        (folder / name / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))


def test_a_folder_of_save_to_disk(tmp_path: Path):
    write_saved(tmp_path)
    dataset = load_dataset(tmp_path)
    assert dataset.split_N == ("train", "train", "test", "test")
    assert labels_of(dataset) == {"0.png": ["dog", "bird"], "1.png": ["cat"], "2.png": ["dog", "bird"], "3.png": ["cat"]}
    assert [open_image(path).read() for path in dataset.paths] == [image(number) for number in range(4)]
    assert load_dataset(tmp_path / "train").splits == ("train",)


# ---- webdataset ----


def write_tar(path: Path, files: Mapping[str, bytes | str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            content = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize(
    ("files", "labels"),
    [
        ({"1.json": '{"labels": ["b", "a"]}', "2.json": '{"labels": []}'}, [["a", "b"], []]),
        ({"1.json": '{"tags": {"a": 1, "b": 0}}', "2.json": '{"tags": {"b": true}}'}, [["a"], ["b"]]),
        ({"1.json": '["a"]', "2.json": '"b"'}, [["a"], ["b"]]),
        ({"1.cls": "0", "2.cls": "1 0"}, [["0"], ["0", "1"]]),
        ({"1.txt": "a, b", "2.txt": "b"}, [["a", "b"], ["b"]]),
        ({"1.txt": "a\nb\n", "2.txt": ""}, [["a", "b"], []]),
        ({"1.json": '{"label": 1}', "1.txt": "a caption, and more"}, [["1"], None]),
    ],
)
def test_the_files_that_labels_may_be_in(files, labels, tmp_path: Path):
    write_tar(tmp_path / "train-000000.tar", {"1.png": image(1), "2.png": image(2), **files})
    dataset = load_dataset(tmp_path)
    assert (recognise(tmp_path), dataset.splits) == ("webdataset", ("train",))
    assert list(labels_of(dataset).values()) == labels
    assert open_image(dataset.paths[1]).read() == image(2)


def test_numbers_are_the_classes_of_a_list_beside_the_shards(tmp_path: Path):
    write_tar(tmp_path / "val/0000.tar", {"a/1.png": image(1), "a/1.cls": "2"})
    write_tar(tmp_path / "train/0000.tar", {"a/1.png": image(2), "a/1.cls": "0"})
    (tmp_path / "classes.txt").write_text("dog\ncat\nbird\n")
    dataset = load_dataset(tmp_path)
    assert dataset.label_set.names == ("dog", "cat", "bird")
    assert list(zip(dataset.split_N, dataset.ids, dataset.target_NC.argmax(axis=1).tolist(), strict=True)) == [
        ("train", "a/1.png", 0), ("val", "a/1.png", 2)]  # fmt: skip


def test_names_that_two_shards_share_have_the_shard_in_front(tmp_path: Path):
    for number in range(2):
        write_tar(tmp_path / f"train-{number:06}.tar", {"1.png": image(number), "1.cls": str(number)})
    assert load_dataset(tmp_path).ids == ("train-000000/1.png", "train-000001/1.png")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"1.a.png": b"", "1.b.png": b""}, "a sample with two images\n*train.tar/1\n*'1.a.png' and '1.b.png'"),
        ({"1.png": b"", "1.json": '{"width": 3}'}, "no labels in the JSON of a sample\n*train.tar/1.json\n*the keys width"),
        ({"1.png": b"", "1.json": "{"}, "malformed JSON\n*train.tar/1.json"),
        ({"1.png": b"", "1.json": '{"label": 0.5}'}, "labels that are no list\n*train.tar/1.json\n*0.5"),
        ({"1.png": b"", "1.txt": "a" * 2**21}, "a file of labels is too large\n*train.tar/1.txt\n*2,097,152 bytes"),
        ({"1.png": b"", "1.txt": b"\xff"}, "not UTF-8\n*train.tar/1.txt"),
        ({"1.png": b""}, "no class was found"),
        ({"1.txt": "a"}, "no class was found"),
    ],
)  # fmt: skip
def test_samples_that_cannot_be_read(files, message: str, tmp_path: Path):
    write_tar(tmp_path / "train.tar", files)
    with pytest.raises(PolytagError) as error:
        load_dataset(tmp_path)
    assert all(part in str(error.value) for part in message.split("\n*"))


# ---- the tools' own files, and damaged ones ----


@pytest.mark.parametrize(("name", "format"), [("hf-saved", "hf"), ("webdataset", "webdataset"), ("dm-arrow", "datumaro-arrow")])
def test_what_the_tools_wrote_has_the_labels_of_the_truth(name: str, format: str):
    if not (COMMUNITY / name).is_dir():
        pytest.skip("the files of the tools are not beside this checkout (../shared)")
    truth = json.loads((COMMUNITY / "truth.json").read_text())
    dataset = load_dataset(COMMUNITY / name)
    assert dataset.interpretation.format == format
    assert dataset.label_set.names == tuple(truth["classes"])
    wanted = {(row["id"], row["split"]): sorted(row["labels"]) for row in truth["rows"]}
    found = labels_of(dataset)
    assert {
        (Path(name).stem, split): sorted(found[name] or ()) for name, split in zip(dataset.ids, dataset.split_N, strict=True)
    } == wanted
    assert open_image(dataset.paths[-1]).read(2) == b"\xff\xd8"


@pytest.mark.parametrize("kind", ["parquet", "arrow", "tar"])
def test_a_hundred_mutations_end_in_data_or_in_a_message(kind: str, tmp_path: Path):
    if kind == "parquet":
        write_parquet(tmp_path / "whole/train.parquet", {"labels": [[0, 1], [2]]}, {"labels": LISTS})
    elif kind == "arrow":
        write_saved(tmp_path / "whole")
    else:
        write_tar(tmp_path / "whole/train.tar", {"1.png": image(1), "1.json": '{"labels": ["a"]}', "2.png": image(2), "2.cls": "1"})
    path = next(path for path in (tmp_path / "whole").rglob("*") if path.suffix == f".{kind}")
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(100):
        content = bytearray(whole)
        for _ in range(int(rng.integers(1, 4))):
            content[int(rng.integers(len(whole)))] = int(rng.integers(256))
        path.write_bytes(content[: int(rng.integers(len(whole)))] if rng.random() < 0.2 else content)
        with contextlib.suppress(PolytagError):
            load_dataset(tmp_path / "whole")
