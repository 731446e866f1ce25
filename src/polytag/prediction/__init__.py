"""Checkpoint and images in, Predictions out: the only inference loop, and the table that keeps its results."""
