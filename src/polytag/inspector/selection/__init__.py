"""A selection of images: what it holds, decisions about all of it at once, and its export."""
