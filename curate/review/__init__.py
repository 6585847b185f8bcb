"""A local web page on which people judge pairs of a finished run."""

from curate.review.session import ReviewInputs, Session

__all__ = ["ReviewInputs", "Session"]
