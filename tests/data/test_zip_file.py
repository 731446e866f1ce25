"""Zip files of strangers: what Python's zipfile finds is found, and whatever is unsafe, too large or broken is one clear error."""

import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytag.data.images.container import MAX_IMAGE_BYTES
from polytag.data.images.stored import open_image, stored_places
from polytag.errors import AnnotationError, ImageError

NAMES = st.lists(
    st.text(st.characters(exclude_characters="/\\\0", exclude_categories=("Cs",)), min_size=1, max_size=8).filter(
        lambda part: part not in (".", "..")
    ),
    min_size=1,
    max_size=3,
)


@given(st.lists(st.tuples(NAMES, st.binary(max_size=50), st.booleans()), max_size=6, unique_by=lambda each: "/".join(each[0])))
@settings(max_examples=25)
def test_the_names_and_bytes_are_those_that_zipfile_finds(tmp_path_factory: pytest.TempPathFactory, members):
    path = tmp_path_factory.mktemp("zip") / "s.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.mkdir("folder")
        archive.comment = b"a comment"
        for parts, content, is_packed in members:
            method = zipfile.ZIP_DEFLATED if is_packed else zipfile.ZIP_STORED
            archive.writestr(zipfile.ZipInfo("/".join(parts)), content, method)
    with zipfile.ZipFile(path) as archive:
        wanted = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    assert {place: open_image(path / place).read() for place in stored_places(path)} == wanted


def written(
    path: Path, name: str = "a.png", content: bytes = b"x" * 100, method: int = zipfile.ZIP_DEFLATED, mode: int = 0
) -> None:
    info = zipfile.ZipInfo(name)
    info.external_attr, info.create_system = mode << 16, 3
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, content, method)


def changed(path: Path, at: int, form: str, *values: int, of: bytes = b"PK\1\2") -> None:
    """Write numbers into the first record of a kind."""
    written(path)
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, content.index(of) + at, *values)
    path.write_bytes(content)


def twice(path: Path) -> None:
    archive = zipfile.ZipFile(path, "w")
    archive.writestr("a.png", b"1")
    with pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a.png", b"2")
    archive.close()


def overlapping(path: Path) -> None:
    """Two names for the same bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"1" * 50)
        archive.writestr("b.png", b"1" * 50)
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.rindex(b"PK\1\2") + 42, 0)
    path.write_bytes(content)


LISTED: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "cut short, or is none"),
    "no zip file": (lambda path: path.write_bytes(b"GIF89a" * 300), "cut short, or is none"),
    "leaves": (lambda path: written(path, "../a.png"), "a path that leaves it"),
    "leaves by a backslash": (lambda path: written(path, "..\\a.png"), "a path that leaves it"),
    "absolute": (lambda path: written(path, "/a.png"), "a path that leaves it"),
    "a link": (lambda path: written(path, mode=stat.S_IFLNK | 0o777), "a symbolic link"),
    "a device": (lambda path: written(path, mode=stat.S_IFCHR | 0o600), "a special file"),
    "bzip2": (lambda path: written(path, method=zipfile.ZIP_BZIP2), "'a.png': bzip2"),
    "encrypted": (lambda path: changed(path, 8, "<H", 1), "'a.png': encryption"),
    "twice": (twice, "two files of one name"),
    "overlapping": (overlapping, "members that overlap"),
    "outside": (lambda path: changed(path, 42, "<I", 5000), "lies outside the file"),
    "long": (lambda path: changed(path, 20, "<I", 5000), "lies outside the file"),
    "large, nowhere": (lambda path: changed(path, 20, "<I", 0xFFFFFFFF), "no ZIP64 field"),
    "more entries": (lambda path: changed(path, 8, "<HH", 9, 9, of=b"PK\5\6"), "a directory of 9 entries"),
    "several parts": (lambda path: changed(path, 4, "<H", 1, of=b"PK\5\6"), "one of several parts"),
    "elsewhere": (lambda path: changed(path, 16, "<I", 3, of=b"PK\5\6"), "a directory of 1 entries"),
}


@pytest.mark.parametrize("case", LISTED)
def test_a_zip_file_that_is_not_listed(case: str, tmp_path: Path):
    write, message = LISTED[case]
    write(tmp_path / "a.zip")
    with pytest.raises(AnnotationError) as error:
        stored_places(tmp_path / "a.zip")
    assert message in str(error.value)
    assert error.value.where == str(tmp_path / "a.zip")


READ: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bomb": (lambda path: written(path, content=bytes(1 << 24)), ""),
    "a bomb that says less": (lambda path: changed(path, 24, "<I", 10), "unpacks to another size"),
    "says more": (lambda path: changed(path, 24, "<I", 1000), "another checksum or size"),
    "says too much": (lambda path: changed(path, 24, "<I", MAX_IMAGE_BYTES + 1), "no image of this size"),
    "another checksum": (lambda path: changed(path, 16, "<I", 7), "another checksum or size"),
    "no header": (lambda path: changed(path, 0, "<I", 0, of=b"PK\3\4"), "no header of a member"),
    "broken": (lambda path: changed(path, 35, "<I", 0xFFFFFFFF, of=b"PK\3\4"), "a member that cannot be unpacked"),
}


@pytest.mark.parametrize("case", READ)
def test_a_member_that_is_not_what_the_directory_says(case: str, tmp_path: Path):
    write, message = READ[case]
    write(tmp_path / "a.zip")
    (place,) = stored_places(tmp_path / "a.zip")
    if not message:  # 16 MiB in 16 kB: what it holds is judged by the reader of images
        assert open_image(tmp_path / "a.zip" / place).read() == bytes(1 << 24)
        return
    with pytest.raises(ImageError) as error:
        open_image(tmp_path / "a.zip" / place)
    assert message in str(error.value)


def member(name: bytes, content: bytes, at: int, *, is_large: bool = False) -> tuple[bytes, bytes]:
    """A stored member and its entry in the directory; a large one has its sizes in the ZIP64 field."""
    crc, size = zlib.crc32(content), len(content)
    local = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 45, 0, 0, 0, 0, crc, size, size, len(name), 0) + name + content
    field = struct.pack("<HHQQ", 1, 16, size, size) if is_large else b""
    shown = 0xFFFFFFFF if is_large else size
    sizes = (crc, shown, shown, len(name), len(field))
    return local, struct.pack("<4sBBHHHHHIIIHHHHHII", b"PK\1\2", 45, 3, 45, 0, 0, 0, 0, *sizes, 0, 0, 0, 0, at) + name + field


def test_numbers_that_need_zip64(tmp_path: Path):
    """A member whose sizes are in the ZIP64 field, and more members than the record of 1989 can count; zipfile agrees."""
    local, entry = member(b"a.png", b"abc", 0, is_large=True)
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, len(entry), len(local), 0)
    (tmp_path / "one.zip").write_bytes(local + entry + end)
    assert zipfile.ZipFile(tmp_path / "one.zip").read("a.png") == open_image(tmp_path / "one.zip" / "a.png").read() == b"abc"

    count, at = 65_600, 0
    members: list[tuple[bytes, bytes]] = []
    for number in range(count):
        members.append(member(b"%d.png" % number, b"", at))
        at += len(members[-1][0])
    files, directory = (b"".join(parts) for parts in zip(*members, strict=True))
    large = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(directory), len(files))
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, len(files) + len(directory), 1)
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    (tmp_path / "many.zip").write_bytes(files + directory + large + locator + end)
    assert stored_places(tmp_path / "many.zip") == zipfile.ZipFile(tmp_path / "many.zip").namelist()
    (tmp_path / "lost.zip").write_bytes(files + directory + large + locator.replace(b"PK\6\7", b"PK\6\0") + end)
    with pytest.raises(AnnotationError, match="no ZIP64 locator"):
        stored_places(tmp_path / "lost.zip")
