"""A model behind HTTP: a queue in front of it, its answers as JSON and tensors, a page to try it on."""
