"""A Checkpoint as graphs from the image to the decision, which other programs run; compared with it before they are written."""
