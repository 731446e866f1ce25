"""Generated scenes of handwriting for the demo, which trains on them in under three minutes."""
