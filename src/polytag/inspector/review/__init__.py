"""Label review: an append-only file of decisions, the queue of label issues, and their addresses."""
