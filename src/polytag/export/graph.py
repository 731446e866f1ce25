"""Builds an ONNX graph one operation at a time: every value is a name."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
IR_VERSION = 10  # of opset 20; the exporter's own library writes its newest, which older runtimes refuse


class Graph:
    """Nodes and constants in the order in which they are added; `op` returns the name of what it computes."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def constant(self, value: np.ndarray | float | Sequence[int], dtype: type | np.dtype | None = None) -> str:
        """The name of a constant; equal ones are kept once."""
        array = np.asarray(value, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = f"c{len(self._constants)}"
            self._constants.append(numpy_helper.from_array(array, self._known[key]))
        return self._known[key]

    def op(self, kind: str, *inputs: str, outputs: Sequence[str] = (), **attributes: Any) -> str:
        """Add an operation; the name of its (first) output."""
        names = list(outputs) or [f"v{len(self._nodes)}"]
        self._nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0]

    def cast(self, value: str, to: int) -> str:
        """The value in another type, one of `TensorProto`'s."""
        return self.op("Cast", value, to=to)

    def item(self, value: str, index: int) -> str:
        """One element of a list of numbers, without a shape."""
        return self.op("Gather", value, self.constant(index, np.int64))

    def include(self, model: onnx.ModelProto, *, prefix: str, inputs: Mapping[str, str]) -> dict[str, str]:
        """Add all of another graph; its inputs are these values. Returns the names of its outputs here."""
        names = dict(inputs)
        for constant in model.graph.initializer:
            copy = onnx.TensorProto()
            copy.CopyFrom(constant)
            copy.name = names[constant.name] = prefix + constant.name
            self._constants.append(copy)
        for node in model.graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            for place, name in enumerate(node.input):
                copy.input[place] = names[name] if name else ""
            for place, name in enumerate(node.output):
                names[name] = prefix + name if name else ""
                copy.output[place] = names[name]
            copy.name = ""
            del copy.metadata_props[:]  # the exporter's traces, with paths of this machine
            self._nodes.append(copy)
        return {value.name: names[value.name] for value in model.graph.output}

    def model(
        self,
        *,
        name: str,
        inputs: Mapping[str, tuple[int, Sequence[int | str]]],
        outputs: Mapping[str, tuple[int, Sequence[int | str]]],
        metadata: Mapping[str, str],
    ) -> onnx.ModelProto:
        """The checked model; inputs and outputs are name: (type, shape)."""

        def values(described: Mapping[str, tuple[int, Sequence[int | str]]]) -> list[onnx.ValueInfoProto]:
            return [helper.make_tensor_value_info(name, kind, list(shape)) for name, (kind, shape) in described.items()]

        graph = helper.make_graph(self._nodes, name, values(inputs), values(outputs), self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="polytag")
        model.ir_version = IR_VERSION
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model)
        return model


DOUBLE, FLOAT, INT32, INT64, UINT8, BOOL = (
    TensorProto.DOUBLE,
    TensorProto.FLOAT,
    TensorProto.INT32,
    TensorProto.INT64,
    TensorProto.UINT8,
    TensorProto.BOOL,
)
