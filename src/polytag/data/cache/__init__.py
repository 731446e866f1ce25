"""The cache of decoded images and features on the disk: checked, bounded, removable, and never a cause of failure."""
