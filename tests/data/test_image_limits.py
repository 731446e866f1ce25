"""No image costs more memory or work than documented, whatever its header, its metadata or its scans say."""

import struct
import subprocess
import sys
import time
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polytag.data.images.limits import MAX_BYTES
from polytag.data.images.read import read_image, read_size
from polytag.errors import ImageError

ENOUGH_SECONDS = 3.0
"""Far above what a refusal takes (milliseconds), far below what each file here took (4 s to hours)."""


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(side: int = 48) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def after(content: bytes, position: int, part: bytes) -> bytes:
    return content[:position] + part + content[position:]


def progressive(size: tuple[int, int], num_more: int, *, between: bytes = b"") -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    content = encoded(Image.new("L", size, 128), "JPEG", progressive=True, quality=50)
    scan = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + (between + scan) * num_more + b"\xff\xd9"


def tiff_of_jpeg(size: tuple[int, int], content: bytes) -> bytes:
    entries = [(256, 4, size[0]), (257, 4, size[1]), (258, 3, 8), (259, 3, 7), (262, 3, 1), (273, 4, 200), (277, 3, 1)]
    entries += [(278, 4, size[1]), (279, 4, len(content))]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", tag, kind, 1, v) for tag, kind, v in entries)
    return (b"II*\0" + struct.pack("<I", 8) + directory + bytes(4)).ljust(200, b"\0") + content


def rle_bmp(side: int) -> bytes:
    rows = b"\0\0" * side + b"\0\1"
    start = 14 + 40 + 1024
    header = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(rows), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + header + bytes(range(256)) * 4 + rows


JPEG = encoded(noise(), "JPEG")
PNG = encoded(noise(), "PNG")
GIF = encoded(noise().quantize(16), "GIF")
WORK = {
    "jpeg-scans": lambda: progressive((7990, 7990), 300),
    "jpeg-scans-of-a-small-image": lambda: progressive((64, 64), 600),
    "jpeg-scans-behind-a-comment-that-looks-like-an-end": lambda: progressive((7990, 7990), 50, between=b"\xff\xfe\0\4\xff\xd9"),
    "jpeg-segments": lambda: after(JPEG, 2, b"\xff\xfe\0\2" * 1_000_000),
    "jpeg-tables": lambda: after(JPEG, 2, (b"\xff\xdb\xfd\xea" + (b"\0" + b"\1" * 64) * 1000) * 20),
    "png-chunks": lambda: after(PNG, 33, chunk(b"tEXt") * 200_000),
    "png-empty-pixels": lambda: after(PNG, 33, chunk(b"IDAT") * 200_000),
    "gif-blocks": lambda: after(GIF, GIF.index(b","), b"!\xfe" + b"\1x" * 1_000_000 + b"\0"),
    "tiff-scans": lambda: tiff_of_jpeg((6000, 6000), progressive((6000, 6000), 90)),
    "bmp-rle": lambda: rle_bmp(8000),
}


@pytest.mark.parametrize("name", WORK)
@pytest.mark.parametrize("enough_px", [None, 250])
def test_work_without_end_is_refused_at_once(name, enough_px):
    content = WORK[name]()
    start = time.process_time()
    with pytest.raises(ImageError, match="the image takes too much work to decode"):
        read_image(content, enough_px=enough_px)
    assert time.process_time() - start < ENOUGH_SECONDS


METADATA = {
    "png-text": lambda: after(PNG, 33, chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(70_000_000), 9))),
    "png-profile": lambda: after(PNG, 33, chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(5_000_000), 9))),
    "png-many-texts": lambda: after(PNG, 33, chunk(b"iTXt", b"note\0\1\0\0\0" + zlib.compress(bytes(1_000_000), 9)) * 90),
    "png-broken-text": lambda: after(PNG, 33, b"\0\0\0\5tEXthelloNONE"),
    "jpeg-exif": lambda: after(JPEG, 2, (b"\xff\xe1\xff\xff" + b"Exif\0\0" + bytes(65_527)) * 400),
    "jpeg-xmp": lambda: after(JPEG, 2, (b"\xff\xe1\xff\xff" + b"http://ns.adobe.com/xmp/extension/\0".ljust(65_533, b"x")) * 400),
    "jpeg-junk": lambda: after(JPEG, 20, bytes(5_000_000)),
    "gif-comment": lambda: after(GIF, GIF.index(b","), b"!\xfe" + (b"\xff" + b"x" * 255) * 60_000 + b"\0"),
    "gif-application": lambda: after(GIF, GIF.index(b","), b"!\xff" + (b"\xff" + b"x" * 255) * 60_000 + b"\0"),
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata_is_passed_over_and_the_pixels_stay(name):
    content = METADATA[name]()
    plain = {"p": PNG, "j": JPEG, "g": GIF}[name[0]]
    start = time.process_time()
    image = read_image(content)
    assert time.process_time() - start < ENOUGH_SECONDS
    np.testing.assert_array_equal(np.asarray(image), np.asarray(read_image(plain)))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_hundreds_of_frames_cost_as_much_as_the_first(kind, tmp_path):
    frames = [Image.fromarray(np.full((16, 16, 3), number % 256, np.uint8)) for number in range(600)]
    path = tmp_path / "frames"
    path.write_bytes(
        encoded(frames[7], kind, save_all=True, append_images=frames, **({"lossless": True} if kind == "WEBP" else {}))
    )
    start = time.process_time()
    image, size = read_image(path), read_size(path)
    assert time.process_time() - start < 0.5
    assert image.getpixel((3, 3)) == (7, 7, 7)
    assert size == (16, 16)


def test_a_common_progressive_image_of_many_megapixels_is_read():
    content = encoded(Image.new("RGB", (6000, 4000), (90, 60, 30)), "JPEG", progressive=True, subsampling=0)
    assert content.count(b"\xff\xda") == 10
    assert read_image(content).size == (6000, 4000)


@pytest.mark.parametrize("kind", ["scans", "junk"])
def test_what_is_left_out_of_a_jpeg_does_not_change_its_pixels(kind):
    """Against Pillow's own decoder, which sees the whole file."""
    content = encoded(
        noise(200), "JPEG", progressive=kind == "scans", icc_profile=bytes(200_000), comment=b"x" * 60_000, quality=95
    )
    with Image.open(BytesIO(content)) as oracle:
        np.testing.assert_array_equal(np.asarray(read_image(content)), np.asarray(oracle.convert("RGB")))


# Memory

BIG = {
    "webp": lambda: encoded(Image.new("RGB", (5600, 5600), (9, 9, 9)), "WEBP", lossless=True),
    "webp-alpha": lambda: encoded(Image.new("RGBA", (5600, 5600), (9, 9, 9, 40)), "WEBP", lossless=True),
    "webp-too-large": lambda: encoded(Image.new("RGB", (11300, 11300), (9, 9, 9)), "WEBP", lossless=True),
    "png-16": lambda: encoded(Image.new("I;16", (9200, 9200)), "PNG"),
    "png-16-too-large": lambda: encoded(Image.new("I;16", (11300, 11300)), "PNG"),
    "png-alpha": lambda: encoded(Image.new("RGBA", (8000, 8000), (1, 2, 3, 100)), "PNG"),
    "png-palette": lambda: encoded(Image.new("P", (10_000, 10_000)), "PNG", transparency=0),
    "gif": lambda: encoded(Image.new("P", (8000, 8000)), "GIF", transparency=0),
    "jpeg-progressive": lambda: encoded(Image.new("RGB", (7000, 7000), (1, 2, 3)), "JPEG", progressive=True, subsampling=0),
    "jpeg-cmyk": lambda: encoded(Image.new("CMYK", (7900, 7900)), "JPEG"),
    "tiff-float": lambda: encoded(Image.new("F", (6000, 6000)), "TIFF", compression="tiff_lzw"),
    "tiff-one-strip": lambda: encoded(Image.new("RGB", (7900, 7900)), "TIFF", compression="tiff_lzw", strip_size=10**9),
    "tiff-lab": lambda: encoded(Image.new("LAB", (7900, 7900)), "TIFF"),
}
PEAK = """
import sys, warnings
from pathlib import Path
from polytag.data.images.read import read_image
from polytag.errors import ImageError

def peak():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))

before = peak()
try:
    read_image(Path(sys.argv[1]))
    answer = "read"
except ImageError as error:
    answer = error.what
print(peak() - before, answer)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
@pytest.mark.parametrize("name", BIG)
def test_memory_stays_within_the_documented_half_gigabyte(name, tmp_path):
    """A process of its own for each, near the limit of its kind or far above it; what Pillow allocates in addition is a few MB."""
    path = tmp_path / name
    path.write_bytes(BIG[name]())
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", PEAK, path], capture_output=True, text=True, check=True)
    num_bytes, _, answer = done.stdout.strip().partition(" ")
    assert int(num_bytes) < 1.05 * MAX_BYTES
    assert answer == ("the image takes too much memory to decode" if name.endswith("too-large") else "read")


def test_what_too_much_memory_says():
    with pytest.raises(ImageError) as error:
        read_image(encoded(Image.new("RGBA", (9000, 9000)), "PNG"))
    assert str(error.value) == (
        "the image takes too much memory to decode\n  got: 648,000,000 bytes for 9000 x 9000 pixels\n"
        "  expected: at most 512,000,000 bytes\n  next: make the image smaller: models read a few hundred pixels per side"
    )
