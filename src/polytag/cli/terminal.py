"""The console of tables and progress. What acts on a terminal (escape sequences, direction overrides) is shown as U+FFFD.

Names come from strangers' files. Only the colours and cursor movements that rich adds itself reach the terminal.
"""

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from polytag.text import printable_lines


class Terminal(Console):
    """A console of rich whose text has no control character but line breaks and tabs."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else printable_lines(segment.text)
            yield segment if text == segment.text else segment._replace(text=text)
