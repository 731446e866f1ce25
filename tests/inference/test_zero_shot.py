"""Zero-shot scores by vectors of class names, and their share next to a probe: chosen on held-out images, 0 without a gain."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from polytag import PROBE, Checkpoint, load_dataset, predict_features, train
from polytag.data.images.read import read_image
from polytag.errors import PredictionsError
from polytag.inference.probe import fit_probe
from polytag.inference.zero_shot import SHARES, combine_with_zero_shot, unit_length
from polytag.metrics.ap import mean_average_precision
from polytag.predictions.read import read_predictions


def images(num_images: int, *, seed: int = 0, noise: float = 12.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors in whose space each of six classes has a direction; targets; the directions."""
    rng = np.random.default_rng(seed)
    direction_CD = unit_length(np.random.default_rng(7).normal(size=(6, 64)).astype(np.float32))
    target_NC = (rng.random((num_images, 6)) < 0.25).astype(np.int8)
    feature_ND = 4 * target_NC @ direction_CD + noise * rng.normal(size=(num_images, 64)) / 8
    return unit_length(feature_ND.astype(np.float32)), target_NC, direction_CD


def test_with_few_images_the_names_help_on_images_that_no_choice_has_seen():
    feature_ND, target_NC, direction_CD = images(60)
    probe = fit_probe(feature_ND, target_NC)
    combined = combine_with_zero_shot(probe, feature_ND, target_NC, direction_CD)
    assert combined.share > 0
    unseen_ND, truth_NC, _ = images(2000, seed=1)
    maps = [
        mean_average_precision(truth_NC, unseen_ND @ head.weight_CD.numpy().T + head.bias_C.numpy()) for head in (probe, combined)
    ]
    assert maps[1] > maps[0] + 0.03


@pytest.mark.parametrize("seed", range(5))
def test_names_that_say_nothing_have_hardly_a_share(seed: int):
    """Planted noise: random directions. What the folds choose may not cost more than noise on images that they have not seen."""
    feature_ND, target_NC, _ = images(200, seed=seed)
    probe = fit_probe(feature_ND, target_NC)
    noise_CD = unit_length(np.random.default_rng(100 + seed).normal(size=(6, 64)).astype(np.float32))
    combined = combine_with_zero_shot(probe, feature_ND, target_NC, noise_CD)
    assert combined.share <= 0.1
    unseen_ND, truth_NC, _ = images(2000, seed=50 + seed)
    maps = [
        mean_average_precision(truth_NC, unseen_ND @ head.weight_CD.numpy().T + head.bias_C.numpy()) for head in (probe, combined)
    ]
    assert maps[1] > maps[0] - 0.005


def test_the_head_is_the_weighted_mean_and_a_class_without_positives_has_the_names_alone():
    feature_ND, target_NC, direction_CD = images(60)
    target_NC[:, 2] = 0
    probe = fit_probe(feature_ND, target_NC)
    combined = combine_with_zero_shot(probe, feature_ND, target_NC, direction_CD)
    assert combined.share in SHARES
    assert set(combined.fold_map) == set(SHARES)
    assert not probe.weight_CD[2].any()
    logit_NC = feature_ND @ combined.weight_CD.numpy().T + combined.bias_C.numpy()
    probe_NC = feature_ND @ probe.weight_CD.numpy().T + probe.bias_C.numpy()
    zero_shot_NC = (logit_NC - (1 - combined.share) * probe_NC) / combined.share
    for column in range(6):
        assert np.corrcoef(zero_shot_NC[:, column], feature_ND @ direction_CD[column])[0, 1] > 0.999
    unseen_ND, truth_NC, _ = images(500, seed=1)
    scores = unseen_ND @ combined.weight_CD[2].numpy()
    assert mean_average_precision(truth_NC[:, 2:3], scores[:, None]) > 0.8, "no label, and still ranked"


def test_the_towers_of_open_clip(colours: Path, tmp_path: Path):
    """As docs/howto/features.md does, with tiny random towers; and the image tower as a backbone of one's own."""
    open_clip = pytest.importorskip("open_clip", reason="open_clip is not installed: pip install open_clip_torch")
    torch.manual_seed(0)
    clip = open_clip.CLIP(
        embed_dim=16,
        vision_cfg={"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
        text_cfg={"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    ).eval()
    transform, tokenize = open_clip.image_transform(32, is_train=False), open_clip.SimpleTokenizer(context_length=16)
    dataset = load_dataset(colours)
    with torch.inference_mode():
        texts = clip.encode_text(tokenize([f"a photo of a {name}" for name in dataset.label_set]))
        vectors = torch.cat([clip.encode_image(transform(read_image(path))[None]) for path in dataset.paths])
    np.savez(tmp_path / "images.npz", ids=np.array(dataset.ids), features=vectors.numpy())
    np.savez(tmp_path / "names.npz", ids=np.array(list(dataset.label_set)), features=texts.numpy())
    given = {"features": tmp_path / "images.npz", "class_features": tmp_path / "names.npz"}
    run = train(colours, recipe=PROBE, **given, output=tmp_path / "run")
    assert run.checkpoint.num_features == 16
    recipe = replace(PROBE, image_size_px=32, device="cpu", precision="fp32")
    assert train(colours, recipe=recipe, backbone=clip.visual, output=tmp_path / "own").metrics.num_images == 24


@pytest.mark.parametrize("layout", ["names", "other space", "missing"])
def test_a_run_with_vectors_of_the_class_names(layout: str, tmp_path: Path):
    feature_ND, target_NC, direction_CD = images(120)
    names = [f"class {column}" for column in range(6)]
    lines = [",".join(["id", "split", *names])]
    ids = [f"{row:03}.jpg" for row in range(120)]
    for row, name in enumerate(ids):
        lines.append(",".join([name, "train" if row < 60 else "val", *map(str, target_NC[row])]))
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    np.savez(tmp_path / "images.npz", ids=np.array(ids), features=3 * feature_ND)  # of any length
    order = [3, 0, 5, 1, 2, 4]
    vectors = {"names": direction_CD, "other space": direction_CD[:, :5], "missing": direction_CD}[layout]
    kept = order if layout != "missing" else order[:-1]
    np.savez(tmp_path / "names.npz", ids=np.array([names[column] for column in kept]), features=vectors[kept])
    given = {"recipe": PROBE, "features": tmp_path / "images.npz", "class_features": tmp_path / "names.npz"}
    if layout != "names":
        with pytest.raises(PredictionsError) as error:
            train(tmp_path / "labels.csv", **given, output=tmp_path / "run")
        assert error.value.what == {
            "other space": "the vectors of the class names are not in the space of the features",
            "missing": "classes without a vector",
        }[layout]  # fmt: skip
        assert not (tmp_path / "run").exists()
        return
    run = train(tmp_path / "labels.csv", **given, output=tmp_path / "run")
    alone = train(tmp_path / "labels.csv", recipe=PROBE, features=tmp_path / "images.npz", output=tmp_path / "alone")
    assert run.metrics.mean_ap.value > alone.metrics.mean_ap.value + 0.02
    written, scored = read_predictions(run.folder.predictions), predict_features(run.folder.path, tmp_path / "images.npz")
    assert Checkpoint.read(run.folder.path).unit_length
    assert written.logit_NC.tobytes() == scored.take([scored.ids.index(name) for name in written.ids]).logit_NC.tobytes()
