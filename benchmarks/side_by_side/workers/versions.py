"""Versions of installed packages: python versions.py PACKAGE... -> JSON on standard output."""

import json
import platform
import sys
from importlib.metadata import version

if __name__ == "__main__":
    found = {name: version(name) for name in sys.argv[1:]}
    sys.stdout.write(json.dumps({"python": platform.python_version(), **found}))
