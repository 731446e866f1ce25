"""The page and its files, from memory: a request never becomes a path of the file system."""

import hashlib
import html
from collections.abc import Mapping
from functools import cache
from importlib.resources import files as package_files
from string import Template

from polytag.serve.answer import Answer, Refused
from polytag.serve.served_model import ServedModel
from polytag.text import counted
from polytag.web.request_rules import GuardConfig

_KINDS = {"css": b"text/css; charset=utf-8", "js": b"text/javascript; charset=utf-8", "svg": b"image/svg+xml"}


def page(model: ServedModel) -> Answer:
    """The page to drop images on."""
    words = {
        "name": model.name,
        "id": model.id,
        "classes": counted(len(model.label_set), "classes"),
        "engine": f"Computed by {model.scorer.engine}, {model.scorer.precision}",
        "max_bytes": str(GuardConfig.max_body_bytes),
    }
    text = _page().substitute({key: html.escape(value) for key, value in words.items()})
    return Answer(body=text.encode(), kind=b"text/html; charset=utf-8", headers=((b"cache-control", b"no-cache"),))


def static_answer(path: str, *, tag: bytes) -> Answer:
    """What the page loads; raises Refused, with 404, for any other path. `tag` is what the browser has."""
    found = _files().get(path)
    if found is None:
        raise Refused(404, "There is no such address; /openapi.json lists them all.")
    kind, content, own_tag = found
    headers = ((b"etag", own_tag), (b"cache-control", b"no-cache"))
    return Answer(status=304, kind=kind, headers=headers) if tag == own_tag else Answer(body=content, kind=kind, headers=headers)


@cache
def _page() -> Template:
    return Template((package_files("polytag.serve") / "static" / "index.html").read_text(encoding="utf-8"))


@cache
def _files() -> Mapping[str, tuple[bytes, bytes, bytes]]:
    """Content type, content and tag, by path."""
    folders = (package_files("polytag.serve") / "static", package_files("polytag.web") / "cards")
    contents = {each.name: each.read_bytes() for folder in folders for each in folder.iterdir()}
    contents["palette.css"] = (package_files("polytag.report") / "templates" / "palette.css").read_bytes()
    found: dict[str, tuple[bytes, bytes, bytes]] = {}
    for name, content in contents.items():
        kind = _KINDS.get(name.rpartition(".")[2])
        if kind is not None:
            found[f"/static/{name}"] = (kind, content, f'"{hashlib.sha256(content).hexdigest()[:16]}"'.encode())
    return found
