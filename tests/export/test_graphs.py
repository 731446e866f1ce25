"""The graphs of an export are what polytag itself computes: Pillow's bytes, the same views, the same decisions."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from polytag.calibration import Calibration, ClassMap
from polytag.contracts import Preprocessing
from polytag.data.images.augment import views
from polytag.data.images.read import read_image
from polytag.export.decision_graph import decisions
from polytag.export.graph import BOOL, FLOAT, INT64, UINT8, Graph
from polytag.export.resize_graph import MAX_SCALE, weights
from polytag.export.view_graph import views as view_graph
from polytag.inference.onnx_scorer import session_of
from polytag.logits import sigmoid
from polytag.metrics.decisions import decide

SQUASH = Preprocessing(image_size_px=48)
CROP = Preprocessing(image_size_px=33, fit="crop", crop_fraction=0.8, interpolation="bilinear", crops="ten")


def viewing(preprocessing: Preprocessing):
    """A function from an image to its views, by the graph."""
    graph = Graph()
    graph.op("Transpose", view_graph(graph, "image", preprocessing), outputs=["views"], perm=[0, 2, 3, 1])
    shape = ["views", preprocessing.image_size_px, preprocessing.image_size_px, 3]
    model = graph.model(
        name="views", inputs={"image": (UINT8, ["height", "width", 3])}, outputs={"views": (UINT8, shape)}, metadata={}
    )
    session = session_of(model.SerializeToString(), where="views")
    return lambda image: session.run(None, {"image": np.asarray(image)})[0]


@pytest.fixture(scope="module")
def seen():
    return {preprocessing: viewing(preprocessing) for preprocessing in (SQUASH, CROP)}


def noise(width: int, height: int, *, seed: int, extreme: bool) -> Image.Image:
    level = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(np.where(level > 127, 255, 0).astype(np.uint8) if extreme else level)


@settings(max_examples=40)
@given(width=st.integers(1, 400), height=st.integers(1, 400), seed=st.integers(0, 99), extreme=st.booleans())
def test_the_views_of_any_image_are_pillows_to_the_byte(seen, width: int, height: int, seed: int, extreme: bool):
    image = noise(width, height, seed=seed, extreme=extreme)
    for preprocessing, view in seen.items():
        assert np.array_equal(view(image), views(image, preprocessing)), (width, height, preprocessing.fit)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_sums_are_exact_for_every_side_up_to_the_largest(interpolation: str):
    """No image makes a partial sum in float32 as large as 2**24: not one that is 255 where parts have one sign, else 0."""
    graph = Graph()
    found = weights(graph, length="length", new_length=graph.constant(16, np.int64), interpolation=interpolation)
    for name, value in (("high", found.high), ("low", found.low)):
        graph.op("Identity", value, outputs=[name])
    parts = {name: (FLOAT, ["blocks", 16, "pixels"]) for name in ("high", "low")}
    model = graph.model(name="weights", inputs={"length": (INT64, [])}, outputs=parts, metadata={})
    session = session_of(model.SerializeToString(), where="")
    lengths = [1, 2, 3, 15, 16, 17, 100, 333, *np.random.default_rng(0).integers(20, 16 * MAX_SCALE, 60), 16 * MAX_SCALE]
    for length in lengths:
        for part_BMR in session.run(None, {"length": np.array(length, np.int64)}):
            largest = max(np.maximum(part_BMR, 0).sum(axis=2).max(), np.maximum(-part_BMR, 0).sum(axis=2).max())
            assert 255 * largest < 2**24, length


def test_a_large_photograph_is_exact(seen):
    image = noise(4000, 3000, seed=3, extreme=False)
    for preprocessing, view in seen.items():
        assert np.array_equal(view(image), views(image, preprocessing)), preprocessing.fit


def test_a_long_image_is_exact(seen):
    image = noise(48 * MAX_SCALE, 9, seed=1, extreme=True)
    assert np.array_equal(seen[SQUASH](image), views(image, SQUASH))


@pytest.mark.parametrize("crops", ["center", "flip", "five", "ten"])
@pytest.mark.parametrize("fit", ["squash", "crop"])
def test_every_kind_of_view(fit: str, crops: str):
    preprocessing = Preprocessing(image_size_px=24, fit=fit, crops=crops)
    image = noise(61, 40, seed=2, extreme=False)
    assert np.array_equal(viewing(preprocessing)(image), views(image, preprocessing))


def test_real_photographs(shared: Path):
    preprocessing = Preprocessing()
    view = viewing(preprocessing)
    for path in sorted((shared / "data" / "voc-mini").rglob("*.jpg"))[::300]:
        image = read_image(path)
        assert np.array_equal(view(image), views(image, preprocessing)), path


ISOTONIC = ClassMap(kind="isotonic", slope=0.5, logit=(-3.0, -1.0, 2.5), calibrated=(-4.0, -0.25, 1.5))


@pytest.mark.parametrize(
    "maps",
    [
        None,
        (ClassMap(kind="platt", slope=0.7, bias=-0.4),) * 4,
        (ISOTONIC, ClassMap(kind="temperature", slope=2.0), ISOTONIC, ISOTONIC),
    ],
    ids=["none", "lines", "knots"],
)
def test_calibrated_probabilities_and_decisions(maps: tuple[ClassMap, ...] | None):
    calibration = maps and Calibration(method="isotonic", maps=maps)
    thresholds = (0.5, 0.0, 1.0, float(sigmoid(np.array([0.25]))[0]))
    graph = Graph()
    decisions(graph, "raw", thresholds=thresholds, calibration=calibration)
    shape = ["images", 4]
    model = graph.model(
        name="decisions",
        inputs={"raw": (FLOAT, shape)},
        outputs={"logit": (FLOAT, shape), "probability": (FLOAT, shape), "present": (BOOL, shape)},
        metadata={},
    )
    special = [-1e4, -746, -710, -38, -3, -1, 0, 0.25, 1, 2.5, 38, 1e4]
    raw_NC = np.concatenate([np.repeat(special, 4), np.random.default_rng(0).normal(0, 5, 4000)]).reshape(-1, 4).astype(np.float32)
    logit_NC, probability_NC, present_NC = session_of(model.SerializeToString(), where="").run(None, {"raw": raw_NC})
    expected_NC = calibration.apply(raw_NC) if calibration else raw_NC
    assert np.allclose(logit_NC, expected_NC, rtol=3e-7, atol=0)
    assert np.allclose(probability_NC, sigmoid(logit_NC), rtol=1e-6, atol=1e-44)
    assert np.array_equal(present_NC, decide(sigmoid(logit_NC), threshold_C=np.array(thresholds)))
    assert (np.diff(logit_NC[np.argsort(raw_NC[:, 0]), 0]) >= 0).all()
