"""A small set of painted pictures with planted copies and a known answer, made offline."""

from curate.demo.build import ANSWER_FILE, DemoSet, item_id, write_demo
from curate.demo.pictures import PICTURE_CLASSES, paint
from curate.demo.planting import BROKEN, TRANSFORMATIONS, Stored, copy_of
from curate.demo.score import DemoScore, TransformationScore, score_demo

__all__ = [
    "ANSWER_FILE",
    "BROKEN",
    "PICTURE_CLASSES",
    "TRANSFORMATIONS",
    "DemoScore",
    "DemoSet",
    "Stored",
    "TransformationScore",
    "copy_of",
    "item_id",
    "paint",
    "score_demo",
    "write_demo",
]
