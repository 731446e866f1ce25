"""What training makes of partial labels: which loss, which labels, and that a run of it is resumed to the bit."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from polytag.contracts import Dataset
from polytag.data.load import load_dataset
from polytag.runs.folder import RunFolder
from polytag.runs.recipe import PROBE, Recipe
from polytag.training.label_policy import label_policy
from polytag.training.train import resume, train

TUNING = Recipe(
    name="finetune", backbone="test_resnet", weights="random", image_size_px=32, epochs=3, batch_size=16, head_lr=3e-3,
    augment="light", precision="fp32", device="cpu", ema_decay=0.9, save_every_minutes=0, loss="ll-r",
)  # fmt: skip


@pytest.fixture
def without_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a single test; others read the report."""
    monkeypatch.setitem(sys.modules, "polytag.report.grids", None)


@pytest.fixture
def dataset(colours: Path) -> Dataset:
    return load_dataset(colours)


def with_targets(dataset: Dataset, target_NC: np.ndarray, *, absent_means: str = "unknown") -> Dataset:
    return replace(dataset, target_NC=target_NC, absent_means=absent_means)


def only_positive(dataset: Dataset) -> Dataset:
    """One positive a training image, all else unknown; validation images as they are."""
    target_NC = np.array(dataset.target_NC)
    for row in dataset.rows_of("train"):
        present = np.flatnonzero(dataset.target_NC[row] == 1)
        target_NC[row] = -1
        target_NC[row, present[:1]] = 1
    return with_targets(dataset, target_NC)


def half_unknown(dataset: Dataset) -> Dataset:
    hidden = np.random.default_rng(0).random(dataset.target_NC.shape) < 0.5
    hidden[dataset.rows_of("val")] = False
    return with_targets(dataset, np.where(hidden, -1, dataset.target_NC).astype(np.int8))


def test_complete_and_unknown_labels_are_those_of_bce(dataset: Dataset):
    """Unknown labels are left out: to complete them by the scores gained nothing on photographs."""
    for given in (dataset, half_unknown(dataset)):
        policy = label_policy(given, loss="auto")
        assert (policy.loss, policy.probe, policy.note) == ("bce", "given", "")
        assert (policy.target_NC == given.target_NC).all()


def test_unknown_counts_as_absent_in_a_class_without_any_absent_label(dataset: Dataset):
    part = only_positive(dataset).split("train")
    policy = label_policy(part, loss="auto")
    assert (policy.loss, policy.probe) == ("ll-r", "doubting")
    labelled = (part.target_NC == 1).any(axis=1)
    assert (policy.target_NC[labelled] == np.maximum(part.target_NC, 0)[labelled]).all()
    assert 0 < (~labelled).sum() < len(part)
    assert (policy.target_NC[~labelled] == -1).all(), "an image that nobody labelled says nothing"
    assert policy.note == (
        f"{(part.target_NC == -1).mean():.0%} of the training labels are unknown, and every class has no absent one: there, "
        "unknown counts as absent; those that the model contradicts are doubted (loss ll-r)"
    )
    one_said = np.array(part.target_NC)
    one_said[5, 2] = 0
    mixed = label_policy(with_targets(part, one_said), loss="bce")
    assert (mixed.loss, mixed.probe) == ("bce", "given")
    assert (mixed.target_NC[:, 2] == one_said[:, 2]).all()
    assert (mixed.target_NC[labelled, :2] >= 0).all()
    assert mixed.note.endswith("2 of 3 classes have no absent one: there, unknown counts as absent")
    read_as_absent = label_policy(with_targets(part, part.target_NC, absent_means="absent"), loss="auto")
    assert (read_as_absent.target_NC == part.target_NC).all()


def test_a_class_without_any_label_stays_unknown(dataset: Dataset):
    part = only_positive(dataset).split("train")
    target_NC = np.array(part.target_NC)
    target_NC[:, 1] = -1
    assert (label_policy(with_targets(part, target_NC), loss="auto").target_NC[:, 1] == -1).all()


def test_absent_labels_are_doubted_when_asked_to(dataset: Dataset):
    policy = label_policy(dataset, loss="ll-r")
    assert (policy.loss, policy.probe) == ("ll-r", "rejecting")


def test_a_probe_of_positives_alone_learns_and_says_what_it_made_of_them(dataset: Dataset, tmp_path: Path):
    notes: list[str] = []

    class Notes:
        def note(self, text: str) -> None:
            notes.append(text)

    recipe = replace(PROBE, backbone="test_resnet", weights="random", image_size_px=32, device="cpu")
    run = train(only_positive(dataset), recipe=recipe, output=tmp_path / "run", callbacks=[Notes()])
    assert any("unknown counts as absent" in note for note in notes)
    assert run.metrics.mean_ap.value > 0.5
    train(dataset, recipe=replace(recipe, loss="ll-r"), output=tmp_path / "rejecting", callbacks=[Notes()])
    assert any(note.startswith("probe: trained by ll-r, held-out mAP 0.") for note in notes)
    assert "ll-r" in (tmp_path / "rejecting" / "report.html").read_text()


@pytest.mark.usefixtures("without_pages")
def test_a_run_that_doubts_labels_is_resumed_to_the_bit(colours: Path, tmp_path: Path, stopped_at):
    """The share of labels that are left out depends on the epoch alone: no state of its own."""
    whole = train(colours, recipe=TUNING, output=tmp_path / "whole").folder
    plain = train(colours, recipe=replace(TUNING, loss="bce"), output=tmp_path / "plain").folder
    stopped_at(7, train, colours, recipe=TUNING, output=tmp_path / "run")
    resumed = resume(tmp_path / "run").folder
    for name in ("best", "last"):
        assert _weights(resumed, name) == _weights(whole, name)
    assert _weights(whole, "last") != _weights(plain, "last")
    val_loss_of = [[line.split(",")[2] for line in run.results.read_text().splitlines()][1] for run in (whole, plain)]
    assert val_loss_of[0] == val_loss_of[1], "nothing is doubted in the first epoch, nor in validation"


def _weights(run: RunFolder, name: str) -> bytes:
    return (run.path / name / "model.safetensors").read_bytes()
