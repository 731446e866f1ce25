"""Out-of-fold scores: no image's own label is in its score, and planted errors of training labels are found."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from polytag import PROBE, ReadOptions, load_dataset, train
from polytag.errors import DataError, RunError
from polytag.inference.feature_cache import features_of
from polytag.inference.out_of_fold import out_of_fold, out_of_fold_of_run, training_images
from polytag.inference.predictor import Predictor
from polytag.inference.probe import fit_probe
from polytag.metrics.label_issues import find_label_issues
from polytag.models.checkpoint import Checkpoint
from polytag.runs.folder import RunFolder

pytestmark = pytest.mark.usefixtures("without_pages")

TINY = replace(PROBE, backbone="test_resnet", weights="random", image_size_px=32, device="cpu")


@pytest.fixture(scope="module")
def run(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(colours, recipe=TINY, output=tmp_path_factory.mktemp("runs") / "probe").folder.path


def test_a_label_never_reaches_its_own_score():
    """Flip the label of one image: its held-out logits at the same strength stay, bit for bit; those of others do not."""
    rng = np.random.default_rng(0)
    feature_ND = rng.normal(size=(80, 6)).astype(np.float32)
    target_NC = (feature_ND[:, :2] + rng.normal(size=(80, 2)) > 0).astype(np.int8)
    flipped_NC = target_NC.copy()
    flipped_NC[7] = 1 - flipped_NC[7]
    first, second = fit_probe(feature_ND, target_NC), fit_probe(feature_ND, flipped_NC)
    assert first.strength == second.strength
    np.testing.assert_allclose(first.held_out_logit_NC[7], second.held_out_logit_NC[7], atol=2e-3)
    moved = np.abs(first.held_out_logit_NC - second.held_out_logit_NC).max(axis=1)
    assert moved[7] < 0.05 * moved.max()


def test_a_label_never_reaches_the_score_of_its_group():
    """As above with the labels of a group of seven images, whose neighbours in the group would tell."""
    rng = np.random.default_rng(1)
    group_N = np.repeat(np.arange(12), rng.integers(4, 10, 12))
    feature_ND = rng.normal(size=(len(group_N), 6)).astype(np.float32)
    target_NC = (feature_ND[:, :2] + rng.normal(size=(len(group_N), 2)) > 0).astype(np.int8)
    flipped_NC = np.where(group_N[:, None] == 7, 1 - target_NC, target_NC)
    first, second = (fit_probe(feature_ND, table_NC, group_N=group_N) for table_NC in (target_NC, flipped_NC))
    assert first.strength == second.strength
    moved_N = np.abs(first.held_out_logit_NC - second.held_out_logit_NC).max(axis=1)
    assert moved_N[group_N == 7].max() < 0.05 * moved_N.max()


def test_groups_of_one_image_each_are_images_and_a_single_group_is_divided():
    rng = np.random.default_rng(2)
    feature_ND = rng.normal(size=(50, 4)).astype(np.float32)
    target_NC = (feature_ND[:, :2] > 0).astype(np.int8)
    scores = [
        fit_probe(feature_ND, target_NC, group_N=group_N).held_out_logit_NC
        for group_N in (None, np.arange(50), np.zeros(50, np.int64))
    ]
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[0], scores[2])


def test_of_a_run(run: Path, colours: Path):
    predictions, note = out_of_fold_of_run(RunFolder(path=run), device="cpu")
    training = load_dataset(colours).split("train")
    assert note == ""
    assert predictions.ids == training.ids
    assert (predictions.target_NC == training.target_NC).all()
    assert predictions.image_paths == tuple(str(path) for path in training.paths)
    assert predictions.source.endswith(", out-of-fold")
    again, _ = out_of_fold_of_run(RunFolder(path=run), device="cpu")
    assert (again.logit_NC == predictions.logit_NC).all()
    assert find_label_issues(predictions).num_images == len(training)


def test_a_fine_tuned_backbone_is_told(colours: Path, tmp_path: Path):
    tuned = replace(TINY, name="finetune", epochs=1, batch_size=8)
    _, note = out_of_fold_of_run(train(colours, recipe=tuned, output=tmp_path / "tuned").folder, device="cpu")
    assert note.startswith("the backbone was fine-tuned on these labels")


def test_groups_of_a_run_are_kept(colours: Path, tmp_path: Path):
    """The scores are those of a probe on the same features and groups; all images of one group are refused."""
    table = tmp_path / "patients.csv"
    table.write_text("id,patient\n" + "".join(f"images/{row:03}.png,p{row // 6}\n" for row in range(72)))
    options = ReadOptions(group_column="patient", columns_file=str(table))
    run = train(colours, recipe=TINY, output=tmp_path / "run", options=options).folder
    predictions, _ = out_of_fold_of_run(run, device="cpu")
    training, predictor = training_images(run)[0], Predictor.load(Checkpoint.read(run.best), device="cpu")
    feature_ND, row_N, _ = features_of(predictor, training)
    assert row_N.tolist() == list(range(48))
    expected = fit_probe(feature_ND, training.target_NC, group_N=np.arange(48) // 6, seed=TINY.seed).held_out_logit_NC
    np.testing.assert_array_equal(predictions.logit_NC, expected)
    with pytest.raises(DataError) as caught:
        out_of_fold(predictor, training.take(range(6)))
    assert str(caught.value) == (
        f"out-of-fold scores need several groups\n  where: {training.source}\n  got: 6 images in group 'p0'\n"
        "  expected: two groups or more: the images of a group share a fold"
    )


def test_too_few_images(run: Path, colours: Path):
    predictor = Predictor.load(Checkpoint.read(run), device="cpu")
    one = load_dataset(colours).take([0])
    with pytest.raises(DataError) as caught:
        out_of_fold(predictor, one)
    assert str(caught.value) == f"too few images for out-of-fold scores\n  where: {one.source}\n  got: 1\n  expected: 2 or more"


def test_a_folder_that_is_no_run(tmp_path: Path):
    with pytest.raises(RunError, match="no run here"):
        training_images(RunFolder(path=tmp_path))
