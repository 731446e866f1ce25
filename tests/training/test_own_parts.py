"""Parts of the user's own: each trains, is interrupted and goes on to the same bits; a wrong one is named with what it returned."""

import importlib.util
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from polytag.contracts import Preprocessing
from polytag.data.load import load_dataset
from polytag.errors import PolytagError, RunError, UsageError
from polytag.models.device import Arithmetic
from polytag.runs.args import read_run_args
from polytag.runs.folder import RunFolder
from polytag.runs.recipe import Recipe
from polytag.training.context import TrainingContext
from polytag.training.image_sources import uncached_sources
from polytag.training.losses import asymmetric
from polytag.training.own_augment import OwnAugmentation
from polytag.training.own_loss import OwnLoss
from polytag.training.parts import Parts
from polytag.training.train import resume, train

RECIPE = Recipe(
    name="finetune", backbone="test_resnet", backbone_args={"drop_rate": 0.2}, weights="random", image_size_px=32, epochs=2,
    batch_size=16, head_lr=3e-3, head_start="none", device="cpu", precision="fp32", save_every_minutes=0,
)  # fmt: skip
PREPROCESSING = Preprocessing(image_size_px=32)


@pytest.fixture(autouse=True)
def without_pages(monkeypatch: pytest.MonkeyPatch):
    """As on a machine that only trains: the pages take longer than the training."""
    monkeypatch.setitem(sys.modules, "polytag.report.grids", None)


# ---- augmentations ----


def by_rng(image: Image.Image, rng: np.random.Generator) -> np.ndarray:
    pixels = np.array(image.resize((32, 32)))
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels


def by_globals(image: Image.Image) -> Tensor:
    """Draws from all three shared generators, and from PyTorch's other functions."""
    pixels = torch.from_numpy(np.array(image.resize((40, 36)))).permute(2, 0, 1).float()
    pixels = pixels * random.uniform(0.8, 1.2) + np.random.normal(0, 5) + torch.rand_like(pixels) + torch.randint(0, 9, (1,))
    return pixels.clamp(0, 255).to(torch.uint8)


def of_torchvision() -> Any:
    v2 = pytest.importorskip("torchvision.transforms.v2", reason="torchvision is not installed")
    return v2.Compose([v2.RandomResizedCrop(32, scale=(0.5, 1)), v2.RandomHorizontalFlip(), v2.TrivialAugmentWide(), v2.ToImage()])


def of_albumentations() -> Any:
    albumentations = pytest.importorskip("albumentations", reason="albumentations is not installed: pip install albumentations")
    return albumentations.Compose([albumentations.RandomResizedCrop(size=(32, 32)), albumentations.GaussNoise(p=0.5)])


AUGMENTATIONS = {
    "rng": lambda: by_rng,
    "globals": lambda: by_globals,
    "torchvision": of_torchvision,
    "albumentations": of_albumentations,
}


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_a_view_depends_on_seed_epoch_and_image_alone(kind: str, colours: Path, monkeypatch: pytest.MonkeyPatch):
    """Not on the number of threads, their order, or what training draws from PyTorch's generator meanwhile."""
    dataset = load_dataset(colours).split("train")
    context = TrainingContext(
        recipe=RECIPE,
        train_set=dataset,
        val_set=dataset,
        arithmetic=Arithmetic(device="cpu", precision="fp32"),
        parts=Parts(augment=AUGMENTATIONS[kind]()),
    )
    order = np.arange(len(dataset))
    seen: list[np.ndarray] = []
    for threads, rows in ((1, order), (4, order), (3, order[::-1])):
        monkeypatch.setattr("polytag.training.image_loader.num_cores", lambda threads=threads: threads)
        torch.manual_seed(threads)
        before = torch.default_generator.get_state()
        pixels = np.zeros((len(order), 32, 32, 3), np.uint8)
        for batch in uncached_sources(context).loader.batches(np.array_split(rows, 5), epoch=1):
            pixels[batch.rows] = batch.inputs[0].numpy()
        assert torch.equal(before, torch.default_generator.get_state())
        seen.append(pixels)
    assert (seen[0] == seen[1]).all()
    assert (seen[0] == seen[2]).all()
    view = context.pipeline.input(uncached_sources(context).loader.read(0), epoch=2, row=0)  # pyright: ignore
    assert (view[0] != seen[0][0]).any()


def test_any_size_is_fitted_to_the_input_as_in_scoring():
    own = OwnAugmentation(part=lambda image: image.resize((90, 50)).convert("L"), preprocessing=PREPROCESSING)
    view = own.view(Image.new("RGB", (64, 64), (200, 10, 10)), np.random.default_rng(0), where="a")
    assert view.shape == (1, 32, 32, 3)
    assert len(np.unique(view)) == 1


def fails(image: Image.Image) -> Image.Image:
    raise KeyError("no such colour")


UNSEEDED = np.random.default_rng()


def unseeded(image: Image.Image) -> np.ndarray:
    return UNSEEDED.integers(0, 255, (32, 32, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("part", "lines"),
    [
        (fails, ["the augmentation NAME failed", f"  where: {__file__}:LINE", "  got: KeyError: 'no such colour'",
                 "  expected: a view of the image images/000.png"]),
        (lambda image: None, ["the augmentation NAME returned no image", "  where: images/000.png", "  got: NoneType",
                              "  expected: a PIL image, or uint8 of shape H x W x 3 (an array) or 3 x H x W (a tensor)"]),
        (lambda image: np.zeros((3, 8, 8), np.float32),
         ["the augmentation NAME returned no image", "  where: images/000.png", "  got: float32 of shape 3 x 8 x 8",
          "  expected: a PIL image, or uint8 of shape H x W x 3 (an array) or 3 x H x W (a tensor)",
          "  next: polytag normalises images itself: leave out ToDtype, ToTensor and Normalize"]),
        (lambda image: torch.zeros(8, 8, dtype=torch.uint8),
         ["the augmentation NAME returned no image", "  where: images/000.png", "  got: uint8 of shape 8 x 8",
          "  expected: a PIL image, or uint8 of shape H x W x 3 (an array) or 3 x H x W (a tensor)"]),
        (unseeded, ["the augmentation NAME has randomness that cannot be seeded", "  where: images/000.png",
                    "  got: two views of one image with the same seed that differ",
                    "  expected: the same view for the same seed, so that an interrupted run can go on to the same bits",
                    "  next: give it a parameter rng, and draw from this numpy.random.Generator alone"]),
    ],
)  # fmt: skip
def test_a_wrong_augmentation_is_named_before_a_folder_is_made(colours: Path, tmp_path: Path, part: Any, lines: list[str]):
    with pytest.raises(UsageError) as error:
        train(colours, recipe=RECIPE, output=tmp_path / "run", augment=part)
    line = str(fails.__code__.co_firstlineno + 1)
    name = f"{part.__module__}.{part.__qualname__}"
    assert str(error.value).splitlines() == [each.replace("NAME", name).replace("LINE", line) for each in lines]
    assert not (tmp_path / "run").exists()


def test_an_augmentation_that_fails_later_names_the_image(colours: Path, tmp_path: Path):
    calls: list[int] = []

    def late(image: Image.Image) -> Image.Image:
        calls.append(0)
        if len(calls) > 20:
            raise ValueError("too late")
        return image

    with pytest.raises(UsageError, match="expected: a view of the image images/0") as error:
        train(colours, recipe=RECIPE, output=tmp_path / "run", augment=late)
    assert "late failed" in error.value.what


# ---- losses ----


def masked_bce(logit_NC: Tensor, target_NC: Tensor) -> Tensor:
    known = (target_NC >= 0).float()
    loss_NC = nn.functional.binary_cross_entropy_with_logits(logit_NC, target_NC.clamp(min=0), reduction="none")
    return (loss_NC * known).sum() / known.sum().clamp(min=1)


class Momentum(nn.Module):
    """A loss with a buffer that each step changes: it must survive an interruption."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.tensor(1.0))

    def forward(self, logit_NC: Tensor, target_NC: Tensor) -> Tensor:
        loss = masked_bce(logit_NC, target_NC)
        if self.training:
            self.scale.mul_(0.9).add_(0.2 * loss.detach())
        return loss * self.scale


def test_a_loss_of_ones_own_trains_as_the_built_in_one(colours: Path, tmp_path: Path):
    own = train(colours, recipe=RECIPE, output=tmp_path / "own", loss=masked_bce)
    built_in = train(colours, recipe=RECIPE, output=tmp_path / "built-in")
    assert (own.folder.best / "model.safetensors").read_bytes() == (built_in.folder.best / "model.safetensors").read_bytes()
    assert read_run_args(own.folder).parts["loss"].name.endswith("test_own_parts.masked_bce")
    assert read_run_args(built_in.folder).parts == {}


def test_class_weights_reach_a_loss_that_names_them():
    target_NC = np.array([[1, 0, -1], [0, 1, 1]])
    weight_C = torch.tensor([2.0, 3.0, 4.0])
    own = OwnLoss(partial(asymmetric, margin=0.0))
    assert own.check(target_NC, positive_weight_C=weight_C, device="cpu") == []
    logit_NC = torch.randn(2, 3)
    expected = asymmetric(logit_NC, torch.from_numpy(target_NC), weight_C, margin=0.0)
    assert torch.equal(own(logit_NC, torch.from_numpy(target_NC), weight_C), expected)
    with pytest.raises(UsageError, match="takes no class weights"):
        OwnLoss(masked_bce).check(target_NC, positive_weight_C=weight_C, device="cpu")


def test_a_loss_that_learns_from_unknown_labels_is_noted():
    def assume_negative(logit_NC: Tensor, target_NC: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(logit_NC, target_NC.clamp(min=0))

    notes = OwnLoss(assume_negative).check(np.array([[1, 0, -1]]), positive_weight_C=None, device="cpu")
    assert [note.partition(" has ")[2] for note in notes] == ["a gradient at unknown labels (-1): it learns from them too"]
    assert OwnLoss(assume_negative).check(np.array([[1, 0, 0]]), positive_weight_C=None, device="cpu") == []


def raises(logit_NC: Tensor, target_NC: Tensor) -> Tensor:
    return logit_NC @ target_NC


class Learns(nn.Module):
    def __init__(self):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(()))

    def forward(self, logit_NC: Tensor, target_NC: Tensor) -> Tensor:
        return masked_bce(logit_NC * self.temperature, target_NC)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (lambda logit, target: (logit - target) ** 2,
         "NAME returned no scalar\n  got: float32 of shape 8 x 3\n  expected: a tensor of one floating-point number, of shape ()\n"
         "  next: take the mean over the known labels"),
        (lambda logit, target: 0.5,
         "NAME returned no scalar\n  got: float\n  expected: a tensor of one floating-point number, of shape ()"),
        (lambda logit, target: (logit - target).sum() * float("nan"),
         "NAME is not finite\n  where: 8 images with 24 known labels\n  got: nan\n"
         "  expected: a finite number, 0 where no label is known (-1 is unknown)"),
        (lambda logit, target: (logit.detach() - target).mean(),
         "NAME has no gradient to learn from\n  where: 8 images with 24 known labels\n  got: a number without one\n"
         "  expected: a finite gradient with respect to the logits\n"
         "  next: compute it from the logits with PyTorch alone, without detach, numpy or item"),
        (lambda logit, target: (logit * 0).sum(),
         "NAME has no gradient to learn from\n  where: 8 images with 24 known labels\n  got: a gradient of 0 at every logit\n"
         "  expected: a finite gradient with respect to the logits\n"
         "  next: compute it from the logits with PyTorch alone, without detach, numpy or item"),
        (Learns(), "NAME has parameters of its own, which are not trained\n  got: temperature\n"
                   "  expected: a loss without parameters; buffers are kept"),
    ],
)  # fmt: skip
def test_a_wrong_loss_is_named_before_a_folder_is_made(colours: Path, tmp_path: Path, part: Any, message: str):
    with pytest.raises(UsageError) as error:
        train(colours, recipe=RECIPE, output=tmp_path / "run", loss=part)
    named = part if hasattr(part, "__qualname__") else type(part)
    assert str(error.value) == "the loss " + message.replace("NAME", f"{named.__module__}.{named.__qualname__}")
    assert not (tmp_path / "run").exists()


def test_a_training_that_diverges_says_so(colours: Path, tmp_path: Path):
    calls: list[int] = []

    def breaks(logit_NC: Tensor, target_NC: Tensor) -> Tensor:
        calls.append(1)
        return masked_bce(logit_NC, target_NC) * (float("nan") if len(calls) > 4 else 1.0)

    with pytest.raises(RunError) as error:
        train(colours, recipe=RECIPE, loss=breaks, output=tmp_path / "run")
    assert str(error.value) == (
        "the training has diverged\n  where: epoch 1\n  got: weights that are not finite\n  expected: finite weights\n"
        "  next: start a new run with lower learning rates, --head-lr and --backbone-lr; or look at a loss of your own"
    )


def test_a_loss_that_raises_says_where(colours: Path, tmp_path: Path):
    with pytest.raises(UsageError) as error:
        train(colours, recipe=RECIPE, output=tmp_path / "run", loss=raises)
    assert error.value.what.endswith("test_own_parts.raises failed")
    assert error.value.where == f"{__file__}:{raises.__code__.co_firstlineno + 1}"
    assert error.value.expected == "a scalar for logits and targets of shape 8 x 3"


# ---- interruptions ----


GIVEN: dict[str, Callable[[], dict[str, Any]]] = {
    "augment by rng": lambda: {"augment": by_rng},
    "augment by globals": lambda: {"augment": by_globals},
    "augment of torchvision": lambda: {"augment": of_torchvision()},
    "augment of albumentations": lambda: {"augment": of_albumentations()},
    "loss": lambda: {"loss": masked_bce},
    "loss with a buffer": lambda: {"loss": Momentum()},
}


@pytest.mark.parametrize("kind", GIVEN)
def test_an_interrupted_run_goes_on_to_the_same_bits_with_the_same_part(kind: str, colours: Path, tmp_path: Path, stopped_at):
    """The part is made again, as in another process; the state was saved after a step in the middle of an epoch."""
    whole = train(colours, recipe=RECIPE, output=tmp_path / "whole", **GIVEN[kind]())
    stopped_at(5, train, colours, recipe=RECIPE, output=tmp_path / "run", **GIVEN[kind]())
    with pytest.raises(RunError, match="of its own"):
        resume(tmp_path / "run")
    again = resume(tmp_path / "run", **GIVEN[kind]())
    for name in ("best/model.safetensors", "last/model.safetensors", "predictions-val.parquet"):
        assert (again.folder.path / name).read_bytes() == (whole.folder.path / name).read_bytes()
    assert resume(tmp_path / "run").folder.is_finished, "a finished run needs no parts"


@pytest.fixture
def unfinished(colours: Path, tmp_path: Path, stopped_at) -> RunFolder:
    """A run with a loss of its own that was interrupted."""
    stopped_at(1, train, colours, recipe=RECIPE, output=tmp_path / "run", loss=masked_bce)
    return RunFolder(path=tmp_path / "run")


def test_a_resume_demands_the_same_parts(unfinished: RunFolder):
    run = unfinished
    begun = read_run_args(run).parts["loss"]
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "the run has a loss of its own\n  where: RUN\n  got: no loss\n  expected: BEGUN\n"
             "  next: give the same loss again: `--parts FILE.py`, or in Python resume(run_folder, loss=...)"),
        ({"loss": asymmetric}, "the run has another loss\n  where: RUN\n  got: polytag.training.losses.asymmetric (GIVEN)\n"
                               "  expected: BEGUN\n"
                               "  next: give the same loss again: `--parts FILE.py`, or in Python resume(run_folder, loss=...)"),
        ({"loss": masked_bce, "augment": by_rng},
         "the run has no augmentation of its own\n  where: RUN\n  got: NAME.by_rng (GIVEN)\n  expected: no augment\n"
         "  next: leave augment out, or start a new run"),
    ]  # fmt: skip
    for parts, message in cases:
        with pytest.raises(RunError) as error:
            resume(run.path, **parts)
        given = Parts(**parts).records
        digest = next((record.digest[:8] for kind, record in given.items() if str(begun) != str(record)), "")
        wanted = message.replace("RUN", str(run.path)).replace("BEGUN", str(begun)).replace("GIVEN", digest)
        assert str(error.value) == wanted.replace("NAME", by_rng.__module__)


def test_a_run_folder_names_parts_and_never_runs_them(unfinished: RunFolder, tmp_path: Path):
    """A stranger's run may say anything: its names are shown, and neither imported nor called."""
    run = unfinished
    evil = tmp_path / "evil_part.py"
    evil.write_text(f"open({str(tmp_path / 'touched')!r}, 'w')\ndef loss(*values): ...\n")
    text = run.args.read_text()
    name = read_run_args(run).parts["loss"].name
    for other in ("evil_part.loss", "os.system", "__import__('os').system('true')", str(evil)):
        run.args.write_text(text.replace(name, other))
        with pytest.raises(RunError, match="the run has a loss of its own"):
            resume(run.path)
    assert not (tmp_path / "touched").exists()
    for bad in (
        text.replace(name, "a\\nb"),
        text.replace("loss:\n    name", "lossy:\n    name"),
        text.replace("digest: ", "digest: g"),
    ):
        run.args.write_text(bad)
        with pytest.raises(RunError):
            resume(run.path)


# ---- what identifies a part ----


def module_of(tmp_path: Path, source: str, name: str = "their_parts") -> Any:
    path = tmp_path / f"{name}.py"
    path.write_text(source)
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module


SOURCE = """
FACTOR = 2.0
def helper(x): return x * FACTOR
def loss(logit, target):
    return helper(logit - target).mean()
class Loss:
    def __init__(self, margin): self.margin = margin
    def __call__(self, logit, target): return (logit - target).mean() + self.margin
class Child(Loss): pass
made = Child(0.5)
"""


def test_the_digest_is_of_the_code_and_the_values_and_not_of_the_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import inspect
    import linecache

    def digests(source: str) -> tuple[str, ...]:
        linecache.clearcache()
        module = module_of(tmp_path, source)
        assert inspect.getsource(module.loss) in source
        return tuple(Parts(loss=part).records["loss"].digest for part in (module.loss, module.made))

    monkeypatch.delitem(sys.modules, "their_parts", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # compiled code of a file of the same size and second would be taken
    begun = digests(SOURCE)
    assert digests(SOURCE) == begun
    assert (
        digests("# a comment\n" + SOURCE.replace("    return", "\n    # another\n    return").replace("x * F", "x  *  F")) == begun
    )
    for function, made, before, after in (
        (True, False, ".mean()\nclass", ".sum()\nclass"),
        (True, False, "x * FACTOR", "x / FACTOR"),
        (True, False, "FACTOR = 2.0", "FACTOR = 3.0"),
        (False, True, "Child(0.5)", "Child(0.6)"),
        (False, True, "+ self.margin", "- self.margin"),
    ):
        changed = digests(SOURCE.replace(before, after))
        assert (changed[0] != begun[0], changed[1] != begun[1]) == (function, made), (before, after)
    del sys.modules["their_parts"]


def test_parts_without_source_and_of_libraries_are_told_apart():
    scope: dict[str, Any] = {"__name__": "typed_in"}
    exec("def one(a, b): return a - b\ndef two(a, b): return a + b\n", scope)
    parts = [
        scope["one"], scope["two"], lambda a, b: a - b, lambda a, b: a + b, torch.sub, torch.add, nn.BCEWithLogitsLoss(),
        nn.BCEWithLogitsLoss(pos_weight=torch.ones(3)), nn.BCEWithLogitsLoss(pos_weight=torch.full((3,), 2.0)),
        partial(asymmetric, margin=0.1), partial(asymmetric, margin=0.2), asymmetric,
    ]  # fmt: skip
    digests = [Parts(loss=part).records["loss"].digest for part in parts]
    assert len(set(digests)) == len(parts)
    again = [nn.BCEWithLogitsLoss(pos_weight=torch.ones(3)), partial(asymmetric, margin=0.1)]
    assert [Parts(loss=part).records["loss"].digest for part in again] == [digests[7], digests[9]]
    first, second = (Parts(augment=of_torchvision()).records["augment"] for _ in range(2))
    assert first == second


def test_what_cannot_be_a_part():
    for parts, message in (
        ({"loss": 3}, "the loss cannot be called\n  where: loss\n  got: int\n  expected: a callable"),
        ({"loss": Momentum}, "the loss is a class\n  where: loss\n  got: Momentum\n  expected: an object: Momentum()"),
    ):
        with pytest.raises(PolytagError) as error:
            Parts(**parts)
        assert str(error.value) == message


def test_a_probe_has_no_use_for_them(colours: Path, tmp_path: Path):
    recipe = replace(RECIPE, epochs=0, head_start="probe")
    with pytest.raises(UsageError, match="a probe trains without augmentation and loss"):
        train(colours, recipe=recipe, output=tmp_path / "run", augment=by_rng)
    with pytest.raises(UsageError, match="an augmentation of your own runs on the processor"):
        train(colours, recipe=replace(RECIPE, cache="gpu"), output=tmp_path / "run", augment=by_rng)
