"""Training the embedded text-to-image prior on the barn's pictures and words."""
