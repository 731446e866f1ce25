"""Serves overview, rankings, images, thresholds, charts and thumbnails."""
