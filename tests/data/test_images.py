"""One decoding policy: what each kind of file becomes, and what each broken one says."""

import os
import random
import re
import struct
import threading
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, TiffImagePlugin

from polytag.data.images.read import MAX_PIXELS, read_image
from polytag.errors import ImageError

WIDTH, HEIGHT = 48, 32
ORIENTATION = 274


def scene() -> Image.Image:
    """A smooth colour image without any symmetry, so that every turn of it differs."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    red, green, blue = 5 * x, 7 * y, 2 * x + 3 * y
    return Image.fromarray(np.stack([red, green, blue], axis=-1).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


LOSSLESS = {
    "png": ("PNG", {}),
    "bmp": ("BMP", {}),
    "webp": ("WEBP", {"lossless": True}),
    "tiff": ("TIFF", {}),
    "tiff-lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "tiff-deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "tiff-big": ("TIFF", {"big_tiff": True}),
}


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("as_file", [False, True], ids=["bytes", "file"])
def test_a_lossless_file_gives_its_pixels_back(name, as_file, tmp_path):
    kind, options = LOSSLESS[name]
    source = encoded(scene(), kind, **options)
    if as_file:
        path = tmp_path / "wrong-suffix.txt"  # the first bytes tell the format, not the name
        path.write_bytes(source)
        source = path
    np.testing.assert_array_equal(pixels(read_image(source)), pixels(scene()))


@pytest.mark.parametrize(
    ("kind", "options"), [("JPEG", {"quality": 95}), ("JPEG", {"quality": 95, "progressive": True}), ("WEBP", {"quality": 95})]
)
def test_a_lossy_file_stays_close(kind, options):
    assert np.abs(pixels(read_image(encoded(scene(), kind, **options))) - pixels(scene())).mean() < 3


def test_a_plain_jpeg_is_decoded_as_pillow_does_it():
    content = encoded(scene(), "JPEG")
    np.testing.assert_array_equal(pixels(read_image(content)), np.asarray(Image.open(BytesIO(content))))


def test_the_image_outlives_its_file(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(scene(), "JPEG"))
    image = read_image(path)
    path.unlink()
    image.putpixel((0, 0), (1, 2, 3))
    assert image.resize((8, 8)).size == (8, 8)


# Grey of every depth


def grey16() -> np.ndarray:
    return np.linspace(0, 65535, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH).astype(np.uint16)


def tiff_grey(value_HW: np.ndarray, *, bits: int, photometric: int = 1, sample_format: int = 1, order: str = "<") -> bytes:
    """An uncompressed grey TIFF, written here by hand: Pillow cannot write most of these."""
    height, width = value_HW.shape
    if bits == 12:
        pairs = value_HW.reshape(-1, 2).astype(np.uint16)
        packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=1)
        data = packed.astype(np.uint8).tobytes()
    else:
        data = value_HW.astype(value_HW.dtype.newbyteorder(order)).tobytes()
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, height)]
    tags += [(279, len(data)), (339, sample_format)]
    entries = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in tags)
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(data))
    return header + data + struct.pack(order + "H", len(tags)) + entries + struct.pack(order + "I", 0)


GREY16 = {
    "png": lambda: encoded(Image.fromarray(grey16()), "PNG"),
    "tiff": lambda: encoded(Image.fromarray(grey16()), "TIFF"),
    "tiff-lzw": lambda: encoded(Image.fromarray(grey16()), "TIFF", compression="tiff_lzw"),
    "tiff-little": lambda: tiff_grey(grey16(), bits=16),
    "tiff-big": lambda: tiff_grey(grey16(), bits=16, order=">"),
    "tiff-12-bit": lambda: tiff_grey(grey16() >> 4, bits=12),
    "tiff-signed": lambda: tiff_grey((grey16().astype(np.int32) - 32768).astype(np.int16), bits=16, sample_format=2),
    "tiff-uint32": lambda: tiff_grey(grey16().astype(np.uint32) * 65537, bits=32),
    "tiff-int32": lambda: tiff_grey(grey16().astype(np.int32) - 32768, bits=32, sample_format=2),
    "tiff-float": lambda: tiff_grey(grey16().astype(np.float32) / 65535, bits=32, sample_format=3),
    "tiff-float-negative": lambda: tiff_grey(grey16().astype(np.float32) - 1e6, bits=32, sample_format=3),
}


@pytest.mark.parametrize("name", GREY16)
def test_a_gradient_of_many_bits_stays_a_gradient(name):
    rgb = pixels(read_image(GREY16[name]()))
    expected_HW = grey16() / 257
    assert np.abs(rgb - expected_HW[..., None]).max() <= 1
    assert rgb.min() == 0
    assert rgb.max() == 255


def test_sixteen_bit_levels_round_to_the_nearest():
    value_HW = np.array([[0, 128, 129, 257, 32767, 32768, 65406, 65407, 65535]], dtype=np.uint16)
    levels = pixels(read_image(encoded(Image.fromarray(value_HW), "PNG")))[0, :, 0]
    assert levels.tolist() == [0, 0, 1, 1, 127, 128, 254, 255, 255]


def test_a_dark_sixteen_bit_image_stays_dark():
    value_HW = np.full((4, 4), 257 * 20, dtype=np.uint16)
    assert set(pixels(read_image(encoded(Image.fromarray(value_HW), "PNG"))).ravel()) == {20}


@pytest.mark.parametrize("bits", [16, 32])
def test_white_is_zero_is_turned_round(bits):
    value_HW = grey16() if bits == 16 else grey16().astype(np.float32)
    content = tiff_grey(value_HW, bits=bits, photometric=0, sample_format=1 if bits == 16 else 3)
    assert np.abs(pixels(read_image(content)) - (255 - grey16() / 257)[..., None]).max() <= 1


def test_float_values_that_are_not_numbers_do_not_spoil_the_rest():
    value_HW = np.array([[0.0, 0.5, 1.0, np.nan, np.inf, -np.inf]], dtype=np.float32)
    levels = pixels(read_image(tiff_grey(value_HW, bits=32, sample_format=3)))[0, :, 0]
    assert levels.tolist() == [0, 128, 255, 0, 255, 0]
    for value in (np.nan, 7.0):
        flat = np.full((2, 2), value, dtype=np.float32)
        assert pixels(read_image(tiff_grey(flat, bits=32, sample_format=3))).max() == 0


def test_the_widest_float_range_does_not_overflow():
    limit = np.finfo(np.float32).max
    value_HW = np.array([[-limit, 0, limit]], dtype=np.float32)
    assert pixels(read_image(tiff_grey(value_HW, bits=32, sample_format=3)))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_eight_bit_grey(kind):
    grey = scene().convert("L")
    content = encoded(grey, kind, **({"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}))
    assert np.abs(pixels(read_image(content)) - np.asarray(grey).astype(int)[..., None]).max() <= (4 if kind == "JPEG" else 0)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF"])
def test_one_bit(kind):
    bits = scene().convert("1")
    np.testing.assert_array_equal(pixels(read_image(encoded(bits, kind)))[..., 0], np.asarray(bits) * 255)


# Colour in other spaces


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF"])
def test_palette(kind):
    indexed = scene().quantize(64)
    np.testing.assert_array_equal(pixels(read_image(encoded(indexed, kind))), pixels(indexed.convert("RGB")))


def test_sixteen_bit_colour_keeps_its_high_byte():
    """A PNG of two bytes a sample, written here by hand: Pillow cannot write one."""
    rgb = pixels(scene())
    rows = b"".join(b"\0" + (row * 257).astype(">u2").tobytes() for row in rgb)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(pixels(read_image(content)), rgb)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def test_cmyk_jpeg_as_adobe_writes_it_inverted():
    content = encoded(scene().convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in content
    assert np.abs(pixels(read_image(content)) - pixels(scene())).mean() < 4


def test_cmyk_tiff():
    np.testing.assert_array_equal(pixels(read_image(encoded(scene().convert("CMYK"), "TIFF"))), pixels(scene()))


def test_ycbcr_tiff():
    content = encoded(scene().convert("YCbCr"), "TIFF")
    assert Image.open(BytesIO(content)).mode == "YCbCr"
    assert np.abs(pixels(read_image(content)) - pixels(scene())).max() <= 3


def test_lab_tiff():
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    lab = ImageCms.applyTransform(scene(), to_lab)
    content = encoded(lab, "TIFF")
    assert Image.open(BytesIO(content)).mode == "LAB"
    assert np.abs(pixels(read_image(content)) - pixels(scene())).mean() < 3


# Transparency


def over_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    weight = alpha[..., None] / 255
    return rgb * weight + 255 * (1 - weight)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_alpha_shows_white(kind):
    alpha = np.linspace(0, 255, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH).astype(np.uint8)
    rgba = scene().convert("RGBA")
    rgba.putalpha(Image.fromarray(alpha))
    content = encoded(rgba, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    assert np.abs(pixels(read_image(content)) - over_white(pixels(scene()), alpha)).max() <= 1


def test_opaque_alpha_changes_nothing():
    np.testing.assert_array_equal(pixels(read_image(encoded(scene().convert("RGBA"), "PNG"))), pixels(scene()))


def test_black_ink_on_nothing_is_not_lost():
    """A drawing whose colour is black everywhere and whose shape is in its alpha: without a background it is all black."""
    alpha = np.zeros((8, 8), np.uint8)
    alpha[2:6, 2:6] = 255
    grey_alpha = Image.merge("LA", [Image.new("L", (8, 8), 0), Image.fromarray(alpha)])
    np.testing.assert_array_equal(pixels(read_image(encoded(grey_alpha, "PNG")))[..., 0], 255 - alpha)


def test_palette_with_a_transparent_entry():
    indexed = Image.new("P", (2, 1))
    indexed.putpalette([10, 20, 30, 40, 50, 60])
    indexed.putdata([0, 1])
    for kind in ("PNG", "GIF"):
        content = encoded(indexed, kind, transparency=0)
        assert pixels(read_image(content)).tolist() == [[[255, 255, 255], [40, 50, 60]]]
    content = encoded(indexed, "PNG", transparency=bytes([0, 128]))
    assert np.abs(pixels(read_image(content))[0] - [[255, 255, 255], [147, 152, 157]]).max() <= 1


@pytest.mark.parametrize(("mode", "key", "other"), [("RGB", (1, 2, 3), (9, 8, 7)), ("L", 5, 6), ("1", 0, 1)])
def test_a_colour_declared_transparent(mode, key, other):
    image = Image.new(mode, (2, 1), other)
    image.putpixel((0, 0), key)
    content = encoded(image, "PNG", transparency=key)
    assert pixels(read_image(content))[0, 0].tolist() == [255, 255, 255]
    assert pixels(read_image(content))[0, 1].tolist() == pixels(image.convert("RGB"))[0, 1].tolist()


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP"])
def test_the_first_frame_of_several(kind):
    second = ImageOps.invert(scene()).quantize(32)
    first = scene().quantize(32)
    if kind == "WEBP":
        first, second = first.convert("RGB"), second.convert("RGB")
    content = encoded(first, kind, save_all=True, append_images=[second], **({"lossless": True} if kind == "WEBP" else {}))
    assert Image.open(BytesIO(content)).n_frames == 2
    np.testing.assert_array_equal(pixels(read_image(content)), pixels(first.convert("RGB")))


# Orientation

STORED_AS = {  # how a camera that writes this value stores the upright image: the inverse of what EXIF 2.3 asks of the viewer
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


def with_orientation(value: int, kind: str, **options) -> bytes:
    stored = Image.fromarray(np.ascontiguousarray(STORED_AS[value](np.asarray(scene()))))
    exif = Image.Exif()
    exif[ORIENTATION] = value
    if kind == "TIFF":
        return encoded(stored, kind, tiffinfo={ORIENTATION: value}, **options)
    return encoded(stored, kind, exif=exif, **options)


@pytest.mark.parametrize("value", STORED_AS)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
    ids=["jpeg", "png", "webp", "tiff", "tiff-lzw"],
)
def test_every_orientation_comes_out_upright(value, kind, options):
    content = with_orientation(value, kind, **options)
    image = read_image(content)
    assert image.size == (WIDTH, HEIGHT)
    assert np.abs(pixels(image) - pixels(scene())).max() <= (8 if kind == "JPEG" else 0)
    oracle = ImageOps.exif_transpose(Image.open(BytesIO(content)))
    np.testing.assert_array_equal(pixels(image), np.asarray(oracle))


@pytest.mark.parametrize("value", STORED_AS)
def test_a_jpeg_that_is_only_shown_small_is_decoded_small_and_upright(value):
    large = scene().resize((800, 602), Image.Resampling.BICUBIC)
    stored = Image.fromarray(np.ascontiguousarray(STORED_AS[value](np.asarray(large))))
    exif = Image.Exif()
    exif[ORIENTATION] = value
    content = encoded(stored, "JPEG", quality=95, exif=exif)
    for enough_px, size in [(100, (100, 76)), (101, (200, 151)), (400, (400, 301)), (401, (800, 602))]:
        small = read_image(content, enough_px=enough_px)
        assert small.size == size
        assert np.abs(pixels(small) - pixels(large.resize(size, Image.Resampling.BOX))).mean() < 4


@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation_in_either_byte_order(order):
    exif = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, 1)
    exif += struct.pack(order + "HHIHH", ORIENTATION, 3, 1, 6, 0) + bytes(4)
    content = encoded(Image.new("RGB", (5, 3)), "PNG", exif=exif)
    assert read_image(content).size == (3, 5)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0junk"]
)
def test_a_broken_exif_block_leaves_the_image_as_stored(exif):
    np.testing.assert_array_equal(
        pixels(read_image(encoded(scene(), "JPEG", exif=exif))), pixels(read_image(encoded(scene(), "JPEG")))
    )


def test_a_stated_orientation_out_of_range_is_upright():
    exif = Image.Exif()
    exif[ORIENTATION] = 9
    assert read_image(encoded(scene(), "PNG", exif=exif)).size == (WIDTH, HEIGHT)


# Errors: the whole message


def message(source: Path | bytes, **options) -> str:
    with pytest.raises(ImageError) as error:
        read_image(source, **options)
    return str(error.value)


ALL = "JPEG, PNG, WebP, BMP, GIF or TIFF"


def test_no_file(tmp_path):
    path = tmp_path / "none.jpg"
    assert message(path) == f"the image is missing\n  where: {path}\n  got: no such file\n  expected: a {ALL} file"


def test_an_empty_file(tmp_path):
    path = tmp_path / "empty.jpg"
    path.touch()
    assert message(path) == f"the image is empty\n  where: {path}\n  got: 0 bytes\n  expected: a {ALL} file"
    assert message(b"") == f"the image is empty\n  got: 0 bytes\n  expected: a {ALL} file"


def test_a_folder(tmp_path):
    assert message(tmp_path) == f"the image is not a file\n  where: {tmp_path}\n  got: a folder\n  expected: a {ALL} file"


def test_a_pipe_does_not_block(tmp_path):
    path = tmp_path / "pipe.jpg"
    os.mkfifo(path)
    assert message(path) == f"the image is not a file\n  where: {path}\n  got: a device or a pipe\n  expected: a {ALL} file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path):
    path = tmp_path / "locked.jpg"
    path.write_bytes(encoded(scene(), "JPEG"))
    path.chmod(0)
    assert message(path) == (
        f"the image cannot be opened\n  where: {path}\n  got: Permission denied\n  expected: a file that can be read"
    )


def test_a_link_to_itself(tmp_path):
    path = tmp_path / "loop.jpg"
    path.symlink_to(path)
    assert message(path) == (
        f"the image cannot be opened\n  where: {path}\n  got: Too many levels of symbolic links\n"
        "  expected: a file that can be read"
    )


def test_a_name_with_a_nul_character():
    what, where, got, expected = message(Path("a\0b.jpg")).splitlines()
    assert (what, where) == ("the image cannot be opened", "  where: a\0b.jpg")
    assert re.fullmatch(r"  got: (stat: )?embedded null (byte|character in path)", got)  # as the version of Python says it
    assert expected == "  expected: a file that can be read"


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG, a vector drawing"),
        (b"\n<?xml version='1.0'?><svg/>", "XML, perhaps an SVG drawing"),
        (b"<!DOCTYPE html><title>404</title>", "an HTML page, perhaps an error page saved by a download"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),
        (b"%PDF-1.7\n", "PDF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0", "HEIF"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "AVIF"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "a video file"),
        (b"8BPS\0\1", "a Photoshop file"),
        (b"\0\0\1\0\1\0", "an icon"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer instead of the file; `git lfs pull` fetches it"),
        (b"hello", "a file that begins with b'hello'"),
    ],
)
def test_another_format(content, got):
    assert message(content) == (
        f"not an image in a known format\n  got: {got}\n  expected: {ALL}\n  next: convert the image, or remove it"
    )


def test_formats_that_pillow_would_open_are_refused_all_the_same():
    for kind in ("PPM", "TGA", "ICO", "PCX", "EPS", "JPEG2000", "DDS"):
        assert message(encoded(scene(), kind)).startswith("not an image in a known format\n")


# The cap on pixels


def test_a_small_file_that_claims_many_pixels_is_refused_from_its_header():
    content = encoded(Image.new("1", (13_000, 13_000)), "PNG")
    assert len(content) < 30_000
    assert message(content) == (
        "the image has too many pixels\n  got: 13000 x 13000 pixels\n  expected: at most 128,000,000 pixels\n"
        "  next: make the image smaller: models read a few hundred pixels per side"
    )


def headers_only() -> dict[str, bytes]:
    """Files of a few bytes that claim 60,000 x 60,000 pixels (WebP: 16,000, near its limit) and hold none."""
    side = 60_000
    jpeg = encoded(scene(), "JPEG")
    start = jpeg.index(b"\xff\xc0")
    gif = encoded(scene().convert("L"), "GIF")
    webp = encoded(scene(), "WEBP", lossless=False)
    frame = webp.index(b"\x9d\x01\x2a") + 3
    return {
        "PNG": b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", b"")
        + chunk(b"IEND", b""),
        "JPEG": jpeg[: start + 5] + struct.pack(">HH", side, side) + jpeg[start + 9 :],
        "GIF": gif[:6] + struct.pack("<HH", side, side) + gif[10:],
        "BMP": b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0),
        "TIFF": tiff_grey(np.zeros((1, 1), np.uint8), bits=8)
        .replace(struct.pack("<HHII", 256, 4, 1, 1), struct.pack("<HHII", 256, 4, 1, side))
        .replace(struct.pack("<HHII", 257, 4, 1, 1), struct.pack("<HHII", 257, 4, 1, side)),
        "WEBP": webp[:frame] + struct.pack("<HH", 16_000, 16_000) + webp[frame + 4 :],
    }


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_every_format_is_capped_before_it_is_decoded(kind):
    assert message(headers_only()[kind]).startswith("the image has too many pixels\n")


def test_the_cap_is_an_argument_and_exact():
    content = encoded(scene(), "PNG")
    assert read_image(content, max_pixels=WIDTH * HEIGHT).size == (WIDTH, HEIGHT)
    assert "got: 48 x 32 pixels\n  expected: at most 1,535 pixels" in message(content, max_pixels=WIDTH * HEIGHT - 1)


@pytest.mark.slow
def test_between_pillows_limit_and_ours_nothing_is_said():
    """Pillow warns above 89 megapixels; warnings are errors here."""
    content = encoded(Image.new("L", (10_000, 9_500)), "PNG")
    assert 89_478_485 < 10_000 * 9_500 < MAX_PIXELS
    assert read_image(content).size == (10_000, 9_500)


# Broken files

BREAKABLE = {
    "jpeg": lambda: encoded(scene(), "JPEG", quality=90),
    "jpeg-progressive": lambda: encoded(scene(), "JPEG", progressive=True),
    "jpeg-exif": lambda: with_orientation(6, "JPEG"),
    "png": lambda: encoded(scene(), "PNG"),
    "png-16": lambda: encoded(Image.fromarray(grey16()), "PNG"),
    "png-palette": lambda: encoded(scene().quantize(16), "PNG", transparency=3),
    "apng": lambda: encoded(scene(), "PNG", save_all=True, append_images=[ImageOps.invert(scene())]),
    "gif": lambda: encoded(scene().quantize(32), "GIF"),
    "bmp": lambda: encoded(scene(), "BMP"),
    "webp": lambda: encoded(scene(), "WEBP"),
    "webp-lossless": lambda: encoded(scene(), "WEBP", lossless=True),
    "webp-animated": lambda: encoded(scene(), "WEBP", save_all=True, append_images=[ImageOps.invert(scene())]),
    "tiff": lambda: encoded(scene(), "TIFF"),
    "tiff-lzw": lambda: encoded(scene(), "TIFF", compression="tiff_lzw"),
    "tiff-jpeg": lambda: encoded(scene(), "TIFF", compression="jpeg"),
    "tiff-float": lambda: tiff_grey(grey16().astype(np.float32), bits=32, sample_format=3),
}


def assert_silent(capfd, name: str) -> None:
    printed = capfd.readouterr()
    assert printed.out == ""
    if name not in ("tiff-lzw", "tiff-jpeg"):  # libtiff writes to stderr from C, which no thread can stop for itself
        assert printed.err == ""


@pytest.mark.parametrize("name", BREAKABLE)
def test_a_file_cut_anywhere_is_whole_or_an_error(name, capfd):
    """Never half an image: what a cut file gives is an error, or every pixel (where only a trailer was lost)."""
    content = BREAKABLE[name]()
    whole = pixels(read_image(content))
    num_refused = 0
    cuts = sorted({*range(1, len(content), max(1, len(content) // 60)), *range(max(1, len(content) - 24), len(content))})
    for cut in cuts:
        try:
            image = read_image(content[:cut])
        except ImageError:
            num_refused += 1
        else:
            np.testing.assert_array_equal(pixels(image), whole, err_msg=f"cut at {cut} of {len(content)}")
    assert num_refused >= 0.4 * len(cuts)
    assert_silent(capfd, name)


def test_what_a_cut_file_says(tmp_path):
    path = tmp_path / "half.jpg"
    content = encoded(scene(), "JPEG")
    path.write_bytes(content[: len(content) - 40])
    lines = message(path).splitlines()
    assert lines[:2] == ["the image cannot be decoded", f"  where: {path}"]
    assert lines[2].startswith("  got: image file is truncated")
    assert lines[3:] == ["  expected: a whole JPEG file", "  next: fetch or export the image again, or remove it"]


@pytest.mark.parametrize("name", BREAKABLE)
def test_flipped_bytes_decode_or_are_refused(name, capfd):
    content = BREAKABLE[name]()
    rng = random.Random(name)
    num_decoded = num_refused = 0
    for _ in range(150):
        broken = bytearray(content)
        for _ in range(rng.choice([1, 1, 2, 8])):
            position = rng.randrange(min(len(broken), rng.choice([64, 256, len(broken)])))
            broken[position] = rng.randrange(256)
        try:
            image = read_image(bytes(broken), max_pixels=1_000_000)
        except ImageError:
            num_refused += 1
        else:
            num_decoded += 1
            assert image.mode == "RGB"
    assert num_decoded
    assert num_refused
    assert_silent(capfd, name)


def test_odd_tags_that_pillow_warns_of_are_not_the_users_concern(recwarn):
    content = bytearray(encoded(scene(), "TIFF", tiffinfo={TiffImagePlugin.IMAGEDESCRIPTION: "a description"}))
    entry = content.index(struct.pack("<HH", TiffImagePlugin.IMAGEDESCRIPTION, 2))
    content[entry + 4 : entry + 8] = struct.pack("<I", 1_000_000)  # longer than the file
    np.testing.assert_array_equal(pixels(read_image(bytes(content))), pixels(scene()))
    assert not list(recwarn)


def test_many_threads_at_once():
    sources = {name: make() for name, make in BREAKABLE.items()}
    expected = {name: pixels(read_image(content)) for name, content in sources.items()}
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for name in random.Random(seed).sample(sorted(sources), len(sources)) * 4:
                np.testing.assert_array_equal(pixels(read_image(sources[name])), expected[name])
                with pytest.raises(ImageError):
                    read_image(sources[name][:40])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_real_photographs():
    folder = Path(__file__).parents[2] / "../shared/data/voc-mini/VOCdevkit/VOC2012/JPEGImages"
    if not folder.is_dir():
        pytest.skip("../shared/data/voc-mini is not here; the files above are made by Pillow")
    for path in sorted(folder.iterdir())[:50]:
        with Image.open(path) as oracle:
            np.testing.assert_array_equal(pixels(read_image(path)), np.asarray(oracle.convert("RGB")))
