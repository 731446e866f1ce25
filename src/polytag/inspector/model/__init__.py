"""Questions to the model: predictions, heat maps and nearest neighbours, one job at a time."""
