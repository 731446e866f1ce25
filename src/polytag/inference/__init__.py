"""Checkpoint and images in, Predictions out: scoring, features, nearest neighbours, the linear probe, out-of-fold scores."""
