"""How OpenSearch is reached."""

from __future__ import annotations

from typing import Final

from opensearchpy import OpenSearch

from fraud.runtime.settings import OpenSearchSettings

MAY_BE_MISSING: Final = {"ignore_unavailable": True, "allow_no_indices": True}
"""Options of a search: an index that is not there yet has no documents, and is no error."""


def connect(settings: OpenSearchSettings, *, timeout_s: float) -> OpenSearch:
    """Make a client; nothing is sent yet. It never retries by itself: who asks decides that.

    Args:
        settings: Where it is, and how to sign in.
        timeout_s: How long an answer may take.
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
