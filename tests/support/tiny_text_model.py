"""A random text model in a folder, and the cosines as open_clip itself computes them: the oracle of the search by text."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

ARCHITECTURE: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def write_text_model(folder: Path, *, seed: int = 0, **preprocess: object) -> Path:
    """Write configuration and random weights; `preprocess` changes the preprocessing."""
    import open_clip

    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": ARCHITECTURE, "preprocess_cfg": preprocess}))
    torch.manual_seed(seed)
    model = open_clip.CLIP(**ARCHITECTURE)
    with torch.no_grad():
        model.visual.conv1.weight.mul_(20)  # so that images differ by more than rounding
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def oracle_cosines(folder: Path, paths: Sequence[str | Path], text: str) -> np.ndarray:
    """float64 N: one image at a time, without anything of polytag's."""
    import open_clip

    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokenize = open_clip.get_tokenizer(f"local-dir:{folder}")
    model = model.double().eval()
    with torch.inference_mode():
        text_1D = model.encode_text(tokenize([text]), normalize=True)
        images_ND = [
            model.encode_image(transform(Image.open(path).convert("RGB"))[None].double(), normalize=True) for path in paths
        ]
    return (torch.cat(images_ND) @ text_1D[0]).numpy()
