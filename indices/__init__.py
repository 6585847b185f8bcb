"""Vector search over arrays; knows nothing of images, shards or CLIP."""
