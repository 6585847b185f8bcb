"""What images are to be told apart as."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Subject:
    """Classes, and the texts that stand for them.

    Attributes:
        name: of the set.
        classes: in the order of the logits.
        templates: texts with `{}` for the class.
        imagenet: for each class its number among ImageNet's 1,000, if they are of these.
    """

    name: str
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    imagenet: tuple[int, ...] | None = None
