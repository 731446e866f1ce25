"""`polytag evaluate --train-data DATA`: scored images that are training images too, and their effect on the metrics."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from polytag.contracts import Dataset, Predictions
    from polytag.data.duplicates.leakage import Leakage
    from polytag.data.read_options import ReadOptions
    from polytag.metrics.leakage import MetricsWithoutLeakage
    from polytag.metrics.values import Metrics

TrainData = Annotated[
    Path | None,
    typer.Option("--train-data", metavar="DATA", help="The training data: also evaluate without the images that are in them too."),
]
_NUM_SHOWN = 5


def training_images_of(predictions: "Predictions", data: Path, *, options: "ReadOptions") -> "Dataset":
    """The training images of DATA."""
    from polytag.data.duplicates.leakage import training_images
    from polytag.data.load import load_dataset

    return training_images(load_dataset(data, options=options), scored=predictions.image_paths)


def leakage_of(
    predictions: "Predictions", trained_on: "Dataset", *, threshold: "Any", metrics: "Metrics", errors: "Console"
) -> "tuple[Leakage, MetricsWithoutLeakage | None]":
    """Leakage, and the metrics without the leaked images or None. Raises PredictionsError where no image can be read."""
    from polytag.cli.progress import progress_bar
    from polytag.data.duplicates.leakage import find_leakage
    from polytag.errors import DataError, PredictionsError
    from polytag.metrics.leakage import evaluate_without_leakage

    with progress_bar(errors) as progress:
        num_files = len({str(path) for path in trained_on.paths} | {path for path in predictions.image_paths if path})
        task = progress.add_task("reading images", total=num_files)
        found = find_leakage(predictions.image_paths, trained_on.paths, on_image=lambda: progress.advance(task))
    if not found.num_trained_on:
        raise DataError(
            "no training image can be read",
            where=trained_on.source,
            got=f"such as {trained_on.paths[0]}" if len(trained_on) else "only the scored images",
            expected="the images that the model was trained on",
            next_step="`polytag data check` lists the reasons; --image-dir names their folder",
        )
    if found.num_not_compared == found.num_scored:
        raise PredictionsError(
            "no scored image can be compared with the training images",
            where=predictions.source,
            got="no path" if not any(predictions.image_paths) else f"such as {next(filter(None, predictions.image_paths))}",
            expected="a file at the path of each image",
            next_step="give --truth DATA, the data set that has the scored images",
        )
    if not found.images:
        return found, None
    return found, evaluate_without_leakage(
        predictions, found.is_leaked_N, threshold=threshold, groups=metrics.groups, frequency=metrics.frequency
    )


def print_leakage(
    console: "Console", found: "Leakage", without: "MetricsWithoutLeakage | None", *, metrics: "Metrics", predictions: "Predictions"
) -> None:
    """Print the number of leaked images, both mAPs and their difference, and the first few images."""
    from rich.markup import escape

    num_exact = sum(each.is_exact for each in found.images)
    compared = f"{found.num_scored - found.num_not_compared:,} scored images against {found.num_trained_on:,} training images"
    console.print()
    if without is None:
        console.print(f"Leakage: none; compared {compared}.", highlight=False)
    else:
        difference = without.difference
        console.print(
            f"Leakage: {len(found.images):,} of {found.num_scored:,} scored images are in the training data too: "
            f"{num_exact:,} byte for byte, {len(found.images) - num_exact:,} in another version.",
            highlight=False,
        )
        for text, mean in (
            ("mAP with them", metrics.mean_ap),
            ("mAP without them", without.metrics.mean_ap),
            ("difference", difference),
        ):
            sign = "+" if mean is difference else ""
            low, high = ("", "") if math.isnan(mean.low) else (f"{mean.low:{sign}.3f}", f"{mean.high:{sign}.3f}")
            value = "–" if math.isnan(mean.value) else f"{mean.value:{sign}.4f}"
            interval = f"  {low} – {high}" if low else ""
            console.print(f"  {text:<18}{value:>8}{interval}  over {mean.count} classes", highlight=False)
        for each in found.images[:_NUM_SHOWN]:
            how = "byte for byte" if each.is_exact else f"{each.bits} bits{each.orientation}"
            pair = escape(f"{predictions.ids[each.row]} ≈ {each.path}")
            console.print(f"  {pair}  [dim]{how}[/dim]", highlight=False, soft_wrap=True)
        if len(found.images) > _NUM_SHOWN:
            console.print(f"  [dim]… and {len(found.images) - _NUM_SHOWN:,} more in --json[/dim]", highlight=False)
    if found.num_unread:
        console.print(f"  {found.num_unread:,} training images could not be read, so their leakage is unknown.", highlight=False)
    if found.num_not_compared:
        console.print(
            f"  {found.num_not_compared:,} scored images could not be compared: missing, broken or without detail.", highlight=False
        )


def leakage_to_json(found: "Leakage", without: "MetricsWithoutLeakage | None", *, predictions: "Predictions") -> dict[str, object]:
    """The key `leakage` of evaluate's JSON; docs/howto/duplicates.md lists its keys."""
    return {
        "num_leaked": len(found.images),
        "num_exact": sum(each.is_exact for each in found.images),
        "num_scored": found.num_scored,
        "num_trained_on": found.num_trained_on,
        "num_unread": found.num_unread,
        "num_not_compared": found.num_not_compared,
        "mAP_difference": None if without is None else _mean_to_json(without.difference),
        "without": None if without is None else without.metrics.to_json(),
        "images": [
            {
                "id": predictions.ids[each.row],
                "trained_on": each.path,
                "is_exact": each.is_exact,
                "bits": each.bits,
                "correlation": each.correlation,
                "is_mirrored": each.is_mirrored,
                "is_turned": each.is_turned,
            }
            for each in found.images
        ],
    }


def _mean_to_json(mean: "Any") -> dict[str, float | int | None]:
    values = {"value": mean.value, "low": mean.low, "high": mean.high}
    return {name: None if math.isnan(value) else value for name, value in values.items()} | {"num_classes": mean.count}
