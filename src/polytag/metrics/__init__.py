"""Pure array functions, Predictions in, Scores out; no model, no image, no torch."""
