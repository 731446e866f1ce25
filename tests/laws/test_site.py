"""The site of the documentation: every page is in it and reads as on GitHub, links hold, no other host is asked, search finds."""

import functools
import importlib.util
import re
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-docs" / "bin" / "python"
BUILD = Path("docs", "site", "build.py")
# What must be as on GitHub. Not the paragraphs: whether those of a list stand apart is a matter of looks.
STRUCTURE = {
    "h1",
    "h2",
    "h3",
    "h4",
    "table",
    "tr",
    "th",
    "td",
    "ul",
    "ol",
    "li",
    "pre",
    "code",
    "blockquote",
    "em",
    "strong",
    "a",
    "img",
}


def load_build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_site", ROOT / BUILD)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build = load_build()
PAGES: dict[str, str] = build.find_pages()


def rewrite(text: str, page: str = "docs/howto/compare.md") -> str:
    return build.rewrite(text, page=page, pages=PAGES)


# ---- the copy of the Markdown


@pytest.mark.parametrize(
    ("page", "link", "leads_to"),
    [
        ("README.md", "docs/tutorial.md", "tutorial.md"),
        ("README.md", "docs/reference/metrics.md#averages", "reference/metrics.md#averages"),
        ("README.md", "docs/decisions", "decisions/index.md"),
        ("README.md", "docs/images/demo-report.png", "images/demo-report.png"),
        ("README.md", "CONTRIBUTING.md", "contributing.md"),
        ("README.md", "LICENSE", "https://github.com/polytag/polytag/blob/main/LICENSE"),
        ("README.md", "https://example.org/x", "https://example.org/x"),
        ("docs/tutorial.md", "../README.md#figures", "index.md#figures"),
        ("docs/tutorial.md", "#without-a-download", "#without-a-download"),
        ("docs/howto/compare.md", "../../CONTRIBUTING.md", "../contributing.md"),
        ("docs/howto/compare.md", "../images/demo-grid.jpg", "../images/demo-grid.jpg"),
        ("docs/howto/compare.md", "thresholds.md", "thresholds.md"),
        ("docs/howto/compare.md", "../../benchmarks", "https://github.com/polytag/polytag/tree/main/benchmarks"),
        (
            "docs/howto/compare.md",
            "../../src/polytag/cli/main.py",
            "https://github.com/polytag/polytag/blob/main/src/polytag/cli/main.py",
        ),
    ],
)
def test_a_link_leads_where_it_did(page: str, link: str, leads_to: str):
    assert rewrite(f"See [that `thing`]({link}), please.", page) == f"See [that `thing`]({leads_to}), please."
    assert rewrite(f"[it]: {link}\n", page) == f"[it]: {leads_to}\n"
    assert rewrite(f'<img src="{link}">', page) == f'<img src="{leads_to}">'


@pytest.mark.parametrize("link", ["nowhere.md", "../../src/nowhere.py", "../../../outside.md", "../images/none.png"])
def test_a_link_that_leads_nowhere_is_refused(link: str):
    with pytest.raises(
        build.BrokenLinkError, match=re.escape(f"docs/howto/compare.md links to {link}, which is not in the repository")
    ):
        rewrite(f"[x]({link})")


def test_code_stays_as_it_is():
    text = "`[x](nowhere.md)` and ``a ` [x](nowhere.md)``\n\n```python\nx = '[x](nowhere.md)'\n| a | b |\n```\n"
    assert rewrite(text) == text


@pytest.mark.parametrize(
    ("words", "code", "language"),
    [
        ("console run", "polytag demo  # all", "bash"),
        ("console", "$ polytag demo\n1 image", "console"),
        ("python norun", "x = 1", "python"),
        ("python", "x = 1", "python"),
        ("", "src/", "text"),
    ],
)
def test_a_fence_keeps_only_its_language(words: str, code: str, language: str):
    assert rewrite(f"a\n\n```{words}\n{code}\n```\n\nb\n") == f"a\n\n```{language}\n{code}\n```\n\nb\n"


def test_an_image_of_another_host_is_told_in_words():
    assert (
        rewrite("[![build](https://example.org/b.svg)](../../README.md) ![x](https://example.org/x.png)")
        == "[build](../index.md) x"
    )


def test_numbers_stand_below_numbers():
    rows = "| 1 | 0.716 | 276 (271 – 282) | 2 cores |\n| 2 | – | **1,445** | |\n"
    head, marks, aligned = "| run | mAP | seconds | note |\n", "| --- | --- | --- | --- |\n", "| --- | ---: | ---: | --- |\n"
    assert rewrite(head + marks + rows) == head + aligned + rows
    untouched = "| a | b |\n| :-- | --- |\n| 1 | `x` \\| 2 |\n"
    assert rewrite(untouched) == untouched


def test_a_page_is_summed_up_by_its_first_sentence():
    assert build.summary_of("# A\n\nOne [two](x.md)\nthree: `four`. Five.\n") == "One two three: `four`."
    assert build.summary_of("# A\n\n```\nx\n```\n\nIt is. So?\n") == "It is."
    assert build.summary_of("# A\n\nIt leads on:\n\n- x\n") == "It leads on."
    assert build.summary_of("# A\n\n```\nx\n```\n\ndoes that.\n") == build.summary_of("# A\n\n| a |\n") == ""


def test_pages_come_in_the_order_of_the_readme_and_new_ones_behind_them():
    names = [name for name in PAGES.values() if name.startswith("howto/")]
    readme = (ROOT / "README.md").read_text()
    named = [name for name in dict.fromkeys(re.findall(r"\]\(docs/(howto/[\w-]+\.md)\)", readme)) if name in names]
    assert named == names[: len(named)]
    assert set(names) == {f"howto/{path.name}" for path in (ROOT / "docs" / "howto").glob("*.md")}


def test_a_folder_of_other_things_is_not_replaced(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(SystemExit, match="holds something other than the site; name another folder"):
        build.build(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years"


# ---- the built site

slow = pytest.mark.slow


def run_build(root: Path, output: Path) -> subprocess.CompletedProcess[str]:
    if not PYTHON.is_file():
        pytest.skip("the tools of the site are not installed; `make docs` installs them into .venv-docs")
    return subprocess.run([PYTHON, root / BUILD, output], capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documentation") / "site"
    done = run_build(ROOT, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Tags(HTMLParser):
    """The tags of a text with their attributes, and the text of the headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def structure(self) -> Counter[str]:
        own = {"headerlink"}
        return Counter(tag for tag, attributes in self.tags if tag in STRUCTURE and attributes.get("class") not in own)

    def values(self, *names: str) -> list[str]:
        return [value for _, attributes in self.tags for name in names if (value := attributes.get(name))]


def article_of(page: Path) -> str:
    match = re.search(r'<article.*?>\s*<a id="__skip".*?</a>(.*?)</article>', page.read_text(), re.DOTALL)
    assert match, f"{page.name} has no text"
    return match[1]


@slow
@pytest.mark.parametrize("page", PAGES)
def test_a_page_reads_as_on_github(page: str, site: Path):
    """Python-Markdown is another dialect: a list without a blank line before it, say, is a paragraph there. Reword what differs."""
    theirs = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render((ROOT / page).read_text())
    here = Tags(article_of(site / PAGES[page].replace(".md", ".html"))).structure()
    there = Tags(re.sub(r'<img src="https?:[^>]*>', "", theirs)).structure()
    assert here == there, f"{page}: the site lacks {there - here}, and has too much {here - there}"


@slow
def test_every_page_is_in_the_navigation(site: Path):
    home = Tags((site / "index.html").read_text())
    linked = {
        value.partition("#")[0].removeprefix("./")
        for tag, attributes in home.tags
        if tag == "a" and (value := attributes.get("href"))
    }
    assert {name.replace(".md", ".html") for name in PAGES.values()} <= linked
    tabs = re.findall(r'md-tabs__link">\s*(.*?)\s*</a>', (site / "index.html").read_text(), re.DOTALL)
    assert [re.sub("<.*?>", "", tab).strip() for tab in tabs] == [
        *("Home", "Tutorial", "How-to", "Reference", "Decisions", "Experiments", "Changelog", "Contributing")
    ]


@slow
def test_every_link_leads_somewhere(site: Path):
    pages = {path: Tags(path.read_text()) for path in site.rglob("*.html") if path.name != "404.html"}
    anchors = {path: set(page.values("id", "name")) for path, page in pages.items()}
    for path, page in pages.items():
        for link in page.values("href", "src"):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{path.relative_to(site)} links to {link}"
            if parts.fragment:
                assert unquote(parts.fragment) in anchors[target], f"{path.relative_to(site)} links to {link}"


@slow
def test_no_page_names_another_host_to_load_from(site: Path):
    loading = {("script", "src"), ("img", "src"), ("img", "srcset"), ("source", "srcset"), ("iframe", "src"), ("link", "href")}
    for path in site.rglob("*.html"):
        for tag, attributes in Tags(path.read_text()).tags:
            for name, value in attributes.items():
                if (tag, name) in loading and attributes.get("rel") not in ("canonical", "prev", "next"):
                    assert not urlsplit(value or "").netloc, f"{path.relative_to(site)} loads {value}"
    for path in site.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//", path.read_text()), f"{path.name} loads from another host"


@slow
@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_code_has_its_language_and_no_other_words(page: str, site: Path):
    text = article_of(site / PAGES[page].replace(".md", ".html"))
    shown = re.findall(r'<div class="language-(\w+) highlight">', text)
    copy = build.rewrite((ROOT / page).read_text(), page=page, pages=PAGES)
    assert [language for language in shown if language != "text"] == [
        fence["words"] for fence in build.FENCE.finditer(copy) if fence["words"] != "text"
    ]
    assert "```" not in text


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the site is built from, to be broken."""
    copy = tmp_path / "checkout"
    for name in ("docs", "benchmarks", "src"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, copy)
    return copy


@slow
def test_a_new_page_appears_by_itself(checkout: Path, tmp_path: Path):
    (checkout / "docs" / "howto" / "sing.md").write_text("# Sing `loudly`\n\nBreathe in. Then go on.\n")
    (checkout / "docs" / "songs").mkdir()
    (checkout / "docs" / "songs" / "first.md").write_text("# The first\n\nLa. [Back](../howto/sing.md#sing-loudly)\n")
    done = run_build(checkout, tmp_path / "site")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        '<li><a href="sing.html">Sing loudly</a><p>Breathe in.</p></li>' in (tmp_path / "site" / "howto" / "index.html").read_text()
    )
    assert 'href="songs/index.html"' in (tmp_path / "site" / "index.html").read_text().replace("./", "")
    assert (tmp_path / "site" / "songs" / "first.html").is_file()


@slow
@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("howto/compare.md#nothing", "anchor does not exist"),
        ("none.md", "error: docs/tutorial.md links to none.md, which is not in the repository"),
    ],
)
def test_a_broken_link_fails_the_build(link: str, said: str, checkout: Path, tmp_path: Path):
    with (checkout / "docs" / "tutorial.md").open("a") as file:
        file.write(f"\nSee [there]({link}).\n")
    done = run_build(checkout, tmp_path / "site")
    assert done.returncode == 1
    assert said in done.stdout + done.stderr
    assert "tutorial.md" in done.stdout + done.stderr
    assert not (tmp_path / "site").exists()


# ---- in a browser


@pytest.fixture(scope="module")
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


@pytest.fixture(params=["file", "http"])
def address(request: pytest.FixtureRequest, site: Path) -> Iterator[str]:
    """Where the site is: a folder, or behind the plainest of servers."""
    if request.param == "file":
        yield site.as_uri()
        return
    silent = type("Silent", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(silent, directory=site)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def look(browser: Any) -> Iterator[Any]:
    """`look(width)` opens a page of that width; in the end none may have complained, or asked another host."""
    heard: list[str] = []
    contexts: list[Any] = []

    def looking(width: int, **options: Any) -> Any:
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: message.type in ("error", "warning") and heard.append(f"{page.url}: {message.text}"))
        page.on("pageerror", lambda error: heard.append(f"{page.url}: {error}"))

        def note(request: Any) -> None:
            parts = urlsplit(request.url)
            if parts.scheme not in ("file", "data", "blob") and parts.hostname != "127.0.0.1":
                heard.append(f"{page.url} asked for {request.url}")

        page.on("request", note)
        return page

    yield looking
    for context in contexts:
        context.close()
    assert heard == []


@slow
@pytest.mark.browser
def test_search_finds_tail_accuracy_on_the_page_of_metrics(address: str, look: Any):
    page = look(1280)
    page.goto(f"{address}/howto/compare.html")
    page.locator(".md-search__button").click()
    page.keyboard.type("tail accuracy", delay=20)
    best = page.locator("a[href*='reference/metrics.html']").filter(has_text="Tail accuracy").last
    best.wait_for()
    assert "Reference" in best.inner_text()
    best.click()
    page.wait_for_url("**/reference/metrics.html*#tail-accuracy")
    assert page.locator("#tail-accuracy").is_visible()


@pytest.mark.slow(15)
@pytest.mark.browser
def test_every_page_fits_a_phone_and_asks_nobody(site: Path, look: Any):
    page = look(390, is_mobile=True)
    for path in site.rglob("*.html"):
        if path.name == "404.html":  # a server's: its paths are those of the published site
            continue
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, f"{path.relative_to(site)} is wider than a phone"


@slow
@pytest.mark.browser
@pytest.mark.parametrize(("scheme", "paper"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 23, 26)")])
def test_the_site_is_light_or_dark_as_the_reader_has_it(scheme: str, paper: str, site: Path, look: Any):
    page = look(1280, color_scheme=scheme)
    page.goto((site / "index.html").as_uri())
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == paper
