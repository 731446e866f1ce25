"""Scores to charts, picture grids and one HTML file."""
