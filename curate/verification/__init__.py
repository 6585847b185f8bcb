"""The second look at candidates: by their pixels once aligned, or by another detector."""
