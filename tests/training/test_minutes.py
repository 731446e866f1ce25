"""`train --minutes`: the plan is kept, said and repeated; a killed run goes on with what is left of its time."""

import json
import math
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch

from polytag.cli.main import main
from polytag.data.load import load_dataset
from polytag.errors import PolytagError, RunError
from polytag.models.backbone import build_model
from polytag.models.checkpoint import Checkpoint
from polytag.own_parts import OWN_BACKBONE
from polytag.predictions.read import read_predictions
from polytag.runs.args import read_run_args
from polytag.runs.folder import RunFolder
from polytag.runs.plan import read_plan, repeated
from polytag.runs.recipe import AUTO, FINETUNE, Recipe
from polytag.training import choosing, head_start, loop, measuring, minutes, pace, planning
from polytag.training import clock as clock_module
from polytag.training.callback import SilentCallback
from polytag.training.clock import Clock
from polytag.training.loop import Interrupted, train_loop
from polytag.training.measuring import Speed, trial_context
from polytag.training.one_run import fresh_model
from polytag.training.pace import MOST_EPOCHS, Pace
from polytag.training.parts import NO_PARTS, Parts
from polytag.training.planning import plan_of, plan_run, sizes_px
from polytag.training.state import State
from polytag.training.train import resume, train

MINUTES = 0.2


@pytest.fixture
def without_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a single test; others read the report."""
    monkeypatch.setitem(sys.modules, "polytag.report.grids", None)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Of a small network with weights from a file, so that it has a probe."""
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    torch.manual_seed(0)
    model = build_model("test_resnet", num_classes=3, weights="random")
    safetensors.torch.save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    return replace(
        FINETUNE,
        backbone="test_resnet",
        head="linear",
        weights=str(path),
        image_size_px=32,
        batch_size=8,
        precision="fp32",
        minutes=MINUTES,
    )


@pytest.fixture(scope="module")
def planned_run(recipe: Recipe, colours: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """By a clock of processor time, so that a crowded machine has time for epochs, and with none kept for what follows them."""
    notes: list[str] = []
    callback = SilentCallback()
    callback.note = notes.append  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.MonkeyPatch.context() as patch:
        for module in (clock_module, head_start, measuring, pace):
            patch.setattr(module, "time", SimpleNamespace(monotonic=time.process_time))
        patch.setattr(clock_module, "_processor_seconds", lambda: 0.0)
        patch.setattr(clock_module, "_CLOSING_SECONDS", 0.0)
        output = tmp_path_factory.mktemp("runs") / "minutes"
        patch.setattr(pace, "MOST_EPOCHS", 6)  # a minute has time for many more, whatever the first steps of a process take
        long = replace(recipe, minutes=1)
        run = train(colours, recipe=long, output=output, callbacks=[callback], began=time.process_time()).folder
    assert any(note.startswith("plan: test_resnet at 32 px, a probe and") for note in notes), notes
    return run


def test_a_run_writes_its_plan_and_where_it_ended(planned_run: RunFolder):
    plan = read_plan(planned_run.plan)
    num_steps = 6  # of 48 images in batches of 8
    taken = sum(1 for line in planned_run.results.read_text().splitlines()[1:] if not line.startswith("0,"))
    assert plan.recipe.ends[0][0] == 0
    assert -(-plan.recipe.ends[-1][1] // num_steps) == taken >= 1
    assert set(plan.seconds) == {"measuring", "probe", "fine-tuning", "closing"}
    assert "a probe and" in planned_run.report.read_text()


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What the command says when it refuses its arguments, as their usage."""

    def refusal(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["polytag", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 2
        return capsys.readouterr().err

    return refusal


def test_a_plan_is_repeated_bit_for_bit_by_the_command(
    planned_run: RunFolder, colours: Path, tmp_path: Path, refused: Callable[..., str]
):
    arguments = ["train", str(colours), "--plan", str(planned_run.plan)]
    command = [sys.executable, "-m", "polytag", *arguments, "--output", str(tmp_path / "again")]
    subprocess.run(command, capture_output=True, check=True, timeout=300)
    for name in ("best", "last"):
        first, again = (run / name / "model.safetensors" for run in (planned_run.path, tmp_path / "again"))
        assert first.read_bytes() == again.read_bytes()
    assert "a plan decides these itself" in refused(*arguments, "--epochs", 3)


@pytest.mark.usefixtures("without_pages")
def test_a_killed_run_goes_on_and_ends(recipe: Recipe, colours: Path, tmp_path: Path):
    """It knows how much of its time is over."""
    script = f"""
import os, signal, time, types
from polytag.runs.recipe import Recipe
from polytag.training import clock, head_start, measuring, pace
from polytag.training.callback import SilentCallback
from polytag.training.train import train
for module in (clock, head_start, measuring, pace):  # a crowded machine has time for an epoch
    module.time = types.SimpleNamespace(monotonic=time.process_time)
clock._processor_seconds = lambda: 0.0
clock._CLOSING_SECONDS = 0.0
class Kill(SilentCallback):
    def epoch(self, row):
        if row["epoch"] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
recipe = Recipe(**{replace(recipe, minutes=0.3).__dict__!r})
train({str(colours)!r}, recipe=recipe, output={str(tmp_path / "run")!r}, callbacks=[Kill()], began=time.process_time())
"""
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    run = RunFolder(path=tmp_path / "run")
    assert (run.best / "config.json").is_file(), "there is a model from the first epoch on"
    resume(run.path)
    assert run.is_finished
    assert read_plan(run.plan).recipe.ends[-1][1] >= 6


@pytest.mark.usefixtures("without_pages")
def test_ctrl_c_takes_the_best_so_far(recipe: Recipe, colours: Path, tmp_path: Path):
    """The command ends long before its time with everything that a run has, says so, and can be repeated."""
    command = [
        sys.executable, "-m", "polytag", "train", str(colours), "--minutes", "30", "--backbone", recipe.backbone, "--weights",
        recipe.weights, "--image-size", "32", "--batch-size", "8", "--precision", "fp32", "--output", str(tmp_path / "run"),
    ]  # fmt: skip
    run, again = RunFolder(path=tmp_path / "run"), RunFolder(path=tmp_path / "again")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not run.results.is_file() or len(run.results.read_text().splitlines()) < 3:  # the probe and an epoch
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert re.search(r"Ctrl-C: the training ends after \d+% of its time", out.replace("\n", " "))
    assert "validation mAP" in out
    assert run.is_finished
    plan = read_plan(run.plan)
    assert 0 < plan.stopped_after < 0.5
    assert "by Ctrl-C, after" in run.report.read_text()
    train(colours, recipe=repeated(plan), output=again.path)
    for name in ("best/model.safetensors", "last/model.safetensors", "predictions-val.parquet"):
        assert (run.path / name).read_bytes() == (again.path / name).read_bytes()


def test_the_speed_of_an_epoch_that_ends_early_is_that_of_the_images_that_it_took(recipe: Recipe, colours: Path):
    """Three of its six steps, of eight images each."""
    dataset, own = load_dataset(colours), replace(recipe, minutes=0.0, epochs=2, ends=((0, 9),))
    state = State(data_fingerprint="", classes=list(dataset.label_set), ends=list(own.ends))
    seconds: list[float] = []

    class Listener(SilentCallback):
        def phase(self, name: str, num_images: int) -> None:
            if name == "validation":
                seconds.append(state.epoch_seconds)

    context = replace(trial_context(own, dataset), callback=Listener())
    train_loop(fresh_model(own, dataset, parts=NO_PARTS, note=print), context, state=state)
    speeds = [row["images_per_second"] for row in state.rows]
    assert np.isnan(speeds[0]), "of the probe"
    assert np.multiply(speeds[1:], seconds[1:]) == pytest.approx([48, 24])


class PressesCtrlC(SilentCallback):
    """At these steps, as often as they are named."""

    def __init__(self, *steps: int):
        self.steps, self.num_steps = steps, 0

    def progress(self, num_images: int, **numbers: float) -> None:
        if "loss" in numbers:
            self.num_steps += 1
            for _ in range(self.steps.count(self.num_steps)):
                signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("without_pages")
def test_steps_that_are_not_worth_their_validation_are_dropped(
    recipe: Recipe, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """And the plan repeats the run without them."""
    monkeypatch.setattr(Pace, "pays_validation", False)
    pressing = PressesCtrlC(8)  # it is seen in the step after, of six an epoch
    run = train(colours, recipe=replace(recipe, minutes=30.0), output=tmp_path / "run", callbacks=[pressing]).folder
    plan = read_plan(run.plan)
    assert plan.recipe.ends[-1] == (6, 6)
    assert pressing.num_steps == 9
    assert len(run.results.read_text().splitlines()) == 3
    again = train(colours, recipe=repeated(plan), output=tmp_path / "again").folder
    for name in ("best/model.safetensors", "last/model.safetensors", "predictions-val.parquet"):
        assert (run.path / name).read_bytes() == (again.path / name).read_bytes()


@pytest.mark.usefixtures("without_pages")
def test_a_machine_that_is_too_slow_for_the_plan_uses_fewer_images(
    recipe: Recipe, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The plan then has their numbers, and is repeated with the same images."""
    with monkeypatch.context() as patch:
        patch.setattr(head_start, "LEAST_IMAGES", 16)
        patch.setattr(minutes, "LEAST_IMAGES", 10)
        patch.setattr(head_start, "_FITTING_SECONDS", 1e9)  # nothing is left
        patch.setattr(minutes, "SAVING_SECONDS", 1e9)
        run = train(colours, recipe=replace(recipe, minutes=30.0), output=tmp_path / "run", callbacks=[PressesCtrlC(1)]).folder
    plan = read_plan(run.plan)
    assert (plan.num_probe, plan.recipe.max_probe) == (16, 16)
    assert (plan.num_val, plan.recipe.max_val) == (10, 10)
    assert read_run_args(run).recipe.max_val == 10
    assert len(read_predictions(run.predictions).ids) == 10
    again = train(colours, recipe=repeated(plan), output=tmp_path / "again").folder
    for name in ("best/model.safetensors", "last/model.safetensors", "predictions-val.parquet"):
        assert (run.path / name).read_bytes() == (again.path / name).read_bytes()
    first, second = (json.loads(each.environment.read_text())["validation_fingerprint"] for each in (run, again))
    assert first == second


@pytest.mark.parametrize("weights", ["of the recipe", "random"])
def test_a_first_model_does_not_wait_for_its_validation(
    recipe: Recipe, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str
):
    """Of the features so far, or of random weights after some steps."""
    monkeypatch.setattr(head_start, "LEAST_IMAGES", 16)
    monkeypatch.setattr(head_start, "_FIRST_MODEL", 0.0)
    monkeypatch.setattr(head_start, "_FITTING_SECONDS", 0.0)
    monkeypatch.setattr(loop, "_FIRST_MODEL", 0.0)
    run = RunFolder(path=tmp_path / "run")

    class Ends(SilentCallback):
        def phase(self, name: str, num_images: int) -> None:
            if name == "validation":
                raise KeyboardInterrupt

    own = recipe if weights != "random" else replace(recipe, weights="random")
    with pytest.raises(Interrupted):
        train(colours, recipe=replace(own, minutes=30.0), output=run.path, callbacks=[Ends()])
    checkpoint = Checkpoint.read(run.best)
    assert checkpoint.facts["val_map"] is None
    checkpoint.load_model()


@pytest.mark.usefixtures("without_pages")
def test_a_second_ctrl_c_interrupts(recipe: Recipe, colours: Path, tmp_path: Path):
    run = RunFolder(path=tmp_path / "run")
    with pytest.raises(Interrupted):
        train(colours, recipe=replace(recipe, minutes=30.0), output=run.path, callbacks=[PressesCtrlC(7, 7)])
    assert not run.is_finished
    resume(run.path, callbacks=[PressesCtrlC(1)])
    assert run.is_finished
    assert 0 < read_plan(run.plan).stopped_after < 0.5


@pytest.mark.parametrize("learn", [0.002, 0.02, 0.2, 2.0])
def test_the_more_time_the_larger_the_images_and_never_more_than_fits(colours: Path, learn: float):
    dataset = load_dataset(colours)
    speed = Speed(size_px=256, decode=0.1 * learn, score=0.3 * learn, learn=learn)
    sizes: list[int] = []
    for length in (0.5, 1, 2, 5, 10, 30, 100, 1000):
        clock = Clock(began=time.monotonic(), seconds=60 * length, num_classes=3)
        plan = plan_of(replace(FINETUNE, minutes=length), speed, dataset=dataset, clock=clock)
        num_steps = 2  # of 48 images in batches of 32
        if plan.recipe.epochs:
            assert sum(plan.seconds.values()) <= 60 * length + 0.01
            assert [at for at, _ in plan.recipe.ends] == [0]
            assert (plan.recipe.epochs - 1) * num_steps < plan.recipe.ends[0][1] <= plan.recipe.epochs * num_steps
        else:
            assert plan.recipe.ends == ()
        sizes.append(plan.recipe.image_size_px or 0)
        assert plan.recipe.epochs <= MOST_EPOCHS
        assert plan.needs_less == (plan.recipe.epochs == MOST_EPOCHS)
        if plan.needs_less:
            assert sum(plan.seconds.values()) < 60 * length
    assert sizes == sorted(sizes)
    assert sizes[-1] == 384
    assert plan.needs_less, "a thousand minutes are too many for 48 images"


@pytest.mark.parametrize(
    ("backbone", "largest"),
    [("resnet18", 384), ("tf_efficientnetv2_s", 512), ("vit_small_patch16_224", 224), ("test_resnet", 256), (OWN_BACKBONE, 256)],
)
def test_images_are_as_large_as_the_weights_can_use(backbone: str, largest: int):
    sizes = sizes_px(backbone)
    assert sizes[0] == largest
    assert list(sizes) == sorted(sizes, reverse=True)


def test_many_images_and_little_time_use_some_of_them(colours: Path):
    """The probe is there soon, and no pass over validation images takes a large part of the time."""
    colours_N = load_dataset(colours)
    rows = np.resize(np.arange(len(colours_N)), 70_000)
    many = replace(
        colours_N,
        ids=tuple(map(str, range(len(rows)))),
        paths=[colours_N.paths[row] for row in rows],
        target_NC=colours_N.target_NC[rows],
        split_N=tuple(colours_N.split_N[row] for row in rows),
        group_N=(),
    )
    speed = Speed(size_px=256, decode=0.002, score=0.005, learn=0.02)
    plan = plan_of(
        replace(FINETUNE, minutes=10), speed, dataset=many, clock=Clock(began=time.monotonic(), seconds=600, num_classes=3)
    )
    assert plan.recipe.max_probe == plan.num_probe < 10_000
    assert plan.recipe.max_val == plan.num_val < 23_000
    assert 0 < plan.epochs < 1
    assert plan.seconds["probe"] < 150


def test_a_backbone_is_chosen_by_its_features(recipe: Recipe, colours: Path, monkeypatch: pytest.MonkeyPatch):
    """Of those at hand, on training images alone: validation labels that are turned around change nothing."""
    dataset = load_dataset(colours)
    monkeypatch.setattr(planning, "weights_at_hand", lambda: ["test_resnet", "test_vit"])
    monkeypatch.setattr(choosing, "_OVERRUN", math.inf)  # a crowded machine tries both too
    for module in (planning, choosing):
        monkeypatch.setattr(
            module, "fresh_model", lambda own, data, parts, note: build_model(own.backbone, num_classes=3, image_size_px=32)
        )
    wanted = replace(recipe, backbone=AUTO, weights="pretrained", minutes=1)
    target_NC = np.array(dataset.target_NC)
    target_NC[list(dataset.rows_of("val"))] = 1 - target_NC[list(dataset.rows_of("val"))]
    maps: list[dict[str, float]] = []
    for each in (dataset, replace(dataset, target_NC=target_NC)):
        torch.manual_seed(0)
        plan = plan_run(wanted, each, began=time.monotonic(), callback=SilentCallback())
        maps.append({candidate.backbone: candidate.held_out_map for candidate in plan.candidates})
        assert plan.recipe.backbone == max(maps[-1], key=lambda name: maps[-1][name])
    assert set(maps[0]) == {"test_resnet", "test_vit"}
    assert maps[0] == maps[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "3"], "--minutes decides how long one model is trained"),
        (["--folds", "3"], "--minutes decides how long one model is trained"),
        (["--recipe", "baseline"], "this recipe cannot be planned for a time"),
        (["--minutes", "-1"], "0.2"),
    ],
)
def test_what_does_not_go_with_minutes(
    colours: Path, tmp_path: Path, arguments: list[str], message: str, refused: Callable[..., str]
):
    assert message in refused("train", colours, "--minutes", 1, *arguments, "--output", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (lambda values: values | {"version": 3}, "version: 3"),
        (lambda values: values | {"more": 1}, "more"),
        (lambda values: values | {"recipe": values["recipe"] | {"backbone": "../x"}}, "backbone"),
        (lambda values: values | {"recipe": values["recipe"] | {"epochs": -1}}, "epochs"),
        (lambda values: values | {"recipe": values["recipe"] | {"ends": [[1]]}}, "ends"),
        (lambda values: values | {"seconds": {"probe": "x"}}, "seconds.probe"),
        (lambda values: [values], "a list"),
    ],
)
def test_a_plan_of_a_stranger_is_checked(planned_run: RunFolder, tmp_path: Path, change, got: str):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(change(json.loads(planned_run.plan.read_text()))))
    with pytest.raises(PolytagError) as caught:
        read_plan(path)
    assert got in str(caught.value)


def test_no_plan(tmp_path: Path):
    (tmp_path / "broken.json").write_text("{")
    for name in ("none.json", "broken.json"):
        with pytest.raises(RunError) as caught:
            read_plan(tmp_path / name)
        assert str(tmp_path / name) in caught.value.where


def test_trying_leaves_a_loss_of_the_users_own_as_it_was(recipe: Recipe, colours: Path):
    class Counting(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, logit_NC: torch.Tensor, target_NC: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return (logit_NC - target_NC).square().mean()

    loss = Counting()
    parts = Parts(loss=loss)
    plan_run(recipe, load_dataset(colours), parts=parts, began=time.monotonic(), callback=SilentCallback())
    assert loss.calls == 0


def test_others_that_are_busy_while_steps_are_timed_take_no_epochs_away(
    recipe: Recipe, colours: Path, monkeypatch: pytest.MonkeyPatch
):
    """Twenty steps of eight images in a minute: not at 0.6 s an image, but if two thirds of that were others' they are planned."""
    dataset, long = load_dataset(colours), replace(recipe, minutes=1)
    monkeypatch.setattr(clock_module, "_processor_seconds", lambda: 0.0)  # what follows the training takes what it takes alone
    monkeypatch.setattr(planning, "seconds_to_learn", lambda *_, **__: 0.6)
    plans = {}
    for crowding in (1.0, 3.0):
        monkeypatch.setattr(planning, "Crowding", lambda *, fills_cores, now=crowding: SimpleNamespace(now=now))
        plans[crowding] = plan_run(long, dataset, began=time.monotonic(), callback=SilentCallback())
    assert (plans[1.0].epochs, plans[1.0].learn_seconds) == (0, 0.6)
    assert plans[3.0].epochs > 0
    assert plans[3.0].learn_seconds == pytest.approx(0.2)
    monkeypatch.setattr(planning, "seconds_to_learn", lambda *_, **__: 0.1)
    assert plan_run(long, dataset, began=time.monotonic(), callback=SilentCallback()).learn_seconds == 0.1  # as it was measured


def test_a_plan_without_epochs_says_when_it_really_ends(recipe: Recipe, colours: Path, monkeypatch: pytest.MonkeyPatch):
    """A probe of 72 images takes no half an hour, and no step fits."""
    monkeypatch.setattr(planning, "seconds_to_learn", lambda *_, **__: 1e6)
    said: list[str] = []

    class Stops(SilentCallback):
        def note(self, text: str) -> None:
            if text.startswith("plan: "):
                said.append(text)
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(colours, recipe=replace(recipe, minutes=30.0), callbacks=[Stops()])
    found = re.search(r"a probe alone; ends at (\d+):(\d+):(\d+)$", said[0])
    assert found, said
    hour, minute, second = map(int, found.groups())
    now = datetime.now()
    left = (3600 * (hour - now.hour) + 60 * (minute - now.minute) + second - now.second) % 86400
    assert left < 600


def test_random_weights_are_trained_without_a_probe(colours: Path):
    """Their features deserve none, there are no statistics to keep, and there are epochs however little time there is."""
    dataset = load_dataset(colours)
    wanted = replace(FINETUNE, backbone="test_resnet", weights="random", image_size_px=32, minutes=0.2)
    plan = plan_run(wanted, dataset, began=time.monotonic(), callback=SilentCallback())
    assert plan.recipe.peak_rates == wanted.peak_rates == (2e-3, 2e-3)
    assert plan.text().startswith("test_resnet at 32 px, ")
    assert "probe" not in plan.text()
    clock = Clock(began=time.monotonic() - 100, seconds=12, num_classes=3)
    late = plan_of(wanted, Speed(size_px=32, decode=0.1, score=0.2, learn=1.0), dataset=dataset, clock=clock)
    assert late.recipe.ends == ((0, 1),)
    assert late.recipe.epochs == 1
