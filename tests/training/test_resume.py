"""Kill it and go on: after kill -9 at any moment, a resume gives bit for bit the weights of the run that was never killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from polytag.data.load import load_dataset
from polytag.errors import RunError
from polytag.runs.folder import RunFolder, create_run_folder, locked
from polytag.runs.recipe import Recipe
from polytag.training.callback import SilentCallback
from polytag.training.loop import Interrupted
from polytag.training.train import resume, train

pytestmark = pytest.mark.usefixtures("without_pages")

RECIPE = Recipe(
    name="finetune", backbone="test_resnet", backbone_args={"drop_rate": 0.2}, weights="random", image_size_px=32, epochs=3,
    batch_size=8, head_lr=3e-3, augment="strong", save_every_minutes=0, precision="fp32", ema_decay=0.9,
)  # fmt: skip

_KILLING = """
import os, signal, sys, time, traceback
import torch
from polytag.training.callback import SilentCallback
from polytag.training.train import resume, train
sys.path.insert(0, sys.argv[1])
from test_resume import RECIPE
sys.modules["polytag.report.grids"] = None  # without pages

def started(run, resuming):
    "A process that trains, forked from this one, which has imported PyTorch and computed nothing; and the lines that it says."
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, os.fdopen(reading)
    lines = os.fdopen(writing, "w", buffering=1)

    class Tell(SilentCallback):
        def progress(self, num_images, **numbers):
            lines.write("step\\n")

    try:
        torch.set_num_threads(1)
        if resuming:
            resume(run, callbacks=[Tell()])
        else:
            train(sys.argv[2], recipe=RECIPE, output=run, callbacks=[Tell()])
        lines.write("finished\\n")
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)

def steps_until(lines, count):
    "Wait for so many steps; True if the process finished before."
    for _ in range(count):
        line = lines.readline().strip()
        if line != "step":
            return line == "finished"
    return False

child, lines = started(sys.argv[3], False)
assert steps_until(lines, 1000) and os.waitpid(child, 0)[1] == 0
finished, num_kills = False, 0
for num_steps, pause in ((1, 0.0), (3, 0.03), (5, 0.01), (7, 0.02), (1000, 0.0)):
    child, lines = started(sys.argv[4], num_kills > 0)
    finished = steps_until(lines, num_steps)
    if not finished:
        time.sleep(pause)
        os.kill(child, signal.SIGKILL)
        num_kills += 1
    os.waitpid(child, 0)
    if finished:
        break
print(num_kills, finished)
"""


def weights(run: Path) -> tuple[bytes, bytes]:
    return (run / "best" / "model.safetensors").read_bytes(), (run / "last" / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_kill_at_any_moment_and_resume_gives_the_same_bits(colours: Path, tmp_path: Path):
    killed = tmp_path / "killed"
    command = [sys.executable, "-c", _KILLING, str(Path(__file__).parent), str(colours), str(tmp_path / "whole"), str(killed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    num_kills, finished = done.stdout.split() or (0, done.stderr)
    assert finished == "True", done.stderr
    assert 2 <= int(num_kills) <= 4  # fewer than four where the process that kills had to wait for the processor
    assert weights(killed) == weights(tmp_path / "whole")
    assert (killed / "predictions-val.parquet").read_bytes() == (tmp_path / "whole" / "predictions-val.parquet").read_bytes()
    columns = [line.split(",")[:7] for line in (killed / "results.csv").read_text().splitlines()]
    assert columns == [line.split(",")[:7] for line in (tmp_path / "whole" / "results.csv").read_text().splitlines()]


@pytest.mark.slow
def test_ctrl_c_leaves_a_run_that_can_be_resumed_and_says_how(colours: Path, tmp_path: Path):
    command = [
        sys.executable, "-m", "polytag", "train", str(colours), "--backbone", "test_resnet", "--weights", "random", "--image-size",
        "32", "--epochs", "500", "--batch-size", "8", "--output", str(tmp_path / "run"),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "run" / "state" / "state.pt").is_file():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out.endswith(f"Stopped; nothing is lost. Go on with:\n  polytag train --resume {tmp_path / 'run'}\n")


def test_a_kill_in_the_validation_of_the_last_epoch_loses_nothing(colours: Path, tmp_path: Path):
    class Kill(SilentCallback):
        num_left = 3

        def phase(self, name: str, num_images: int) -> None:
            self.num_left -= name == "validation"
            if not self.num_left:
                raise KeyboardInterrupt

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(colours, recipe=RECIPE, output=whole)
    with pytest.raises(Interrupted):
        train(colours, recipe=RECIPE, output=killed, callbacks=[Kill()])
    resume(killed)
    assert weights(killed) == weights(whole)
    assert len(row_map(RunFolder(path=killed))) == RECIPE.epochs


@pytest.fixture(scope="module")
def finished(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("runs") / "run"
    return train(colours, recipe=RECIPE, output=folder).folder


def test_a_finished_run_says_so(finished: RunFolder):
    notes: list[str] = []

    class Listener(SilentCallback):
        def note(self, text: str) -> None:
            notes.append(text)

    again = resume(finished.path, callbacks=[Listener()])
    assert notes == [f"{finished.path} is finished; nothing to resume"]
    assert again.metrics.mean_ap.value == pytest.approx(max(row_map(finished)), abs=1e-6)


def row_map(run: RunFolder) -> list[float]:
    lines = run.results.read_text().splitlines()
    column = lines[0].split(",").index("val_map")
    return [float(line.split(",")[column]) for line in lines[1:]]


def unfinished(finished: RunFolder, folder: Path) -> RunFolder:
    import shutil

    shutil.copytree(finished.path, folder)
    (folder / "metrics.json").unlink()
    return RunFolder(path=folder)


def test_changed_data_are_refused(finished: RunFolder, colours: Path, tmp_path: Path):
    run = unfinished(finished, tmp_path / "run")
    lines = colours.read_text().splitlines()
    (tmp_path / "labels.csv").write_text("\n".join(lines[:-1]) + "\n")
    (tmp_path / "images").symlink_to(colours.parent / "images")
    run.args.write_text(run.args.read_text().replace(str(colours), str(tmp_path / "labels.csv")))
    with pytest.raises(RunError) as error:
        resume(run.path)
    lines = str(error.value).splitlines()
    assert lines[0] == "the data have changed since this run began"
    assert lines[2:] == [
        f"  got: fingerprint {load_dataset(tmp_path / 'labels.csv').fingerprint}",
        f"  expected: {load_dataset(colours).fingerprint}",
        "  next: start a new run, or put images, splits and labels back as they were",
    ]


def test_changed_classes_are_refused(finished: RunFolder, colours: Path, tmp_path: Path):
    run = unfinished(finished, tmp_path / "run")
    (tmp_path / "labels.csv").write_text(colours.read_text().replace("red", "crimson"))
    (tmp_path / "images").symlink_to(colours.parent / "images")
    run.args.write_text(run.args.read_text().replace(str(colours), str(tmp_path / "labels.csv")))
    with pytest.raises(RunError) as error:
        resume(run.path)
    assert str(error.value) == (
        f"the data's classes are not those of this run\n  where: {run.path}\n  got: blue, crimson, green\n"
        "  expected: blue, green, red\n  next: start a new run, or put the classes back"
    )


def test_no_run_here(tmp_path: Path):
    with pytest.raises(RunError) as error:
        resume(tmp_path / "nothing")
    assert str(error.value) == (
        f"no run here to resume\n  where: {tmp_path / 'nothing'}\n  got: no such folder\n"
        "  expected: a run folder that `polytag train` made"
    )


def test_a_run_in_progress_is_not_resumed_by_a_second_process(finished: RunFolder, tmp_path: Path):
    run = unfinished(finished, tmp_path / "run")
    with locked(run, doing="training"), pytest.raises(RunError) as error:
        resume(run.path)
    assert str(error.value) == (
        f"another process holds this run folder\n  where: {run.path}\n  got: training, process {os.getpid()}\n"
        "  expected: one process per run\n  next: wait for it to end, then try again"
    )


def test_two_runs_started_under_one_name_at_once_get_two_folders(tmp_path: Path):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: create_run_folder(tmp_path / "run").path.name, range(8)))
    assert sorted(made) == sorted(["run", *(f"run-{number}" for number in range(2, 9))])


def test_an_output_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError) as error:
        create_run_folder(tmp_path / "file" / "run")
    assert str(error.value) == (
        f"the run folder cannot be made\n  where: {tmp_path / 'file' / 'run'}\n  got: Not a directory\n"
        "  expected: a place that can be written\n  next: give --output another folder"
    )
