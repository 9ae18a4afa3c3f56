"""Create clients of OpenSearch."""

from __future__ import annotations

from typing import Final

from opensearchpy import OpenSearch

from fraud.runtime.settings import OpenSearchSettings

MAY_BE_MISSING: Final = {"ignore_unavailable": True, "allow_no_indices": True}
"""Options of a search, by which a missing index counts as empty and not as an error."""


def connect(settings: OpenSearchSettings, *, timeout_s: float) -> OpenSearch:
    """Create a client, without any request yet. Retries are off; callers decide.

    Args:
        settings: Address and credentials.
        timeout_s: Maximum time for an answer, seconds.
    """
    sign_in = (
        (settings.opensearch_username, settings.opensearch_password.get_secret_value())
        if settings.opensearch_username
        else None
    )
    return OpenSearch(
        hosts=[settings.opensearch_url],
        http_auth=sign_in,
        ca_certs=settings.opensearch_ca_certs or None,
        timeout=timeout_s,
        max_retries=0,
    )
