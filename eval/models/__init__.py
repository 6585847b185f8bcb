"""What is evaluated: CLIP models and plain classifiers, from pixels in [0, 1] to logits."""
