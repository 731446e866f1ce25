"""`polytag compare`: two or more runs on the same images, by class, or two recipes by several runs of each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polytag.cli.reading import reads_annotations
from polytag.cli.say import say
from polytag.cli.scores import Scale, Truth, as_in_training
from polytag.cli.slices import ColumnsFile, Group, apart_from_groups, groups_by, groups_of_training, require_use_of_columns

if TYPE_CHECKING:
    from rich.console import Console

    from polytag.contracts import Predictions
    from polytag.data.read_options import ReadOptions
    from polytag.metrics.comparison import Comparison
    from polytag.metrics.recipes import RecipeComparison
    from polytag.predictions.read import LabelledPredictions


@reads_annotations
def compare(
    options: "ReadOptions",
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="A B [C ...]", help="Run folders or files of scores; the others are compared with the first."),
    ],
    with_runs: Annotated[
        list[Path] | None,
        typer.Option(
            "--with", metavar="RUN", help="A run of a second recipe: the runs of both, with other seeds, are compared; repeatable."
        ),
    ] = None,
    truth: Truth = None,
    scale: Scale = None,
    intersect: Annotated[
        bool, typer.Option("--intersect", help="Compare on the images, classes and labels that all runs share.")
    ] = False,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Probability above which a label counts as predicted.", show_default="each run's thresholds, 0.5 for a file"
        ),
    ] = None,
    permutations: Annotated[
        int | None, typer.Option(min=1, help="Permutations of the test that gives p.", show_default="999 to 9999, by size")
    ] = None,
    group: Group = None,
    columns: ColumnsFile = None,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write every number and changed image as JSON.")
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write the comparison as a page.")] = None,
) -> None:
    """Compare runs on the same images: differences with intervals and p-values, and the images whose decisions changed."""
    from polytag import files
    from polytag.cli.terminal import Terminal
    from polytag.metrics.compare import compare as comparison_of
    from polytag.metrics.comparison import Comparison
    from polytag.metrics.recipes import NUM_PERMUTATIONS, compare_recipes
    from polytag.runs.folder import run_names

    require_use_of_columns(columns, used=bool(group), options="--group")
    options = apart_from_groups(options, group, truth=truth)
    paths = [*runs, *(with_runs or [])]
    if note := _other_folds_note(paths):
        say(note)
    if with_runs:
        _refuse_with(("--threshold", threshold), ("--report", report))
    labelled = [_read(path, scale=scale, truth=truth, options=options) for path in paths]
    tables, names = [each.predictions for each in labelled], run_names(paths)
    groups = groups_by(labelled[0], group, file=columns, truth=truth)
    groups = groups or groups_of_training(labelled[0], paths[0], is_required=False)
    if with_runs:
        num_permutations = permutations or NUM_PERMUTATIONS
        first, second = tables[: len(runs)], tables[len(runs) :]
        comparison = compare_recipes(
            first, second, run_names=names, intersect=intersect, num_permutations=num_permutations, groups=groups
        )
    else:
        comparison = comparison_of(
            *tables,
            names=names,
            thresholds=[_thresholds(path, table, threshold) for path, table in zip(runs, tables, strict=True)],
            intersect=intersect,
            num_permutations=permutations,
            groups=groups,
        )
    print_comparison(Terminal(), comparison)
    if json is not None:
        import json as encoder

        files.write_text(json, encoder.dumps(comparison.to_json(), indent=1, allow_nan=False) + "\n")
    if report is not None and isinstance(comparison, Comparison):
        from polytag.report.comparison import write_comparison

        write_comparison(report, comparison)
        say(f"\nreport: {report}")


def _refuse_with(*options: tuple[str, object]) -> None:
    """Raise UsageError for options that the comparison of two recipes has no use for."""
    from polytag.errors import UsageError

    for name, value in options:
        if value is not None:
            raise UsageError(
                "the comparison of two recipes is by mAP alone: it has no decisions and no page",
                got=f"--with and {name}",
                expected="one of the two",
            )


def print_comparison(console: "Console", comparison: "Comparison | RecipeComparison") -> None:
    """Print the comparison's table: headings bold, notes dim, marks in colour."""
    from rich.text import Text

    from polytag.metrics.comparison import BETTER, WORSE

    styles = {"heading": "bold", "row": "", "note": "dim", "": ""}
    for line in comparison.lines(width=console.width):
        text = Text(line.text, style=styles[line.kind])
        if line.kind == "row":
            text.highlight_words([BETTER], "blue")
            text.highlight_words([WORSE], "dark_orange3")
        console.print(text, highlight=False, soft_wrap=True)


def _other_folds_note(paths: Sequence[Path]) -> str:
    """A sentence where two runs of folds divided their images otherwise; "" where they are paired fold by fold, or none is."""
    from polytag.runs.folder import RunFolder

    runs = [run for path in paths if (run := RunFolder(path=path if path.is_dir() else path.parent)).has_folds]
    if len({run.assignment.read_bytes() for run in runs}) < 2:
        return ""
    return "note: the runs divided their images into other folds; they are still paired image by image"


def _file(path: Path) -> Path:
    """A run folder's predictions file, or the path itself."""
    from polytag.runs.folder import predictions_path

    return predictions_path(path)


def _read(path: Path, *, scale: str | None, truth: Path | None, options: "ReadOptions") -> "LabelledPredictions":
    from polytag.predictions.read import is_own, read_labelled

    file = _file(path)
    if file.is_file() and is_own(file):
        scale = None  # the file records its scale; --scores is for the others
    if truth is not None:
        options = as_in_training(options, file)
    return read_labelled(file, scale=scale or "", truth=truth, options=options)


def _thresholds(path: Path, table: "Predictions", threshold: float | None) -> Mapping[str, float]:
    """By class name: `threshold` for all, those of the predictions' run, or 0.5."""
    from polytag.predictions.thresholds import find_thresholds

    found = find_thresholds(_file(path), table) if threshold is None else None
    if found is None:
        return dict.fromkeys(table.label_set, 0.5 if threshold is None else threshold)
    return dict(zip(table.label_set, found.thresholds, strict=True))
