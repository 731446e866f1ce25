"""Downloads of public data sets: checked, resumable, and unpacked safely."""
