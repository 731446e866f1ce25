"""Settings of the whole suite: small data that are made on the spot, one thread count, no terminal colours."""

import contextlib
import gc
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from polytag.models.checkpoint import Checkpoint
    from polytag.models.exported import Exported
    from polytag.web.request_rules import GuardConfig

os.environ["NO_COLOR"] = "1"
os.environ["COLUMNS"] = "120"
# As the command does: threads that spin while they wait take the cores from each other, eight times slower on a busy machine.
os.environ |= {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "5000"}
# The networks are so small that a second thread only waits for the first, and another process of the suite has the other core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The seconds of one example are those of a busy machine. In CI every run has the same examples; elsewhere every run looks further.
settings.register_profile("polytag", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("polytag")

CLASSES = ("red", "green", "blue")
TRAINING_ROOMS = {"bench", "cli", "export", "inference", "inspector", "training"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, by a guess: no process of the suite ends long before the others (`--no-loadscope-reorder`)."""
    seconds_of: Counter[Path] = Counter()
    for item in items:
        slow, is_slow = item.get_closest_marker("slow"), any(item.iter_markers("browser"))
        guess = 2.0 if slow or is_slow else 0.4 if item.path.parent.name in TRAINING_ROOMS else 0.02
        seconds_of[item.path] += slow.args[0] if slow and slow.args else guess
    items.sort(key=lambda item: -seconds_of[item.path])


def pytest_collection_finish() -> None:
    """What is imported by now stays: the garbage collector need not go through millions of objects of libraries again and again."""
    gc.freeze()


def pytest_sessionfinish() -> None:
    """At the end it can go."""
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing of the suite is kept among the user's images and features, nothing of theirs is read."""
    os.environ["POLYTAG_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real photographs and weights beside the checkout; tests that need it are skipped where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data" / "voc-mini").is_dir():
        pytest.skip("real photographs are not beside this checkout (../shared); the generated twin of this test runs")
    return folder


def colour_images(folder: Path, *, num_train: int = 48, num_val: int = 24, size_px: int = 40, seed: int = 0) -> Path:
    """A CSV data set whose labels can be learned in seconds: squares of red, green and blue on grey noise."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    lines = ["file_name,labels,split"]
    for row in range(num_train + num_val):
        present = rng.random(3) < 0.45
        pixels = rng.integers(90, 150, (size_px, size_px, 3))
        for column in np.flatnonzero(present):
            top, left = rng.integers(0, size_px - 14, 2)
            pixels[top : top + 14, left : left + 14] = 30
            pixels[top : top + 14, left : left + 14, column] = 230
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / f"{row:03}.png")
        labels = "|".join(name for name, here in zip(CLASSES, present, strict=True) if here)
        lines.append(f"images/{row:03}.png,{labels},{'train' if row < num_train else 'val'}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder / "labels.csv"


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of a small CSV data set (48 train, 24 val, 3 classes); read-only by agreement."""
    return colour_images(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module")
def without_pages() -> Iterator[None]:
    """As on a machine that only trains: the plots and the report of a run take longer than its training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "polytag.report.grids", None)
        yield


@pytest.fixture(scope="session")
def places() -> Callable[[Any], Iterator[tuple[Any, Any]]]:
    """(container, key) of every value in a document of JSON or YAML."""

    def of(value: Any) -> Iterator[tuple[Any, Any]]:
        if isinstance(value, dict | list):
            for key in list(value) if isinstance(value, dict) else range(len(value)):
                yield value, key
                yield from of(value[key])

    return of


WATCHED = """
import os, sys
sys.path.insert(0, {src!r})
events, watching = [], False

def watch(event, args):
    if not watching:
        return
    if event in ("socket.connect", "socket.getaddrinfo", "socket.bind", "os.system", "os.exec", "os.posix_spawn",
                 "subprocess.Popen", "pickle.find_class", "urllib.Request", "ftplib.connect", "sqlite3.connect"):
        events.append((event, str(args)[:200]))
    if event == "open" and args[0] is not None and (isinstance(args[1], str) and set(args[1]) & set("wax+") or
                             isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
        events.append((event, str(args)[:200]))
    if event in ("os.mkdir", "os.rename", "os.link", "os.symlink", "os.remove", "os.truncate", "shutil.copyfile", "os.chmod"):
        events.append((event, str(args)[:200]))

sys.dont_write_bytecode = True
sys.addaudithook(watch)
{before}
watching = True
{script}
watching = False
print("EVENTS", [each for each in events if not any(place in each[1] for place in {allowed!r})])
"""


@pytest.fixture(scope="session")
def watched() -> Callable[..., str]:
    """`watched(before, script, home=folder)` runs both in a process; what it prints ends in the events of the script.

    An audit hook sees what Python connects to, unpickles, starts, writes, moves and removes; the cache in `home` is left out.
    """

    def run(before: str, script: str, *, home: Path, allowed: Sequence[str] = ()) -> str:
        cache = str(home / "cache")
        source = WATCHED.format(
            src=str(Path(__file__).parents[1] / "src"), before=before, script=script, allowed=("/dev/", "/proc/", cache, *allowed)
        )
        done = subprocess.run(
            [sys.executable, "-c", source], capture_output=True, text=True, timeout=300, cwd=home,
            env={"PATH": "/usr/bin:/bin", "HOME": str(home), "POLYTAG_CACHE": cache, "HF_HUB_OFFLINE": "0"},
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> "Checkpoint":
    """test_resnet with random weights whose head is turned up, so that images get different answers."""
    import torch

    from polytag.contracts import LabelSet, Preprocessing
    from polytag.models.backbone import build_model
    from polytag.models.checkpoint import save_checkpoint

    torch.manual_seed(0)
    model = build_model("test_resnet", num_classes=3)
    head = model.get_classifier()
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape))
        head.bias.copy_(torch.tensor([0.3, -0.2, 0.0]))
    return save_checkpoint(
        tmp_path_factory.mktemp("model") / "best",
        tensors=model.state_dict(),
        backbone="test_resnet",
        backbone_args={},
        preprocessing=Preprocessing(image_size_px=32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25)),
        label_set=LabelSet(names=("cat", "dog", "big, old tree")),
        thresholds=(0.5, 0.4, 0.6),
        facts={},
        card=lambda checkpoint_id: f"# {checkpoint_id}\n",
    )


@pytest.fixture(scope="session")
def small_export(checkpoint: "Checkpoint", tmp_path_factory: pytest.TempPathFactory) -> "Exported":
    """The checkpoint as ONNX. Read-only by agreement."""
    from polytag.export.export import export_model

    return export_model(checkpoint, tmp_path_factory.mktemp("exported") / "small")


PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Live:
    """A running server; `host` is what an honest client puts into its Host header."""

    port: int

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS)

    def say(self, words: bytes) -> bytes:
        """Send these bytes, HOST in them replaced, and hear all that comes back until the server closes the connection."""
        with self.connect() as connection:
            with contextlib.suppress(ConnectionError):  # the server may have answered, and closed, before the end
                connection.sendall(words.replace(b"HOST", self.host.encode()))
            return hear(connection)

    def get(self, target: str, *headers: str, method: str = "GET") -> bytes:
        """One honest request, but for what is passed."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.host}", "Connection: close", *headers, "", ""]
        return self.say("\r\n".join(lines).encode("latin-1"))


def hear(connection: socket.socket) -> bytes:
    heard = b""
    with contextlib.suppress(ConnectionError):
        while more := connection.recv(65536):
            heard += more
    return heard


@pytest.fixture(scope="session")
def live() -> Callable[..., AbstractContextManager[Live]]:
    """`with live(app, guard_config=...) as server:` serves an application, or a guard; at a free or a given port."""

    @contextlib.contextmanager
    def serving(app: "ASGIApp", *, guard_config: "GuardConfig | None" = None, port: int = 0) -> Iterator[Live]:
        from polytag.web.guard import Guard
        from polytag.web.request_rules import GuardConfig
        from polytag.web.server import bound_socket, guarded_server

        is_ready = threading.Event()
        listening = bound_socket("127.0.0.1", port)
        port = listening.getsockname()[1]
        guard = app if isinstance(app, Guard) else Guard(app, config=guard_config or GuardConfig())
        server = guarded_server(guard, on_ready=is_ready.set)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            assert is_ready.wait(PATIENCE_SECONDS), "the server did not start"
            yield Live(port=port)
        finally:
            server.should_exit = True
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive(), "the server did not end"

    return serving


@pytest.fixture(scope="module")  # as in the report's tests: a thread holds one Playwright at a time
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium here; on Debian: apt-get install chromium")
    quiet = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=chromium, args=[*quiet, "--no-first-run"])
        yield started
        started.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """`visit(url, excused=("409",), **context)` opens a page in a context of its own, or in that of `compared`, another page.

    `reviewer` is whom the page knows already: typed once, on an earlier day.
    At the end of the test no page may have said anything in its console but what holds an excused text, nor asked any other host.
    """
    said: list[str] = []
    asked: list[str] = []
    hosts: set[str] = set()
    contexts: list[Any] = []

    def visiting(url: str, *, excused: tuple[str, ...] = (), compared: Any = None, reviewer: str = "", **options: Any) -> Any:
        if compared is None:
            contexts.append(browser.new_context(**options))
        if reviewer:
            known = f"localStorage['polytag.reviewer'] ??= {reviewer!r}"
            contexts[-1].add_init_script(f"if (location.protocol === 'http:') {known}")
        page = (compared.context if compared else contexts[-1]).new_page()
        page.set_default_timeout(1000 * PATIENCE_SECONDS)
        hosts.add(urlsplit(url).netloc)
        page.on("console", lambda message: any(each in message.text for each in excused) or said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        return page

    yield visiting
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).netloc not in hosts] == []


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A model hub on this machine (local_hub.py), an empty cache, and an account that may write."""
    from huggingface_hub import constants

    specification = importlib.util.spec_from_file_location("local_hub", Path(__file__).with_name("local_hub.py"))
    assert specification is not None
    assert specification.loader is not None
    local_hub = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "local_hub", local_hub)
    specification.loader.exec_module(local_hub)
    with local_hub.serving() as serving:
        monkeypatch.setattr(constants, "ENDPOINT", serving.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", serving.url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # whose protocol the local hub does not speak
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", local_hub.TOKEN)
        yield serving


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's client waits up to 23 seconds between its tries."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
