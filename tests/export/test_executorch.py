"""`pixels.pte` answers as the checkpoint does, in ExecuTorch's own runtime; without its extra the extra is asked for."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from polytag.calibration import Calibration, ClassMap
from polytag.contracts import Preprocessing
from polytag.data.images.augment import views
from polytag.errors import UsageError
from polytag.export.executorch_program import MAX_IMAGES
from polytag.export.export import export_model
from polytag.export.selftest import generated_images
from polytag.inference.predictor import Predictor
from polytag.inference.scorers import scorer_of
from polytag.logits import sigmoid
from polytag.models.checkpoint import Checkpoint
from polytag.models.exported import Checked, Exported, ExportedFile

KNOTS = ClassMap(kind="isotonic", slope=0.5, logit=(-1.0, -0.2, 0.4), calibrated=(-2.0, -0.25, 1.5))
CALIBRATIONS = {
    "none": None,
    "lines": Calibration(method="platt", maps=(ClassMap(kind="platt", slope=0.7, bias=-0.4),) * 3),
    "knots": Calibration(method="isotonic", maps=(KNOTS, ClassMap(kind="temperature", slope=2.0), KNOTS)),
}


@pytest.mark.parametrize(("calibration", "crops"), [("none", "center"), ("lines", "center"), ("knots", "ten")])
def test_one_image_and_many_are_decided_as_by_the_checkpoint(checkpoint: Checkpoint, calibration: str, crops: str, tmp_path: Path):
    executorch = pytest.importorskip("executorch.runtime", reason="the extra executorch, which is not in `all`, is not installed")
    own = replace(
        checkpoint, calibration=CALIBRATIONS[calibration], preprocessing=Preprocessing(image_size_px=32, fit="crop", crops=crops)
    )
    made = export_model(own, tmp_path / "out", to=("executorch",))
    assert made.files["pixels.pte"].checked.decisions_changed == 0
    assert [path.name for path in (tmp_path / "out").iterdir() if path.suffix in (".pte", ".onnx")] == ["pixels.pte"]
    content = made.file("pixels.pte")  # which the runtime reads and does not keep
    program = executorch.Runtime.get().load_program(content)
    method = program.load_method("forward")
    predictor = Predictor.load(own, device="cpu", precision="fp32")
    pixels_NVHWC = np.stack([views(image, own.preprocessing) for image in generated_images()] * 2)
    import torch

    for num_images in (1, 2, 7, MAX_IMAGES):
        some = pixels_NVHWC[:num_images]
        given = torch.from_numpy(np.ascontiguousarray(some[:, 0] if some.shape[1] == 1 else some))
        logit_NC, probability_NC, present_NC = (output.numpy() for output in method.execute([given]))
        expected_NC = predictor.logits_of(some)
        assert np.abs(logit_NC - expected_NC).max() < 1e-4
        assert np.abs(probability_NC - sigmoid(logit_NC)).max() < 1e-6
        assert np.array_equal(present_NC, sigmoid(logit_NC) > np.array(own.thresholds))


@pytest.mark.skipif(find_spec("executorch") is not None, reason="the extra executorch is installed")
def test_the_extra_is_asked_for(checkpoint: Checkpoint, tmp_path: Path):
    with pytest.raises(ModuleNotFoundError) as caught:
        export_model(checkpoint, tmp_path / "out", to=("onnx", "executorch"))
    assert caught.value.name == "executorch"
    assert not list(tmp_path.iterdir())


def test_polytag_itself_does_not_score_with_it(checkpoint: Checkpoint, tmp_path: Path):
    checked = Checked(images=1, of="", decisions=3, max_logit_difference=0.0, decisions_changed=0)
    alone = Exported(
        folder=tmp_path,
        id=checkpoint.id,
        calibration_id="",
        label_set=checkpoint.label_set,
        thresholds=checkpoint.thresholds,
        preprocessing=checkpoint.preprocessing,
        files={"pixels.pte": ExportedFile(engine="executorch", precision="fp32", sha256="0" * 64, checked=checked)},
    )
    with pytest.raises(UsageError, match="holds no graph that polytag runs"):
        scorer_of(alone)


def test_it_has_no_8_bit_integers(checkpoint: Checkpoint, tmp_path: Path):
    with pytest.raises(UsageError, match="no graph for this engine has 8-bit integers"):
        export_model(checkpoint, tmp_path / "out", to=("executorch",), int8=True)
