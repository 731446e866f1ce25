"""Downloads of public data sets: checked, resumable, unpacked without trust."""
