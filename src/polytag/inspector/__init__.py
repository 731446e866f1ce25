"""Web pages over a run: ranked images of every class, errors, heat maps, label review."""
