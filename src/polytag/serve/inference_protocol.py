"""Requests and answers of the Open Inference Protocol, version 2, over HTTP: tensors in JSON, or after it in binary.

The protocol is that of github.com/kserve/open-inference-protocol (inference_rest.md); binary tensors are Triton's extension
`binary_tensor_data`. A request has one input, of N images: `image`, BYTES [N], contents of image files (base64 in JSON, which has
no bytes), or `pixels`, UINT8 [N, S, S, 3], resized as polytag does it. Outputs are `logit` and `probability`, FP32 [N, C], and
`present`, BOOL [N, C].
"""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from polytag.parsing import Malformed, parse_json, small_text
from polytag.plain import WrongValue, from_plain
from polytag.serve.answer import JSON, Answer, Refused
from polytag.serve.scoring_queue import Outcome
from polytag.serve.served_model import ServedModel

EXTENSIONS = ("binary_tensor_data",)
MAX_JSON_BYTES = 16 * 2**20
HEADER_LENGTH = b"inference-header-content-length"
_OUTPUTS = {"logit": "FP32", "probability": "FP32", "present": "BOOL"}
_DTYPES = {"FP32": np.dtype("<f4"), "BOOL": np.dtype("?")}
_UNSUPPORTED = ("shared_memory_region", "shared_memory_byte_size", "classification")

Parameters = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class InferRequest:
    """What is to be scored, and how the answer is wanted.

    images    contents of files, or views, uint8 V x S x S x 3
    outputs   pairs of a name and whether it is wanted in binary
    """

    images: Sequence[bytes | np.ndarray]
    outputs: Sequence[tuple[str, bool]]
    id: str = ""


@dataclass(frozen=True, kw_only=True)
class _Input:
    name: str
    shape: tuple[int, ...]
    datatype: str
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Output:
    name: str
    parameters: Parameters = field(default_factory=dict)


def server_metadata(version: str) -> dict[str, object]:
    """Of GET /v2."""
    return {"name": "polytag", "version": version, "extensions": list(EXTENSIONS)}


def model_metadata(model: ServedModel) -> dict[str, object]:
    """Of GET /v2/models/NAME. The parameters, which the protocol leaves open, hold what the columns of the outputs mean."""
    num_classes = len(model.label_set)
    return {
        "name": model.name,
        "versions": [model.id],
        "platform": f"polytag_{model.scorer.engine}",
        "inputs": [
            {"name": "image", "datatype": "BYTES", "shape": [-1]},
            {"name": "pixels", "datatype": "UINT8", "shape": [-1, *model.view_shape]},
        ],
        "outputs": [{"name": name, "datatype": datatype, "shape": [-1, num_classes]} for name, datatype in _OUTPUTS.items()],
        "parameters": {
            "classes": list(model.label_set),
            "thresholds": model.threshold_C.tolist(),
            "calibration": model.model.calibration_id,
            "precision": model.scorer.precision,
        },
    }


def infer_request(body: bytes, *, header_length: bytes | None, model: ServedModel, max_images: int) -> InferRequest:
    """Parse the body of a POST to /v2/models/NAME/infer; `header_length` is the header of that name. Raises Refused, with 400."""
    if header_length is None:
        text, binary = body, memoryview(b"")
    else:
        num_bytes = int(header_length) if header_length.isdigit() and len(header_length) < 12 else -1
        if not 0 <= num_bytes <= len(body):
            raise Refused(400, f"Inference-Header-Content-Length is a number of bytes, at most those of the body: {len(body):,}.")
        text, binary = body[:num_bytes], memoryview(body)[num_bytes:]
    try:
        values = from_plain(dict, parse_json(small_text(text, max_bytes=MAX_JSON_BYTES)))
        inputs = [from_plain(dict, each, name="inputs") for each in _list(values.get("inputs"), name="inputs")]
        parsed = [from_plain(_Input, _known(_Input, each), name="inputs") for each in inputs]
        parameters = from_plain(Mapping[str, object], values.get("parameters", {}), name="parameters")
        request_id = from_plain(str, values.get("id", ""), name="id")
        outputs = _requested(values.get("outputs"), parameters)
    except Malformed as error:
        raise Refused(400, f"The request is not JSON that can be read: {error.problem}.") from error
    except WrongValue as error:
        raise Refused(400, f"{error.got}; expected {error.expected}.") from error
    if len(parsed) != 1:
        raise Refused(400, f"A request has one input, image or pixels; this one has {len(parsed)}.")
    images = _images(parsed[0], inputs[0].get("data"), binary, model=model, max_images=max_images)
    return InferRequest(images=images, outputs=outputs, id=request_id)


def _known(kind: type[_Input] | type[_Output], values: Mapping[str, object]) -> dict[str, object]:
    """Without keys that this server does not know, as other servers of the protocol pass over them."""
    return {key: value for key, value in values.items() if key in kind.__dataclass_fields__}


def _list(value: object, *, name: str) -> list[object]:
    if not isinstance(value, list):
        raise WrongValue(name, value, expected="a list")
    return value


def _requested(outputs: object, parameters: Parameters) -> list[tuple[str, bool]]:
    is_binary = from_plain(bool, parameters.get("binary_data_output", False), name="parameters.binary_data_output")
    if outputs is None or outputs == []:
        return [(name, is_binary) for name in _OUTPUTS]
    found: list[tuple[str, bool]] = []
    for each in _list(outputs, name="outputs"):
        wanted = from_plain(_Output, _known(_Output, from_plain(dict, each, name="outputs")), name="outputs")
        if wanted.name not in _OUTPUTS or wanted.name in dict(found):
            raise WrongValue("outputs", wanted.name, expected=f"each of {', '.join(_OUTPUTS)} at most once")
        _require_supported(wanted.parameters)
        own = from_plain(bool, wanted.parameters.get("binary_data", is_binary), name="outputs.parameters.binary_data")
        found.append((wanted.name, own))
    return found


def _require_supported(parameters: Parameters) -> None:
    for name in _UNSUPPORTED:
        if name in parameters:
            raise WrongValue("parameters", name, expected="none of the extensions but binary_tensor_data")


def _images(
    given: _Input, data: object, binary: memoryview, *, model: ServedModel, max_images: int
) -> Sequence[bytes | np.ndarray]:
    size = given.parameters.get("binary_data_size")
    _refuse_unless(given.name in ("image", "pixels"), f"There is no input {given.name[:60]!r}; there are image and pixels.")
    for name in _UNSUPPORTED:
        _refuse_unless(name not in given.parameters, f"The extension behind {name} is not supported.")
    expected = "BYTES" if given.name == "image" else "UINT8"
    _refuse_unless(given.datatype == expected, f"The input {given.name} is of datatype {expected}.")
    _refuse_unless(bool(given.shape) and min(given.shape) >= 1, "A shape is a list of sizes of at least 1.")
    num_images = given.shape[0]
    if given.name == "image":
        _refuse_unless(math.prod(given.shape) == num_images, "The shape of image is [N], one element for each image.")
    else:
        shape = ", ".join(map(str, model.view_shape))
        _refuse_unless(given.shape[1:] == model.view_shape, f"The shape of pixels is [N, {shape}] for this model.")
    if num_images > max_images:
        raise Refused(413, f"Too many images: at most {max_images} can be sent at once.")
    if size is None:
        _refuse_unless(len(binary) == 0, "There are bytes after the JSON, and no input has a binary_data_size.")
        return _decoded_strings(data, num_images) if given.name == "image" else _pixels(_numbers(data), given.shape)
    _refuse_unless(data is None, "An input has data or a binary_data_size, not both.")
    _refuse_unless(
        isinstance(size, int) and not isinstance(size, bool) and size == len(binary),
        f"binary_data_size is the number of bytes after the JSON, {len(binary):,}.",
    )
    return _elements(binary, num_images) if given.name == "image" else _pixels(np.frombuffer(binary, np.uint8), given.shape)


def _refuse_unless(holds: bool, sentence: str) -> None:
    if not holds:
        raise Refused(400, sentence)


def _elements(binary: memoryview, num_images: int) -> list[bytes]:
    """Elements of BYTES: four bytes of length, little end first, before each."""
    found: list[bytes] = []
    start = 0
    while start < len(binary):
        stop = start + 4 + int.from_bytes(binary[start : start + 4], "little")
        _refuse_unless(
            start + 4 <= len(binary) and stop <= len(binary), "An element of image is longer than the bytes that follow."
        )
        _refuse_unless(len(found) < num_images, "There are more elements of image than its shape says.")
        found.append(bytes(binary[start + 4 : stop]))
        start = stop
    _refuse_unless(len(found) == num_images, "There are fewer elements of image than its shape says.")
    return found


def _decoded_strings(data: object, num_images: int) -> list[bytes]:
    """Texts of JSON, in a list or each in one of its own, as bytes."""
    rows = data if isinstance(data, list) else []
    texts = [each for row in rows for each in (row if isinstance(row, list) else [row])]
    _refuse_unless(len(texts) == num_images, "The data of image is a list of as many texts as its shape says.")
    found: list[bytes] = []
    for text in texts:
        try:
            found.append(base64.b64decode(text if isinstance(text, str) else "*", validate=True))
        except ValueError as error:  # of binascii, and for text that is not ASCII
            raise Refused(400, "An image in JSON is text: the file's content in base64, without line breaks.") from error
    return found


def _numbers(data: object) -> np.ndarray:
    """Numbers of JSON, nested or not, as bytes."""
    sentence = "The data of pixels are whole numbers from 0 to 255."
    try:
        numbers = np.asarray(data if isinstance(data, list) else None)
    except (ValueError, OverflowError, RecursionError) as error:  # lists of different lengths, or nested too deep
        raise Refused(400, sentence) from error
    _refuse_unless(numbers.dtype.kind == "i" and numbers.size > 0, sentence)
    _refuse_unless(numbers.min() >= 0 and numbers.max() <= 255, sentence)
    return numbers.astype(np.uint8)


def _pixels(level: np.ndarray, shape: Sequence[int]) -> list[np.ndarray]:
    _refuse_unless(
        level.size == math.prod(shape), f"The shape of pixels says {math.prod(shape):,} values; there are {level.size:,}."
    )
    pixels = level.reshape(shape)
    return list(pixels if pixels.ndim == 5 else pixels[:, None])


def infer_answer(model: ServedModel, request: InferRequest, outcomes: Sequence[Outcome]) -> Answer:
    """The answer to a request whose images all have scores; raises Refused, with 400 or 500, where one has not.

    The protocol has no error of a single element of a tensor.
    """
    for place, outcome in enumerate(outcomes):
        if outcome.error:
            raise Refused(500 if outcome.is_ours else 400, f"image {place}: {outcome.error}")
    values_of = {
        "logit": lambda: np.stack([each.logit_C for each in outcomes]),
        "probability": lambda: np.stack([each.probability_C for each in outcomes]),
        "present": lambda: np.stack([each.present_C for each in outcomes]),
    }
    outputs: list[dict[str, object]] = []
    binary: list[bytes] = []
    for name, is_binary in request.outputs:
        datatype = _OUTPUTS[name]
        values_NC = values_of[name]().astype(_DTYPES[datatype])
        output: dict[str, object] = {"name": name, "datatype": datatype, "shape": list(values_NC.shape)}
        if is_binary:
            binary.append(values_NC.tobytes())
            outputs.append({**output, "parameters": {"binary_data_size": len(binary[-1])}})
        else:
            outputs.append({**output, "data": values_NC.ravel().tolist()})
    own_id = {"id": request.id} if request.id else {}
    values = {"model_name": model.name, "model_version": model.id, **own_id, "outputs": outputs}
    text = json.dumps(values, allow_nan=False, separators=(",", ":")).encode()
    if not binary:
        return Answer(body=text, kind=JSON)
    headers = ((HEADER_LENGTH, str(len(text)).encode()),)
    return Answer(body=b"".join([text, *binary]), kind=b"application/octet-stream", headers=headers)
