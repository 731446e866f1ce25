"""Documents that cannot drift: what they show runs, what they list is all there is, links lead somewhere, the map is the house.

In a page, a block marked ```python is run and one marked ```console run is typed, top to bottom, in one folder and one namespace;
```python norun is only compiled, and every `polytag ...` line of any block must name a verb and options that exist.
"""

import csv
import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from polytag.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
REFERENCE = ROOT / "docs" / "reference"
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUNS, COMPILES, SHOWS = ("python", "console run"), ("python norun",), ("", "bash", "console", "console run", "sh")


def identify(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def at_hand(colours: Path, write_tool_exports: Callable[[Path], None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What a reader has: VOC2012 (small, generated) with train and val, VOC2007 with test, images of their own, finished runs.

    One thread: the networks are so small that a second only waits for the first.
    """
    import torch

    from polytag import BASELINE, FINETUNE, convert, load_dataset, train
    from polytag.demo.scenes import write_scenes

    folder = tmp_path_factory.mktemp("at-hand")
    voc2012 = write_scenes(folder / "data", num_train=60, num_val=40, size_px=48)
    val_set = load_dataset(voc2012).split("val")
    convert(replace(val_set, split_N=("test",) * len(val_set)), voc2012.with_name("VOC2007"), to="voc")
    (folder / "VOCdevkit").symlink_to("data/VOCdevkit")
    shutil.copytree(colours.parent, folder / "my-images")
    patients = [f"images/{row:03}.png,p{row // 4}" for row in range(72)]
    (folder / "patients.csv").write_text("\n".join(["id,patient", *patients]) + "\n")
    (folder / "days.csv").write_text("id,day\n" + "".join(f"images/{row:03}.png,2024-01-{1 + row % 28:02}\n" for row in range(72)))
    shutil.copytree(colours.parent / "images", folder / "new-images", ignore=shutil.ignore_patterns("0[0-5]*"))
    shutil.copy(val_set.paths[0], folder / "photo.jpg")
    write_tool_exports(folder)

    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        for data, recipe in ((voc2012, FINETUNE), (voc2012, BASELINE), (folder / "my-images", FINETUNE)):
            tiny = replace(recipe, backbone="test_resnet", weights="random", image_size_px=32, epochs=2)
            train(data, recipe=tiny, output=folder / "runs" / f"{data.name}-{recipe.name}")
            patch.setitem(sys.modules, "polytag.report.grids", None)  # nobody reads the pages of the second and third run
    yield folder
    torch.set_num_threads(num_threads)


def blocks_in(page: Path, *kinds: str) -> list[tuple[str, str]]:
    """The blocks of these kinds, from top to bottom: what stands behind the fence, and the text."""
    return [(kind, text) for kind, text in FENCE.findall(page.read_text()) if kind in kinds]


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks_in(page, *RUNS, *COMPILES)], ids=identify)
def test_blocks_run(page: Path, at_hand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "reader"
    shutil.copytree(at_hand, folder, symlinks=True)
    monkeypatch.chdir(folder)
    if "grid" not in "".join(text for _, text in blocks_in(page, *RUNS)):  # a run that it trains needs no pages
        monkeypatch.setitem(sys.modules, "polytag.report.grids", None)
    namespace: dict[str, object] = {"__name__": "snippet"}
    for kind, text in blocks_in(page, *RUNS, *COMPILES):
        if kind == "console run":
            for line in commands_of(text):
                done = CliRunner().invoke(app, shlex.split(line, comments=True)[1:])
                assert done.exit_code == 0, f"{identify(page)}: `{line}`: {done.exception!r}\n{done.output}"
        else:
            code = compile(text, f"{identify(page)} block", "exec")
            if kind == "python":
                exec(code, namespace)


def commands_of(block: str) -> list[str]:
    lines = block.replace("\\\n", " ").splitlines()
    return [line.strip().removeprefix("$ ") for line in lines if re.match(r"\s*(\$ )?polytag ", line)]


def commands_in(page: Path) -> list[str]:
    return [line for _, text in blocks_in(page, *SHOWS) for line in commands_of(text)]


@pytest.mark.parametrize("page", PAGES, ids=identify)
def test_commands_shown_are_commands_there_are(page: Path):
    """Every `polytag ...` line in a code block names a verb and options that exist."""
    root = typer.main.get_command(app)
    for line in commands_in(page):
        words = shlex.split(line, comments=True)[1:]
        command = root
        while words and hasattr(command, "commands"):
            name = words.pop(0)
            if name.startswith("-"):
                break
            assert name in command.commands, f"{identify(page)}: `{line}` names no verb of polytag"
            command = command.commands[name]
        known = options_of(command) | {"--help"}
        for word in words:
            if word.startswith("--"):
                assert word.split("=")[0] in known, f"{identify(page)}: `{line}` has an option that does not exist: {word}"


def options_of(command: "typer.core.TyperCommand") -> set[str]:
    return {
        option
        for parameter in command.params
        for option in [*parameter.opts, *parameter.secondary_opts]
        if option.startswith("--") and option != "--help"
    }


def verbs(command: "typer.core.TyperCommand", path: str) -> Iterator[tuple[str, "typer.core.TyperCommand"]]:
    for name, child in getattr(command, "commands", {}).items():
        yield from verbs(child, f"{path} {name}")
    if not hasattr(command, "commands"):
        yield path, command


def test_every_verb_is_in_the_reference():
    page = REFERENCE / "commands.md"
    there_are = dict(verbs(typer.main.get_command(app), "polytag"))
    assert set(re.findall(r"^## `(.*)`$", page.read_text(), re.MULTILINE)) == set(there_are), "commands.md: a heading for each verb"
    for name, command in there_are.items():
        # the options for reading labels stand once, in a section of their own, which the verbs that have them point to
        listed = listed_in(page, f"`{name}`")
        sources = listed_in(page, "Reading the labels")
        own = {option for option in options_of(command) if option not in sources or option in listed}
        assert listed == own, f"docs/reference/commands.md: the table of {name} lists {listed ^ own} too many or too few"
        if options_of(command) & (sources - listed):
            assert "#reading-the-labels" in section_of(page, f"`{name}`"), f"commands.md: {name} reads labels; point to how"


def test_the_options_for_reading_labels_are_in_the_reference():
    convert = dict(verbs(typer.main.get_command(app), "polytag"))["polytag data convert"]
    assert_lists(REFERENCE / "commands.md", "Reading the labels", options_of(convert) - {"--to", "--group", "--columns"})


# ---- what a reference page lists is all there is, and nothing else


def section_of(page: Path, heading: str) -> str:
    """The text under a heading, whatever its level, down to the next one of that level or above."""
    match = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#{{1,6}} |\Z)", page.read_text(), re.MULTILINE | re.DOTALL)
    assert match, f"{identify(page)} has no heading {heading!r}"
    return match[2]


def listed_in(page: Path, heading: str) -> set[str]:
    """The names in code style in the first column of the tables under a heading."""
    cells = re.findall(r"^\| (.*?) \|", section_of(page, heading), re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def assert_lists(page: Path, heading: str, names: set[str]) -> None:
    listed = listed_in(page, heading)
    assert listed == names, f"{identify(page)}, {heading}: lacks {sorted(names - listed)}, lists too much {sorted(listed - names)}"


def test_the_options_for_reading_are_all_listed():
    from polytag import ReadOptions

    assert_lists(REFERENCE / "formats.md", "Options", {field.name for field in fields(ReadOptions)})


def test_the_fields_of_a_recipe_are_all_listed():
    from polytag.data.images.augment import AUGMENTATIONS
    from polytag.runs.recipe import LOSSES, RECIPES, Recipe
    from polytag.training.losses import LOSS_OF

    assert set(LOSSES) == {"auto", *LOSS_OF}
    page = REFERENCE / "recipes.md"
    assert_lists(page, "Fields", {field.name for field in fields(Recipe)})
    assert_lists(page, "Losses", set(LOSSES))
    assert_lists(page, "Augmentation", set(AUGMENTATIONS))
    assert_lists(page, "The recipes", set(RECIPES))


def test_the_values_of_the_recipes_are_those_listed():
    """A recipe that is changed changes its row here: the message is the row to write."""
    from polytag.demo.recipe import DEMO
    from polytag.runs.recipe import BASELINE, FINETUNE, PROBE

    page = REFERENCE / "recipes.md"
    lines = section_of(page, "Values").splitlines()
    names = listed_in(page, "Values")
    assert names >= {"backbone", "image_size_px", "epochs", "head_lr", "backbone_lr", "augment", "seed"}
    for name in names:
        values = [_shown(getattr(recipe, name)) for recipe in (FINETUNE, PROBE, BASELINE, DEMO)]
        assert f"| `{name}` | {' | '.join(values)} |" in lines


def _shown(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def test_the_keys_of_metrics_json_are_all_listed(at_hand: Path):
    from polytag.metrics.values import Mean, mean_to_json

    page, metrics = REFERENCE / "metrics.md", json.loads((at_hand / "runs" / "VOC2012-finetune" / "metrics.json").read_text())
    means = {name for name, value in metrics.items() if isinstance(value, dict) and "value" in value}
    assert_lists(page, "Keys of metrics.json", set(metrics) - means)
    assert_lists(page, "Averages", means)
    promised = mean_to_json(Mean(value=0.1, count=1, promised=0.2)).keys() - mean_to_json(Mean(value=0.1, count=1)).keys()
    assert_lists(page, "Keys of an average", promised.union(*(metrics[name] for name in means)))
    assert_lists(page, "Keys of a class", set(next(iter(metrics["per_class"].values()))))
    assert_lists(page, "Keys of tail_accuracy", set(metrics["tail_accuracy"]))


def test_the_files_of_a_run_are_all_listed(at_hand: Path):
    page, run = REFERENCE / "run-folder.md", at_hand / "runs" / "VOC2012-finetune"
    found = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert_lists(
        page, "Files", {re.sub(r"^grids/.*?-(top|bottom(-positives)?)(?=\.)", r"grids/<class>-\1", name) for name in found}
    )
    assert_lists(page, "args.yaml", {"data", "dataset", "relative", "reading", "recipe", "parts", "features", "class_features"})
    with (run / "results.csv").open() as file:
        assert_lists(page, "results.csv", set(next(csv.reader(file))))
    assert_lists(page, "env.json", set(json.loads((run / "env.json").read_text())))
    config = json.loads((run / "best" / "config.json").read_text())
    assert_lists(page, "config.json", set(config))
    assert_lists(page, "preprocessing", set(config["preprocessing"]))
    assert_lists(page, "facts", set(config["facts"]))


def test_the_keys_of_thresholds_and_calibration_are_all_listed(at_hand: Path):
    from polytag import read_predictions
    from polytag.cli.calibrate import fit_to_json
    from polytag.metrics.calibration import FEWEST, METHODS, fit_calibration
    from polytag.metrics.risk_control import RiskControl

    page, run = REFERENCE / "run-folder.md", at_hand / "runs" / "VOC2012-finetune"
    thresholds = json.loads((run / "thresholds.json").read_text())
    assert_lists(page, "thresholds.json", set(thresholds))
    assert_lists(page, "Keys of risk_control", {field.name for field in fields(RiskControl)})
    assert_lists(page, "Keys of a threshold", set(next(iter(thresholds["per_class"].values()))))
    predictions = read_predictions(run / "predictions-val.parquet")
    fits = [fit_calibration(predictions, method=method) for method in METHODS]
    values = fit_to_json(fits[0], predictions.label_set, seed=0)
    assert_lists(page, "calibration.json", set(values))
    assert_lists(page, "Keys of a calibrated class", set(next(iter(values["per_class"].values()))))
    assert_lists(page, "calibration", set(values["calibration"]) | {"thresholds"})
    assert_lists(page, "maps", {"kind", "slope", "bias", "logit", "calibrated"})
    assert {key for fit in fits for each in fit.calibration.maps for key in each.to_json()} >= {"kind", "slope", "bias"}
    text = section_of(REFERENCE / "metrics.md", "Calibration")
    assert "than {temperature} (temperature), {platt} (platt) or {isotonic} (isotonic)".format(**FEWEST) in " ".join(text.split())


def test_the_columns_of_predictions_are_all_listed(at_hand: Path, tmp_path: Path):
    import pyarrow.parquet as pq

    from polytag import read_predictions, write_predictions
    from polytag.predictions.shard_files import ShardIdentity

    page = REFERENCE / "predictions.md"
    predictions = read_predictions(at_hand / "runs" / "VOC2012-finetune" / "predictions-val.parquet")
    classes = set(predictions.label_set)
    for name in ("t.parquet", "t.csv", "t.jsonl"):
        write_predictions(predictions, tmp_path / name)
    schema = pq.read_schema(tmp_path / "t.parquet")
    assert_lists(page, "Header", set(json.loads(schema.metadata[b"polytag.predictions"])))
    assert_lists(page, "A folder of shards", {field.name for field in fields(ShardIdentity)})
    assert_lists(page, "Parquet", {re.sub("/.*", "/<class>", name) for name in schema.names})
    with (tmp_path / "t.csv").open() as file:
        assert_lists(page, "CSV", {"<class>" if name in classes else name for name in next(csv.reader(file))})
    assert_lists(page, "JSON Lines", set(json.loads((tmp_path / "t.jsonl").read_text().splitlines()[0])))


def test_the_names_that_foreign_files_may_use_are_all_listed():
    from polytag.predictions.external_arrays import IDS_KEYS
    from polytag.predictions.external_columns import ID_COLUMNS, SCALE_OF, TRUTH_COLUMNS
    from polytag.predictions.raw_scores import SCALES

    page = REFERENCE / "predictions.md"
    assert_lists(page, "Names that are known", {*ID_COLUMNS, *TRUTH_COLUMNS, *SCALE_OF, *IDS_KEYS})
    assert_lists(page, "What the numbers are", set(SCALES))


def test_the_keys_of_slices_are_all_listed(at_hand: Path):
    from polytag import read_predictions
    from polytag.metrics.slices import slice_scores, slices_to_json

    predictions = read_predictions(at_hand / "runs" / "VOC2012-finetune" / "predictions-val.parquet")
    slices = slice_scores(predictions, ["x"] * len(predictions), column="place", num_replicates=0)
    assert_lists(REFERENCE / "metrics.md", "Keys of a slice", set(slices_to_json(slices)))


def test_the_keys_of_weighted_images_are_all_listed(at_hand: Path):
    from polytag import read_predictions
    from polytag.metrics.weighted import weighted_metrics

    predictions = read_predictions(at_hand / "runs" / "VOC2012-finetune" / "predictions-val.parquet")
    found = weighted_metrics(predictions, [1.0] * len(predictions)).to_json()
    assert_lists(REFERENCE / "metrics.md", "Keys of weighted images", set(found))


def test_the_keys_of_a_comparison_are_all_listed(at_hand: Path):
    from polytag import compare, read_predictions

    page = REFERENCE / "metrics.md"
    runs = [read_predictions(at_hand / "runs" / f"VOC2012-{name}" / "predictions-val.parquet") for name in ("finetune", "baseline")]
    found = compare(*runs, intersect=True, num_permutations=19).to_json()
    difference = found["differences"][0]
    per_class = next(values for values in difference["per_class"].values() if values["changed"]["images"])
    assert_lists(page, "Keys of a comparison", set(found))
    assert_lists(page, "Keys of a compared run", set(found["runs"][0]))
    assert_lists(page, "Keys of a difference", set(difference))
    assert_lists(page, "Keys of a compared class", set(per_class))
    assert_lists(page, "Keys of changed images", set(per_class["changed"]))
    assert_lists(page, "Keys of a pair", set(found["pairs"][0]))
    for key in (*difference["mAP"], *per_class["changed"]["images"][0]):
        assert f"`{key}`" in page.read_text()


def test_the_keys_of_a_comparison_of_recipes_are_all_listed(at_hand: Path):
    from polytag import read_predictions
    from polytag.metrics.recipes import compare_recipes

    run = read_predictions(at_hand / "runs" / "VOC2012-finetune" / "predictions-val.parquet")
    found = compare_recipes([run, run], [run, run], num_replicates=5).to_json()
    names = {*found, *found["recipes"][0]}
    assert_lists(REFERENCE / "metrics.md", "Keys of a comparison of recipes", names)


def test_the_keys_of_a_data_check_are_all_listed(at_hand: Path):
    from polytag import check, load_dataset
    from polytag.data.duplicates.groups import DuplicateGroup

    found = check(load_dataset(at_hand / "my-images"), read_images=False).to_json()
    assert_lists(REFERENCE / "data-check.md", "The JSON file", set(found))
    group = DuplicateGroup(images=(), bits=0, correlation=1.0, is_mirrored=False, is_turned=False)
    assert_lists(REFERENCE / "data-check.md", "Keys of a group", set(group.to_json()))


def test_the_limits_of_near_duplicates_are_those_told():
    from polytag.data.duplicates.near_duplicates import MIN_DETAIL, SAME_DETAIL
    from polytag.data.duplicates.views import RADIUS, VIEW_RADIUS, VIEWS

    text = " ".join(section_of(REFERENCE / "data-check.md", "Near duplicates").split())
    assert f"differ in {RADIUS} bits at most" in text
    assert f"in {VIEW_RADIUS} for the other views" in text
    assert f"{len({view.map_23.tobytes() for view in VIEWS}) - 5} parts without" in text  # not the whole, nor four tilted
    assert f"at least {SAME_DETAIL} of their detail" in text
    assert f"standard deviation under {MIN_DETAIL:g} of 255" in text


def test_the_keys_of_label_issues_and_leaks_are_all_listed(at_hand: Path):
    from polytag import read_predictions
    from polytag.cli.labels import CSV_COLUMNS
    from polytag.cli.leakage import leakage_to_json
    from polytag.data.duplicates.leakage import find_leakage
    from polytag.metrics.label_issues import FEWEST_CONFIRMED, FEWEST_POSITIVES, find_label_issues

    page = ROOT / "docs" / "howto" / "label-issues.md"
    predictions = read_predictions(at_hand / "runs" / "VOC2012-finetune" / "predictions-val.parquet")
    found = find_label_issues(predictions).to_json()
    of_class = next(values for values in found["per_class"].values() if values["issues"])
    assert all(f"`{key}`" in page.read_text() for key in found)
    assert_lists(page, "Keys of a class of label issues", set(of_class))
    assert_lists(page, "Keys of a label issue", set(of_class["issues"][0]))
    assert ", ".join(CSV_COLUMNS) in (REFERENCE / "commands.md").read_text()
    for text in (page.read_text(), section_of(REFERENCE / "metrics.md", "Label issues")):
        assert f"{FEWEST_POSITIVES} known positives" in text
        assert re.search(rf"(at least|fewer than) {FEWEST_CONFIRMED} of", text)
    page = ROOT / "docs" / "howto" / "duplicates.md"
    leaked = find_leakage(predictions.image_paths, [Path(predictions.image_paths[0])])
    values = leakage_to_json(leaked, None, predictions=predictions)
    assert_lists(page, "Keys of leakage", set(values))
    assert_lists(page, "Keys of a leaked image", set(values["images"][0]))


def test_the_public_names_and_the_errors_are_all_listed():
    import polytag
    from polytag import errors

    page = REFERENCE / "python.md"
    assert_lists(page, "Names", set(polytag.__all__))
    kinds = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, polytag.PolytagError)}
    assert_lists(page, "Errors", set(kinds))
    for name, kind in kinds.items():
        assert re.search(rf"^\| `{name}` \| .* \| {kind.exit_status} \|$", page.read_text(), re.MULTILINE), (
            f"python.md: exit status of {name}"
        )
    text = page.read_text()
    for name in polytag.__all__:
        used = re.search(rf"polytag\.{name}\b|import [\w, ()\n]*\b{name}\b", text)
        assert used, f"python.md: {name} has a line, and no example that uses it"


@pytest.mark.parametrize("page", PAGES, ids=identify)
def test_links_inside_lead_somewhere(page: Path):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", page.read_text()):
        if re.match(r"https?:|mailto:", target):
            continue
        path = page.parent / target if target else page
        assert path.exists(), f"{identify(page)} links to {target}, which is not there"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in anchors, f"{identify(page)} links to {target}#{anchor}, which has no such heading"


def test_the_map_in_the_readme_is_the_house():
    text = (ROOT / "README.md").read_text()
    source = ROOT / "src" / "polytag"
    for path in [*source.glob("*.py"), *(room for room in source.iterdir() if (room / "__init__.py").is_file())]:
        name = path.name + ("/" if path.is_dir() else "")
        if not name.startswith("__"):
            assert f"  {name}" in text, f"README.md: the map lacks src/polytag/{name}"
    for name in re.findall(r"^  ([\w.]+/?) ", text, re.MULTILINE):
        assert any((folder / name).exists() for folder in (source, ROOT)), f"README.md: the map shows {name}, which is not there"
