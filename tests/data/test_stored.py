"""Images inside tar, zip, Arrow and Parquet files: the same bytes as on the disk, and one clear error for whatever is wrong."""

import io
import itertools
import os
import random
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from polytag.data.cache.image_cache import images_key
from polytag.data.check import check
from polytag.data.convert import convert
from polytag.data.images import order, parquet_file
from polytag.data.images.order import blocks_of, epoch_order
from polytag.data.images.read import read_image, read_size
from polytag.data.images.stored import (
    image_status,
    is_image_there,
    open_image,
    row_container,
    stored_places,
    tar_members,
    unpacked_with,
)
from polytag.data.load import load_dataset
from polytag.errors import AnnotationError, ImageError


def content_of(number: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (6, 5 + number % 7, 3), np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


CONTENTS = [content_of(number) for number in range(40)]
Write = Callable[[Path], None]


def write_tar(
    path: Path, contents: Sequence[bytes] = CONTENTS, *, format: int = tarfile.PAX_FORMAT, name: str = "{:04}.png"
) -> None:
    with tarfile.open(path, "w", format=format) as archive:
        for number, content in enumerate(contents):
            member = tarfile.TarInfo(name.format(number))
            member.size, member.mtime = len(content), number + 0.5
            archive.addfile(member, io.BytesIO(content))


def write_zip(path: Path, *, method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for number, content in enumerate(CONTENTS):
            archive.writestr(f"{number:04}.png", content)


def table(contents: list[bytes | None] | None = None) -> pa.Table:
    contents = list(CONTENTS) if contents is None else contents
    return pa.table(
        {
            "image": pa.array(
                [{"bytes": content, "path": f"{number}.png"} for number, content in enumerate(contents)],
                pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
            ),
            "labels": [[number % 3] for number in range(len(contents))],
        }
    )


def arrow(make: Callable[..., pa.RecordBatchFileWriter]) -> Write:
    def write(path: Path) -> None:
        whole = table()
        with pa.OSFile(str(path), "wb") as sink, make(sink, whole.schema) as writer:
            for batch in whole.to_batches(max_chunksize=7):
                writer.write_batch(batch)

    return write


def parquet(**options: object) -> Write:
    return lambda path: pq.write_table(table(), path, row_group_size=15, **options)  # pyright: ignore[reportArgumentType]


PLAIN = {"compression": "none", "use_dictionary": False}
WRITERS: dict[str, tuple[str, Write]] = {
    "tar, pax": ("s.tar", write_tar),
    "tar, gnu": ("s.tar", lambda path: write_tar(path, format=tarfile.GNU_FORMAT)),
    "tar, ustar": ("S.TAR", lambda path: write_tar(path, format=tarfile.USTAR_FORMAT)),
    "zip, stored": ("s.zip", write_zip),
    "zip, deflated": ("S.ZIP", lambda path: write_zip(path, method=zipfile.ZIP_DEFLATED)),
    "arrow stream": ("s.arrow", arrow(pa.ipc.new_stream)),
    "arrow file": ("s.arrow", arrow(pa.ipc.new_file)),
    "parquet as datasets writes": ("s.parquet", parquet(**PLAIN, use_content_defined_chunking=True, write_page_index=True)),
    "parquet, plain, small pages": ("s.parquet", parquet(**PLAIN, data_page_size=400, write_batch_size=1)),
    "parquet, plain, version 2": ("s.parquet", parquet(**PLAIN, data_page_version="2.0", data_page_size=400, write_batch_size=2)),
    "parquet as pyarrow writes": ("s.parquet", parquet()),
    "parquet, zstd": ("s.parquet", parquet(compression="zstd", use_dictionary=False)),
    "parquet, lengths apart": ("s.parquet", parquet(**PLAIN, column_encoding={"image.bytes": "DELTA_LENGTH_BYTE_ARRAY"})),
}


@pytest.fixture(params=WRITERS)
def container(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    name, write = WRITERS[request.param]
    write(tmp_path / name)
    return tmp_path / name


def test_every_image_has_the_bytes_that_were_put_in(container: Path):
    places = stored_places(container)
    assert len(places) == len(CONTENTS)
    order = random.Random(0).sample(range(len(places)), len(places))
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda row: open_image(container / places[row]).read(), order))
    assert read == [CONTENTS[row] for row in order]
    path = container / places[3]
    assert np.array_equal(np.asarray(read_image(path)), np.asarray(read_image(CONTENTS[3])))
    assert read_size(path) == read_image(CONTENTS[3]).size
    assert is_image_there(path)
    assert image_status(path).st_size == container.stat().st_size


def test_a_place_that_does_not_exist(container: Path):
    inside = stored_places(container)[0]
    for place in ("nothing.png", f"{inside}/x", "image/40", "image/-1", "image/1e1", "labels/0", "image/99999999999999999999"):
        assert not is_image_there(container / place)
        with pytest.raises(ImageError, match=r"^the image is missing\n.*\n  got: no (file|row|column)"):
            read_image(container / place)


def test_messages_say_what_there_is(tmp_path: Path):
    write_tar(tmp_path / "a.tar")
    pq.write_table(table(), tmp_path / "a.parquet")
    expected = "  expected: a JPEG, PNG, WebP, BMP, GIF or TIFF file"
    for place, got in (
        ("a.tar/1.png", "no file of this name in the tar file"),
        ("a.parquet/image/41", "no row 41; the file has 40 rows, from 0 on"),
        ("a.parquet/img/1", "no column of images of this name; columns of images: 'image'"),
        ("b.tar/1.png", "no such file"),
    ):
        with pytest.raises(ImageError) as error:
            read_image(tmp_path / place)
        assert str(error.value) == f"the image is missing\n  where: {tmp_path / place}\n  got: {got}\n{expected}"


def test_a_row_without_bytes_is_an_empty_image(tmp_path: Path):
    for name, options in (("plain", PLAIN), ("packed", {})):
        contents: list[bytes | None] = [None if row % 3 == 1 else content for row, content in enumerate(CONTENTS)]
        pq.write_table(table(contents), tmp_path / f"{name}.parquet", **options)
        assert [open_image(tmp_path / f"{name}.parquet/image/{row}").read() or None for row in range(40)] == contents
        with pytest.raises(ImageError, match="the image is empty"):
            read_image(tmp_path / f"{name}.parquet/image/1")


@given(st.lists(st.none() | st.binary(max_size=30), min_size=1, max_size=60), st.integers(1, 90), st.booleans())
@settings(max_examples=15)
def test_a_plain_column_holds_what_was_written(tmp_path_factory: pytest.TempPathFactory, contents, page_bytes: int, is_v2: bool):
    path = tmp_path_factory.mktemp("plain") / "s.parquet"
    pages = {"data_page_size": page_bytes, "write_batch_size": 1 + page_bytes % 5, "data_page_version": "2.0" if is_v2 else "1.0"}
    pq.write_table(table(contents), path, **PLAIN, **pages, row_group_size=25)
    assert [open_image(path / place).read() for place in stored_places(path)] == [content or b"" for content in contents]


# Python's tarfile as an oracle.
NAMES = st.lists(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60).filter(
    lambda name: name.strip(".") and name.strip()), min_size=1, max_size=5)  # fmt: skip


@given(st.lists(NAMES, max_size=5, unique_by="/".join), st.sampled_from((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)))
@settings(max_examples=20)
def test_the_names_and_bytes_are_those_that_tarfile_finds(tmp_path_factory: pytest.TempPathFactory, names, format: int):
    path = tmp_path_factory.mktemp("tar") / "s.tar"
    with tarfile.open(path, "w", format=format, encoding="utf-8") as archive:
        for number, parts in enumerate(names):
            member = tarfile.TarInfo("./" * (number % 2) + "/".join(parts))
            member.size = 100 * number
            archive.addfile(member, io.BytesIO(bytes([number]) * member.size))
    with tarfile.open(path, encoding="utf-8") as archive:
        wanted = [(member.name.removeprefix("./"), member.offset_data, member.size) for member in archive]
    found = [member for member, _ in tar_members(path)]
    assert [(member.name, member.offset, member.size) for member in found] == wanted


def test_the_content_of_small_files_comes_with_their_names(tmp_path: Path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in (("1.png", b"pixels"), ("1.json", b"{}"), ("2.JSON", b"[]"), ("big.json", b" " * 100)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    found = tar_members(tmp_path / "a.tar", with_content=(".json",), max_bytes=50)
    assert [(member.name, content) for member, content in found] == [
        ("1.png", b""), ("1.json", b"{}"), ("2.JSON", b"[]"), ("big.json", b"")]  # fmt: skip


# ---- bad input ----


def refused(path: Path) -> str:
    with pytest.raises(AnnotationError) as error:
        stored_places(path)
    return str(error.value)


def special(kind: bytes, name: str = "a.png", **fields: object) -> Write:
    def write(path: Path) -> None:
        with tarfile.open(path, "w") as archive:
            member = tarfile.TarInfo(name)
            member.type = kind
            for field, value in fields.items():
                setattr(member, field, value)
            archive.addfile(member)

    return write


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (special(tarfile.SYMTYPE, linkname="/etc/passwd"), "more than regular files and folders\n*'a.png': a symbolic link"),
        (special(tarfile.LNKTYPE, linkname="b.png"), "more than regular files and folders\n*'a.png': a hard link"),
        (special(tarfile.FIFOTYPE), "more than regular files and folders\n*'a.png': a pipe"),
        (special(tarfile.REGTYPE, pax_headers={"GNU.sparse.major": "1"}), "more than regular files and folders\n*a sparse file"),
        (special(tarfile.REGTYPE, "../a.png"), "a path that leaves it\n*'../a.png'"),
        (special(tarfile.REGTYPE, "/a.png"), "a path that leaves it\n*'/a.png'"),
        (lambda path: write_tar(path, name="a.png"), "two files of one name\n*'a.png'"),
        (lambda path: path.write_bytes(b"\x1f\x8b" + bytes(2000)), "a compressed tar file\n*gunzip"),
        (lambda path: path.write_bytes(b"GIF89a" * 200), "a broken header\n*at byte 0"),
        (lambda path: path.write_bytes(b""), "is cut short\n*end of the file at byte 0"),
    ],
)  # fmt: skip
def test_a_tar_file_that_is_not_images(write: Write, message: str, tmp_path: Path):
    write(tmp_path / "a.tar")
    text = refused(tmp_path / "a.tar")
    what, _, got = message.partition("\n*")
    assert what in text.split("\n")[0]
    assert f"where: {tmp_path / 'a.tar'}" in text
    assert got in text
    with pytest.raises(ImageError):
        read_image(tmp_path / "a.tar" / "a.png")


def test_a_member_that_claims_more_than_the_file_has(tmp_path: Path):
    write_tar(tmp_path / "a.tar", [b"x" * 5000], format=tarfile.USTAR_FORMAT)
    content = bytearray((tmp_path / "a.tar").read_bytes())
    content[124:136] = b"77777777777\0"
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    (tmp_path / "a.tar").write_bytes(content)
    assert refused(tmp_path / "a.tar") == (
        f"a tar file is cut short, or its header is broken\n  where: {tmp_path / 'a.tar'}\n"
        f"  got: a member of 8,589,934,591 bytes at byte 0 of {len(content):,}\n  expected: members inside the file\n"
        "  next: write or fetch the file again"
    )


def test_a_file_that_is_cut_anywhere(container: Path, tmp_path: Path):
    whole = container.read_bytes()
    trailer = 2 * 512 if container.suffix.lower() == ".tar" else 1
    stop = len(whole.rstrip(b"\0")) if container.suffix.lower() == ".tar" else len(whole) - trailer
    for number, size in enumerate(np.linspace(0, stop, 7).astype(int).tolist()):
        cut = tmp_path / f"{number}{container.suffix}"
        cut.write_bytes(whole[:size])
        assert "cut short" in refused(cut)


def test_a_file_that_was_changed_while_it_is_used(container: Path):
    path = container / stored_places(container)[0]
    read_image(path)
    os.utime(container, ns=(1, 1))
    with pytest.raises(ImageError) as error:
        read_image(path)
    assert str(error.value) == (
        f"the file was changed after its images were listed\n  where: {container}\n  got: another size or time of change\n"
        "  expected: the file as it was\n  next: read the data set, or list the images, again"
    )
    assert not is_image_there(path)
    stored_places(container)  # what is listed again is read again
    read_image(path)
    whole = container.read_bytes()
    os.truncate(container, len(whole) // 2)  # in place: no mapped memory may be read now
    with pytest.raises(ImageError, match="was changed"):
        read_image(path)
    container.unlink()
    with pytest.raises(ImageError, match="the image is missing"):
        read_image(path)


def test_row_groups_too_large_to_unpack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pq.write_table(table(), tmp_path / "a.parquet")
    monkeypatch.setattr(parquet_file, "MAX_ROW_GROUP_BYTES", 1000)
    with pytest.raises(ImageError, match="row groups that are too large") as error:
        read_image(tmp_path / "a.parquet" / "image" / "1")
    assert error.value.next_step == "write it again with row_group_size=100, or with compression='none', use_dictionary=False"


def test_a_file_without_images_has_no_places(tmp_path: Path):
    pq.write_table(table().select(["labels"]), tmp_path / "a.parquet")
    assert stored_places(tmp_path / "a.parquet") == []
    assert row_container(tmp_path / "a.parquet").column_names == ()


@pytest.mark.parametrize(
    "kind", ["tar, pax", "zip, deflated", "arrow stream", "parquet as datasets writes", "parquet as pyarrow writes"]
)
def test_a_hundred_mutations_end_in_bytes_or_in_a_message(kind: str, tmp_path: Path):
    name, write = WRITERS[kind]
    write(tmp_path / name)
    whole, rng = (tmp_path / name).read_bytes(), np.random.default_rng(0)
    edges = [*range(600), *range(len(whole) - 3000, len(whole))]  # where the structure is
    for number in range(100):
        content = bytearray(whole)
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.choice(edges)) if number % 2 else int(rng.integers(len(whole)))
            content[at] = int(rng.integers(256))
        path = tmp_path / f"{number}{Path(name).suffix}"
        path.write_bytes(content)
        try:
            for place in stored_places(path)[::8]:
                open_image(path / place).read()
        except (AnnotationError, ImageError, FileNotFoundError):
            pass
        path.unlink()


def test_the_key_of_a_cache_changes_with_the_file_and_with_the_place(tmp_path: Path):
    write_tar(tmp_path / "a.tar")
    first, second = tmp_path / "a.tar" / "0001.png", tmp_path / "a.tar" / "0002.png"
    key = images_key([first], "views")
    assert key == images_key([first], "views") != images_key([second], "views")
    os.utime(tmp_path / "a.tar", ns=(1, 1))
    assert images_key([first], "views") != key


def test_a_folder_with_the_name_of_a_tar_file_is_a_folder(tmp_path: Path):
    (tmp_path / "a.tar").mkdir()
    (tmp_path / "a.tar" / "1.png").write_bytes(CONTENTS[1])
    with open_image(tmp_path / "a.tar" / "1.png") as file:
        assert file.read() == CONTENTS[1]
    write_tar(tmp_path / "a.tar" / "b.tar")
    assert open_image(tmp_path / "a.tar" / "b.tar" / "0001.png").read() == CONTENTS[1]


# ---- the order of training ----


def test_an_epoch_is_one_permutation_where_nothing_has_to_be_unpacked(container: Path):
    places = [container / place for place in stored_places(container)]
    assert blocks_of(places) is None  # this little fits into the window
    assert epoch_order(40, seed=3, epoch=2).tolist() == np.random.default_rng((3, 2)).permutation(40).tolist()


@pytest.mark.parametrize("num_windows", [2, 5])
def test_row_groups_are_unpacked_once_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_windows: int):
    """Groups of 15, 15 and 10 images, and 10 loose ones, which go anywhere."""
    pq.write_table(table(), tmp_path / "packed.parquet", row_group_size=15)
    pq.write_table(table(), tmp_path / "plain.parquet", **PLAIN)
    paths = [tmp_path / "packed.parquet" / f"image/{row}" for row in range(40)]
    loose = [tmp_path / "plain.parquet" / f"image/{row}" for row in range(9)] + [tmp_path / "none.png"]
    parts = [part for path in paths if (part := unpacked_with(path)) is not None]
    assert [part[1] for part in parts] == [0] * 15 + [1] * 15 + [2] * 10
    assert all(unpacked_with(path) is None for path in loose)
    num_bytes = sum(bytes_ for _, _, bytes_ in set(parts))
    monkeypatch.setattr(order, "WINDOW_BYTES", num_bytes // num_windows)
    blocks = blocks_of([*paths, *loose])
    orders = [epoch_order(50, seed=0, epoch=epoch, blocks=blocks).tolist() for epoch in range(20)]
    for rows in orders:
        assert sorted(rows) == list(range(50))
        groups = [parts[row][1] for row in rows if row < 40]
        if num_windows == 5:  # each group is a window of its own
            assert sum(before != after for before, after in itertools.pairwise(groups)) == 2
    assert len({tuple(rows) for rows in orders}) == 20
    assert len({rows.index(40) * 3 // 50 for rows in orders}) == 3  # a loose image is in any part of an epoch
    assert epoch_order(50, seed=0, epoch=1, blocks=blocks).tolist() == orders[1]


# ---- where images are used ----


@pytest.mark.parametrize("name", ["s.tar", "s.parquet"])
def test_a_table_may_list_them_and_what_is_converted_is_read_back(name: str, tmp_path: Path):
    write_tar(tmp_path / name) if name == "s.tar" else pq.write_table(table(), tmp_path / name)
    places = stored_places(tmp_path / name)
    rows = [f"{name}/{place},{'ab'[row % 2]},train" for row, place in enumerate(places)]
    (tmp_path / "labels.csv").write_text("\n".join(["file_name,labels,split", *rows]) + "\n")
    dataset = load_dataset(tmp_path / "labels.csv")
    assert dataset.paths == tuple(tmp_path / name / place for place in places)
    found = check(dataset)
    assert not found.unreadable
    assert not found.duplicates
    again = load_dataset(convert(dataset, tmp_path / "again.csv", to="csv"))
    assert (again.paths, again.target_NC.tolist()) == (dataset.paths, dataset.target_NC.tolist())
    voc = load_dataset(convert(dataset, tmp_path / "voc", to="voc"))
    assert [path.suffix for path in voc.paths] == [".png"] * len(CONTENTS)
    assert [path.read_bytes() for path in voc.paths] == CONTENTS


def test_an_image_that_a_table_lists_but_the_file_lacks(tmp_path: Path):
    write_tar(tmp_path / "a.tar")
    (tmp_path / "labels.csv").write_text("file_name,labels\na.tar/0001.png,a\na.tar/9999.png,b\n")
    with pytest.raises(AnnotationError, match="a listed image does not exist") as error:
        load_dataset(tmp_path / "labels.csv")
    assert error.value.where == f"{tmp_path / 'labels.csv'}:3"
