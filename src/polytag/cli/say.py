"""Plain text to a terminal, without rich: `terminal.py` is the console of tables and progress."""

import sys
from typing import TextIO

from polytag.text import printable_lines


def say(text: object, *, file: TextIO | None = None) -> None:
    """Print text, to stdout by default; a control character other than line breaks and tabs is shown as U+FFFD."""
    print(printable_lines(str(text)), file=file or sys.stdout, flush=True)
