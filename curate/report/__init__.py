"""The report of a dedup run: one self-contained page, and its numbers as JSON."""

from curate.report.inputs import ReportInputs, ReportOptions, Side
from curate.report.page import build_report

__all__ = ["ReportInputs", "ReportOptions", "Side", "build_report"]
