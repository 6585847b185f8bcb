"""Published weights: from the local cache, or from the hub if it answers within seconds.

The hub client retries for most of a minute when there is no network, once per file. A person who
asked for a model deserves the answer at once, so the cache is asked first and then the network is
tried a single time with a short timeout.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from curate.encoders.base import brief
from curate.errors import CurateError

if TYPE_CHECKING:
    from collections.abc import Sequence

CONNECT_SECONDS = 5.0


def hub_file(repo: str, filenames: Sequence[str], *, encoder: str, dry_run: str) -> Path:
    """Path of the first of `filenames` (best first) of a hub repository, downloaded if needed.

    `encoder` and `dry_run` are names for the error: what is wanted, and the same with random
    weights.

    Raises:
        CurateError: not in the cache, and not to be had from the hub.
    """
    from huggingface_hub import constants, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    for filename in filenames:
        cached = try_to_load_from_cache(repo, filename)
        if isinstance(cached, str):
            return Path(cached)
    cause = "HF_HUB_OFFLINE is set"
    if not constants.HF_HUB_OFFLINE:
        cause = _why_unreachable(hf_hub_url(repo, filenames[0]))
    for filename in [] if cause else filenames:
        try:
            return Path(hf_hub_download(repo, filename, etag_timeout=CONNECT_SECONDS))
        except EntryNotFoundError as error:
            cause = brief(error)
        except Exception as error:  # noqa: BLE001 - the client lets its HTTP library's errors out
            cause = brief(error)
            break
    raise CurateError(
        f"encoder {encoder}: its weights are not in the cache and cannot be downloaded ({cause}). "
        f"Give a local file with --weights PATH, or put {' or '.join(filenames)} of {repo} into "
        f"{constants.HF_HUB_CACHE} (`hf download {repo}` where there is a network); "
        f"for a dry run without meaning there is {dry_run}"
    )


def _why_unreachable(url: str) -> str:
    """Nothing if the host answers one HEAD request with any status, else the reason in words."""
    host = urlsplit(url).netloc
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - the hub's own address
    try:
        with urllib.request.urlopen(request, timeout=CONNECT_SECONDS):  # noqa: S310 - as above
            return ""
    except urllib.error.HTTPError:
        return ""
    except OSError as error:
        return f"{host} cannot be reached: {getattr(error, 'reason', error)}"
