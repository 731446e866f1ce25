"""The run folder: its files, its arguments and its recipe; no torch."""
