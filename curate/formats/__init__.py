"""The layouts that shards come in; each module reads samples and writes the same layout again."""
