"""Networks in integers of 8 bits, by NNCF's post-training quantization: for OpenVINO, and as ONNX for ONNX Runtime.

Only the network is quantized, with a scale for each output channel of its weights. Normalisation, calibration, sigmoid and
thresholds stay as they are. Depthwise convolutions stay in float, too: they need a range for each channel of their input, which no
engine computes in integers, and have few weights. docs/experiments.md has what was measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from polytag.errors import ExportError
from polytag.export.engine_graphs import EngineGraph, ir_of
from polytag.export.graphs import NETWORK, Graphs, pixels_graph
from polytag.export.images import RangeImages
from polytag.export.quiet import quiet
from polytag.inference.openvino_scorer import openvino, without_telemetry
from polytag.models.checkpoint import Checkpoint
from polytag.models.exported import PIXELS_OF

WAYS = {  # how: numbers of the first and the last layers that stay in float; tried in this order
    "depthwise convolutions and first layer in float": (1, 0),
    "depthwise convolutions, first and last layer in float": (1, 1),
    "depthwise convolutions, first three layers and last in float": (3, 1),
}


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """A convolution or a product of matrices, by the name that NNCF has for it."""

    name: str
    is_depthwise: bool


def quantized(checkpoint: Checkpoint, graphs: Graphs, way: str, *, engine: str, images: RangeImages) -> EngineGraph:
    """`pixels` with its network in 8-bit integers, for "onnx" or "openvino". Raises ExportError where NNCF cannot quantize it."""
    try:
        if engine == "openvino":
            contents = _for_openvino(graphs, way, images)
        else:
            contents = _for_onnx(checkpoint, graphs, way, images)
    except ModuleNotFoundError:
        raise
    except Exception as error:  # NNCF's exceptions, and those of the engines that it runs
        raise ExportError(
            f"the network cannot be quantized for {engine}",
            got=f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}",
            expected="a network that NNCF quantizes",
            next_step="export without --int8",
        ) from error
    return EngineGraph(
        engine=engine,
        precision="int8",
        contents=dict(zip(PIXELS_OF[engine, "int8"], contents, strict=True)),
        quantized=f"NNCF, preset mixed, {way}; ranges of {images.of}",
    )


def _for_openvino(graphs: Graphs, way: str, images: RangeImages) -> tuple[bytes, ...]:
    model = openvino().Core().read_model(graphs.pixels.SerializeToString())
    layers: list[_Layer] = []
    outside: list[str] = []
    has_attention = False
    for node in model.get_ordered_ops():
        name, kind = node.get_friendly_name(), node.get_type_name()
        if kind in ("Convolution", "GroupConvolution", "MatMul"):
            shape = node.input(1).get_partial_shape()
            is_depthwise = kind == "GroupConvolution" and shape[2].is_static and shape[2].get_length() == 1
            layers.append(_Layer(name=name, is_depthwise=is_depthwise))
        elif not name.startswith(NETWORK) and kind not in ("Parameter", "Constant", "Result"):
            outside.append(name)
        has_attention |= kind in ("Softmax", "ScaledDotProductAttention")
    inputs = [{"pixels": view if len(view) == 1 else view[None]} for view in images.views]
    made = _nncf(model, inputs, in_float=[*outside, *_in_float(layers, way)], has_attention=has_attention)
    return ir_of(made)


def _for_onnx(checkpoint: Checkpoint, graphs: Graphs, way: str, images: RangeImages) -> tuple[bytes, ...]:
    network = onnx.ModelProto()
    network.CopyFrom(graphs.network)
    shapes = {each.name: list(each.dims) for each in network.graph.initializer}
    layers: list[_Layer] = []
    for number, node in enumerate(network.graph.node):
        node.name = node.name or f"node {number}"
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            is_depthwise = node.op_type == "Conv" and shapes.get(node.input[1], [0, 0])[1] == 1 and _group(node) > 1
            layers.append(_Layer(name=node.name, is_depthwise=is_depthwise))
    mean, std = (255 * np.array(values, np.float32) for values in (checkpoint.preprocessing.mean, checkpoint.preprocessing.std))
    inputs = [{"x": ((view - mean) / std).transpose(0, 3, 1, 2)} for view in images.views]
    has_attention = any(node.op_type in ("Softmax", "Attention") for node in network.graph.node)
    made = _nncf(network, inputs, in_float=_in_float(layers, way), has_attention=has_attention)
    metadata = {each.key: each.value for each in graphs.pixels.metadata_props}
    return (pixels_graph(checkpoint, made, metadata=metadata).SerializeToString(),)


def _group(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)


def _in_float(layers: Sequence[_Layer], way: str) -> list[str]:
    """The names of the layers that this way leaves in float."""
    num_first, num_last = WAYS[way]
    ends = {layer.name for layer in (*layers[:num_first], *layers[len(layers) - num_last :])}
    return [layer.name for layer in layers if layer.is_depthwise or layer.name in ends]


def _nncf(model: Any, inputs: Sequence[Mapping[str, np.ndarray]], *, in_float: Sequence[str], has_attention: bool) -> Any:
    with without_telemetry(), quiet():
        import nncf

        return nncf.quantize(
            model,
            nncf.Dataset(inputs),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(inputs),
            fast_bias_correction=True,
            model_type=nncf.ModelType.TRANSFORMER if has_attention else None,
            ignored_scope=nncf.IgnoredScope(names=list(in_float), validate=False),
        )
