"""Charts, image grids and self-contained HTML pages of metrics."""
