"""Predictions: polytag's file, tables of other programs, joining with labels, thresholds; no torch."""
