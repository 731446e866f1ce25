"""Speed of decoding, inference and training on this machine, compared with its peak arithmetic."""
