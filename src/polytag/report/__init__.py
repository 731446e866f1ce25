"""Metrics to charts, image grids and one HTML file."""
