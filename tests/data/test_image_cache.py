"""The image cache: the same bits as the files, whole or not there, shared, checked, removable, and never in the way."""

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from polytag.contracts import Preprocessing
from polytag.data.cache import image_file, store
from polytag.data.cache.image_cache import ImageCache, expected_bytes
from polytag.data.cache.store import cache_files, clear, make_room
from polytag.data.images.augment import AUGMENTATIONS, augmented, training_source, views
from polytag.data.images.read import read_image
from polytag.errors import ImageError

SIZES = [(50, 37), (37, 50), (64, 64), (200, 130), (1, 1), (90, 31)]
SMALL = Preprocessing(image_size_px=24)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    made = []
    for row, (width, height) in enumerate(SIZES):
        path = tmp_path / f"{row}.jpg"
        Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8)).save(path)
        made.append(path)
    return made


def whole(image: Image.Image) -> np.ndarray:
    return np.asarray(image)[None]


def cached(paths: list[Path], folder: Path, *, make=whole, what: str = "whole", write: bool = True) -> ImageCache:
    return ImageCache(paths, make=make, what=what, write=write, folder=folder)


def filled(paths: list[Path], folder: Path, **settings) -> ImageCache:
    """A cache after its first pass."""
    cache = cached(paths, folder, **settings)
    for row in reversed(range(len(paths))):
        cache.get(row)
    cache.next_pass()
    return cache


def test_a_link_and_dots_lead_to_the_same_cache(paths: list[Path], tmp_path: Path):
    filled(paths, tmp_path / "c")
    (tmp_path / "inside").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    for way in (tmp_path / "inside" / "..", tmp_path / "link", tmp_path / "link" / "inside" / ".."):
        assert cached([way / path.name for path in paths], tmp_path / "c").is_cached, way


def test_the_first_pass_keeps_and_every_later_one_reads_the_same_bits(paths: list[Path], tmp_path: Path):
    cache = cached(paths, tmp_path / "c")
    assert (cache.is_cached, cache.how) == (False, "files, decoded once and cached")
    first = [cache.get(row).copy() for row in range(len(paths))]
    cache.next_pass()
    assert cache.is_cached
    again = cached(paths, tmp_path / "c", write=False)
    assert again.is_cached
    assert again.how.startswith("cached (")
    for row, path in enumerate(paths):
        plain = whole(read_image(path))
        for seen in (first[row], cache.get(row), again.get(row)):
            assert (seen == plain).all()
    assert [kept.path.suffix for kept in cache_files(tmp_path / "c")] == [".images"]


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("fit", ["squash", "crop"])
def test_training_views_and_scoring_views_from_the_cache_have_the_bits_of_the_plain_path(
    paths: list[Path], tmp_path: Path, name: str, fit: str
):
    """200 x 130 is large beside 24 px: training sees it reduced, on both ways."""
    preprocessing = Preprocessing(image_size_px=24, fit=fit, crops="five")
    make = partial(_source, preprocessing=preprocessing)
    cache = filled(paths, tmp_path / "c", make=make, what=f"source {preprocessing}")
    assert cache.get(3).shape == (1, 65, 100, 3)
    fitted = filled(paths, tmp_path / "c", make=partial(views, preprocessing=preprocessing), what=f"views {preprocessing}")
    for row, path in enumerate(paths):
        image = read_image(path)
        plain = augmented(training_source(image, preprocessing), AUGMENTATIONS[name], preprocessing, np.random.default_rng(row))
        kept = Image.fromarray(cache.get(row)[0])
        assert (augmented(kept, AUGMENTATIONS[name], preprocessing, np.random.default_rng(row)) == plain).all()
        assert (fitted.get(row) == views(image, preprocessing)).all()


def _source(image: Image.Image, *, preprocessing: Preprocessing) -> np.ndarray:
    return np.asarray(training_source(image, preprocessing))[None]


def test_small_images_stay_whole_and_large_ones_keep_twice_the_input(paths: list[Path]):
    for size, expected in {(47, 500): (47, 500), (95, 400): (95, 400), (96, 400): (48, 200), (150, 481): (50, 161)}.items():
        assert training_source(Image.new("RGB", size), SMALL).size == expected


def test_a_changed_image_another_setting_or_another_order_is_another_file(paths: list[Path], tmp_path: Path):
    filled(paths, tmp_path / "c")
    assert cached(paths, tmp_path / "c", write=False).is_cached
    assert not cached(paths, tmp_path / "c", what="other", write=False).is_cached
    assert not cached(paths[::-1], tmp_path / "c", write=False).is_cached
    status = paths[2].stat()
    content = paths[2].read_bytes()
    paths[2].write_bytes(content[:-1] + b"\xd8")  # another content of the same length
    os.utime(paths[2], ns=(status.st_atime_ns, status.st_mtime_ns))  # and the old time: the time of change tells
    assert not cached(paths, tmp_path / "c", write=False).is_cached


def test_an_image_that_cannot_be_decoded_is_told_each_time(paths: list[Path], tmp_path: Path):
    paths[1].write_bytes(paths[1].read_bytes()[:60])
    paths[4].unlink()
    cache = cached(paths, tmp_path / "c")
    for _ in range(2):
        for row in range(len(paths)):
            if row in (1, 4):
                with pytest.raises(ImageError):
                    cache.get(row)
            else:
                cache.get(row)
        cache.next_pass()
        assert cache.is_cached


@pytest.mark.parametrize("where", ["header", "index", "short", "long"])
def test_a_damaged_file_is_made_again(paths: list[Path], tmp_path: Path, where: str):
    filled(paths, tmp_path / "c")
    (kept,) = cache_files(tmp_path / "c")
    content = bytearray(kept.path.read_bytes())
    if where == "short":
        content = content[:-100]
    elif where == "long":
        content += b"x"
    else:
        content[{"header": 3, "index": -5}[where]] ^= 1
    kept.path.write_bytes(content)
    cache = filled(paths, tmp_path / "c")
    assert cache.is_cached
    assert all((cache.get(row) == whole(read_image(path))).all() for row, path in enumerate(paths))


def test_a_flipped_bit_in_an_image_is_found_and_the_file_removed(paths: list[Path], tmp_path: Path):
    filled(paths, tmp_path / "c")
    (kept,) = cache_files(tmp_path / "c")
    content = bytearray(kept.path.read_bytes())
    content[64 + 1000] ^= 1
    kept.path.write_bytes(content)
    cache = cached(paths, tmp_path / "c", write=False)
    assert cache.is_cached
    assert all((cache.get(row) == whole(read_image(path))).all() for row, path in enumerate(paths))
    assert (cache.is_cached, cache.how) == (False, "files (the cache was damaged)")
    assert cache_files(tmp_path / "c") == []


def test_nobody_else_writes_while_one_does_and_a_half_filled_file_is_seen_by_nobody(paths: list[Path], tmp_path: Path):
    first, second = cached(paths, tmp_path / "c"), cached(paths, tmp_path / "c")
    assert second.how == "files (another process writes the cache)"
    for row in range(len(paths)):
        first.get(row)
        second.get(row)
    assert not second.is_cached
    first.next_pass()
    second.next_pass()
    assert (first.is_cached, second.is_cached) == (True, True)


def test_what_a_kill_leaves_is_removed_and_written_anew(paths: list[Path], tmp_path: Path):
    script = (
        "import os, sys\nfrom pathlib import Path\nimport numpy as np\nfrom polytag.data.cache.image_cache import ImageCache\n"
        "paths = [Path(name) for name in sys.argv[2:]]\n"
        "cache = ImageCache(paths, make=lambda p: np.asarray(p)[None], what='whole', write=True, folder=Path(sys.argv[1]))\n"
        "cache.get(0)\nos.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "c"), *map(str, paths)], check=False)
    assert done.returncode == -9
    assert [kept.path.suffix for kept in cache_files(tmp_path / "c")] == [".part"]
    assert filled(paths, tmp_path / "c").is_cached
    assert [kept.path.suffix for kept in cache_files(tmp_path / "c")] == [".images"]


def test_closing_a_pass_that_was_not_finished_leaves_nothing(paths: list[Path], tmp_path: Path):
    cache = cached(paths, tmp_path / "c")
    cache.get(0)
    cache.close()
    assert cache_files(tmp_path / "c") == []
    assert filled(paths, tmp_path / "c").is_cached


def test_clearing_removes_all_and_a_reader_goes_on(paths: list[Path], tmp_path: Path):
    cache = filled(paths, tmp_path / "c")
    (kept,) = cache_files(tmp_path / "c")
    assert clear(tmp_path / "c") == kept.num_bytes
    assert list((tmp_path / "c").iterdir()) == []
    assert (cache.get(0) == whole(read_image(paths[0]))).all()
    assert clear(tmp_path / "c") == 0


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(paths: list[Path], tmp_path: Path):
    (tmp_path / "c").write_text("a file")
    cache = filled(paths, tmp_path / "c")
    assert (cache.is_cached, cache.how) == (False, "files")
    assert (cache.get(0) == whole(read_image(paths[0]))).all()


def test_the_disk_is_never_filled(paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Free space is looked at as images are written, too: others fill disks while we work."""
    free = 10**12
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(total=10**12, used=0, free=free))
    monkeypatch.setattr(image_file, "_CHECK_EVERY_BYTES", 1000)
    cache = cached(paths, tmp_path / "c")
    cache.get(0)
    assert len(cache_files(tmp_path / "c")) == 1
    free = 99 * 10**9
    for row in range(len(paths)):
        cache.get(row)
    assert cache_files(tmp_path / "c") == []
    cache.next_pass()
    assert not cache.is_cached


def test_room_is_made_by_removing_the_longest_unused_and_only_if_that_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "c"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.images").write_bytes(bytes(100))
        os.utime(folder / f"{number}.images", (number, number))
    usage = SimpleNamespace(total=2000, used=0, free=350)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    monkeypatch.setattr(store, "RESERVE_BYTES", 50)
    assert make_room(150, folder=folder)  # 350 free, a tenth of 2000 stays free
    assert len(cache_files(folder)) == 3
    assert not make_room(451, folder=folder)
    assert len(cache_files(folder)) == 3
    assert make_room(250, folder=folder)
    assert [kept.path.stem for kept in cache_files(folder)] == ["1", "2"]
    usage.free = 1900  # plenty, but a quarter of the disk is all that may be kept
    assert make_room(350, folder=folder)
    assert [kept.path.stem for kept in cache_files(folder)] == ["2"]
    assert not make_room(501, folder=folder)


def test_the_size_is_known_before_anything_is_written(paths: list[Path], tmp_path: Path):
    paths[5].write_bytes(b"broken")
    readable = [3 * width * height for width, height in SIZES[:5]]
    assert expected_bytes(paths, lambda size: 3 * size[0] * size[1]) == round(len(paths) * np.mean(readable))
    assert expected_bytes([], lambda size: 1) == 0
