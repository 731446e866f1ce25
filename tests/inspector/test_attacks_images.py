"""Attacks with images: hostile files, score files that name what is no image, more work at once than can be done."""

import os
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from polytag.contracts import LabelSet, Predictions
from polytag.errors import DataError
from polytag.inspector.app import create_app
from polytag.inspector.browse.find_images import find_images
from polytag.inspector.inspection import Inspection
from polytag.web.request_rules import GuardConfig

SECRET = "the password is swordfish"
CLASSES = ("cat", "dog")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")


def encoded(kind: str, *, size: tuple[int, int] = (64, 48)) -> bytes:
    rng = np.random.default_rng(0)
    file = BytesIO()
    Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(file, kind)
    return file.getvalue()


def png_of_zeros(width_px: int, height_px: int) -> bytes:
    """A whole black PNG: 169 megapixels take half a megabyte packed, and half a gigabyte unpacked."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    num_blocks = 100  # packed once and repeated: packing it all takes seconds
    assert height_px % num_blocks == 0
    block = packer.compress(bytes((1 + 3 * width_px) * height_px // num_blocks)) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = struct.pack(">HH", (1 + 3 * width_px) * height_px % 65521, 1)  # Adler-32 of zeros
    head = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    pixels = b"\x78\x9c" + block * num_blocks + b"\x03\x00" + checksum
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def hostile_images() -> dict[str, bytes]:
    """Files that are no images, or less than they say."""
    bomb = png_of_zeros(13_000, 13_000)
    found = {
        "empty": b"",
        "text": SECRET.encode(),
        "page": f"<!doctype html><script>alert(1)</script>{SECRET}".encode(),
        "svg": f'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script><text>{SECRET}</text></svg>'.encode(),
        "bomb": bomb,
        "bomb that is cut": bomb[:2000],
        "gif that claims": b"GIF89a\xff\xff\xff\xff\x80\x00\x00" + b"\0" * 6 + b",\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;",
        "bmp that claims": b"BM" + struct.pack("<IHHIIiiHH", 70, 0, 0, 54, 40, 60000, 60000, 1, 24) + bytes(24),
        "jpeg that claims": b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x11\x00\x02\x11\x00\x03\x11\x00\xff\xd9",
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
    }  # fmt: skip
    for kind in FORMATS:
        whole = encoded(kind)
        found |= {f"{kind} cut at {cut}": whole[:cut] for cut in (1, 10, 30, len(whole) // 2)}
        bent = bytearray(whole)
        bent[20 : len(bent) // 2 : 7] = b"\xff" * len(bent[20 : len(bent) // 2 : 7])
        found[f"{kind} bent"] = bytes(bent)
    return found


HOSTILE = hostile_images()


def attacked_run(folder: Path) -> tuple[Inspection, dict[str, int]]:
    """A run whose score file names whatever it should not, and one honest image; the row of each by name."""
    outside, inside = folder / "outside", folder / "images"
    outside.mkdir()
    inside.mkdir()
    (outside / "secret.txt").write_text(SECRET)
    (inside / "link.png").symlink_to(outside / "secret.txt")
    (inside / "honest.png").write_bytes(encoded("PNG"))
    (inside / "loop.png").symlink_to(inside / "loop.png")
    os.mkfifo(inside / "pipe.png")
    paths = {
        "honest": str(inside / "honest.png"),
        "link to a text": str(inside / "link.png"),
        "link to itself": str(inside / "loop.png"),
        "text": str(outside / "secret.txt"),
        "up": str(inside / ".." / "outside" / "secret.txt"),
        "password file": "/etc/passwd",
        "relative": "../../../../../../etc/passwd",
        "environment": "/proc/self/environ",
        "endless": "/dev/zero",
        "pipe": str(inside / "pipe.png"),
        "folder": str(inside),
        "long": "a" * 5000,
        "nul": "/etc/passwd\0.png",
        "address": "http://127.0.0.1:1/a.png",
        "file address": f"file://{outside}/secret.txt",
        "none": "",
    }
    for number, (name, content) in enumerate(HOSTILE.items()):
        (inside / f"{number}.png").write_bytes(content)
        paths[name if name != "text" else "text as an image"] = str(inside / f"{number}.png")
    ids = tuple(f"../../etc/{name}" if name != "honest" else "honest.png" for name in paths)
    rng = np.random.default_rng(0)
    predictions = Predictions(
        ids=ids,
        logit_NC=rng.normal(size=(len(ids), 2)),
        target_NC=rng.integers(-1, 2, (len(ids), 2)).astype(np.int8),
        label_set=LabelSet(names=CLASSES),
        image_paths=tuple(paths.values()),
    )
    run = Inspection(name="run", review_file=folder / "review.sqlite", predictions=predictions, threshold_C=np.array([0.5, 0.5]))
    return run, {name: row for row, name in enumerate(paths)}


@pytest.fixture(scope="module")
def attacked(live, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    folder = tmp_path_factory.mktemp("attacked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYTAG_CACHE", str(folder / "cache"))
        run, row_of = attacked_run(folder)
        with live(create_app(run), guard_config=GuardConfig(linger_seconds=0.2)) as server:
            yield server, row_of


@pytest.fixture(scope="module")
def server(attacked):
    return attacked[0]


@pytest.fixture(scope="module")
def client(server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
        yield client


def status_of(heard: bytes) -> int:
    return int(heard.split(b" ")[1])


def tells_nothing(heard: bytes) -> bool:
    """Neither the secret, nor a file of the system or of ours, nor where anything lies."""
    words = (SECRET.encode(), b"root:x:", b"Traceback", b"site-packages", b"/outside", b"import ", b"PATH=")
    return not any(word in heard for word in words)


# Images that a score file names


def test_a_score_file_shows_images_and_nothing_else(attacked, client):
    """Whatever path it names: images are decoded and encoded anew, and what is no image is the sign for a missing one."""
    _, row_of = attacked
    for name, row in row_of.items():
        for path in (f"/images/{row}", f"/thumbnails/{row}"):
            answer = client.get(path)
            kind = answer.headers["content-type"]
            if name == "none":
                assert answer.status_code == 404
                continue
            assert answer.status_code == 200, name
            assert kind in {"image/jpeg", "image/svg+xml"}, name
            assert tells_nothing(answer.content), name
            assert b"<script" not in answer.content, name
            if kind == "image/jpeg":
                assert Image.open(BytesIO(answer.content)).size == (64, 48), name
            (small,) = client.get(f"/api/thumbnails?rows={row}").json()["images"]
            assert (small is not None) == (kind == "image/jpeg"), name
            if name in {"bomb", "honest", "link to a text", "password file", "endless", "pipe", "svg", "page"}:
                assert (kind == "image/jpeg") == (name == "honest"), name
    assert client.get("/").status_code == 200


def test_paths_of_the_machine_stand_in_no_answer(client, attacked):
    server, _ = attacked
    for path in (
        "/",
        "/ranking?class=cat",
        "/image?id=honest.png",
        "/review",
        "/api/run",
        "/api/images/0",
        "/api/ranking?class=cat",
    ):
        text = client.get(path).text
        assert "/outside" not in text
        assert "/etc/passwd" not in text
        assert "/images/honest" not in text
        assert str(os.getpid()) not in server.url  # the pages know no process either


def test_ranges_are_not_heard(client, attacked):
    row = attacked[1]["honest"]
    whole = client.get(f"/images/{row}")
    many = "bytes=" + ",".join(f"{start}-{start + 1}" for start in range(2000))
    for value in ("bytes=0-0", "bytes=-5", many, "bytes=0-,0-,0-,0-", "x"):
        answer = client.get(f"/images/{row}", headers={"Range": value})
        assert (answer.status_code, answer.content) == (200, whole.content)
        assert "content-range" not in answer.headers


def test_a_folder_of_images_is_not_left(tmp_path: Path):
    """`--images DIR` with ids of anyone's choosing."""
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    for folder in (outside, inside, inside / "deep"):
        folder.mkdir()
        (folder / "a.png").write_bytes(encoded("PNG"))
    (outside / "secret.png").write_bytes(encoded("PNG"))
    (inside / "link.png").symlink_to(outside / "secret.png")
    (inside / "folder-link").symlink_to(outside)
    (inside / "own-link.png").symlink_to(inside / "deep" / "a.png")
    hostile = (
        "../outside/secret.png", str(outside / "secret.png"), "link.png", "link", "folder-link/secret.png", "secret.png", "secret",
        "deep/../../outside/secret.png", "..\\outside\\secret.png", "/etc/passwd", "", ".", "..", "a.png\0",
        "deep/a.png/../../a.png",
    )  # fmt: skip
    found = find_images(("deep/a.png", "own-link.png", *hostile), [inside])
    assert found[0] == os.path.realpath(inside / "deep" / "a.png")
    assert found[1].endswith("own-link.png")
    assert set(found[2:]) == {""}
    with pytest.raises(DataError):
        find_images(hostile, [inside])


# Load


@pytest.fixture(scope="module")
def modelled_server(live, modelled, tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """A run with its model, whose first image is honest and whose others are the hostile ones."""
    folder = tmp_path_factory.mktemp("modelled")
    paths = [modelled.predictions.image_paths[0]]
    for number, content in enumerate(HOSTILE.values()):
        paths.append(str(folder / f"{number}.png"))
        Path(paths[-1]).write_bytes(content)
    paths += ["/etc/passwd", "/dev/zero", str(folder), "/etc/passwd\0", ""]
    predictions = Predictions(
        ids=tuple(map(str, range(len(paths)))),
        logit_NC=np.zeros((len(paths), 3)),
        target_NC=np.zeros((len(paths), 3), dtype=np.int8),
        label_set=modelled.predictions.label_set,
        image_paths=tuple(paths),
    )
    run = replace(modelled, predictions=predictions, review_file=folder / "review.sqlite")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYTAG_CACHE", str(folder / "cache"))
        with live(create_app(run)) as server:
            yield server, len(paths)


@pytest.fixture(scope="module")
def model_client(modelled_server) -> Iterator[httpx.Client]:
    limits = httpx.Limits(max_connections=50)
    with httpx.Client(base_url=modelled_server[0].url, timeout=60, trust_env=False, limits=limits) as client:
        yield client


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_image_is_not_predicted(model_client, name):
    for path in ("/api/predict", "/api/predict/heat?class=red"):
        started = time.monotonic()
        answer = model_client.post(path, content=HOSTILE[name], headers={"Content-Type": "image/png"})
        if answer.status_code == 200:
            assert name.endswith("bent"), "some formats hold pixels without a checksum: bent, they are images of something else"
        else:
            assert answer.status_code == 422, answer.text
            assert len(answer.json()["detail"]) < 200
        assert tells_nothing(answer.content)
        assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"http://127.0.0.1:1/a.png", "text/uri-list", 415),
        (b'{"url": "http://127.0.0.1:1/a.png"}', "application/json", 415),
        (b"url=http://127.0.0.1:1/a.png", "application/x-www-form-urlencoded", 415),
        (b"http://127.0.0.1:1/a.png", "image/png", 422),
        (b"/etc/passwd", "application/octet-stream", 422),
        (
            b"--x\r\nContent-Disposition: form-data; name=a; filename=../../a.png\r\n\r\n\r\n--x--",
            "multipart/form-data; boundary=x",
            415,
        ),
    ],
)
def test_no_address_and_no_path_is_fetched(model_client, content, kind, status):
    for path in ("/api/predict", "/api/predict/heat?class=red"):
        answer = model_client.post(path, content=content, headers={"Content-Type": kind})
        assert (answer.status_code, tells_nothing(answer.content)) == (status, True)


def test_the_model_sees_no_file_that_is_no_image(modelled_server, model_client):
    _, num_rows = modelled_server
    assert model_client.get("/api/images/0/heat?class=red").headers["content-type"] == "image/png"
    for row in range(1, num_rows):
        answer = model_client.get(f"/api/images/{row}/heat?class=red")
        assert answer.status_code in {200, 404, 409}, (row, answer.text)  # 200: bent, and an image all the same
        assert tells_nothing(answer.content)
        assert model_client.get(f"/api/images/{row}/boxes").status_code == 200
        nearest = model_client.get(f"/api/images/{row}/nearest")
        assert nearest.status_code in {200, 404, 409}, (row, nearest.text)
        assert tells_nothing(nearest.content)


def test_another_site_sets_no_model_to_work(model_client):
    image = encoded("PNG")
    assert model_client.post("/api/predict", content=image, headers={"Content-Type": "image/png"}).status_code == 200
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example"}):
        answer = model_client.post("/api/predict", content=image, headers={"Content-Type": "image/png", **headers})
        assert answer.status_code in {403, 421}


def test_more_work_than_the_model_can_do_is_refused_and_does_not_stop_the_page(model_client):
    """Ten predictions and ten heat maps of 16 megapixels at once: some are told to come again, and the page comes first."""
    large = png_of_zeros(4000, 4000)
    done: list[tuple[str, int]] = []

    def ask(path: str) -> None:
        answer = model_client.post(path, content=large, headers={"Content-Type": "image/png"})
        done.append((path, answer.status_code))
        assert answer.status_code == 200 or answer.headers["retry-after"]

    paths = ["/api/predict", "/api/predict/heat?class=red"] * 10
    heavy = [threading.Thread(target=ask, args=(path,)) for path in paths]
    for thread in heavy:
        thread.start()
    time.sleep(0.3)
    for path in ("/", "/api/run", "/ranking?class=red"):
        done.append((path, model_client.get(path).status_code))
    for thread in heavy:
        thread.join()
    assert {status for _, status in done} == {200, 503}
    assert [status for path, status in done if "predict" not in path] == [200] * 3
    assert "predict" in done[-1][0], "the page waited for the model"
    assert done.count(("/api/predict", 200)) >= 1


def test_many_heavy_requests_do_not_stop_the_page(live, tmp_path, monkeypatch):
    """Forty-eight images of 4 megapixels are asked for at once; the overview comes before all of them are made."""
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    (tmp_path / "large.png").write_bytes(png_of_zeros(2000, 2000))
    num_images = 48
    predictions = Predictions(
        ids=tuple(map(str, range(num_images))),
        logit_NC=np.zeros((num_images, 2)),
        target_NC=np.zeros((num_images, 2), dtype=np.int8),
        label_set=LabelSet(names=CLASSES),
        image_paths=(str(tmp_path / "large.png"),) * num_images,
    )
    run = Inspection(
        name="heavy",
        review_file=tmp_path / "review.sqlite",
        predictions=predictions,
        threshold_C=np.array([0.5, 0.5]),
    )
    done: list[str] = []
    with live(create_app(run)) as server:
        client = httpx.Client(base_url=server.url, timeout=120, trust_env=False, limits=httpx.Limits(max_connections=50))

        def ask(path: str) -> None:
            answer = client.get(path)
            done.append(f"{path} {answer.status_code} {answer.headers['content-type']}")

        assert client.get("/").status_code == 200
        heavy = [threading.Thread(target=ask, args=(f"/images/{row}",)) for row in range(num_images)]
        for thread in heavy:
            thread.start()
        time.sleep(0.05)
        ask("/")
        ask("/api/run")
        for thread in heavy:
            thread.join()
        client.close()
    assert sorted(done) == sorted(
        ["/ 200 text/html; charset=utf-8", "/api/run 200 application/json"]
        + [f"/images/{row} 200 image/jpeg" for row in range(num_images)]
    )
    assert "/images/" in done[-1], "the pages waited for the images"
    decoders = [thread for thread in threading.enumerate() if thread.name.startswith("decoder")]
    assert 1 <= len(decoders) <= 2, "glibc keeps for every thread what it once decoded"
