"""Build the site of the documentation: `make docs`, or `python docs/site/build.py FOLDER` where Zensical is installed.

The Markdown of the repository is the source as it stands, written for GitHub. What the site needs to be otherwise is done to a
copy: README.md becomes the home page, links out of docs/ lead to the repository, a fence keeps only its language, and the
navigation is made from the folders, in the order in which README.md names the pages. A link that leads nowhere fails the build.
"""

import html
import json
import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
REPOSITORY = "https://github.com/polytag/polytag"
ICON = "src/polytag/inspector/static/icon.svg"

AT_THE_ROOT = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
SECTIONS = {"howto": "How-to", "reference": "Reference", "decisions": "Decisions"}  # another folder is called by its name

FENCE = re.compile(
    r"^(?P<indent> *)(?P<ticks>`{3,}|~{3,})[ ]*(?P<words>[^`\n]*)\n(?P<code>.*?)^(?P=indent)(?P=ticks)[ ]*$", re.M | re.S
)
LINK = re.compile(
    r"""(?P<code>(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`))       # code is left as it is
      | !\[(?P<alt>[^\]]*)\]\(https?:[^)]*\)                       # an image of another host
      | (?P<before>\]\(<?|^\[[^\]]+\]:[ ]+|(?:src|href)=")(?P<target>[^\s)>"]+)""",
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)
TABLE = re.compile(r"^(?P<head>\|.*\|[ ]*\n)(?P<marks>\|[-:| ]+\|)[ ]*\n(?P<rows>(?:\|.*\|[ ]*(?:\n|\Z))+)", re.MULTILINE)
NUMBER = re.compile(r"[−+±~<>≈]?\d?[\d., ()–−+±/-]*(?: ?(?:%|s|ms|min|h|kB|MB|GB|MiB|GiB|px|times|x))?|–|-|no")

Nav = list["str | dict[str, str | Nav]"]  # a path, or a label with a path or with what stands below it


class BrokenLinkError(Exception):
    """A page links to a file that is not in the repository."""


def find_pages() -> dict[str, str]:
    """Every page: its path in the repository, its path in the site, both with slashes; in the order of the navigation."""
    docs = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
    named = [posixpath.normpath(target) for target in re.findall(r"\]\(([^)#\s]+)", (ROOT / "README.md").read_text())]
    docs.sort(key=lambda page: (named.index(page) if page in named else len(named), page))
    there = {page: name for page, name in AT_THE_ROOT.items() if (ROOT / page).is_file()}
    return there | {page: page.removeprefix("docs/") for page in docs}


def rewrite(text: str, *, page: str, pages: dict[str, str]) -> str:
    """The Markdown of a page as the site wants it: links that hold there, fences with nothing but a language."""
    found, end = "", 0
    for fence in FENCE.finditer(text):
        found += _rewrite_prose(text[end : fence.start()], page=page, pages=pages) + _rewrite_fence(fence)
        end = fence.end()
    return found + _rewrite_prose(text[end:], page=page, pages=pages)


def _rewrite_prose(text: str, *, page: str, pages: dict[str, str]) -> str:
    return TABLE.sub(_align_numbers, _rewrite_links(text, page=page, pages=pages))


def _align_numbers(table: re.Match[str]) -> str:
    """The same table with its columns of numbers set to the right, so that digits stand below digits."""
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table["rows"].splitlines()]
    marks = [mark.strip() for mark in table["marks"].strip().strip("|").split("|")]
    if any(len(row) != len(marks) for row in cells):
        return table[0]  # a bar within code: too much for a regular expression
    for column, mark in enumerate(marks):
        told = [cell for row in cells if (cell := row[column].strip("*"))]
        if (
            column
            and mark.strip("-") == ""
            and told
            and all(NUMBER.fullmatch(cell) for cell in told)
            and any(map(str.isdigit, "".join(told)))
        ):
            marks[column] = "---:"
    return f"{table['head']}| {' | '.join(marks)} |\n{table['rows']}"


def _rewrite_fence(fence: re.Match[str]) -> str:
    """`console run` and `python norun` are words for the tests. What is typed is a shell's language, unless it shows its prompt."""
    language = (fence["words"].split() or ["text"])[0]
    if language == "console" and not re.search(r"^\s*\$ ", fence["code"], re.MULTILINE):
        language = "bash"
    return f"{fence['indent']}{fence['ticks']}{language}\n{fence['code']}{fence['indent']}{fence['ticks']}"


def _rewrite_links(text: str, *, page: str, pages: dict[str, str]) -> str:
    def rewritten(match: re.Match[str]) -> str:
        if match["code"]:
            return match["code"]
        if match["target"] is None:  # the site loads nothing from another host: its image is told in words
            return match["alt"]
        return match["before"] + _destination(match["target"], page=page, pages=pages)

    return LINK.sub(rewritten, text)


def _destination(target: str, *, page: str, pages: dict[str, str]) -> str:
    path, hash_sign, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:", target):
        return target
    source = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
    here = posixpath.dirname(pages[page])
    if source in pages:
        return posixpath.relpath(pages[source], here or ".") + hash_sign + anchor
    folder = source.removeprefix("docs/")
    if source.startswith("docs/") and any(posixpath.dirname(other) == folder for other in pages.values()):
        return posixpath.relpath(f"{folder}/index.md", here or ".")
    if not (ROOT / source).exists() or source.startswith(".."):
        raise BrokenLinkError(f"{page} links to {target}, which is not in the repository")
    if source.startswith("docs/") and (ROOT / source).is_file():
        return posixpath.relpath(folder, here or ".")
    return f"{REPOSITORY}/{'tree' if (ROOT / source).is_dir() else 'blob'}/main/{source}{hash_sign}{anchor}"


def title_of(text: str) -> str:
    """The first heading, without marks of emphasis and code."""
    match = re.search(r"^# (.+?) *$", FENCE.sub("", text), re.MULTILINE)
    assert match, "a page begins with a heading"
    return re.sub(r"[`*]", "", match[1])


def summary_of(text: str) -> str:
    """The first sentence below the first heading, its links reduced to their words; empty where a table or a list comes first."""
    match = re.search(r"^# [^\n]*\n+([^\n#|>!-].*?)(?=\n\n|\n*\Z)", FENCE.sub("", text), re.MULTILINE | re.DOTALL)
    words = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(match[1].split())) if match else ""
    sentence = re.match(r"(.+?)(?:\.(?= [^a-z]|$)|:$)", words)
    return f"{sentence[1]}." if sentence and not sentence[1][0].islower() else ""  # a small letter goes on with a block above


def write_pages(folder: Path) -> Nav:
    """Write the site's Markdown and what it shows into a folder; the navigation comes back."""
    pages = find_pages()
    titles: dict[str, str] = {}
    summaries: dict[str, str] = {}
    for page, name in pages.items():
        text = (ROOT / page).read_text()
        titles[name], summaries[name] = title_of(text), summary_of(text)
        _write(folder / name, rewrite(text, page=page, pages=pages))
    for path in (ROOT / "docs").rglob("*"):
        if path.suffix in {".png", ".jpg", ".svg", ".gif", ".webp"}:
            target = folder / path.relative_to(ROOT / "docs")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    (folder / "assets").mkdir()
    shutil.copy(ROOT / ICON, folder / "assets" / "icon.svg")
    shutil.copy(HERE / "polytag.css", folder / "assets" / "polytag.css")

    def entries(belongs: Callable[[str], bool]) -> Nav:
        return [{titles[name]: name} for name in titles if belongs(name)]

    nav: Nav = [{"Home": "index.md"}]
    apart = {*AT_THE_ROOT.values(), "experiments.md"}
    nav.append({"Tutorial": entries(lambda name: "/" not in name and name not in apart)})
    inside = sorted({name.split("/")[0] for name in titles if "/" in name}, key=lambda name: ([*SECTIONS, name].index(name), name))
    for section in inside:
        label = SECTIONS.get(section, section.capitalize())
        index = f"{section}/index.md"
        own = [name for name in titles if name.split("/")[0] == section and name != index]
        if index not in titles:
            _write(folder / index, f"# {label}\n\n{_listing(section, own, titles=titles, summaries=summaries)}\n")
        nav.append({label: [index, *entries(own.__contains__)]})
    for label, name in (("Experiments", "experiments.md"), ("Changelog", "changelog.md")):
        if name in titles:
            nav.append({label: name})
    nav.append({"Contributing": entries(lambda name: name in ("contributing.md", "security.md"))})
    return nav


def _listing(section: str, names: list[str], *, titles: dict[str, str], summaries: dict[str, str]) -> str:
    """The pages of a section with their titles and what they begin with. HTML, which Markdown lets through."""
    items: list[str] = []
    for name in names:
        target = name.removeprefix(f"{section}/").removesuffix(".md") + ".html"
        words = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(summaries[name], quote=False))
        words = "" if section == "decisions" else words  # the title of a decision says all
        items.append(f'<li><a href="{target}">{html.escape(titles[name])}</a>{f"<p>{words}</p>" if words else ""}</li>')
    return "\n".join(['<ul class="listed">', *items, "</ul>"])


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def to_toml(value: "str | Nav | dict[str, str | Nav]") -> str:
    """Texts, lists and dicts of them as TOML on one line."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(map(to_toml, value))}]"
    return f"{{ {', '.join(f'{to_toml(key)} = {to_toml(item)}' for key, item in value.items())} }}"


def let_files_search(site: Path) -> None:
    """A browser starts no worker from a file beside a page that is itself a file; from a text in the page it does."""
    (worker,) = (site / "assets" / "javascripts" / "workers").glob("search.*.js")
    script = """if (location.protocol === "file:") {
  const source = %s;
  window.Worker = class extends Worker {
    constructor() { super(URL.createObjectURL(new Blob([source], { type: "text/javascript" }))); }
  };
}
"""
    (site / "assets" / "iframe-worker.js").write_text(script % json.dumps(worker.read_text()))


def build(output: Path) -> None:
    """Build the site into a folder, which is replaced if it holds a site.

    Raises:
        BrokenLinkError: A page links to a file that is not there. A page or an anchor that is not there fails in Zensical.
    """
    if output.exists() and any(output.iterdir()) and not (output / "assets" / "polytag.css").is_file():
        raise SystemExit(f"{output} holds something other than the site; name another folder")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        nav = write_pages(folder / "pages")
        settings = (HERE / "zensical.toml").read_text().replace("[project]\n", f"[project]\nnav = {to_toml(nav)}\n", 1)
        (folder / "zensical.toml").write_text(settings)
        shutil.copytree(HERE / "overrides", folder / "overrides")
        subprocess.run([sys.executable, "-m", "zensical", "build", "--strict", "--clean"], cwd=folder, check=True)
        let_files_search(folder / "site")
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(folder / "site", output)


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "site")
    try:
        build(target)
    except BrokenLinkError as error:
        raise SystemExit(f"error: {error}") from None
    except subprocess.CalledProcessError as error:
        raise SystemExit(error.returncode) from None
    print(f"{target}/index.html opens in any browser, with a server or without")
