"""Stores labels and writes them into the documents of their transactions.

A label refers to its transaction by event_id alone. It may arrive before or after the decision,
repeatedly, or corrected. So the current label of each event_id is stored in an index of its own.
Documents of decisions get their label from there, whichever of the two is written last:

- The label's writer stores the label first. Then it refreshes the indexes, so that every document
  written before is searchable, searches for documents of the event, and updates them.
- The document's writer reads the current label, writes the document with it, and reads the label
  again. Reads by id see all earlier writes, so a label stored in between is found by this second
  read, or else its writer stored it afterwards and finds the document by its search.

The order of arrival does not decide which label is current: see `Label.label_time_ms`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from opensearchpy.exceptions import NotFoundError, TransportError

from fraud.contracts.label import decode_label
from fraud.contracts.personal import mask
from fraud.contracts.times import utc_text
from fraud.kafka.group_consumer import Message
from fraud.runtime.metrics import LABELS_APPLIED
from indexer.bulk import Bulk, Write
from indexer.documents import ALIAS, LABELS

LABEL: Final = "label"
_PARTS: Final = ("label", "label_time", "source")
_MAX_SOURCE: Final = 256
_SEARCHED_AT_ONCE: Final = 500
_PAGE: Final = 2000
_MAX_TRIES: Final = 10


@dataclass(frozen=True, slots=True)
class KnownLabel:
    """A label to be stored.

    Attributes:
        event_id: Event id of the transaction.
        time_ms: When the label became known, UTC epoch milliseconds.
        body: Fields `label`, `label_time` and `source`, as documents have them.
        arrived_ms: When Kafka received the label, UTC epoch milliseconds.
    """

    event_id: str
    time_ms: int
    body: dict[str, Any]
    arrived_ms: int


@dataclass(frozen=True, slots=True)
class Target:
    """A document whose label may need an update."""

    index: str
    id: str
    event_id: str


def to_label(message: Message, ahead_s: int = 0) -> KnownLabel:
    """Read one record of `labels`.

    Args:
        message: The record.
        ahead_s: See `decode_label`.

    Raises:
        InvalidMessage: The record is not a label.
    """
    label = decode_label(message.value, arrived_ms=max(0, message.timestamp_ms), ahead_s=ahead_s)
    body = {
        "label": label.label.value,
        "label_time": utc_text(label.label_time_ms),
        # The source may be the e-mail address of a person.
        "source": mask(label.source)[:_MAX_SOURCE],
    }
    return KnownLabel(label.event_id, label.label_time_ms, body, max(0, message.timestamp_ms))


def latest(labels: Iterable[KnownLabel]) -> list[KnownLabel]:
    """Return the current label of each event: that with the latest time, or the last of equals."""
    holding: dict[str, KnownLabel] = {}
    for label in labels:
        known = holding.get(label.event_id)
        if known is None or label.time_ms >= known.time_ms:
            holding[label.event_id] = label
    return list(holding.values())


def label_id(event_id: str) -> str:
    """Return the document id of an event's label, a hash because event_ids may be too long."""
    return hashlib.sha256(event_id.encode("utf-8", "surrogatepass")).hexdigest()[:32]


class LabelIndex:
    """The index of current labels, and the updates of documents with them.

    Args:
        bulk: Writes labels and documents; its client is used for reads.
    """

    def __init__(self, bulk: Bulk) -> None:
        self._bulk = bulk
        self._client = bulk.client

    def known(self, event_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the current labels by event_id, without events that have none.

        Raises:
            Backpressure: OpenSearch cannot be reached or refused the request.
        """
        by_id = {label_id(event_id): event_id for event_id in event_ids}
        if not by_id:
            return {}
        found = self._get(
            [{"_index": LABELS, "_id": key} for key in by_id], source=",".join(_PARTS)
        )
        return {
            event_id: {part: answer["_source"][part] for part in _PARTS}
            for event_id, answer in zip(by_id.values(), found, strict=True)
            if answer is not None
        }

    def write(self, labels: Sequence[KnownLabel]) -> None:
        """Store labels and update the existing documents of their events.

        Raises:
            Backpressure: OpenSearch is down, busy or blocked.
        """
        holding = latest(labels)
        # A conflict means that a later label is stored, which `apply` then uses.
        self._bulk.write(
            [
                Write(
                    LABELS,
                    label_id(label.event_id),
                    {
                        "event_id": label.event_id,
                        **label.body,
                        "arrived_at": utc_text(label.arrived_ms),
                    },
                    condition={"version": label.time_ms, "version_type": "external_gte"},
                )
                for label in holding
            ]
        )
        event_ids = [label.event_id for label in holding]
        self.apply(self._targets(event_ids))

    def apply(self, targets: Sequence[Target]) -> None:
        """Update documents to the current labels; documents that are gone are skipped.

        Raises:
            Backpressure: OpenSearch is down, busy or blocked.
        """
        for _ in range(_MAX_TRIES):
            if not targets:
                return
            # Read the documents before the labels, which are then at least as new as theirs.
            documents = self._get(
                [{"_index": target.index, "_id": target.id} for target in targets], source=LABEL
            )
            known = self.known({target.event_id for target in targets})
            updates: dict[str, Target] = {}
            writes = []
            for target, found in zip(targets, documents, strict=True):
                label = known.get(target.event_id)
                if found is None or label is None or found["_source"].get(LABEL) == label:
                    continue
                condition = {
                    "if_seq_no": found["_seq_no"],
                    "if_primary_term": found["_primary_term"],
                }
                writes.append(Write(target.index, target.id, {LABEL: label}, "update", condition))
                updates[target.index + target.id] = target
            # A conflict means that another writer changed the document: read it again.
            written = self._bulk.write(writes)
            LABELS_APPLIED.inc(len(writes) - len(written.conflicts) - len(written.refused))
            targets = [updates[write.index + write.id] for write in written.conflicts]
        if targets:
            raise self._bulk.back_off(f"{len(targets)} documents kept changing")

    def _targets(self, event_ids: Sequence[str]) -> list[Target]:
        """Return all documents of events, including those written a moment ago."""
        targets: list[Target] = []
        try:
            self._client.indices.refresh(index=ALIAS)
            for start in range(0, len(event_ids), _SEARCHED_AT_ONCE):
                targets += self._search(event_ids[start : start + _SEARCHED_AT_ONCE])
        except NotFoundError:
            return []
        except TransportError as error:
            raise self._bulk.wait_for(error) from error
        return targets

    def _search(self, event_ids: Sequence[str]) -> list[Target]:
        order = ["timestamp_ms", "topic", "partition", "offset"]
        body: dict[str, Any] = {
            "size": _PAGE,
            "_source": ["event_id"],
            "query": {"terms": {"event_id": list(event_ids)}},
            "sort": [{f"fd.source.{part}": "asc"} for part in order],
        }
        targets: list[Target] = []
        while True:
            hits = self._client.search(index=ALIAS, body=body)["hits"]["hits"]
            targets += [
                Target(hit["_index"], hit["_id"], hit["_source"]["event_id"]) for hit in hits
            ]
            if len(hits) < _PAGE:
                return targets
            body["search_after"] = hits[-1]["sort"]

    def _get(self, places: list[dict[str, str]], *, source: str) -> list[dict[str, Any] | None]:
        """Read the latest version of documents, in the order of `places`; None if one is missing.

        Callers must rely on the order: an index name that became an alias by a migration is
        answered with the name of the index behind it.
        """
        found: list[dict[str, Any] | None] = []
        try:
            for start in range(0, len(places), _PAGE):
                answer = self._client.mget(
                    body={"docs": places[start : start + _PAGE]},
                    params={"_source_includes": source},
                )
                for document in answer["docs"]:
                    error = document.get("error")
                    if error and error["type"] != "index_not_found_exception":
                        raise self._bulk.back_off(str(error["type"]))
                    found.append(document if document.get("found") else None)
        except TransportError as error:
            raise self._bulk.wait_for(error) from error
        return found
