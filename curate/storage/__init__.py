"""Places that may be on this machine or in an object store: inputs fetched, outputs published."""

from curate.storage.addresses import absolute, below, url_of
from curate.storage.cache import address
from curate.storage.checks import outline, verify_stored
from curate.storage.inputs import first_file, local_artifact, local_path
from curate.storage.runs import publish, stored, with_addresses

__all__ = [
    "absolute",
    "address",
    "below",
    "first_file",
    "local_artifact",
    "local_path",
    "outline",
    "publish",
    "stored",
    "url_of",
    "verify_stored",
    "with_addresses",
]
