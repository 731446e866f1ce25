"""Pure array functions, Predictions in, Scores out; no model, no picture, no torch."""
