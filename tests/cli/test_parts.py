"""`--parts FILE.py`: parts of the user's own on the command line."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from polytag.cli.main import app
from polytag.cli.parts import parts_of
from polytag.errors import UsageError
from polytag.runs.args import read_run_args
from polytag.runs.folder import RunFolder

FILE = """
import torch.nn.functional as F

class Diary:
    def end(self, run, metrics):
        (run.path / "diary.txt").write_text(f"{metrics.num_images} images")

def augment(image, rng):
    return image.rotate(90 * rng.integers(4))

def loss(logit, target):
    return F.binary_cross_entropy_with_logits(logit, target)

callbacks = [Diary()]
"""
QUICK = ("--backbone", "test_resnet", "--weights", "random", "--image-size", "32", "--epochs", "1", "--device", "cpu")


@pytest.fixture
def parts_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "my_parts.py"
    path.write_text(FILE)
    monkeypatch.setitem(sys.modules, "polytag.report.grids", None)
    monkeypatch.delitem(sys.modules, "my_parts", raising=False)
    return path


def test_a_run_with_a_file_of_parts(colours: Path, parts_file: Path, tmp_path: Path):
    arguments = ["train", str(colours), *QUICK, "--parts", str(parts_file), "--output", str(tmp_path / "run")]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    run = RunFolder(path=tmp_path / "run")
    assert {kind: record.name for kind, record in read_run_args(run).parts.items()} == {
        "augment": "my_parts.augment",
        "loss": "my_parts.loss",
    }
    assert (run.path / "diary.txt").read_text() == "24 images"

    run.metrics.unlink()
    del sys.modules["my_parts"]
    done = CliRunner().invoke(app, ["train", "--resume", str(run.path), "--parts", str(parts_file)], catch_exceptions=False)
    assert (done.exit_code, run.is_finished) == (0, True)
    run.metrics.unlink()
    done = CliRunner().invoke(app, ["train", "--resume", str(run.path)])
    assert isinstance(done.exception, Exception)
    assert "the run has a" in str(done.exception)
    done = CliRunner().invoke(app, ["train", "--resume", str(run.path), "--parts", str(parts_file), "--epochs", "3"])
    assert "a resumed run keeps its recipe" in str(done.exception)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("parts.txt", "", "no file of parts\n  where: --parts\n  got: PATH\n"
                          "  expected: a Python file, FILE.py, that defines augment, loss, backbone"),
        ("my_parts.py", "x = 1\n1 / 0\n",
         "the file of parts cannot be executed\n  where: PATH:2\n  got: ZeroDivisionError: division by zero\n"
         "  expected: Python that defines augment, loss, backbone"),
        ("my_parts.py", "import sys\nsys.exit(3)\n",
         "the file of parts cannot be executed\n  where: PATH:2\n  got: SystemExit: 3\n"
         "  expected: Python that defines augment, loss, backbone"),
        ("my_parts.py", "def los(): ...\n",
         "the file defines no part\n  where: PATH\n  got: los\n  expected: one of augment, loss, backbone, callbacks"),
        ("json.py", "", "the file of parts has the name of another module\n  where: --parts\n  got: PATH\n"
                        "  expected: a name that no module has\n  next: rename it, such as my_json.py"),
    ],
)  # fmt: skip
def test_a_file_that_gives_no_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str, message: str):
    if name == "my_parts.py":
        monkeypatch.delitem(sys.modules, "my_parts", raising=False)
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError) as error:
        parts_of(tmp_path / name)
    assert str(error.value) == message.replace("PATH", str(tmp_path / name))
