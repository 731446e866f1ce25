"""A model of open_clip: vectors of texts and of images in one space, where the cosine says how well a text describes an image.

Shapes: N images, D features of length 1.

Source: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021.
"""

import json
import logging
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from polytag.data.images.batches import Batch, batches_of
from polytag.data.images.read import read_image
from polytag.errors import CheckpointError, ImageError, MissingExtraError, UsageError
from polytag.inference.feature_cache import FeatureCache, digest_of_weights, versions
from polytag.inference.predictor import Extracted, one_core_each
from polytag.inference.scored import Scored
from polytag.inference.zero_shot import unit_length
from polytag.machine import num_cores
from polytag.models.device import Arithmetic, choose_device
from polytag.text import nearest, printable

OPTION = "--text-model"
_BATCH = 8  # a request that needs the processor between two batches waits for half a second at most
_MAX_ASPECT = 16  # of what is resized: a line of pixels, resized by its short side, would fill the memory


@dataclass(frozen=True, kw_only=True, eq=False)
class TextModel:
    """A model that is ready to use, in evaluation mode on the device.

    model      of open_clip, with `encode_text` and `encode_image`
    tokenize   texts -> their tokens, cut at the longest text that the model takes
    transform  an upright RGB image -> the input of the image tower, 3 x S x S
    what       identifies weights, architecture and preprocessing in the cache
    """

    model: Any
    tokenize: Callable[[list[str]], torch.Tensor]
    transform: Callable[[Image.Image], torch.Tensor]
    arithmetic: Arithmetic
    what: str

    @classmethod
    def load(cls, name: str, *, device: str = "auto") -> "TextModel":
        """Load "ARCHITECTURE:WEIGHTS", weights by a tag of open_clip or a file, or a folder with `open_clip_config.json`.

        open_clip downloads the weights of a tag that it does not have yet. Raises UsageError for a name that it does not know,
        CheckpointError for weights or a folder that cannot be used, ModuleNotFoundError without open_clip, MissingExtraError where
        the tokenizer of this model needs another package.
        """
        import open_clip  # pyright: ignore[reportMissingImports]
        import torchvision

        is_folder = os.path.isdir(name)
        architecture, weights = (f"local-dir:{os.path.abspath(name)}", "") if is_folder else _known(open_clip, name)
        is_quick = open_clip.get_pretrained_cfg(architecture, weights).get("quick_gelu", False)  # only a warning of open_clip's
        chosen = choose_device(device)
        with _explained(name), _silent():
            model, transform = open_clip.create_model_from_pretrained(
                architecture, weights or None, device=chosen, force_quick_gelu=is_quick
            )
            tokenize = open_clip.get_tokenizer(architecture)
            config = json.dumps(open_clip.get_model_config(architecture), sort_keys=True)
        model, arithmetic = model.eval(), Arithmetic(device=chosen, precision="fp32")
        parts = (
            "text model", *versions(arithmetic), open_clip.__version__, torchvision.__version__,
            config, is_quick, model.visual.preprocess_cfg, _MAX_ASPECT, _BATCH, digest_of_weights(model),
        )  # fmt: skip
        return cls(model=model, tokenize=tokenize, transform=transform, arithmetic=arithmetic, what="\0".join(map(str, parts)))

    def text_vector(self, text: str) -> np.ndarray:
        """float32 D; raises UsageError where the model gives a number that is not finite."""
        with torch.inference_mode():
            vector_1D = self.model.encode_text(self.tokenize([text]).to(self.arithmetic.device)).float().cpu().numpy()
        if not np.isfinite(vector_1D).all():
            raise UsageError("the text model gives no finite numbers for this text")
        return unit_length(vector_1D)[0]

    def image_vectors(
        self, paths: Sequence[Path], *, folder: Path | None = None, on_batch: Callable[[int], None] = lambda num_images: None
    ) -> Extracted:
        """float32 N x D of the images that can be read, from the cache or computed and then saved there.

        `on_batch` receives the number of images done since its last call. An exception that it raises ends the computation.
        """
        cache = FeatureCache(paths, what=self.what, min_seconds=0, folder=folder)
        if cache.is_cached:
            on_batch(len(paths))
        return cache.get(lambda: self._computed(paths, on_batch))

    def _computed(self, paths: Sequence[Path], on_batch: Callable[[int], None]) -> Extracted:
        def read(row: int) -> np.ndarray:
            return self.transform(_without_extreme_sides(read_image(paths[row]))).numpy()

        ready = self._scored(batches_of(range(len(paths)), batch_size=_BATCH, read=read, num_threads=num_cores()))
        rows: list[np.ndarray] = []
        vectors: list[np.ndarray] = []
        failures: list[tuple[int, ImageError]] = []
        with closing(ready):
            for scored in ready:
                failures.extend(scored.failures)
                if len(scored.rows):
                    rows.append(scored.rows)
                    vectors.append(scored.output_ND)
                on_batch(len(scored.rows) + len(scored.failures))
        if not rows:
            return np.zeros((0, 0), np.float32), np.zeros(0, np.int64), tuple(failures)
        return np.concatenate(vectors), np.concatenate(rows), tuple(failures)

    def _scored(self, batches: Iterator[Batch]) -> Generator[Scored]:
        if self.arithmetic.device == "cpu":
            yield from one_core_each(self._vectors_of, batches, num_workers=torch.get_num_threads())
        else:
            yield from map(self._vectors_of, batches)

    def _vectors_of(self, batch: Batch) -> Scored:
        output_ND = np.zeros((0, 0), np.float32)
        if len(batch.rows):
            with torch.inference_mode():
                pixels = torch.from_numpy(batch.pixels_NVHWC).to(self.arithmetic.device)
                output_ND = unit_length(self.model.encode_image(pixels).float().cpu().numpy())
        return Scored(rows=batch.rows, output_ND=output_ND, failures=batch.failures)


def _known(open_clip: Any, name: str) -> tuple[str, str]:
    """The architecture and the weights that a name is of; raises UsageError where open_clip knows no such, or there is no file."""
    if name.startswith("hf-hub:"):
        return name, ""
    architecture, _, weights = name.partition(":")
    names, tags = open_clip.list_models(), open_clip.list_pretrained_tags_by_model(architecture)
    if architecture not in names:
        raise UsageError(
            f"open_clip has no model of this name{nearest(architecture, names)}",
            where=OPTION,
            got=repr(architecture),
            expected="a name of open_clip.list_models(), or a folder that has open_clip_config.json",
        )
    if open_clip.is_pretrained_cfg(architecture, weights):
        return architecture, weights
    if not weights or not os.path.isfile(weights):
        raise UsageError(
            "no such weights of the text model",
            where=OPTION,
            got=repr(name),
            expected=f"{architecture}:WEIGHTS, which is a file" + (f", or one of {', '.join(tags)}" if tags else ""),
        )
    return architecture, os.path.abspath(weights)


def _without_extreme_sides(image: Image.Image) -> Image.Image:
    """The image, or the middle of one that is more than 16 times as long as wide. A square in its middle is the same."""
    width, height = image.size
    longest = _MAX_ASPECT * min(width, height)
    if max(width, height) <= longest:
        return image
    left, top = max(0, width - longest) // 2, max(0, height - longest) // 2
    return image.crop((left, top, left + min(width, longest), top + min(height, longest)))


@contextmanager
def _explained(name: str) -> Generator[None]:
    """Turn whatever a damaged model makes torch, safetensors and open_clip raise into one error of ours."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"this text model needs {error.name}, which is not installed", next_step=f"pip install {error.name}"
        ) from error
    except Exception as error:
        raise CheckpointError(
            "the text model cannot be loaded",
            where=name,
            got=printable(str(error).strip().partition("\n")[0] or type(error).__name__),
            expected="a folder with open_clip_config.json and weights, or weights of this architecture",
        ) from error


@contextmanager
def _silent() -> Generator[None]:
    """open_clip logs every step and every error that it raises; the error says it already."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
