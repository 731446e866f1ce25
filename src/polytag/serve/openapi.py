"""The OpenAPI document of the server. It is written by hand, and a test asks the server everything that it says."""

from collections.abc import Mapping, Sequence
from typing import Any

import polytag
from polytag.serve.served_model import ServedModel

Schema = dict[str, Any]

_NAMES = ("logit", "probability", "present")


def openapi(model: ServedModel, *, max_images: int) -> Schema:
    """The document of OpenAPI 3.1 for a server of this model."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "polytag serve",
            "version": polytag.__version__,
            "description": "Labels of images. Every answer names the model that gave it in the header Polytag-Model.",
        },
        "paths": {
            "/": {"get": _get("page", "A page to drop images on", {"text/html": {"schema": {"type": "string"}}})},
            "/predict": {"post": _predict(max_images)},
            "/metrics": {"get": _get("metrics", "Counters and histograms", {"text/plain": {"schema": {"type": "string"}}})},
            "/v2": {"get": _get("server_metadata", "What the server is", _json(_object(name="string", version="string")))},
            "/v2/health/live": {"get": _open(_get("live", "Whether the process answers", _json(_object(live="boolean"))))},
            "/v2/health/ready": {"get": _ready("ready", "Whether images are accepted", _object(ready="boolean"))},
            **_of_model(model, ""),
            **_of_model(model, "/versions/{version}"),
        },
        "components": {"schemas": {"Error": _error(), **_schemas(model)}, "securitySchemes": {"token": _TOKEN}},
        "security": [{"token": []}, {}],
    }


_TOKEN = {"type": "http", "scheme": "bearer", "description": "Of --token; a server without one needs none."}


def _of_model(model: ServedModel, version: str) -> Schema:
    base = "/v2/models/{name}" + version
    suffix = "_of_version" if version else ""
    parameters = [_path_parameter("name", model.name)] + ([_path_parameter("version", model.id)] if version else [])
    missing = _errors({404: "there is no such model or version"})
    metadata = _get(f"model_metadata{suffix}", "Inputs, outputs, classes and thresholds", _json(_ref("ModelMetadata")))
    ready = _ready(f"model_ready{suffix}", "Whether the model answers", _object(name="string", ready="boolean"))
    infer = _infer(suffix)
    for each in (metadata, ready, infer):
        each["parameters"] = parameters
        each["responses"] |= missing
    return {base: {"get": metadata}, f"{base}/ready": {"get": ready}, f"{base}/infer": {"post": infer}}


def _path_parameter(name: str, value: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "example": value}


def _predict(max_images: int) -> Schema:
    image = {"schema": {"type": "string", "format": "binary"}}
    form = {
        "type": "object",
        "properties": {"file": {"type": "array", "minItems": 1, "maxItems": max_images, "items": image["schema"]}},
        "required": ["file"],
    }
    return {
        "operationId": "predict",
        "summary": "Labels and probabilities of images",
        "description": (
            f"One image as the body, or up to {max_images} as files of a form, under any names. An image that cannot be read has "
            "an error in its place. The status is 422 only where no image has an answer."
        ),
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": image, "image/*": image, "multipart/form-data": {"schema": form}},
        },
        "responses": {
            "200": _answer("at least one image has its labels", _json(_ref("Predictions"))),
            "422": _answer("no image could be read, or the form has none", _json(_ref("NoPredictions"))),
            **_errors(
                {
                    400: "the form is malformed",
                    413: "the body is too large, or has too many images",
                    415: "the content type is neither image/* nor a form",
                    503: "the queue is full, or the server is shutting down: ask again after Retry-After seconds",
                }
            ),
        },
    }


def _infer(suffix: str) -> Schema:
    return {
        "operationId": f"infer{suffix}",
        "summary": "Scores as tensors: the Open Inference Protocol",
        "description": (
            "JSON, or JSON and binary tensors after it: then Inference-Header-Content-Length is the length of the JSON. One input: "
            "`image` (contents of files; base64 in JSON) or `pixels` (resized images)."
        ),
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _ref("InferRequest")},
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            },
        },
        "responses": {
            "200": _answer("the requested outputs", _json(_ref("InferAnswer")) | {"application/octet-stream": {}}),
            **_errors(
                {
                    400: "the request is malformed, or an image cannot be read",
                    413: "the body is too large, or has too many images",
                    415: "the body is compressed",
                    503: "the queue is full, or the server is shutting down: ask again after Retry-After seconds",
                }
            ),
        },
    }


def _get(operation: str, summary: str, content: Schema) -> Schema:
    return {"operationId": operation, "summary": summary, "responses": {"200": _answer("the answer", content)}}


def _open(operation: Schema) -> Schema:
    return operation | {"security": [{}]}


def _ready(operation: str, summary: str, schema: Schema) -> Schema:
    made = _get(operation, summary, _json(schema))
    made["responses"]["503"] = _answer("the server is shutting down", _json(schema))
    return _open(made)


def _answer(description: str, content: Schema) -> Schema:
    header = {"Polytag-Model": {"description": "Id of the model that answers.", "schema": {"type": "string"}}}
    return {"description": description, "headers": header, "content": content}


def _errors(meanings: Mapping[int, str]) -> Schema:
    return {str(status): _answer(meaning, _json(_ref("Error"))) for status, meaning in meanings.items()}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(**kinds: str) -> Schema:
    return {"type": "object", "properties": {name: {"type": kind} for name, kind in kinds.items()}, "required": list(kinds)}


def _list(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def _error() -> Schema:
    return _object(error="string")


def _named(names: Sequence[str], schema: Schema) -> Schema:
    return {"type": "object", "properties": dict.fromkeys(names, schema), "additionalProperties": False}


def _schemas(model: ServedModel) -> Schema:
    names, num_classes = list(model.label_set), len(model.label_set)
    probability = {"type": "number", "minimum": 0, "maximum": 1}
    scored = {
        "type": "object",
        "properties": {
            "file": {"type": "string", "description": "The name that the client gave, or nothing."},
            "labels": _list({"enum": names}) | {"description": "Classes above their thresholds, most probable first."},
            "probabilities": _named(names, probability) | {"description": "Of every class, most probable first."},
        },
        "required": ["file", "labels", "probabilities"],
    }
    body = {
        "model": {"type": "string"},
        "images": _list({"anyOf": [scored, _object(file="string", error="string")]}, minItems=1),
        "thresholds": _named(names, probability),
    }
    whole = {"type": "object", "properties": body, "required": list(body)}
    failed = {"type": "object", "properties": {"error": {"type": "string"}, **body}, "required": ["error"]}
    shape = _list({"type": "integer", "minimum": 1}, minItems=1)
    tensor = {"name": {"type": "string"}, "shape": shape, "datatype": {"type": "string"}, "parameters": {"type": "object"}}
    output = {"properties": {**tensor, "data": _list({"type": ["number", "boolean"]})}, "required": ["name", "shape", "datatype"]}
    return {
        "Predictions": whole,
        "NoPredictions": failed,
        "ModelMetadata": {"type": "object", "required": ["name", "versions", "platform", "inputs", "outputs"]},
        "InferRequest": _infer_request(model),
        "InferAnswer": {
            "type": "object",
            "properties": {
                "model_name": {"type": "string"},
                "model_version": {"type": "string"},
                "id": {"type": "string"},
                "outputs": _list({"type": "object", **output}, maxItems=len(_NAMES)),
            },
            "required": ["model_name", "model_version", "outputs"],
            "description": f"Outputs are of the shape [N, {num_classes}], classes in the order of the model's metadata.",
        },
    }


def _infer_request(model: ServedModel) -> Schema:
    def tensor(name: str, datatype: str, shape: Schema, items: Schema) -> Schema:
        properties = {
            "name": {"const": name},
            "datatype": {"const": datatype},
            "shape": shape,
            "data": _list(items, description="Absent where the tensor follows in binary."),
            "parameters": {"type": "object", "description": "binary_data_size, where the tensor follows in binary."},
        }
        return {"type": "object", "properties": properties, "required": ["name", "datatype", "shape"]}

    size = {"type": "integer", "minimum": 1}
    one = [{"const": side} for side in model.view_shape]
    pixels_shape = {"type": "array", "prefixItems": [size, *one], "minItems": 1 + len(one), "maxItems": 1 + len(one)}
    image = tensor("image", "BYTES", _list(size, minItems=1), {"type": "string", "contentEncoding": "base64"})
    pixels = tensor("pixels", "UINT8", pixels_shape, {"type": "integer", "minimum": 0, "maximum": 255})
    return {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "inputs": _list({"anyOf": [image, pixels]}, minItems=1, maxItems=1),
            "outputs": _list(
                {
                    "type": "object",
                    "properties": {"name": {"enum": list(_NAMES)}, "parameters": {"type": "object"}},
                    "required": ["name"],
                },
                uniqueItems=True,
            ),
            "parameters": {"type": "object"},
        },
        "required": ["inputs"],
    }
