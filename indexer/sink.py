"""Writes documents, labels and dead letters to OpenSearch; keeps the index templates current."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import structlog
from opensearchpy import OpenSearch
from opensearchpy.exceptions import NotFoundError, RequestError, TransportError

from fraud.contracts.transaction import DECISION_FIELD
from fraud.runtime.clock import Clock
from fraud.runtime.metrics import (
    ARRIVAL_TO_DECISION_SECONDS,
    DECIDED_BY,
    DECISION_TO_INDEX_SECONDS,
    DOCUMENTS_INDEXED,
)
from fraud.security.pseudonyms import Pseudonyms
from indexer.bulk import Bulk, Write, reason_of
from indexer.documents import ALIAS, DECISION_MS, LABELS, REJECTED, Document, index_name
from indexer.labels import LABEL, KnownLabel, LabelIndex, Target
from indexer.migration import give_up_abandoned, migrate
from indexer.template import DEAD_LETTER_INDEX, VERSION, content_of, mapping, templates

_log = structlog.get_logger("indexer")
_SMALL: Final = (REJECTED, LABELS, DEAD_LETTER_INDEX)


class Sink:
    """Writes batches that were read from Kafka. Each thread needs its own.

    Args:
        client: See `connect`.
        clock: Returns the time now.
        rng: Source of the jitter of waits.
        shards: Primary shards of each new index of a day.
        replicas: Copies of each shard of a new index.
        clear: Whether personal values are indexed in clear text; noted in new indexes.
        pause: Sleeps for a number of seconds.
    """

    def __init__(
        self,
        client: OpenSearch,
        *,
        clock: Clock,
        rng: random.Random,
        shards: int,
        replicas: int,
        clear: bool = False,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._client = client
        self._clock = clock
        self._templates = templates(shards=shards, replicas=replicas, clear=clear)
        self.bulk = Bulk(client, clock=clock, rng=rng, pause=pause)
        self._labels = LabelIndex(self.bulk)
        self._decided_by: tuple[str, ...] = ()

    @property
    def problem(self) -> str | None:
        """Why documents cannot be written now; None when they can."""
        return self.bulk.problem

    def prepare(self) -> None:
        """Install the index templates, and create the indexes that readers expect.

        This is repeated after each outage: the cluster may have lost its state, and OpenSearch
        would guess the mapping of an index without a template. Indexes of an earlier version get
        the new fields, so that documents written from now on can be found by them; older documents
        need a migration.

        Raises:
            Backpressure: OpenSearch cannot be reached or is not ready.
        """
        try:
            for name, template in self._templates.items():
                self._install(name, template)
            if not self._client.indices.exists_alias(name=ALIAS):
                self._client.indices.create(index=index_name(self._clock()), ignore=400)
            for name in _SMALL:
                if not self._client.indices.exists(index=name):
                    self._client.indices.create(index=name, ignore=400)
            self._add_new_fields()
            give_up_abandoned(self._client, now_ms=self._clock())
        except TransportError as error:
            raise self.bulk.back_off(reason_of(error)) from error
        self.bulk.prepared = True
        self.bulk.problem = None

    def _install(self, name: str, template: dict[str, Any]) -> None:
        try:
            found = self._client.indices.get_index_template(name=name)
            there = found["index_templates"][0]["index_template"]
        except NotFoundError:
            there = {}
        version = there.get("version", 0)
        if version < VERSION or (version == VERSION and content_of(there) != content_of(template)):
            self._client.indices.put_index_template(name=name, body=template)
            _log.info("indexer.template_installed", template=name, version=VERSION)

    def _add_new_fields(self) -> None:
        old = sorted(
            name
            for name, version in index_versions(self._client, ALIAS).items()
            if version < VERSION
        )
        body = mapping()
        for name in old:
            try:
                self._client.indices.put_mapping(index=name, body=body)
            except RequestError as error:
                _log.warning("indexer.fields_not_added", index=name, problem=reason_of(error))
        if old:
            _log.warning(
                "indexer.migration_due",
                indexes=len(old),
                oldest=old[0],
                command="fraudstream index migrate",
            )

    def write(self, documents: Sequence[Document]) -> None:
        """Write a batch; on return each document is in its index or among the rejected.

        Writing a document again replaces it; if a batch has it twice, the last one is written.

        Raises:
            Backpressure: OpenSearch is down, busy or blocked. Some documents may be written.
        """
        self._prepare_once()
        last = {(document.index, document.id): document for document in documents}
        event_ids = {str(document.body.get("event_id")) for document in last.values()}
        # indexer.labels explains why labels are read before and after the write.
        known = self._labels.known(event_ids)
        writes = []
        for document in last.values():
            label = known.get(str(document.body.get("event_id")))
            body = document.body if label is None else document.body | {LABEL: label}
            writes.append(Write(document.index, document.id, body))
        written = self.bulk.write(writes)
        DOCUMENTS_INDEXED.inc(len(writes) - len(written.refused))
        self._observe(last.values())
        now_known = self._labels.known(event_ids)
        if now_known != known:
            self._labels.apply(
                [
                    Target(document.index, document.id, event_id)
                    for document in last.values()
                    if (event_id := str(document.body.get("event_id"))) in now_known
                    and now_known[event_id] != known.get(event_id)
                ]
            )

    def _observe(self, documents: Iterable[Document]) -> None:
        """Update the metrics of latency and of the model and policy that decide now."""
        now_ms = self._clock()
        newest_ms, decided_by = -1, self._decided_by
        for document in documents:
            passed_ms = document.body.get(DECISION_MS)
            if passed_ms is None:
                continue
            decision = document.body[DECISION_FIELD]
            decided_ms = decision["source"]["timestamp_ms"] + passed_ms
            ARRIVAL_TO_DECISION_SECONDS.observe(passed_ms / 1000)
            DECISION_TO_INDEX_SECONDS.observe(max(0, now_ms - decided_ms) / 1000)
            if decided_ms > newest_ms:
                model = decision.get("model", {})
                found = model.get("name"), model.get("version"), decision["policy_version"]
                newest_ms, decided_by = decided_ms, tuple(part or "" for part in found)
        if decided_by != self._decided_by:
            before, self._decided_by = self._decided_by, decided_by
            DECIDED_BY.labels(*decided_by).set(1)
            if before:
                DECIDED_BY.remove(*before)

    def write_labels(self, labels: Sequence[KnownLabel]) -> None:
        """Store a batch of labels, and write them into the documents of their events.

        Raises:
            Backpressure: OpenSearch is down, busy or blocked.
        """
        self._prepare_once()
        self._labels.write(labels)

    def write_dead_letters(self, letters: Sequence[Document]) -> None:
        """Write the documents of a batch of dead letters.

        Raises:
            Backpressure: OpenSearch is down, busy or blocked.
        """
        self._prepare_once()
        last = {letter.id: letter for letter in letters}
        self.bulk.write([Write(letter.index, letter.id, letter.body) for letter in last.values()])

    def migrate(self, index: str, pseudonyms: Pseudonyms, progress: Callable[[int], object]) -> str:
        """Replace the index of a day by one with the current template; see `indexer.migration`."""
        return migrate(
            self._client,
            index,
            pseudonyms=pseudonyms,
            template=self._templates[ALIAS],
            bulk=self.bulk,
            clock=self._clock,
            progress=progress,
        )

    def _prepare_once(self) -> None:
        if not self.bulk.prepared:
            self.prepare()


def index_versions(client: OpenSearch, pattern: str) -> dict[str, int]:
    """Return the mapping version of each index; 1 if the index does not record one.

    Raises:
        TransportError: OpenSearch cannot be reached or refused the request.
    """
    found = client.indices.get_mapping(
        index=pattern, params={"ignore_unavailable": "true", "allow_no_indices": "true"}
    )
    return {
        name: int(index["mappings"].get("_meta", {}).get("version", 1))
        for name, index in found.items()
    }
