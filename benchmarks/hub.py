"""How far timm's logits are from the checkpoint's, of models that were pushed to a hub on this machine.

Probes of three backbones are trained on voc-mini at 224 px and pushed with `polytag push`: test_resnet (random weights),
mobilenetv2_100 and tf_efficientnet_lite0 (ImageNet's weights). A process that knows timm alone loads each with
`timm.create_model("hf-hub:...")`. On 100 validation photographs, in float32: the largest difference of a logit on the same pixels,
from the checkpoint's network in either layout of memory, and from `Predictor`, whose network is fused; and with its own transform,
how far pixels are from polytag's, and how many decisions differ.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from machine import SHARED, VOC_MINI, WEIGHTS, write
from polytag import Checkpoint, Predictor, load_dataset
from polytag.data.images.augment import views
from polytag.data.images.read import read_image
from polytag.inference.predictor import to_input

NUM_PHOTOGRAPHS = 100
BACKBONES = {
    "test_resnet": ["--weights", "random"],
    "mobilenetv2_100": ["--weights", str(WEIGHTS), "--backbone-arg", "pad_type=same"],
    "tf_efficientnet_lite0": ["--weights", str(SHARED / "weights" / "tf_efficientnet_lite0.safetensors")],
}
TIMM = """
import json, sys
import numpy as np, timm, torch
from huggingface_hub import hf_hub_download
from PIL import Image, ImageOps

repo, folder, *paths = sys.argv[1:]
model = timm.create_model(f"hf-hub:{repo}", pretrained=True).eval()
config = json.load(open(hf_hub_download(repo, "config.json")))
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
own = torch.stack([transform(ImageOps.exif_transpose(Image.open(path)).convert("RGB")) for path in paths])
given = torch.from_numpy(np.load(f"{folder}/input.npy"))
with torch.inference_mode():
    np.save(f"{folder}/contiguous.npy", model(given).numpy())
    probability = model(own).sigmoid().numpy()
    last = given.contiguous(memory_format=torch.channels_last)
    np.save(f"{folder}/channels_last.npy", model.to(memory_format=torch.channels_last)(last).numpy())
np.save(f"{folder}/present.npy", probability > np.array(config["polytag"]["thresholds"]))
np.save(f"{folder}/transformed.npy", own.numpy())
"""


def local_hub() -> Any:
    """The hub of the tests."""
    path = Path(__file__).resolve().parents[1] / "tests" / "local_hub.py"
    specification = importlib.util.spec_from_file_location("local_hub", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["local_hub"] = module
    specification.loader.exec_module(module)
    return module


def run(*words: object, environment: dict[str, str] | None = None) -> None:
    subprocess.run([sys.executable, *map(str, words)], stdout=subprocess.DEVNULL, env=os.environ | (environment or {}), check=True)


def measured(backbone: str, folder: Path, *, paths: list[Path], environment: dict[str, str]) -> dict[str, object]:
    trained = folder / backbone
    options = ["--recipe", "probe", "--head", "linear", "--backbone", backbone, *BACKBONES[backbone], "--image-size", "224"]
    run("-m", "polytag", "train", VOC_MINI, *options, "--output", trained)
    run("-m", "polytag", "push", trained, f"hf://ann/{backbone}", environment=environment)
    checkpoint = Checkpoint.read(trained)
    preprocessing = checkpoint.preprocessing
    pixels = np.concatenate([views(read_image(path), preprocessing) for path in paths])
    input_N3SS = to_input(torch.from_numpy(pixels), preprocessing, "cpu")
    np.save(folder / "input.npy", input_N3SS.contiguous().numpy())
    run("-c", TIMM, f"ann/{backbone}", folder, *paths, environment=environment)
    theirs = {name: np.load(folder / f"{name}.npy") for name in ("contiguous", "channels_last", "present", "transformed")}
    own = checkpoint.load_model()
    predictor = Predictor.load(checkpoint, device="cpu", precision="fp32")
    with torch.inference_mode():
        last_NC = own(input_N3SS).numpy()
        contiguous_NC = own.to(memory_format=torch.contiguous_format)(input_N3SS.contiguous()).numpy()
    fused_NC = np.concatenate([predictor.logits_of(pixels[row : row + 1, None]) for row in range(len(pixels))])
    present_NC = 1 / (1 + np.exp(-fused_NC.astype(np.float64))) > np.array(checkpoint.thresholds)
    return {
        "logits_std": round(float(last_NC.std()), 3),
        "max_logit_difference_channels_last": float(np.abs(theirs["channels_last"] - last_NC).max()),
        "max_logit_difference_contiguous": float(np.abs(theirs["contiguous"] - contiguous_NC).max()),
        "max_logit_difference_contiguous_from_fused_predictor": float(np.abs(theirs["contiguous"] - fused_NC).max()),
        "timm_s_own_transform": {
            "max_pixel_difference_in_levels": round(
                float((np.abs(theirs["transformed"] - input_N3SS.numpy()).max(axis=(0, 2, 3)) * preprocessing.std).max() * 255), 2
            ),
            "decisions": present_NC.size,
            "decisions_that_differ": int((theirs["present"] != present_NC).sum()),
        },
    }


def main() -> None:
    if not VOC_MINI.is_dir():
        print(f"skipped: no photographs in {SHARED.name}")
        return
    paths = list(load_dataset(VOC_MINI).split("val").paths)
    paths = paths[:: len(paths) // NUM_PHOTOGRAPHS][:NUM_PHOTOGRAPHS]
    hub = local_hub()
    with tempfile.TemporaryDirectory() as name, hub.serving() as serving:
        environment = {"HF_ENDPOINT": serving.url, "HF_HOME": f"{name}/hub", "HF_TOKEN": hub.TOKEN, "HF_HUB_DISABLE_XET": "1"}
        result = {each: measured(each, Path(name), paths=paths, environment=environment) for each in BACKBONES}
        write("hub", {"photographs": len(paths), **result})


if __name__ == "__main__":
    main()
