"""Runs the model for the inspector: predictions, heat maps and nearest neighbours, one job at a time."""
