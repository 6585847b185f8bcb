"""Adversarial adaptation of CLIP on clean splits: losses, adapters, the loop, checkpoints."""
