"""Web pages over a run: ranked pictures of every class, errors, heat maps, label review."""
