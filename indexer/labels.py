"""What transactions turned out to be, put into their documents.

A label names its transaction by event_id alone, and may come before or after the decision, again,
or corrected. So what is known of each event_id is kept in an index of its own, from which every
document of that event_id gets its `label`, whoever comes last:

- A label is written there first. Then documents that can be searched are looked for, all that were
  written before having been made searchable; and each gets what is known by then.
- Documents are written with what is known. Then it is asked once more: reading by id sees all that
  was written before, so a label that came in between was either seen by this, or its own search
  sees the document.

Which label holds does not hang on the order of arrival: see `Label.label_time_ms`.
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
    """One label as it is kept.

    Attributes:
        event_id: Of the transaction.
        time_ms: When it became known, UTC epoch milliseconds.
        body: As documents have it: label, label_time, source.
        arrived_ms: When it came to Kafka, UTC epoch milliseconds.
    """

    event_id: str
    time_ms: int
    body: dict[str, Any]
    arrived_ms: int


@dataclass(frozen=True, slots=True)
class Target:
    """A document that may need its label."""

    index: str
    id: str
    event_id: str


def to_label(message: Message) -> KnownLabel:
    """Read one record of `labels`.

    Raises:
        InvalidMessage: The record is not a label.
    """
    label = decode_label(message.value)
    body = {
        "label": label.label.value,
        "label_time": utc_text(label.label_time_ms),
        # People may sign with their address.
        "source": mask(label.source)[:_MAX_SOURCE],
    }
    return KnownLabel(label.event_id, label.label_time_ms, body, max(0, message.timestamp_ms))


def latest(labels: Iterable[KnownLabel]) -> list[KnownLabel]:
    """Keep of each event the label that holds."""
    holding: dict[str, KnownLabel] = {}
    for label in labels:
        known = holding.get(label.event_id)
        if known is None or label.time_ms >= known.time_ms:
            holding[label.event_id] = label
    return list(holding.values())


def label_id(event_id: str) -> str:
    """Return the id under which the label of an event is kept: event_ids may be too long for one."""
    return hashlib.sha256(event_id.encode("utf-8", "surrogatepass")).hexdigest()[:32]


class LabelIndex:
    """What is known of events, and its way into documents.

    Args:
        bulk: Writes; its client reads.
    """

    def __init__(self, bulk: Bulk) -> None:
        self._bulk = bulk
        self._client = bulk.client

    def known(self, event_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the labels that hold now, of those events that have one.

        Raises:
            Backpressure: OpenSearch is not there.
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
        """Keep labels, and put them into the documents that are there.

        Raises:
            Backpressure: OpenSearch is down, busy or blocked.
        """
        holding = latest(labels)
        # A conflict says that a later one is known: nothing to do but to apply that.
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
        """Bring the labels of documents up to what is known; those that are gone are passed over.

        Raises:
            Backpressure: OpenSearch is down, busy or blocked.
        """
        for _ in range(_MAX_TRIES):
            if not targets:
                return
            # The documents first: what is known after that is at least as new as what they have.
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
            # A conflict is somebody else's write of the same document: look at it again.
            written = self._bulk.write(writes)
            LABELS_APPLIED.inc(len(writes) - len(written.conflicts) - len(written.refused))
            targets = [updates[write.index + write.id] for write in written.conflicts]
        if targets:
            raise self._bulk.back_off(f"{len(targets)} documents kept changing")

    def _targets(self, event_ids: Sequence[str]) -> list[Target]:
        """Find all documents of events, those included that were written a moment ago."""
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
        """Read documents by id, as they are now, in the order of `places`; None is not there.

        The order alone says which is which: asked by the name of a day that was migrated, the
        answer has the name of the index behind it.
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
