"""What annotations were read as, for the console: format, columns, classes, three examples, and what was left out or assumed."""

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from polytag.contracts import PRESENT, UNKNOWN
from polytag.text import counted

if TYPE_CHECKING:
    from rich.console import Console

    from polytag.contracts import Dataset

_NUM_EXAMPLES = 3


def print_reading(console: "Console", dataset: "Dataset") -> None:
    """Print what a data set was read as, one line for each role, then the notes."""
    interpretation = dataset.interpretation
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("read as", Text(interpretation.format, style="bold"))
    for what, where in interpretation.found:
        table.add_row(Text(what), Text(where))
    table.add_row("classes", Text(f"{len(dataset.label_set):,}: {_shortened(dataset.label_set.names)}"))
    for number, row in enumerate(_examples(dataset)):
        table.add_row("examples" if number == 0 else "", _example(dataset, row))
    console.print(table)
    for note in interpretation.notes:
        console.print(Text.assemble(("note: ", "bold"), note), soft_wrap=True)


def _examples(dataset: "Dataset") -> list[int]:
    """Rows with labels first: they show more."""
    labelled = [row for row in range(min(len(dataset), 1000)) if (dataset.target_NC[row] == PRESENT).any()]
    return (labelled + [row for row in range(min(len(dataset), _NUM_EXAMPLES)) if row not in labelled[:_NUM_EXAMPLES]])[
        :_NUM_EXAMPLES
    ]


def _example(dataset: "Dataset", row: int) -> Text:
    target_C = dataset.target_NC[row]
    names = [name for name, target in zip(dataset.label_set, target_C, strict=True) if target == PRESENT]
    num_unknown = int((target_C == UNKNOWN).sum())
    labels = _shortened(names) if names else "no label"
    if num_unknown:
        labels += f"; {counted(num_unknown, 'classes')} unknown"
    split = f" ({dataset.split_N[row]})" if dataset.split_N[row] else ""
    return Text.assemble(dataset.ids[row], (split, "dim"), ("  ", ""), (labels, "cyan"))


def _shortened(names: "tuple[str, ...] | list[str]", *, num_shown: int = 12) -> str:
    more = f", ... and {len(names) - num_shown:,} more" if len(names) > num_shown else ""
    return ", ".join(names[:num_shown]) + more
