"""`polytag inspect` and `polytag grid` as a user types them: what is opened, what is said, how it ends."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from polytag.contracts import LabelSet, Predictions
from polytag.data.images.read import read_image
from polytag.data.read_options import ReadOptions
from polytag.errors import DataError, PredictionsError, UsageError
from polytag.inspector.open import OpenOptions, open_inspection
from polytag.predictions.table import write_predictions


def opened(path: Path, **options: object):
    return open_inspection(path, OpenOptions(**options), options=ReadOptions())


@pytest.fixture
def served(run: Path, tmp_path: Path):
    """A started `polytag inspect` on the run, at any free port: the process and its address."""
    started: list[subprocess.Popen[str]] = []

    def serve(*arguments: object) -> tuple["subprocess.Popen[str]", str]:
        command = [sys.executable, "-m", "polytag", "inspect", *map(str, arguments), "--no-browser", "--port", "0"]
        environment = os.environ | {"POLYTAG_CACHE": str(tmp_path / "cache")}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, line + process.stderr.read()
        return process, found[0]

    yield serve
    for process in started:
        process.kill()
        process.communicate()


def get(address: str) -> dict[str, object]:
    with urllib.request.urlopen(address, timeout=20) as answer:
        return json.load(answer)


def test_a_run_is_served_until_ctrl_c(run: Path, served):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    process, address = served(run)
    answer = get(address + "api/run")
    assert answer["classes"] == ["blue", "green", "red"]
    assert answer["num_images"] == 24
    assert answer["split"] == "val"
    with urllib.request.urlopen(address + "thumbnails/0", timeout=20) as thumbnail:
        assert thumbnail.headers["content-type"] == "image/jpeg"
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in stderr + stdout
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before, "looking changes nothing"


def test_a_text_model_without_its_extra_is_told_before_anything_is_read():
    script = "import sys; sys.modules['open_clip'] = None; from polytag.cli.main import main; main()"
    command = [sys.executable, "-c", script, "inspect", "no-such-run", "--text-model", "ViT-B-32:openai"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "polytag: this needs the extra 'open-clip', which is not installed\n  next: pip install 'polytag[open-clip]'\n"
    )


def test_a_text_model_that_is_not_there_ends_the_command(run: Path, shell):
    pytest.importorskip("open_clip", reason="open_clip is not installed: pip install 'polytag[open-clip]'")
    done = shell("inspect", run, "--no-browser", "--text-model", "ViT-B-32:/gone.safetensors")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("polytag: no such weights of the text model\n  where: --text-model\n")


def test_images_are_found_by_a_text(run: Path, served, tmp_path: Path):
    pytest.importorskip("open_clip", reason="open_clip is not installed: pip install 'polytag[open-clip]'")
    from tiny_text_model import oracle_cosines, write_text_model

    folder = write_text_model(tmp_path / "model")
    process, address = served(run, "--text-model", folder)
    give_up = time.monotonic() + 60
    while get(address + "api/find?find=red")["status"] != "ready":
        assert time.monotonic() < give_up
        time.sleep(0.05)
    images = get(address + "api/ranking?class=red&find=red")["images"]
    predictions = opened(run).predictions
    assert [image["row"] for image in images] == np.argsort(-oracle_cosines(folder, predictions.image_paths, "red")).tolist()
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 0
    assert stderr.strip() == "Ctrl-C ends it"


def test_elsewhere_only_with_a_token(run: Path, shell, served):
    refused = shell("inspect", run, "--host", "0.0.0.0", "--no-browser")
    assert refused.returncode == 2
    assert "--token random" in refused.stderr
    _, address = served(run, "--host", "0.0.0.0", "--token", "random")
    base, token = address.split("?token=")
    base = re.sub(r"//[^:/]+", "//127.0.0.1", base)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        get(base + "api/run")
    request = urllib.request.Request(base + "api/run", headers={"Authorization": f"Bearer {token.strip()}"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 200


def test_a_run_opens_with_all_that_belongs_to_it(run: Path):
    inspection = opened(run)
    assert inspection.review_file == run / "review.sqlite"
    assert inspection.checkpoint == run / "best"
    assert inspection.data is not None
    assert set(inspection.data.splits) == {"train", "val"}
    assert [row["epoch"] for row in inspection.history] == [1, 2]
    assert inspection.facts["backbone"] == "test_resnet"
    assert all(Path(path).is_file() for path in inspection.predictions.image_paths)


def test_a_file_of_scores_needs_no_model(run: Path, tmp_path: Path):
    path = tmp_path / "scores.parquet"
    shutil.copy(run / "predictions-val.parquet", path)
    inspection = opened(path)
    assert inspection.checkpoint is None
    assert inspection.data is None
    assert inspection.review_file == tmp_path / "scores-review.sqlite"
    with pytest.raises(UsageError, match="only a run folder"):
        opened(path, split="train")


def test_scores_of_another_program_find_their_images_by_id(colours: Path, tmp_path: Path):
    scores = tmp_path / "scores.csv"
    scores.write_text("id,red,green\n048,0.9,0.1\n049,0.2,0.3\n")
    with pytest.raises(UsageError, match="does not declare"):
        opened(scores)
    inspection = opened(scores, scale="probability", image_dirs=(str(colours.parent / "images"),))
    assert [Path(path).name for path in inspection.predictions.image_paths] == ["048.png", "049.png"]
    with pytest.raises(DataError, match="none of the scored images"):
        opened(scores, scale="probability", image_dirs=(str(tmp_path),))


def test_a_run_without_its_data_is_opened_with_a_note(run: Path, tmp_path: Path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    args = (copy / "args.yaml").read_text()
    (copy / "args.yaml").write_text(re.sub(r"^data: .*$", "data: gone", args, flags=re.MULTILINE))
    notes: list[str] = []
    inspection = open_inspection(copy, OpenOptions(), options=ReadOptions(), note=notes.append)
    assert inspection.data is None
    assert [note.partition(",")[0] for note in notes] == ["the run's data set cannot be read"]


def test_training_images_are_scored_by_a_model_that_did_not_see_their_labels(run: Path, tmp_path: Path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    inspection = opened(copy, split="train")
    assert len(inspection.predictions) == 48
    assert inspection.split == "train"
    kept = copy / "predictions-train-out-of-fold.parquet"
    before = kept.stat().st_mtime_ns
    again = opened(copy, split="train")
    assert kept.stat().st_mtime_ns == before
    assert (again.predictions.logit_NC == inspection.predictions.logit_NC).all()


def test_changed_training_labels_are_scored_anew(colours: Path, run: Path, tmp_path: Path):
    copy, data = tmp_path / "run", tmp_path / "data"
    shutil.copytree(run, copy)
    shutil.copytree(colours.parent, data)
    args = (copy / "args.yaml").read_text()
    (copy / "args.yaml").write_text(re.sub(r"^data: .*$", f"data: {data / colours.name}", args, flags=re.MULTILINE))
    first = opened(copy, split="train").predictions
    lines = (data / colours.name).read_text().splitlines()
    row = next(number for number, line in enumerate(lines) if line.endswith(",red,train"))
    lines[row] = lines[row].replace(",red,train", ",green,train")
    (data / colours.name).write_text("\n".join(lines) + "\n")
    second = opened(copy, split="train").predictions
    assert (first.target_NC != second.target_NC).sum() == 2


def test_a_second_run_must_know_the_classes_and_share_an_image(run: Path, tmp_path: Path):
    assert [each.name for each in opened(run, compare_with=[run]).compared] == [run.name]
    other = tmp_path / "other.jsonl"
    other.write_text('{"id": "elsewhere", "probability": {"red": 0.5, "green": 0.5, "blue": 0.5}}\n')
    with pytest.raises(PredictionsError, match="none of these images"):
        opened(run, compare_with=[run, other])
    other.write_text('{"id": "elsewhere", "probability": {"red": 0.5}}\n')
    with pytest.raises(PredictionsError, match="does not know all classes"):
        opened(run, compare_with=[run, other])


def test_several_runs_have_names_that_tell_them_apart_and_each_is_opened_once(run: Path, tmp_path: Path):
    for folder in ("old", "new"):
        shutil.copytree(run, tmp_path / folder / run.name)
    others = [tmp_path / "old" / run.name, tmp_path / "new" / run.name]
    scores = others[1] / "predictions-val.parquet"  # the same once more, as a file
    found = opened(run, compare_with=[*others, scores, others[0]])
    assert [each.name for each in found.compared] == [f"old/{run.name}", f"new/{run.name}"]
    assert all(each.history for each in found.compared), "their training curves"
    assert found.source_files is not None
    (others[1] / "thresholds.json").write_text("{}")
    assert found.source_files.changed() == "scores", "what any of them decides by is followed"


def test_several_runs_are_served(run: Path, served, tmp_path: Path):
    other = tmp_path / "another"
    shutil.copytree(run, other)
    _, address = served(run, "--compare-with", other, "--compare-with", run)
    answer = get(address + "api/run?against=" + run.name)
    assert (answer["compared_runs"], answer["compared"]) == (["another", run.name], run.name)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(address + "api/run?against=nowhere")


def test_columns_of_a_table_can_be_chosen_from(run: Path, tmp_path: Path):
    table = tmp_path / "columns.csv"
    ids = opened(run).predictions.ids
    table.write_text("id,site,when\n" + "".join(f"{name},{'ab'[row % 2]},{row}\n" for row, name in enumerate(ids)))
    column_N = opened(run, columns=table).column_N
    assert set(column_N) == {"site", "when"}
    assert list(column_N["site"][:3]) == ["a", "b", "a"]


def test_a_column_of_many_numbers_is_opened_for_slices_and_one_of_many_texts_is_not(tmp_path: Path):
    ids = tuple(f"{row:03}" for row in range(300))
    zeros_NC = np.zeros((300, 1))
    predictions = Predictions(ids=ids, logit_NC=zeros_NC, target_NC=zeros_NC, label_set=LabelSet(names=("cat",)))
    write_predictions(predictions, tmp_path / "scores.parquet")
    table = tmp_path / "columns.csv"
    table.write_text("id,width,photographer\n" + "".join(f"{name},{row / 7},p{row}\n" for row, name in enumerate(ids)))
    column_N = opened(tmp_path / "scores.parquet", columns=table).column_N
    assert list(column_N) == ["width"]
    assert column_N["width"][:2] == [0.0, pytest.approx(1 / 7)]


@pytest.mark.parametrize(("arguments", "end"), [((), "top"), (("--lowest",), "bottom")])
def test_a_grid_is_an_image(polytag, run: Path, tmp_path: Path, arguments: tuple[str, ...], end: str):
    result = polytag("grid", run, "--class", "red", "--class", "blue", "--top", 12, "--output", tmp_path / "out", *arguments)
    assert result.output.split() == [str(tmp_path / "out" / f"{name}-{end}.png") for name in ("red", "blue")]
    assert read_image(tmp_path / "out" / f"red-{end}.png").width > 1000


def test_a_grid_of_one_class_goes_where_it_is_told(polytag, run: Path, tmp_path: Path):
    polytag("grid", run, "--class", "red", "--output", tmp_path / "deep" / "own.PNG")
    assert (tmp_path / "deep" / "own.PNG").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="several classes"):
        polytag("grid", run, "--class", "red", "--class", "blue", "--output", tmp_path / "own.png")
    with pytest.raises(UsageError, match="unknown class name"):
        polytag("grid", run, "--class", "red", "--class", "lion", "--output", tmp_path / "none")
    assert not (tmp_path / "none").exists()
