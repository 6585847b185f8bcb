"""`curate eval`: a model on many settings, each a folder that is whole or absent."""
