"""Names of classes and runs, and paths, as HTML: they wrap after a separator, and never inside a word."""

import re

from markupsafe import Markup, escape

_BETWEEN_PARTS = re.compile(r"(?<=[_-])(?=[^\s_-])")
_AFTER_SEPARATOR = re.compile(r"(?<=[/\\])(?=[^/\\])")
_LONG_PART = 16  # letters: a part that is longer may be cut in a narrow place, and the title shows it whole


def name_html(name: str) -> Markup:
    """A name that may wrap at its spaces and after `_` and `-`; the style sheets cut a part that is too long for its place."""
    parts = _BETWEEN_PARTS.split(name)
    title = Markup(' title="{}"').format(name) if max(map(len, " ".join(parts).split()), default=0) > _LONG_PART else ""
    return Markup('<bdi class="name"{}>{}</bdi>').format(title, Markup("<wbr>").join(map(escape, parts)))


def path_html(path: str) -> Markup:
    """A path that wraps after its separators, and inside a part only where that is too long for its place."""
    return Markup("<bdi>{}</bdi>").format(Markup("<wbr>").join(map(escape, _AFTER_SEPARATOR.split(path))))
