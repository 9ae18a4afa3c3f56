"""Checks whether transactions made it through the whole stack: produced, scored and indexed."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Final

_ALIAS: Final = "processed_transactions"
_TIMEOUT_S: Final = 5.0


def arrived_since(started_ms: int, env: Mapping[str, str]) -> int:
    """Count the indexed transactions that entered Kafka since a time.

    Args:
        started_ms: Start of the count, UTC epoch milliseconds.
        env: Environment of the services, with the address and credentials of OpenSearch.

    Returns:
        Number of transactions; 0 if OpenSearch does not answer.
    """
    query = {"query": {"range": {"fd.source.timestamp_ms": {"gte": started_ms}}}}
    request = urllib.request.Request(  # noqa: S310 - the scheme is the user's own setting
        f"{env['OPENSEARCH_URL'].rstrip('/')}/{_ALIAS}/_count",
        data=json.dumps(query).encode(),
        headers={"Content-Type": "application/json"},
    )
    if env.get("OPENSEARCH_USERNAME"):
        pair = f"{env['OPENSEARCH_USERNAME']}:{env.get('OPENSEARCH_PASSWORD', '')}"
        request.add_header("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
    try:
        context = ssl.create_default_context(cafile=env.get("OPENSEARCH_CA_CERTS") or None)
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S, context=context) as answer:  # noqa: S310
            return int(json.load(answer)["count"])
    except (OSError, ValueError, KeyError):
        return 0
