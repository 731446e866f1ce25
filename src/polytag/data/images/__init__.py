"""Images: read under one policy, augmented, cut into views and handed on in batches."""
