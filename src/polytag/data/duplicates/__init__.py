"""Duplicate images, exact, in another version or by a model, within and across splits; and leakage."""
