"""Checkpoint and images in, Predictions out: scoring, features, neighbours, the linear probe; and what a model decides is saved."""
