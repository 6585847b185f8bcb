"""The report of an evaluation: one self-contained page, its numbers as JSON, figures as files."""

from eval.report.inputs import Example, Inputs, Shift, Split
from eval.report.page import build_report

__all__ = ["Example", "Inputs", "Shift", "Split", "build_report"]
