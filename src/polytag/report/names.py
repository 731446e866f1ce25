"""Names of classes and runs as HTML: they wrap after a separator, and never inside a word."""

import re

from markupsafe import Markup, escape

_BETWEEN_PARTS = re.compile(r"(?<=[_-])(?=[^\s_-])")
_LONG_PART = 16  # letters: a part that is longer may be cut in a narrow place, and the title shows it whole


def name_html(name: str) -> Markup:
    """A name that may wrap at its spaces and after `_` and `-`; the style sheets cut a part that is too long for its place."""
    parts = _BETWEEN_PARTS.split(name)
    title = Markup(' title="{}"').format(name) if max(map(len, " ".join(parts).split()), default=0) > _LONG_PART else ""
    return Markup('<bdi class="name"{}>{}</bdi>').format(title, Markup("<wbr>").join(map(escape, parts)))
