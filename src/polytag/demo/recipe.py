"""The recipe of `polytag demo`."""

from polytag.runs.recipe import Recipe

DEMO = Recipe(
    name="demo",
    backbone="resnet10t",
    backbone_args={"channels": (48, 96, 192, 256), "global_pool": "max"},
    weights="random",
    image_size_px=64,
    augment="light",
    epochs=16,
    batch_size=32,
    head_lr=5e-3,
    weight_decay=0.05,
)
"""What `polytag demo` trains, from random weights, on its own images; see docs/experiments.md."""
