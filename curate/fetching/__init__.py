"""Fetching images from hosts that nobody vouches for: what one image may cost, and politeness."""
