"""Small sets of painted pictures with planted copies and a known answer, made offline."""

from curate.demo.build import ANSWER_FILE, COUNTS, DemoSet, item_id, write_demo
from curate.demo.drawings import drawn
from curate.demo.pictures import CLASS_NAMES, SCENES, Picture, paint
from curate.demo.planting import BROKEN, TRANSFORMATIONS, Stored, copy_of
from curate.demo.score import DemoScore, TransformationScore, score_demo

__all__ = [
    "ANSWER_FILE",
    "BROKEN",
    "CLASS_NAMES",
    "COUNTS",
    "SCENES",
    "TRANSFORMATIONS",
    "DemoScore",
    "DemoSet",
    "Picture",
    "Stored",
    "TransformationScore",
    "copy_of",
    "drawn",
    "item_id",
    "paint",
    "score_demo",
    "write_demo",
]
