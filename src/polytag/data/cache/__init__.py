"""Decoded images and features on the disk: checked, bounded, removable, and never a reason to fail."""
