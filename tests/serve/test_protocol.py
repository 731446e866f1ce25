"""The Open Inference Protocol, as a client that exists speaks it, and as nobody should."""

import base64
import http.client
import json
import struct

import numpy as np
import pytest
from PIL import Image

from polytag.data.images.augment import views
from polytag.data.images.read import read_image
from polytag.inference.onnx_scorer import OnnxScorer
from polytag.logits import sigmoid
from polytag.models.exported import Exported

triton = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")


@pytest.fixture(scope="module")
def expected(small_export: Exported, jpegs) -> np.ndarray:
    """N x C logits, each image scored by itself."""
    scorer = OnnxScorer.load(small_export, precision="fp32")
    return np.concatenate([scorer.logits_of(views(read_image(each), small_export.preprocessing)[None]) for each in jpegs])


@pytest.fixture
def client(server):
    with triton.InferenceServerClient(server.host) as made:
        yield made


def image_input(contents, *, binary=True):
    made = triton.InferInput("image", [len(contents)], "BYTES")
    elements = contents if binary else [base64.b64encode(each) for each in contents]
    return made.set_data_from_numpy(np.array(elements, dtype=object), binary_data=binary)


def pixels_input(contents, exported: Exported, *, binary=True):
    pixels = np.concatenate([views(read_image(each), exported.preprocessing) for each in contents])
    return triton.InferInput("pixels", list(pixels.shape), "UINT8").set_data_from_numpy(pixels, binary_data=binary)


def test_a_client_of_triton_finds_the_server_and_its_model(client, small_export: Exported):
    name = small_export.folder.name
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(name)
    assert client.is_model_ready(name, small_export.id)
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    metadata = client.get_model_metadata(name)
    assert metadata["versions"] == [small_export.id]
    assert metadata["parameters"]["classes"] == list(small_export.label_set)
    assert [each["name"] for each in metadata["outputs"]] == ["logit", "probability", "present"]
    assert metadata["inputs"][1] == {"name": "pixels", "datatype": "UINT8", "shape": [-1, 32, 32, 3]}


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
@pytest.mark.parametrize("kind", ["image", "pixels"])
def test_a_client_of_triton_has_the_scores(client, small_export: Exported, jpegs, expected, kind, binary_in, binary_out):
    given = image_input(jpegs, binary=binary_in) if kind == "image" else pixels_input(jpegs, small_export, binary=binary_in)
    names = ("present", "logit", "probability")  # in an order of its own
    wanted = None if binary_out is None else [triton.InferRequestedOutput(name, binary_data=binary_out) for name in names]
    result = client.infer(small_export.folder.name, [given], outputs=wanted, request_id="7")
    response = result.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("7", small_export.folder.name, small_export.id)
    assert [each["name"] for each in response["outputs"]] == list(names if wanted else ("logit", "probability", "present"))
    assert np.abs(result.as_numpy("logit") - expected).max() < 1e-5
    assert result.as_numpy("logit").dtype == np.float32
    assert np.abs(result.as_numpy("probability") - sigmoid(expected)).max() < 1e-6
    assert (result.as_numpy("present") == (sigmoid(expected) > np.array(small_export.thresholds))).all()


def test_only_what_is_wanted_comes_back(client, small_export: Exported, jpegs):
    result = client.infer(small_export.folder.name, [image_input(jpegs[:1])], outputs=[triton.InferRequestedOutput("present")])
    assert [each["name"] for each in result.get_response()["outputs"]] == ["present"]
    assert "id" not in result.get_response()


def test_errors_reach_the_client_in_the_protocols_form(client, small_export: Exported, jpegs):
    name = small_export.folder.name
    broken = image_input([jpegs[0], b"no image"])
    cases = [
        ("other", image_input(jpegs[:1]), None, "There is no model 'other'"),
        (name, broken, None, "image 1: not an image in a known format"),
        (name, triton.InferInput("picture", [1], "BYTES").set_data_from_numpy(np.array([b"x"], dtype=object)), None, "no input"),
        (name, image_input(jpegs[:1]), [triton.InferRequestedOutput("boxes")], "expected each of logit"),
        (name, image_input(jpegs[:1]), [triton.InferRequestedOutput("logit", class_count=3)], "classification"),
    ]
    for model, given, outputs, sentence in cases:
        with pytest.raises(triton.InferenceServerException, match=sentence):
            client.infer(model, [given], outputs=outputs)
    with pytest.raises(triton.InferenceServerException, match="no version"):
        client.infer(name, [image_input(jpegs[:1])], model_version="1")
    with pytest.raises(triton.InferenceServerException, match="compressed"):
        client.infer(name, [image_input(jpegs[:1])], request_compression_algorithm="gzip")


def post(server, small_export: Exported, body: bytes, header_length: object = None):
    """(status, the JSON that came back)."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    headers = {"Content-Type": "application/octet-stream"}
    if header_length is not None:
        headers["Inference-Header-Content-Length"] = str(header_length)
    connection.request("POST", f"/v2/models/{small_export.folder.name}/infer", body=body, headers=headers)
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


def request_of(given, **more) -> bytes:
    return json.dumps({"inputs": [given], **more}).encode()


PIXELS = {"name": "pixels", "shape": [1, 32, 32, 3], "datatype": "UINT8"}
LEVELS = [7] * (32 * 32 * 3)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b"\xff\xfe",
        b'{"inputs": NaN}',
        b'{"inputs": [1]}',
        b'{"inputs": {}}',
        b'{"inputs": []}',
        b'{"inputs": [], "inputs": []}',
        b'{"inputs": [{"name": "image"}]}',
        b"[" * 100_000,
        b'{"inputs":' + b"[" * 900 + b"]" * 900 + b"}",
        request_of({**PIXELS, "data": LEVELS[1:]}),
        request_of({**PIXELS, "data": [*LEVELS[1:], 256]}),
        request_of({**PIXELS, "data": [*LEVELS[1:], -1]}),
        request_of({**PIXELS, "data": [*LEVELS[1:], 0.5]}),
        request_of({**PIXELS, "data": [*LEVELS[1:], None]}),
        request_of({**PIXELS, "data": [*LEVELS[1:], "7"]}),
        request_of({**PIXELS, "data": [*LEVELS[1:], [7, 7]]}),
        request_of({**PIXELS, "data": [*LEVELS[1:], 2**70]}),
        request_of({**PIXELS, "data": [True] * len(LEVELS)}),
        request_of({**PIXELS, "data": "text"}),
        request_of({**PIXELS, "data": None}),
        request_of(PIXELS),
        request_of({**PIXELS, "shape": [1, 31, 32, 3], "data": LEVELS}),
        request_of({**PIXELS, "shape": [1], "data": LEVELS}),
        request_of({**PIXELS, "shape": [0, 32, 32, 3], "data": []}),
        request_of({**PIXELS, "shape": [-1, 32, 32, 3], "data": LEVELS}),
        request_of({**PIXELS, "shape": [1.5, 32, 32, 3], "data": LEVELS}),
        request_of({**PIXELS, "shape": [], "data": LEVELS}),
        request_of({**PIXELS, "shape": "1", "data": LEVELS}),
        request_of({**PIXELS, "datatype": "FP32", "data": LEVELS}),
        request_of({**PIXELS, "name": "image", "shape": [1], "data": ["AAAA"]}),
        request_of({"name": "image", "shape": [1], "datatype": "BYTES", "data": ["AA\nAA"]}),
        request_of({"name": "image", "shape": [1], "datatype": "BYTES", "data": ["*"]}),
        request_of({"name": "image", "shape": [1], "datatype": "BYTES", "data": [7]}),
        request_of({"name": "image", "shape": [2], "datatype": "BYTES", "data": ["AAAA"]}),
        request_of({"name": "image", "shape": [1, 2], "datatype": "BYTES", "data": ["AAAA", "AAAA"]}),
        request_of({"name": "image", "shape": [1], "datatype": "BYTES", "data": "AAAA"}),
        request_of({"name": "image", "shape": [1], "datatype": "BYTES", "data": ["AAAA"]}),  # base64 of no image
        request_of({**PIXELS, "data": LEVELS}, outputs=[{"name": "logit"}, {"name": "logit"}]),
        request_of({**PIXELS, "data": LEVELS}, outputs=[{}]),
        request_of({**PIXELS, "data": LEVELS}, outputs=7),
        request_of({**PIXELS, "data": LEVELS}, parameters={"binary_data_output": "yes"}),
        request_of({**PIXELS, "data": LEVELS}, id=7),
        request_of({**PIXELS, "data": LEVELS, "parameters": {"shared_memory_region": "/etc/passwd"}}),
        request_of({**PIXELS, "data": LEVELS, "parameters": {"binary_data_size": 3072}}),
        request_of({**PIXELS, "parameters": {"binary_data_size": 3072}}),
        json.dumps({"inputs": [{**PIXELS, "data": LEVELS}] * 2}).encode(),
    ],
)
def test_malformed_requests_have_an_error_and_nothing_else(server, small_export: Exported, body):
    status, answer = post(server, small_export, body)
    assert (status, list(answer)) == (400, ["error"])
    assert len(answer["error"]) < 400
    status, answer = post(server, small_export, request_of({**PIXELS, "data": LEVELS}))
    assert (status, answer["outputs"][0]["shape"]) == (200, [1, 3])


@pytest.mark.parametrize("length", ["", "x", "-1", "1e3", "9" * 30, 0, 5, 10**6, "0x10", "²"])
def test_lengths_that_lie(server, small_export: Exported, length):
    head = json.dumps({"inputs": [{**PIXELS, "parameters": {"binary_data_size": 3072}}]}).encode()
    whole = head + bytes(3072)
    assert post(server, small_export, whole, len(head))[0] == 200
    length = length.encode().decode("latin-1") if isinstance(length, str) else length
    assert post(server, small_export, whole, length)[0] == 400


@pytest.mark.parametrize("size", [3071, 3073, 0, -1, 2**62, 1.5, True, "3072", None, [3072]])
def test_binary_sizes_that_lie(server, small_export: Exported, size):
    head = json.dumps({"inputs": [{**PIXELS, "parameters": {"binary_data_size": size}}]}).encode()
    status, answer = post(server, small_export, head + bytes(3072), len(head))
    assert (status, list(answer)) == (400, ["error"])


def test_elements_that_lie_about_their_length(server, small_export: Exported, jpegs):
    def elements(*contents, lie=0):
        return b"".join(struct.pack("<I", len(each) + lie) + each for each in contents)

    good = elements(jpegs[0], jpegs[1])
    for number, binary, status in (
        (2, good, 200), (1, good, 400), (3, good, 400), (2, good[:-1], 400), (2, good + b"\0", 400), (2, good + b"\0\0\0\0", 400),
        (2, elements(jpegs[0], jpegs[1], lie=1), 400), (1, struct.pack("<I", 2**32 - 1), 400), (1, b"", 400), (1, b"\0\0\0\0", 400),
    ):  # fmt: skip
        head = {"name": "image", "shape": [number], "datatype": "BYTES", "parameters": {"binary_data_size": len(binary)}}
        text = request_of(head)
        assert post(server, small_export, text + binary, len(text))[0] == status


def test_the_shape_of_a_batch_as_others_write_it(server, small_export: Exported, jpegs):
    """[N, 1], and nested lists of numbers."""
    texts = [base64.b64encode(each).decode() for each in jpegs[:2]]
    given = {"name": "image", "shape": [2, 1], "datatype": "BYTES", "data": [[text] for text in texts]}
    status, answer = post(server, small_export, request_of(given, model_name="ignored", more=1))
    assert (status, answer["outputs"][0]["shape"]) == (200, [2, 3])
    nested = np.asarray(Image.new("RGB", (32, 32), "red"))[None].tolist()
    assert post(server, small_export, request_of({**PIXELS, "data": nested}))[0] == 200


def test_too_many_images(serve_live, small_export: Exported, jpegs):
    with serve_live(small_export.folder, max_waiting=2) as (server, _):
        text = base64.b64encode(jpegs[0]).decode()
        for number, status in ((2, 200), (3, 413), (10**9, 413)):
            given = {"name": "image", "shape": [number], "datatype": "BYTES", "data": [text] * min(number, 3)}
            assert post(server, small_export, request_of(given))[0] == status
