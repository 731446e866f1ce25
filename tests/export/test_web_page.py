"""The page of an export decides in Chromium as Python does, sends nothing anywhere, and says what it cannot read."""

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from polytag.errors import FetchError
from polytag.export.npm import ONNXRUNTIME_WEB, cached_place
from polytag.export.web_folder import runtime_files, web_files
from polytag.inference.predict import predict
from polytag.models.exported import Exported

pytestmark = pytest.mark.browser
LOADED, DONE = "The model is loaded.", "#cards > li[data-state]"


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """ONNX Runtime Web, kept in the user's own cache: 33 MB for each run of the tests would be too much to ask of a registry."""
    own = Path.home() / ".cache" / "polytag" / "npm" / ONNXRUNTIME_WEB.file_name
    place = cached_place(ONNXRUNTIME_WEB)
    place.parent.mkdir(parents=True, exist_ok=True)
    if own.is_file():
        shutil.copy(own, place)
    try:
        return runtime_files()
    except FetchError as error:
        pytest.skip(f"no ONNX Runtime Web: {error.got}")


@pytest.fixture(scope="module")
def web(exported: Exported, runtime: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "sub" / "web"
    for name, content in web_files(exported, image_graph=exported.file("image.onnx"), runtime=runtime).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def pngs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """PNG files, which every decoder reads alike: colours, grey, a palette, cut-outs, and one that EXIF turns."""
    folder, rng = tmp_path_factory.mktemp("pngs"), np.random.default_rng(0)
    for number, (width, height) in enumerate([(40, 40), (333, 97), (64, 500), (1, 1), (640, 480)]):
        low = rng.integers(0, 256, (max(1, height // 16), max(1, width // 16), 3), np.uint8)
        image = Image.fromarray(low).resize((width, height), Image.Resampling.BICUBIC)
        image.save(folder / f"{number}.png")
    image.convert("L").save(folder / "grey.png")
    image.quantize(16).save(folder / "palette.png")
    cut = image.convert("RGBA")
    cut.putalpha(Image.fromarray((255 * rng.integers(0, 2, (480, 640))).astype(np.uint8)))
    cut.save(folder / "cut.png")
    exif = Image.Exif()
    exif[274] = 6
    image.save(folder / "turned.png", exif=exif)
    return sorted(folder.iterdir())


@pytest.fixture
def site(web: Path) -> Iterator[Callable[..., str]]:
    """`site(headers={...}, folder=...)` serves the parent's parent of a folder; returns the address of the page in it."""
    servers: list[ThreadingHTTPServer] = []

    def serving(*, folder: Path = web, headers: dict[str, str] | None = None, asked: list[str] | None = None) -> str:
        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                if asked is not None:
                    asked.append(self.path)

            def end_headers(self) -> None:
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                super().end_headers()

        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder.parents[1])))
        server.handle_error = lambda *_: None  # a page that is closed while it loads
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/{folder.relative_to(folder.parents[1])}/"

    yield serving
    for server in servers:
        server.shutdown()
        server.server_close()


def ready(page: Any) -> Any:
    page.locator("#state", has_text=LOADED).wait_for()
    return page


def answers(page: Any, paths: list[Path]) -> list[dict[str, Any]]:
    """In the order of the files."""
    page.set_input_files("#files", [str(path) for path in paths])
    page.locator(DONE).nth(len(paths) - 1).wait_for()
    return page.evaluate("[...document.querySelectorAll('#cards > li')].map((card) => card.answer)")


def same(found: list[dict[str, Any]], exported: Exported, paths: list[Path]) -> None:
    own = list(predict(exported, paths))
    for each, there, path in zip(own, found, paths, strict=True):
        assert "problem" not in there, f"{path.name}: {there.get('problem')}"
        probability = [each.probabilities[name] for name in exported.label_set]
        assert np.abs(np.array(there["probability"]) - probability).max() < 1e-4, path.name
        present = [name for name, here in zip(exported.label_set, there["present"], strict=True) if here]
        assert set(present) == set(each.labels), path.name


def test_decisions_are_those_of_python(visit: Callable[..., Any], site: Callable[..., str], exported: Exported, pngs: list[Path]):
    page = ready(visit(site()))
    found = answers(page, pngs)
    same(found, exported, pngs)
    assert len({tuple(each["present"]) for each in found}) > 1, "all answers are alike: nothing was compared"
    turned = found[[path.name for path in pngs].index("turned.png")]
    assert (turned["width"], turned["height"]) == (480, 640)
    card = page.locator("#cards > li").first
    names = [name for name, here in zip(exported.label_set, found[0]["present"], strict=True) if here]
    assert card.locator(".classes .present .name").all_inner_texts() == sorted(
        names, key=lambda name: -found[0]["probability"][list(exported.label_set).index(name)]
    )


def test_threads_where_the_page_is_isolated(
    visit: Callable[..., Any], site: Callable[..., str], exported: Exported, pngs: list[Path]
):
    headers = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
    page = ready(visit(site(headers=headers)))
    assert page.evaluate("crossOriginIsolated")
    same(answers(page, pngs[:3]), exported, pngs[:3])


def test_nothing_leaves_the_machine(visit: Callable[..., Any], site: Callable[..., str], pngs: list[Path]):
    """The policy of the page binds its worker, too."""
    asked: list[str] = []
    elsewhere = site(asked=asked, headers={"Access-Control-Allow-Origin": "*"})
    page = ready(visit(site(), excused=("Content Security Policy",)))
    answers(page, pngs[:2])
    script = f"fetch('{elsewhere}model.json').then(() => 'it went out', () => 'refused')"
    for realm in (page, *page.workers):
        assert realm.evaluate(script) == "refused"
    assert len(page.workers) == 1
    assert asked == []


def test_what_cannot_be_read_is_said_and_the_rest_goes_on(
    visit: Callable[..., Any], site: Callable[..., str], pngs: list[Path], tmp_path: Path
):
    broken = tmp_path / "<b>broken.jpg"
    broken.write_bytes(b"no image")
    page = ready(visit(site()))
    found = answers(page, [pngs[0], broken, pngs[1]])
    assert [each.get("problem") for each in found] == [None, "this browser cannot read the file as an image", None]
    card = page.locator("#cards > li").nth(1)
    assert card.locator("h2").inner_text() == broken.name
    assert card.locator(".problem").inner_text() == "This browser cannot read the file as an image."
    card.get_by_role("button", name=f"Remove {broken.name}").click()
    assert page.locator("#cards > li").count() == 2
    page.get_by_role("button", name="Remove all").click()
    assert page.locator("#cards > li").count() == 0
    assert page.evaluate("document.activeElement.id") == "choose"


def test_by_keyboard_alone(visit: Callable[..., Any], site: Callable[..., str], pngs: list[Path]):
    page = visit(site())
    page.on("filechooser", lambda _: None)  # from here on Playwright takes the place of the window that asks
    page.reload()
    ready(page).keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "choose"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files([str(pngs[0])])
    page.locator(DONE).wait_for()
    assert page.locator("#announcement").inner_text().startswith(f"{pngs[0].name}: ")


def test_on_a_phone_nothing_is_wider_than_the_screen(visit: Callable[..., Any], site: Callable[..., str], pngs: list[Path]):
    page = ready(visit(site(), viewport={"width": 390, "height": 844}))
    answers(page, pngs[:2])
    grounds: list[str] = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert grounds[0] != grounds[1]
    assert page.locator("#choose").bounding_box()["height"] >= 40


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (
            "image.onnx",
            lambda content: content[:-1] + bytes([content[-1] ^ 1]),
            "image.onnx is damaged, or another file than was exported.",
        ),
        ("model.json", None, "model.json: status 404."),
    ],
)
def test_a_file_that_is_not_the_exported_one(
    visit: Callable[..., Any], site: Callable[..., str], web: Path, tmp_path: Path, name: str, change: Any, words: str
):
    folder = tmp_path / "sub" / "web"
    shutil.copytree(web, folder, copy_function=os.link)
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    if change:
        (folder / name).write_bytes(change(content))
    page = visit(site(folder=folder), excused=("404",))
    page.locator("#state", has_text="cannot be loaded").wait_for()
    assert words.lower() in page.locator("#state").inner_text().lower()


def test_the_folder_says_what_it_runs(web: Path, exported: Exported):
    model = json.loads((web / "model.json").read_text())
    assert (model["checkpoint"], tuple(model["classes"])) == (exported.id, exported.label_set.names)
    assert model["files"]["image.onnx"]["sha256"] == exported.files["image.onnx"].sha256
    policy = (web / "index.html").read_text().partition('content="')[2].partition('"')[0]
    assert "default-src 'none'" in policy
    assert "http" not in policy
