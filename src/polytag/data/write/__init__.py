"""Writing a data set in the formats of other tools: a writer a file."""
