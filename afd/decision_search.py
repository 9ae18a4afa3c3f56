"""Past decisions from OpenSearch, and their input records from Kafka while it keeps them."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from typing import Any, Final

import orjson
import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from opensearchpy import OpenSearch
from opensearchpy.exceptions import NotFoundError, OpenSearchException, TransportError

from afd.errors import InternalServerException, ValidationException
from dashboards.panels import Index
from fraud.kafka import clients
from fraud.runtime.opensearch import MAY_BE_MISSING
from fraud.runtime.settings import KafkaSettings

Document = dict[str, Any]

_READ_S: Final = 5.0
_SORT: Final = [
    {"fd.scored_at": {"order": "desc", "unmapped_type": "date"}},
    {"fd.source.timestamp_ms": {"order": "desc", "unmapped_type": "date"}},
    {"fd.source.partition": {"order": "asc", "unmapped_type": "integer"}},
    {"fd.source.offset": {"order": "desc", "unmapped_type": "long"}},
]
"""Newest prediction first; Kafka coordinates break ties, so pages neither skip nor repeat one."""

_log = structlog.get_logger("scoring_api")


class DecisionSearch:
    """Finds decisions. Calls block, so make them in a thread.

    Args:
        client: OpenSearch.
        kafka: Connection to Kafka, for the topic `transactions`.
    """

    def __init__(self, client: OpenSearch, kafka: KafkaSettings) -> None:
        self._client = client
        self._kafka = kafka

    def decision(self, event_id: str, scored_at: str | None = None) -> Document | None:
        """Return the newest decision on an event, or None if none is indexed.

        Args:
            event_id: Id of the event.
            scored_at: If given, only the decision made at this time counts, ISO 8601.
        """
        wanted: list[dict[str, Any]] = [{"term": {"event_id": event_id}}]
        if scored_at is not None:
            wanted.append({"term": {"fd.scored_at": scored_at}})
        # Decisions on repeats of an event are skipped, unless one is asked for by its time.
        spurned = [{"term": {"fd.duplicate": True}}] if scored_at is None else []
        found = self._search(
            {"query": {"bool": {"filter": wanted, "must_not": spurned}}, "sort": _SORT, "size": 1}
        )
        return found[0]["_source"] if found else None

    def decisions(
        self, filters: list[dict[str, Any]], *, size: int, after: str | None
    ) -> tuple[list[Document], str | None]:
        """Return a page of decisions, the newest first, and the token of the next page or None.

        Raises:
            ValidationException: `after` is not a token of an earlier page.
        """
        body: dict[str, Any] = {
            "query": {"bool": {"filter": filters}},
            "sort": _SORT,
            # One hit more than asked for shows whether there is a next page.
            "size": size + 1,
            "_source": ["event_id", "event_time", "fd.scored_at", "fd.versions"],
        }
        if after:
            body["search_after"] = _place(after)
        found = self._search(body)
        page = found[:size]
        token = _token(page[-1]["sort"]) if len(found) > size else None
        return [hit["_source"] for hit in page], token

    def record(self, document: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the input record of a decision, or None if it can no longer be read.

        The index does not replace it, as it has hashes of personal values and no unknown fields.
        """
        source = document["fd"]["source"]
        # Without a reset, an offset that is gone is an error and not another record.
        consumer = clients.reader(
            self._kafka.librdkafka(), "scoring_api", {"auto.offset.reset": "error", "log_level": 0}
        )
        try:
            consumer.assign(
                [TopicPartition(source["topic"], source["partition"], source["offset"])]
            )
            until_s = time.monotonic() + _READ_S
            while time.monotonic() < until_s:
                message = consumer.poll(0.1)
                if message is None:
                    continue
                error = message.error()
                if error is not None:
                    if error.code() in _GONE:
                        return None
                    continue
                # A later offset: the record was deleted. Another id: the topic was made anew.
                if message.offset() != source["offset"]:
                    return None
                record = orjson.loads(message.value() or b"null")
                same = isinstance(record, dict) and record.get("event_id") == document["event_id"]
                return record if same else None
        except (KafkaException, orjson.JSONDecodeError):
            pass
        finally:
            consumer.close()
        return None

    def _search(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        try:
            answer = self._client.search(index=Index.DECISIONS.value, body=body, **MAY_BE_MISSING)
        except NotFoundError:
            return []
        except TransportError as problem:
            code = str(problem.status_code)
            _log.warning("scoring_api.search_failed", code=code)
            raise InternalServerException(f"OpenSearch could not be asked ({code})") from None
        except OpenSearchException as problem:
            raise InternalServerException(
                f"OpenSearch could not be asked ({type(problem).__name__})"
            ) from None
        hits: list[dict[str, Any]] = answer["hits"]["hits"]
        return hits


_GONE: Final = frozenset(
    {
        KafkaError._AUTO_OFFSET_RESET,
        KafkaError.OFFSET_OUT_OF_RANGE,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)


def _is_long(value: object) -> bool:
    """Whether a value fits into a `long` of OpenSearch."""
    return type(value) is int and -(2**63) <= value < 2**63


def _token(place: list[Any]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(place)).decode()


def _place(token: str) -> list[Any]:
    try:
        place = orjson.loads(base64.b64decode(token.encode("ascii"), b"-_", validate=True))
    except ValueError:
        place = None
    # The token goes into a query, so it must be one that `_token` could have made.
    if not isinstance(place, list) or len(place) != len(_SORT) or not all(map(_is_long, place)):
        raise ValidationException("Value at 'nextToken': expected one that an answer gave")
    return place
