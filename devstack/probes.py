"""Readiness probes for servers with HTTP."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any, Final

from devstack.service import Probe

_TIMEOUT_S: Final = 2.0


def get_json(url: str, timeout_s: float = _TIMEOUT_S) -> Any:
    """Fetch a JSON document over HTTP; raise OSError or ValueError on failure."""
    with urllib.request.urlopen(url, timeout=timeout_s) as answer:  # noqa: S310 - our own http addresses
        return json.load(answer)


def http_ready(url: str) -> Probe:
    """Return a probe of an address that answers 200 when ready, else an error that says why not."""

    def probe() -> str | None:
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_S):  # noqa: S310 - our own http addresses
                return None
        except urllib.error.HTTPError as error:
            with error:
                text = error.read(200).decode("utf-8", "replace").strip()
            return text.splitlines()[0] if text else f"HTTP {error.code}"
        except (OSError, ValueError):
            return "not listening yet"

    return probe
