"""Thumbnails: made once, made anew where the image changed, never more than the folder may hold, never a file as it lies."""

import os
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from polytag.contracts import LabelSet, Predictions
from polytag.errors import DataError, ImageError
from polytag.files import cache_folder
from polytag.inspector.app import create_app
from polytag.inspector.browse.find_images import find_images
from polytag.inspector.browse.thumbnails import Thumbnails, full_image
from polytag.inspector.inspection import Inspection


def image(
    path: Path, *, colour: tuple[int, int, int] = (200, 30, 30), size: tuple[int, int] = (640, 480), **options: object
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)
    return path


def opened(content: bytes) -> Image.Image:
    return Image.open(BytesIO(content))


def kept(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.jpg"))


def test_a_thumbnail_is_made_once(tmp_path: Path):
    path = image(tmp_path / "a.png")
    thumbnails = Thumbnails(tmp_path / "cache")
    first = thumbnails.get(path)
    thumbnails.flush()
    assert opened(first).size == (250, 188)
    (own,) = kept(tmp_path / "cache")
    own.write_bytes(first[:-2] + b"\0\0\xff\xd9")  # told apart from one that is made anew
    assert thumbnails.get(path) != first
    assert os.stat(own.parent).st_mode & 0o077 == 0  # private images stay private


def test_a_changed_image_and_a_cut_thumbnail_are_made_anew(tmp_path: Path):
    path = image(tmp_path / "a.png")
    thumbnails = Thumbnails(tmp_path / "cache")
    first = thumbnails.get(path)
    thumbnails.flush()
    kept(tmp_path / "cache")[0].write_bytes(first[:100])
    assert thumbnails.get(path) == first
    image(path, colour=(20, 200, 20))
    os.utime(path, ns=(1, 1))
    assert np.asarray(opened(thumbnails.get(path)))[50, 50, 1] > 150


def test_many_who_ask_at_once_all_get_it(tmp_path: Path):
    paths = [image(tmp_path / f"{number}.png", colour=(20 * number, 0, 0)) for number in range(10)]
    thumbnails = Thumbnails(tmp_path / "cache")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(thumbnails.begin, 20 * paths))
    contents = [each.result() for each in found]
    assert contents == 20 * contents[:10]
    thumbnails.flush()
    assert sorted(path.read_bytes() for path in kept(tmp_path / "cache")) == sorted(contents[:10])
    assert [thumbnails.get(path) for path in paths] == contents[:10]


def test_an_upright_image_and_nothing_but_its_pixels(tmp_path: Path):
    exif = Image.Exif()
    exif[274], exif[270] = 6, "where I live"
    path = image(tmp_path / "a.jpg", size=(400, 200), exif=exif)
    for content in (Thumbnails(tmp_path / "cache").get(path), full_image(path)):
        assert opened(content).height > opened(content).width
        assert b"where I live" not in content


def test_the_folder_holds_no_more_than_it_may(tmp_path: Path):
    thumbnails = Thumbnails(tmp_path / "cache", max_bytes=20_000)
    rng = np.random.default_rng(0)
    for number in range(12):
        path = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 255, (128, 128, 3), dtype=np.uint8)).save(path)
        thumbnails.get(path)
        thumbnails.flush()
        os.utime(kept(tmp_path / "cache")[0], (number, number))
    thumbnails.shrink()
    assert 0 < sum(path.stat().st_size for path in kept(tmp_path / "cache")) <= 20_000


def test_where_nothing_can_be_written_images_are_served_all_the_same(tmp_path: Path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert opened(Thumbnails(tmp_path / "cache").get(image(tmp_path / "a.png"))).size == (250, 188)


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\nsecret", b"\xff\xd8\xff\xe0" + b"0" * 100, b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_never_sent(tmp_path: Path, content: bytes):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    thumbnails = Thumbnails(tmp_path / "cache")
    for _ in range(2):  # the second time as the first: nothing of it is left
        with pytest.raises(ImageError):
            thumbnails.get(path)
    thumbnails.flush()
    with pytest.raises(ImageError):
        full_image(path)
    with pytest.raises(ImageError):
        Thumbnails(tmp_path / "cache").get(tmp_path / "none.jpg")
    assert kept(tmp_path / "cache") == []


def test_the_cache_lies_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("POLYTAG_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "polytag"


def test_images_are_found_by_path_name_or_stem(tmp_path: Path):
    paths = [image(tmp_path / "in" / name) for name in ("a.png", "sub/b.png", "sub/c.png", "other/c.png")]
    found = find_images(("a", "a.png", "sub/b.png", "b", "c", "sub/c", "none", "sub\\b"), [tmp_path / "in"])
    expected = (paths[0], paths[0], paths[1], paths[1], "", paths[2], "", paths[1])
    assert [os.path.realpath(path) if path else "" for path in found] == [str(path) for path in expected]


def test_no_id_leads_out_of_the_folder(tmp_path: Path):
    secret = image(tmp_path / "secret.png")
    image(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "link.png").symlink_to(secret)
    (tmp_path / "in" / "linked").symlink_to(tmp_path)
    ids = ("a", "link", "link.png", "../secret.png", "linked/secret.png", str(secret), "secret")
    found = find_images(ids, [tmp_path / "in"])
    assert [bool(path) for path in found] == [True] + 6 * [False]


def test_a_link_inside_the_folder_is_followed(tmp_path: Path):
    image(tmp_path / "in" / "store" / "1.png")
    (tmp_path / "in" / "cat.png").symlink_to(tmp_path / "in" / "store" / "1.png")
    assert all(find_images(("cat", "1"), [tmp_path / "in"]))


def test_a_folder_without_any_of_them_is_told(tmp_path: Path):
    image(tmp_path / "in" / "a.png")
    with pytest.raises(DataError, match=r"none of the scored images"):
        find_images(("b",), [tmp_path / "in"])
    with pytest.raises(DataError, match="no such folder"):
        find_images(("b",), [tmp_path / "nowhere"])


def test_several_in_one_answer_are_those_that_each_would_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    paths = [image(tmp_path / "a.png"), tmp_path / "missing.png", image(tmp_path / "b.png", colour=(20, 200, 20))]
    predictions = Predictions(
        ids=("a", "missing", "b", "no path"),
        logit_NC=np.zeros((4, 1)),
        target_NC=np.zeros((4, 1), dtype=np.int8),
        label_set=LabelSet(names=("cat",)),
        image_paths=(*map(str, paths), ""),
    )
    inspection = Inspection(
        name="run", review_file=tmp_path / "review.sqlite", predictions=predictions, threshold_C=np.array([0.5]), split="val"
    )
    with TestClient(create_app(inspection), base_url="http://127.0.0.1") as client:
        version = client.get("/api/run").json()["version"]
        answer = client.get(f"/api/thumbnails?rows=2,0&v={version}")
        whole = [client.get(f"/thumbnails/{row}").content for row in (2, 0)]
        assert [b64decode(each) for each in answer.json()["images"]] == whole
        assert "immutable" in answer.headers["cache-control"]
        answer = client.get(f"/api/thumbnails?rows=0,1,3,99&v={version}")
        assert [each is None for each in answer.json()["images"]] == [False, True, True, True]
        assert answer.headers["cache-control"] == "no-store"  # what is missing may come
        assert client.get("/api/thumbnails?rows=0").headers["cache-control"] == "no-store"  # of no version
        for rows in ("", "x", "0,", "-1", ",".join(["0"] * 65), "9999999999"):
            assert client.get("/api/thumbnails", params={"rows": rows}).status_code == 422, rows
