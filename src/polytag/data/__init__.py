"""Annotation formats and pictures in; a checked Dataset, splits and batches out."""
