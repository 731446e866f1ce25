"""Images that are there twice: byte for byte, in another version, or to a model; in one split or across, and leakage."""
