"""Annotation formats and images in; a checked Dataset, splits and batches out."""
