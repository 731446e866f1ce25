"""Annotation formats, a reader a file: each becomes the same checked Dataset."""
