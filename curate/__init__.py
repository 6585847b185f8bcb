"""The data: its vocabulary, and all that turns shards into clean splits."""

__version__ = "0.1.0"
