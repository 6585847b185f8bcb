"""Test sets: their layouts on disk, class names and texts, and one way to open them all."""
