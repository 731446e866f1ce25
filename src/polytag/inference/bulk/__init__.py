"""Many images in shards: each is scored, written and, after an interruption, skipped or done again as a whole."""
