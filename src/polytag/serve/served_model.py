"""A model that is ready to answer: read, loaded and tried before any request sees it."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from polytag.contracts import LabelSet, Preprocessing
from polytag.data.images.augment import NUM_VIEWS, views
from polytag.data.images.read import read_image
from polytag.errors import ExportError, PolytagError
from polytag.inference.scorers import Scorer, scorer_of
from polytag.logits import sigmoid
from polytag.metrics.decisions import decide
from polytag.models.checkpoint import Checkpoint
from polytag.models.checkpoint_files import explained, open_file
from polytag.models.exported import SELFTEST, Exported, read_model
from polytag.models.hub import address_of
from polytag.parsing import parse_json, small_text
from polytag.plain import WrongValue, from_plain

_EXPECTED = "expected.json"
_MAX_EXPECTED_BYTES = 8_000_000
_MAX_IMAGE_BYTES = 32 * 2**20
_MAX_IMAGES = 16
_TRIED_SIZE = (320, 240)
_TIMES = 3
_WORTHWHILE = 0.9  # of the time of an image alone


@dataclass(frozen=True, kw_only=True, eq=False)
class ServedModel:
    """A loaded model; two requests that were answered by the same object were answered by the same model.

    name         that clients call it by: its folder's
    batch_size   images that are worth scoring at once on this machine
    """

    name: str
    model: Checkpoint | Exported
    scorer: Scorer
    batch_size: int = 1

    @property
    def id(self) -> str:
        """The checkpoint's id."""
        return self.model.id

    @property
    def label_set(self) -> LabelSet:
        """The classes."""
        return self.model.label_set

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes views."""
        return self.model.preprocessing

    @cached_property
    def threshold_C(self) -> np.ndarray:
        """Probabilities above which a class is present."""
        return np.asarray(self.model.thresholds, np.float64)

    @property
    def view_shape(self) -> tuple[int, ...]:
        """Of an image that is given as pixels: S, S, 3, after the number of views where there are several."""
        size_px, num_views = self.preprocessing.image_size_px, NUM_VIEWS[self.preprocessing.crops]
        return (size_px, size_px, 3) if num_views == 1 else (num_views, size_px, size_px, 3)


def name_of(folder: Path) -> str:
    """The name of a model in the addresses of the server: that of the run's or the export's folder, or of the hub's repository."""
    if address := address_of(folder):
        return address.repo.rpartition("/")[2]
    folder = folder.resolve()
    return (folder.parent.name if folder.name in ("best", "last") else folder.name) or "model"


def load_served(folder: Path, *, name: str, engine: str = "auto", precision: str = "auto", max_batch: int = 1) -> ServedModel:
    """Read, load and try a model, and find out whether it scores batches faster than single images.

    An export answers the images of its self-test as it did when it was written, in float32; in a reduced precision, from the hub,
    and from a checkpoint, the scores are finite. Raises CheckpointError or ExportError where they are not, or a file is damaged,
    and UsageError for an engine or a precision that the model has not.
    """
    model = read_model(folder)
    served = ServedModel(name=name, model=model, scorer=scorer_of(model, engine=engine, precision=precision))
    served.scorer.prepare_thread()
    if isinstance(model, Exported) and address_of(folder) is None:  # from the hub come the graphs alone
        _require_expected_answers(served, model.folder / SELFTEST)
    else:
        _require_finite(served, _scores(served, [_generated()]), where=str(model.folder))
    return replace(served, batch_size=_worthwhile_batch(served, max_batch))


def _worthwhile_batch(served: ServedModel, max_batch: int) -> int:
    """`max_batch` where it takes less time for each image than one image alone, else 1.

    A core that has several images at once answers none of them before the last. On processors that is rarely worth it.
    """
    shape = served.view_shape if len(served.view_shape) == 4 else (1, *served.view_shape)
    seconds: list[float] = []
    for size in sorted({1, max_batch}):
        pixels = np.zeros((size, *shape), np.uint8)
        served.scorer.logits_of(pixels)
        took: list[float] = []
        for _ in range(_TIMES):
            began = time.perf_counter()
            served.scorer.logits_of(pixels)
            took.append((time.perf_counter() - began) / size)
        seconds.append(min(took))
    return max_batch if seconds[-1] < _WORTHWHILE * seconds[0] else 1


def _scores(served: ServedModel, images: Sequence[bytes | np.ndarray]) -> np.ndarray:
    """N x C logits; an array is an image that is decoded already."""
    from PIL import Image

    decoded = [Image.fromarray(each) if isinstance(each, np.ndarray) else read_image(each) for each in images]
    return served.scorer.logits_of(np.stack([views(image, served.preprocessing) for image in decoded]))


def _generated() -> np.ndarray:
    """A gradient with noise, uint8 H x W x 3."""
    width, height = _TRIED_SIZE
    level = np.linspace(0, 200, width)[None, :, None] + np.random.default_rng(0).uniform(0, 55, (height, width, 3))
    return level.astype(np.uint8)


def _require_finite(served: ServedModel, logit_NC: np.ndarray, *, where: str) -> None:
    if not np.isfinite(logit_NC).all() or logit_NC.shape[1] != len(served.label_set):
        raise PolytagError("the model gives no finite scores", where=where, expected=f"{len(served.label_set)} finite logits")


@dataclass(frozen=True, kw_only=True)
class _Expected:
    """An image of the self-test and what the export answered when it was written."""

    file: str
    logit: tuple[float, ...]
    probability: tuple[float, ...]
    present: tuple[bool, ...]

    def __post_init__(self):
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}\.png", self.file):
            raise WrongValue("file", self.file, expected="a PNG file beside expected.json")


@dataclass(frozen=True, kw_only=True)
class _SelfTest:
    logit_tolerance: float
    images: tuple[_Expected, ...]


def _require_expected_answers(served: ServedModel, folder: Path) -> None:
    path = folder / _EXPECTED
    with explained("the self-test cannot be read", path, expected="that of a polytag export", error=ExportError):
        selftest = from_plain(_SelfTest, parse_json(small_text(_content(path, _MAX_EXPECTED_BYTES), max_bytes=_MAX_EXPECTED_BYTES)))
        if not 0 < len(selftest.images) <= _MAX_IMAGES:
            raise WrongValue("images", selftest.images, expected=f"1 to {_MAX_IMAGES}")
        contents = [_content(folder / each.file, _MAX_IMAGE_BYTES) for each in selftest.images]
    logit_NC = _scores(served, contents)
    _require_finite(served, logit_NC, where=str(folder))
    if served.scorer.precision != "fp32":  # what is expected are the answers in float32
        return
    expected_NC = np.array([each.logit for each in selftest.images])
    if expected_NC.shape != logit_NC.shape:
        raise ExportError("the self-test is of another model", where=str(path), got=f"{expected_NC.shape[-1]} classes")
    difference = float(np.abs(logit_NC - expected_NC).max())
    present_NC = decide(sigmoid(logit_NC), threshold_C=served.threshold_C)
    num_changed = int((present_NC != np.array([each.present for each in selftest.images])).sum())
    if difference > selftest.logit_tolerance or num_changed:
        raise ExportError(
            "the export does not answer its self-test as when it was written",
            where=str(folder),
            got=f"a logit that differs by {difference:.2g}, and {num_changed} other decisions",
            expected=f"at most {selftest.logit_tolerance:g}, and none",
            next_step="copy the folder again, or export again",
        )


def _content(path: Path, max_bytes: int) -> bytes:
    try:
        content = open_file(path).read(at_most=max_bytes + 1)
    except OSError as error:
        raise ExportError("the self-test is not whole", where=str(path), got=error.strerror or str(error)) from error
    if len(content) > max_bytes:
        raise ExportError("the self-test is not polytag's", where=str(path), got=f"more than {max_bytes:,} bytes")
    return content
