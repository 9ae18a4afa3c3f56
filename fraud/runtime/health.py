"""Check a container's health: `python -m fraud.runtime.health URL` exits with 0 on a 2xx answer."""

from __future__ import annotations

import sys
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

_TIMEOUT_S: Final = 4


def main() -> int:
    """Request the URL once, and return the exit code; `docker inspect` shows errors from stderr."""
    try:
        with urlopen(sys.argv[1], timeout=_TIMEOUT_S):  # noqa: S310 - given by the compose file
            return 0
    except (URLError, OSError, ValueError) as error:
        sys.stderr.write(f"{sys.argv[1]}: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
