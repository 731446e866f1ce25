"""Handwriting scenes made on the spot, and the recipe that learns them in under three minutes."""
