"""The network of a checkpoint as an ONNX graph, float32, from normalised images to logits, for any number of images."""

import onnx
import torch
from torch import nn

from polytag.errors import ExportError
from polytag.export.graph import OPSET
from polytag.export.quiet import quiet


def network_model(model: nn.Module, *, image_size_px: int, where: str) -> onnx.ModelProto:
    """The graph `x` (float32 N x 3 x S x S) -> N x C; raises ExportError where PyTorch cannot export the network."""
    example = torch.zeros(2, 3, image_size_px, image_size_px)  # of a batch of one, its size would be taken for fixed
    try:
        with quiet():
            program = torch.onnx.export(
                model.eval(),
                (example,),
                dynamo=True,
                opset_version=OPSET,
                external_data=False,
                dynamic_shapes=({0: torch.export.Dim("images", min=1, max=65_536)},),
                input_names=["x"],
                output_names=["y"],
                verbose=False,
            )
    except Exception as error:  # whatever the exporter raises for an operation that it does not know
        raise ExportError(
            "the network cannot be exported to ONNX",
            where=where,
            got=f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}",
            expected="operations that PyTorch's exporter knows",
            next_step="train another backbone, or predict with the checkpoint itself",
        ) from error
    assert program is not None
    return program.model_proto
