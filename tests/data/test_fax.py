"""A fax image is read with every row or not at all: every row against Pillow's decoder, and damage that libtiff passes over."""

import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from polytag.data.images import tiff
from polytag.data.images.fax import fax_rows
from polytag.data.images.read import read_image
from polytag.errors import ImageError

OPTIONS, FILL_ORDER, ROWS_PER_STRIP, PHOTOMETRIC = 292, 266, 278, 262
WRITERS = {
    "rows-on-bytes": ("tiff_ccitt", {}),
    "group3": ("group3", {}),
    "group3-in-strips-lowest-bit-first": ("group3", {ROWS_PER_STRIP: 7, FILL_ORDER: 2}),
    "group3-ends-on-bytes": ("group3", {OPTIONS: 4}),
    "group3-2d": ("group3", {OPTIONS: 1}),
    "group3-2d-ends-on-bytes-in-strips": ("group3", {OPTIONS: 5, ROWS_PER_STRIP: 16}),
    "group4": ("group4", {}),
    "group4-in-strips-lowest-bit-first": ("group4", {ROWS_PER_STRIP: 7, FILL_ORDER: 2}),
    "group4-white-is-zero": ("group4", {PHOTOMETRIC: 0}),
}


def noise(height: int = 40, width: int = 77, share: float = 0.5) -> np.ndarray:
    return np.random.default_rng(0).random((height, width)) < share


def every_run() -> np.ndarray:
    """A row for each length around which the code words change, white and black."""
    lengths = [*range(66), *(length + step for length in range(128, 2624, 64) for step in (-1, 0, 1)), 2624, 5300]
    columns = np.arange(11_000)
    return np.stack([(columns >= length) & (columns < 2 * length) for length in lengths])


IMAGES = {
    "noise": noise,
    "sparse": lambda: noise(60, 333, 0.02),
    "blocks": lambda: np.kron(noise(9, 9), np.ones((5, 13))).astype(bool),
    "white": lambda: np.zeros((50, 70), bool),
    "black": lambda: np.ones((50, 71), bool),
    "one-column": lambda: noise(40, 1),
    "one-row": lambda: noise(1, 90),
    "every-run": every_run,
}


def written(image: np.ndarray, writer: str = "group4") -> bytes:
    buffer = BytesIO()
    compression, tags = WRITERS[writer]
    Image.fromarray(image).save(buffer, "TIFF", compression=compression, tiffinfo=tags)
    return buffer.getvalue()


def strips(content: bytes) -> list[tuple[int, int]]:
    tags = TiffImageFile(BytesIO(content)).tag_v2
    return list(zip(tags[273], tags[279], strict=True))


def pixels(content: bytes) -> np.ndarray:
    """As the runs say, without libtiff; white as in the file."""
    tags = TiffImageFile(BytesIO(content)).tag_v2
    width, rows_left = tags[256], tags[257]
    painted: list[np.ndarray] = []
    for start, size in strips(content):
        rows = fax_rows(
            content[start : start + size],
            width=width,
            num_rows=min(rows_left, tags[ROWS_PER_STRIP]),
            compression=tags[259],
            options=tags.get(OPTIONS, 0),
            lowest_bit_first=tags.get(FILL_ORDER) == 2,
        )
        painted += [(np.searchsorted(row, np.arange(width), side="right") % 2 == 1) ^ (tags[PHOTOMETRIC] == 0) for row in rows]
        rows_left = tags[257] - len(painted)
    return np.array(painted)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("image", IMAGES)
def test_every_pixel_is_as_pillow_decodes_it(image, writer):
    image_HW = IMAGES[image]()
    content = written(image_HW, writer)
    np.testing.assert_array_equal(pixels(content), image_HW)
    np.testing.assert_array_equal(np.asarray(read_image(content))[:, :, 0] > 0, image_HW)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("damage", ["zeros-from-here", "zeros", "garbage", "one-bit"])
def test_what_is_damaged_is_refused_or_decodes_without_a_word_from_libtiff(writer, damage, capfd):
    """Damage may mean another row of the same width: then libtiff finds no fault either, and decodes the same row."""
    content = written(noise(), writer)
    rng = np.random.default_rng(1)
    start, size = strips(content)[0]
    num_refused = 0
    for position in range(start, start + size - 16, max(1, size // 60)):
        broken = bytearray(content)
        if damage == "one-bit":
            broken[position] ^= 1 << int(rng.integers(8))
        else:
            stop = start + size if damage == "zeros-from-here" else position + 12
            broken[position:stop] = rng.bytes(stop - position) if damage == "garbage" else bytes(stop - position)
        try:
            got = np.asarray(read_image(bytes(broken)))[:, :, 0] > 0
        except ImageError as error:
            num_refused += "fax data" in error.got
        else:
            np.testing.assert_array_equal(got, pixels(bytes(broken)))
    assert num_refused > 40
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("writer", ["rows-on-bytes", "group3", "group3-2d", "group4"])
def test_a_strip_that_is_cut_lacks_rows(writer):
    content = written(noise(), writer)
    tags = TiffImageFile(BytesIO(content)).tag_v2
    ((start, size),) = strips(content)
    end = {"rows-on-bytes": 0, "group3": 0, "group3-2d": 0, "group4": 3}[writer]  # of group 4 the mark of the end, of no row
    for length in range(size - end - 1):
        with pytest.raises(ValueError, match="fax data end, or are damaged"):
            list(
                fax_rows(
                    content[start : start + length],
                    width=77,
                    num_rows=40,
                    compression=tags[259],
                    options=tags.get(OPTIONS, 0),
                )
            )


def line(*words: str) -> str:
    return "".join(words)


END, WHITE_2, BLACK_3 = "000000000001", "0111", "10"


def packed(bits: str) -> bytes:
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8)


@pytest.mark.parametrize(
    "bits",
    [
        line(*[END + WHITE_2 + BLACK_3] * 4),
        line(*[END + WHITE_2 + BLACK_3] * 4) + END * 6,
        line(*[WHITE_2 + BLACK_3 + END] * 4),
        line(*[WHITE_2 + BLACK_3] * 4),
        line(*["0" * 9 + END + WHITE_2 + BLACK_3] * 4),
    ],
    ids=["ends-before", "return-to-control", "ends-behind", "no-ends", "filled"],
)
def test_ends_of_lines_may_stand_where_writers_put_them(bits):
    assert list(fax_rows(packed(bits), width=5, num_rows=4, compression=3)) == [[2, 5]] * 4


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        (line(*[END + WHITE_2 + BLACK_3] * 3) + END * 6, "row 4 of 4"),
        (line(*[END + WHITE_2 + BLACK_3] * 2) + line(*[WHITE_2 + BLACK_3] * 2), "2 of 4 rows of fax data have no end"),
        (line(*[END + WHITE_2 + BLACK_3] * 4) + "1" * 30, "bits are left after row 4"),
        (END + WHITE_2 + "11" + line(*[END + WHITE_2 + BLACK_3] * 3), "row 1 of 4"),
        (END + WHITE_2 + "011" + line(*[END + WHITE_2 + BLACK_3] * 3), "row 1 of 4"),
        ("0", "row 1 of 4"),
    ],
    ids=["early-return-to-control", "ends-are-lost", "more-behind", "short", "long", "no-data"],
)
def test_rows_that_are_missing_or_of_another_width_are_refused(bits, message):
    with pytest.raises(ValueError, match=message):
        list(fax_rows(packed(bits), width=5, num_rows=4, compression=3))


def test_runs_of_no_pixels_join_their_neighbours():
    """Rows of more than 2,623 pixels of a colour are sometimes written in parts."""
    white_2560, white_64, white_0, black_0 = "000000011111", "11011", "00110101", "0000110111"
    parts = white_2560 + white_0 + black_0 + white_64 + white_0
    assert list(fax_rows(packed(parts), width=2624, num_rows=1, compression=3)) == [[2560, 2560, 2624]]
    copy = packed(END + "1" + parts + END + "0" + "1")
    assert list(fax_rows(copy, width=2624, num_rows=2, compression=3, options=1))[1] == [2624]


def test_rows_may_begin_at_every_second_byte():
    white_64 = packed("11011" + "00110101")
    assert len(white_64) == 2
    assert list(fax_rows(white_64 * 3, width=64, num_rows=3, compression=32771)) == [[64]] * 3
    with pytest.raises(ValueError, match="row 2 of 3"):
        list(fax_rows(packed("10011" * 2) * 3, width=8, num_rows=3, compression=2))
    assert list(fax_rows(packed("10011" * 2) * 3, width=8, num_rows=3, compression=32771)) == [[8]] * 3


def tiled(image_HW: np.ndarray, *, num_tiles: int = 2) -> bytes:
    """Tiles of 16 x 32 pixels, one beside the other; of fewer tiles than the image needs if asked."""
    parts = [written(tile) for tile in np.split(image_HW, image_HW.shape[1] // 32, axis=1)[:num_tiles]]
    data = [part[start : start + size] for part in parts for start, size in strips(part)]
    starts = [400 + sum(map(len, data[:number])) for number in range(len(data))]
    entries = [(256, 4, [image_HW.shape[1]]), (257, 4, [16]), (258, 3, [1]), (259, 3, [4]), (262, 3, [1]), (277, 3, [1])]
    entries += [(322, 4, [32]), (323, 4, [16]), (324, 4, starts), (325, 4, [len(each) for each in data])]
    directory, values = struct.pack("<H", len(entries)), b""
    for tag, kind, value in entries:
        at = 200 + len(values)
        is_inside = len(value) == 1
        directory += struct.pack("<HHII", tag, kind, len(value), value[0] if is_inside else at)
        values += b"" if is_inside else struct.pack(f"<{len(value)}I", *value)
    return ((b"II*\0" + struct.pack("<I", 8) + directory + bytes(4)).ljust(200, b"\0") + values).ljust(400, b"\0") + b"".join(data)


def test_tiles_are_checked_as_strips_are():
    image = noise(16, 64)
    content = tiled(image)
    np.testing.assert_array_equal(np.asarray(read_image(content))[:, :, 0] > 0, image)
    with pytest.raises(ImageError, match=r"the fax data end, or are damaged, in row 1 of 16"):
        read_image(content[:400] + bytes(20) + content[420:])


def test_fewer_strips_than_rows_are_refused():
    content = bytearray(written(noise(), "group4"))
    entry = content.index(struct.pack("<HH", ROWS_PER_STRIP, 3))
    struct.pack_into("<HHIH", content, entry, ROWS_PER_STRIP, 3, 1, 25)
    with pytest.raises(ImageError, match=r"(15 rows of fax data are missing|bits are left after row 25)"):
        read_image(bytes(content))


def test_a_fax_image_that_takes_long_to_check_is_refused(monkeypatch):
    content = written(noise())
    monkeypatch.setattr(tiff, "_MAX_FAX_BYTES", 100)
    with pytest.raises(ImageError, match=r"too much work to decode.*\n.*bytes of fax data for 40 rows"):
        read_image(content)
