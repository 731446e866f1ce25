"""Scores of images for classes: the predictions file, tables of other programs, joining with labels, thresholds; no torch."""
