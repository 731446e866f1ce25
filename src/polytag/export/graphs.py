"""The two graphs of an export: `pixels` from views to decisions, `image` from an image of any size to decisions."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from polytag.data.images.augment import NUM_VIEWS
from polytag.export.decision_graph import decisions
from polytag.export.graph import BOOL, FLOAT, UINT8, Graph
from polytag.export.network import network_model
from polytag.export.view_graph import views
from polytag.models.checkpoint import Checkpoint

NETWORK = "n."  # how the names of the network's values begin in the graphs


@dataclass(frozen=True, kw_only=True, eq=False)
class Graphs:
    """What goes in and comes out.

    network   normalised float32 N x 3 x S x S to N x C
    pixels    uint8 N x S x S x 3 (with several views N x V x S x S x 3) to N x C
    image     uint8 H x W x 3 to C
    """

    network: onnx.ModelProto
    pixels: onnx.ModelProto
    image: onnx.ModelProto


def graphs_of(checkpoint: Checkpoint, *, metadata: Mapping[str, str]) -> Graphs:
    """Both graphs of a checkpoint, in float32; raises CheckpointError, and ExportError for a network that cannot be exported."""
    size_px = checkpoint.preprocessing.image_size_px
    network = network_model(checkpoint.load_model(), image_size_px=size_px, where=str(checkpoint.folder))
    return Graphs(
        network=network,
        pixels=pixels_graph(checkpoint, network, metadata=metadata),
        image=_image(checkpoint, network, metadata=dict(metadata)),
    )


def pixels_graph(checkpoint: Checkpoint, network: onnx.ModelProto, *, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """The graph `pixels` around a network from normalised images to logits."""
    size_px, num_views = checkpoint.preprocessing.image_size_px, NUM_VIEWS[checkpoint.preprocessing.crops]
    graph = Graph()
    flat = "pixels"
    if num_views > 1:
        flat = graph.op("Reshape", "pixels", graph.constant([-1, size_px, size_px, 3], np.int64))
    _scored(graph, graph.op("Transpose", flat, perm=[0, 3, 1, 2]), checkpoint, network)
    views_shape = (num_views,) if num_views > 1 else ()
    return graph.model(
        name="pixels",
        inputs={"pixels": (UINT8, ["images", *views_shape, size_px, size_px, 3])},
        outputs=_outputs(checkpoint, "images"),
        metadata=metadata,
    )


def _image(checkpoint: Checkpoint, network: onnx.ModelProto, *, metadata: dict[str, str]) -> onnx.ModelProto:
    graph = Graph()
    _scored(graph, views(graph, "image", checkpoint.preprocessing), checkpoint, network)
    return graph.model(
        name="image",
        inputs={"image": (UINT8, ["height", "width", 3])},
        outputs=_outputs(checkpoint, 1),
        metadata=metadata,
    )


def _outputs(checkpoint: Checkpoint, num_images: int | str) -> dict[str, tuple[int, list[int | str]]]:
    shape: list[int | str] = [num_images, len(checkpoint.label_set)]
    return {"logit": (FLOAT, shape), "probability": (FLOAT, shape), "present": (BOOL, shape)}


def _scored(graph: Graph, pixels_M3SS: str, checkpoint: Checkpoint, network: onnx.ModelProto) -> None:
    """Normalise views, score them, average them by image, calibrate and decide."""
    preprocessing = checkpoint.preprocessing
    mean, std = (
        graph.constant((np.array(values, np.float32) * np.float32(255)).reshape(1, 3, 1, 1))
        for values in (preprocessing.mean, preprocessing.std)
    )
    normalised = graph.op("Div", graph.op("Sub", graph.cast(pixels_M3SS, FLOAT), mean), std)
    (logit_MC,) = graph.include(network, prefix=NETWORK, inputs={"x": normalised}).values()
    num_views = NUM_VIEWS[preprocessing.crops]
    if num_views > 1:
        shape = graph.constant([-1, num_views, len(checkpoint.label_set)], np.int64)
        logit_MC = graph.op("ReduceMean", graph.op("Reshape", logit_MC, shape), graph.constant([1], np.int64), keepdims=0)
    decisions(graph, logit_MC, thresholds=checkpoint.thresholds, calibration=checkpoint.calibration)
