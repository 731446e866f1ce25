"""Metrics as pure array functions: Predictions in, Metrics out; no model, no image, no torch."""
