"""Annotation formats, one reader per file; each reads the same checked Dataset."""
