"""Peers beside `curate`: their environments, what a run costs, and one module for each task."""
