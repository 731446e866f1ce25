"""The map of the images: similar ones near each other, coloured by their errors."""
