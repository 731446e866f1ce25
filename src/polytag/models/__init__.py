"""timm backbone, head, preprocessing, and the Checkpoint folder that stores them."""
