"""What the machine can do, beside the best that its arithmetic does."""
