"""A study as one flow: from URL lists or shards to the final report, every stage a step of it."""
