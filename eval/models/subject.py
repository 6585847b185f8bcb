"""What images are to be told apart as."""

from dataclasses import dataclass

from curate.errors import CurateError


@dataclass(frozen=True)
class Subject:
    """Classes, and the texts that stand for them.

    Attributes:
        name: of the set.
        classes: in the order of the logits.
        templates: texts with `{}` for the class.
        imagenet: for each class its number among ImageNet's 1,000, if they are of these.

    Raises:
        CurateError: fewer than two classes.
    """

    name: str
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    imagenet: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.classes) < 2:  # noqa: PLR2004 - nothing to confuse a class with
            raise CurateError(
                f"data set {self.name}: needs two classes to be told apart, and has "
                f"{len(self.classes)}; give it with the names of all its classes"
            )
