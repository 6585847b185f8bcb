"""X-Robots-Tag: what a server says that crawlers may not do with an image."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

OPT_OUTS = ("noai", "noimageai", "noindex", "noimageindex", "none")
REASON = "Use of image disallowed by X-Robots-Tag directive"  # as img2dataset words it
_VALUED = ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview")
_AGENT = re.compile(r"[A-Za-z0-9._*-]+")


def opted_out(values: Iterable[str], names: Collection[str], directives: Collection[str]) -> bool:
    """Whether a directive addresses everyone, or one of our names.

    Args:
        values: of the header, one per line: "noai, noindex" or "somebot: noai". A name holds for
            what follows it, up to the next name, since proxies join lines with commas.
        names: ours, in lower case.
        directives: those that count, in lower case.
    """
    for value in values:
        addressed = True
        for item in value.split(","):
            before, colon, after = item.partition(":")
            name, directive = before.strip().lower(), item
            if colon and name not in _VALUED and _AGENT.fullmatch(name):
                addressed, directive = name in names or name == "*", after
            if addressed and directive.strip().lower() in directives:
                return True
    return False
