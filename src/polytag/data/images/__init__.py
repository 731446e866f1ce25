"""Images: read under one policy, augmented, cropped into views and batched."""
