"""Bulk writes to OpenSearch, its answers as verdicts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC
from typing import Any, Final

import orjson
import structlog
from opensearchpy import OpenSearch
from opensearchpy.exceptions import ConnectionError as OpenSearchConnectionError
from opensearchpy.exceptions import NotFoundError, TransportError

from fraud.contracts.dead_letter import utc_text
from fraud.contracts.errors import Backpressure
from fraud.kit.clock import Clock, to_datetime
from fraud.kit.logs import mask
from fraud.kit.metrics import BULK_SECONDS, DOCUMENTS_INDEXED, DOCUMENTS_REFUSED
from fraud.kit.settings import OpenSearchSettings
from indexer.documents import ALIAS, REJECTED, Document, expired_indexes, index_name
from indexer.template import VERSION, templates

_MAX_BULK_BYTES: Final = 8 * 1_048_576
_FIRST_WAIT_S: Final = 0.5
_LONGEST_WAIT_S: Final = 10.0
_REQUEST_S: Final = 30.0

_DOCUMENT_FAULTS: Final = frozenset(
    {
        "mapper_parsing_exception", "document_parsing_exception", "parsing_exception",
        "parse_exception", "illegal_argument_exception", "strict_dynamic_mapping_exception",
        "max_bytes_length_exceeded_exception", "x_content_parse_exception",
    }
)  # fmt: skip
"""Errors of one document with status 400 that no waiting will mend."""

_log = structlog.get_logger("indexer")


def connect(settings: OpenSearchSettings) -> OpenSearch:
    """Make a client; nothing is sent yet. It never retries by itself: `Sink` decides that."""
    sign_in = (
        (settings.opensearch_username, settings.opensearch_password.get_secret_value())
        if settings.opensearch_username
        else None
    )
    return OpenSearch(
        hosts=[settings.opensearch_url],
        http_auth=sign_in,
        ca_certs=settings.opensearch_ca_certs or None,
        timeout=_REQUEST_S,
        max_retries=0,
    )


class Sink:
    """Write documents, and keep what can never be written.

    Args:
        client: See `connect`.
        clock: Time now.
        rng: For the jitter of waits.
        shards: Primary shards of each new index.
        replicas: Copies of each shard of a new index.
    """

    def __init__(
        self, client: OpenSearch, *, clock: Clock, rng: random.Random, shards: int, replicas: int
    ) -> None:
        self._client = client
        self._clock = clock
        self._rng = rng
        self._templates = templates(shards=shards, replicas=replicas)
        self._prepared = False
        self._failures = 0
        self.problem: str | None = "OpenSearch (not reached yet)"
        """What keeps documents from being written; None when nothing does."""

    def prepare(self) -> None:
        """Install the index templates, and make today's index so that the alias exists.

        Done again after each outage: the cluster may have lost its state, and an index made
        without the template would guess its mapping.

        Raises:
            Backpressure: OpenSearch is not there, or not ready.
        """
        try:
            for name, template in self._templates.items():
                self._install(name, template)
            if not self._client.indices.exists_alias(name=ALIAS):
                self._client.indices.create(index=index_name(self._clock()), ignore=400)
        except TransportError as error:
            raise self._wait_for(error) from error
        self._prepared = True
        self.problem = None

    def _install(self, name: str, template: dict[str, Any]) -> None:
        try:
            found = self._client.indices.get_index_template(name=name)
            version = found["index_templates"][0]["index_template"].get("version", 0)
        except NotFoundError:
            version = 0
        if version < VERSION:
            self._client.indices.put_index_template(name=name, body=template)
            _log.info("indexer.template_installed", template=name, version=VERSION)

    def write(self, documents: Sequence[Document]) -> None:
        """Write a batch; when it returns, each document is in its index or among the rejected.

        Writing a document again replaces it.

        Raises:
            Backpressure: OpenSearch is down, busy or blocked. Some may have been written.
        """
        if not self._prepared:
            self.prepare()
        lines: list[bytes] = []
        start, size = 0, 0
        for place, document in enumerate(documents):
            action = orjson.dumps({"index": {"_index": document.index, "_id": document.id}})
            body = orjson.dumps(document.body)
            if lines and size + len(action) + len(body) > _MAX_BULK_BYTES:
                self._bulk(lines, documents[start:place])
                lines, start, size = [], place, 0
            lines += (action, body)
            size += len(action) + len(body) + 2
        if lines:
            self._bulk(lines, documents[start:])
        self._failures = 0
        self.problem = None

    def _bulk(self, lines: list[bytes], documents: Sequence[Document]) -> None:
        items = self._post(lines)
        rejected = []
        for document, item in zip(documents, items, strict=True):
            error = item.get("error")
            if error is None:
                continue
            kind = str(error.get("type"))
            if item["status"] != 400 or kind not in _DOCUMENT_FAULTS:
                # Too many requests, a full disk, a closed index, too many shards: not its fault.
                raise self._back_off(f"{item['status']} {kind}")
            rejected.append((document, kind, mask(str(error.get("reason")))))
        if rejected:
            self._keep_rejected(rejected)
        DOCUMENTS_INDEXED.inc(len(documents) - len(rejected))

    def _post(self, lines: list[bytes]) -> list[dict[str, Any]]:
        """Send one bulk request and give what became of each action."""
        try:
            with BULK_SECONDS.time():
                answer = self._client.bulk(
                    body=b"\n".join(lines) + b"\n",
                    params={"filter_path": "items.*.status,items.*.error"},
                )
        except TransportError as error:
            raise self._wait_for(error) from error
        return [item["index"] for item in answer["items"]]

    def _keep_rejected(self, rejected: Sequence[tuple[Document, str, str]]) -> None:
        """Write refused documents where any document fits, with the reason."""
        lines: list[bytes] = []
        for document, kind, detail in rejected:
            DOCUMENTS_REFUSED.labels(kind).inc()
            _log.error("indexer.document_refused", document=document.id, reason=kind, detail=detail)
            lines += (
                orjson.dumps({"index": {"_index": REJECTED, "_id": document.id}}),
                orjson.dumps(
                    {
                        "reason": kind,
                        "detail": detail,
                        "index": document.index,
                        "rejected_at": utc_text(self._clock()),
                        "document": document.body,
                    }
                ),
            )
        for item in self._post(lines):
            if "error" in item:
                raise self._back_off(f"{REJECTED}: {item['status']} {item['error'].get('type')}")

    def delete_expired(self, keep_days: int) -> list[str]:
        """Delete the indexes of days that are over for longer than `keep_days`.

        Returns:
            Their names; none when OpenSearch is not there: the next round will do.
        """
        today = to_datetime(self._clock()).astimezone(UTC).date()
        try:
            names = list(
                self._client.indices.get(index=f"{ALIAS}-*", params={"filter_path": "*.aliases"})
            )
            expired = expired_indexes(names, today=today, keep_days=keep_days)
            for name in expired:
                self._client.indices.delete(index=name, params={"ignore_unavailable": "true"})
        except TransportError as error:
            _log.warning("indexer.retention_put_off", problem=_problem(error))
            return []
        for name in expired:
            _log.info("indexer.index_expired", index=name)
        return expired

    def _wait_for(self, error: TransportError) -> Backpressure:
        return self._back_off(_problem(error))

    def _back_off(self, problem: str) -> Backpressure:
        self._prepared = False
        self._failures += 1
        self.problem = f"OpenSearch ({problem})"
        wait_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(self._failures - 1, 10))
        return Backpressure(round(wait_s * self._rng.uniform(0.5, 1.0), 2), problem)


def _problem(error: TransportError) -> str:
    """Name an error without what it quotes, which may be a document."""
    if isinstance(error, OpenSearchConnectionError):
        return type(error).__name__
    return f"{error.status_code} {mask(str(error.error))}"
