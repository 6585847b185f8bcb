"""Templates filled in: everything escaped, one file without another, allowed by hash."""

import base64
import hashlib
import re
from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from curate.report import words

if TYPE_CHECKING:
    from markupsafe import Markup

_INTERVAL = re.compile(r"[\d.,]+\N{EN DASH}[\d.,]+\)?")


def render(package: str, folder: str, style: str, script: str, context: Mapping[str, Any]) -> str:
    """A package's `folder/template.html` filled in, its style and script inlined.

    Every template may import what is in `curate/report`, such as `head.html`.

    Foreign strings pass `words.visible` on their way, so that no control character reaches a page.

    Args:
        package: that holds the template.
        folder: of the template in the package.
        style: style sheet, the package's own; the template names it `style`.
        script: likewise, `script`.
        context: what else the template names.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def tame(value: object) -> object:
        plain = isinstance(value, str) and not isinstance(value, Markup)
        return words.visible(str(value)) if plain else value

    page = Environment(
        loader=ChoiceLoader([PackageLoader(package, folder), PackageLoader("curate", "report")]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=tame,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters |= {"count": words.count, "images": words.images, "percent": words.percent}
    page.filters |= {"interval": words.interval, "level": words.level, "short": words.shorten}
    page.filters |= {"number": words.number, "strength": words.strength}
    page.filters["unbroken"] = _unbroken
    page.filters["own"] = Markup  # text that this package made and escaped itself
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_source_hash(style)}'; "
        f"script-src '{_source_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    # All of these files are this package's own, and none holds a closing tag.
    inlined = {"style": Markup(style), "script": Markup(script)}  # noqa: S704
    return page.get_template("template.html").render({**context, **inlined}, policy=Markup(policy))  # noqa: S704


def styles(*packages: str) -> str:
    """The palette, then the `style.css` of each package: what comes later overrides."""
    return asset("curate", "palette.css") + "".join(asset(one, "style.css") for one in packages)


def asset(package: str, name: str) -> str:
    """A text file that ships in a package."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def _unbroken(text: str) -> "Markup":
    """A sentence, escaped, whose intervals are not broken over two lines."""
    from markupsafe import Markup, escape

    whole = Markup('<span class="whole">{}</span>')
    parts = (words.visible(part) for part in text.split(" "))
    return Markup(" ").join(
        whole.format(part) if _INTERVAL.fullmatch(part) else escape(part) for part in parts
    )


def _source_hash(block: str) -> str:
    digest = hashlib.sha256(block.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
