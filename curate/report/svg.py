"""Just enough SVG: escaped elements, a linear scale and readable ticks. Everything is text.

Colours and fonts come from the page's style sheet by class, so that a drawing follows the light or
dark theme; no `style` attribute is written, which the page's security policy would refuse.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape


def element(name: str, *children: str, **attributes: str | float) -> str:
    """An element with escaped attributes; `children` must be escaped already.

    A trailing underscore is dropped from an attribute's name and others become hyphens, so
    `class_="bar"` and `text_anchor="end"` read as SVG does.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_value(value))}"'
        for key, value in attributes.items()
    )
    inner = "".join(children)
    return f"<{name}{given}>{inner}</{name}>" if inner else f"<{name}{given}/>"


def text(content: str, x: float, y: float, **attributes: str | float) -> str:
    """A text element with escaped content."""
    return element("text", escape(content), x=x, y=y, **attributes)


def title(content: str) -> str:
    """What a pointer that rests on the parent element reads."""
    return element("title", escape(content))


def drawing(
    width: float, height: float, label: str, children: Iterable[str], **attributes: str | float
) -> str:
    """A whole drawing, one image to a screen reader, named by `label`."""
    return element(
        "svg",
        *children,
        viewBox=f"0 0 {_value(width)} {_value(height)}",
        role="img",
        aria_label=label,
        **attributes,
    )


def path(points: Iterable[tuple[float, float]], *, closed: bool = False) -> str:
    """The `d` of a path through `points`."""
    steps = " L".join(f"{_value(x)} {_value(y)}" for x, y in points)
    return f"M{steps}{'Z' if closed else ''}"


@dataclass(frozen=True)
class Scale:
    """Maps [low, high] linearly to [start, stop]."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        """The coordinate of `value`; the start where the domain is empty."""
        span = self.high - self.low
        share = (value - self.low) / span if span else 0.0
        return self.start + share * (self.stop - self.start)


def ticks(low: float, high: float, about: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten inside [low, high], near `about` of them."""
    span = high - low
    if span <= 0:
        return [low]
    raw = span / max(about, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * power for unit in (1, 2, 5, 10) if unit * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _value(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.2f}".rstrip("0").rstrip(".") or "0"
