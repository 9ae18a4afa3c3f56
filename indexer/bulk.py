"""Bulk writes to OpenSearch, with retries, back-off and refusals per item."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import structlog
from opensearchpy import OpenSearch
from opensearchpy.exceptions import ConnectionError as OpenSearchConnectionError
from opensearchpy.exceptions import ConnectionTimeout, TransportError

from fraud.contracts.errors import Backpressure
from fraud.contracts.personal import mask
from fraud.contracts.times import utc_text
from fraud.runtime import opensearch
from fraud.runtime.clock import Clock
from fraud.runtime.metrics import BULK_SECONDS, DOCUMENTS_REFUSED, DOCUMENTS_RETRIED
from fraud.runtime.settings import OpenSearchSettings
from indexer.documents import REJECTED

MAX_ITEMS: Final = 1000
"""Maximum number of items in one request."""
MIN_ITEMS: Final = 50
"""Lower bound of items in a request when OpenSearch is overloaded."""
MAX_TRIES: Final = 6
"""Tries of one item before the whole batch waits: they take under 2 s, and succeed even if 5 % of
the items fail at random."""

_GROWTH: Final = 50
_MAX_BULK_BYTES: Final = 8 * 1_048_576
_FIRST_PAUSE_S: Final = 0.05
_FIRST_WAIT_S: Final = 0.5
_LONGEST_WAIT_S: Final = 10.0
_REQUEST_S: Final = 60.0
_CONFLICT: Final = 409
_TOO_MANY: Final = 429
_TOO_LARGE: Final = 413

_DOCUMENT_FAULTS: Final = frozenset(
    {
        "mapper_parsing_exception", "document_parsing_exception", "parsing_exception",
        "parse_exception", "illegal_argument_exception", "strict_dynamic_mapping_exception",
        "max_bytes_length_exceeded_exception", "x_content_parse_exception",
    }
)  # fmt: skip
"""Errors of one document, with status 400, that a retry cannot fix."""

_TOO_LARGE_A_DOCUMENT: Final = "request_entity_too_large"

_log = structlog.get_logger("indexer")


def connect(settings: OpenSearchSettings) -> OpenSearch:
    """Return a client with retries off: `Bulk` decides what is sent again."""
    return opensearch.connect(settings, timeout_s=_REQUEST_S)


@dataclass(frozen=True, slots=True)
class Write:
    """One action of a bulk request.

    Attributes:
        index: Name of the index, or of an alias of one index.
        id: Id of the document.
        body: The document; for an update, the fields to change.
        action: `index` replaces the document, `update` changes fields of an existing one.
        condition: Parameters such as `if_seq_no` or `version`; if they do not hold, the write is a
            conflict.
    """

    index: str
    id: str
    body: dict[str, Any]
    action: str = "index"
    condition: dict[str, Any] = field(default_factory=dict)

    def lines(self) -> bytes:
        """Return the action as two lines of a bulk request."""
        head = {self.action: {"_index": self.index, "_id": self.id, **self.condition}}
        body = {"doc": self.body} if self.action == "update" else self.body
        return orjson.dumps(head) + b"\n" + orjson.dumps(body) + b"\n"


@dataclass(frozen=True, slots=True)
class Written:
    """Writes of a batch that did not succeed; all others did.

    Attributes:
        conflicts: Writes whose condition did not hold or whose document is gone.
        refused: Writes that OpenSearch refused for good; the index `REJECTED` keeps them.
    """

    conflicts: list[Write]
    refused: list[Write]


class Bulk:
    """Writes items, retries those that failed temporarily and keeps those refused for good.

    Failed items are retried without the rest of their batch, after growing pauses. If some still
    fail, or OpenSearch cannot be reached, the caller has to wait. Requests shrink by half when
    OpenSearch is overloaded, and grow again.

    Not thread-safe: each thread needs its own.

    Args:
        client: See `connect`.
        clock: Returns the time now.
        rng: Source of the jitter of waits.
        pause: Sleeps for a number of seconds.
    """

    def __init__(
        self,
        client: OpenSearch,
        *,
        clock: Clock,
        rng: random.Random,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self.client = client
        self._clock = clock
        self._rng = rng
        self._pause = pause
        self._failures = 0
        self._max_items = MAX_ITEMS
        self._max_bytes = _MAX_BULK_BYTES
        for kind in (*_DOCUMENT_FAULTS, _TOO_LARGE_A_DOCUMENT):
            # Create the series at 0: Prometheus sees no increase in a series that starts at 1.
            DOCUMENTS_REFUSED.labels(kind)
        self.prepared = False
        """Whether templates and indexes are known to exist; False after an outage."""
        self.problem: str | None = "OpenSearch (not reached yet)"
        """Why documents cannot be written now; None when they can."""

    def write(self, writes: Sequence[Write]) -> Written:
        """Write a batch; on return each item is written, in conflict or refused for good.

        A batch must not have two items of one document, because their order is not kept.

        Raises:
            Backpressure: OpenSearch is down, busy or blocked. Some items may have been written.
        """
        done = Written([], [])
        pending = list(writes)
        for tries in range(MAX_TRIES):
            pending, problem = self._round(pending, done)
            if not pending:
                # Requests grow only after a batch without failures.
                if tries == 0:
                    self._max_items = min(MAX_ITEMS, self._max_items + _GROWTH)
                self._failures = 0
                self.problem = None
                return done
            if tries < MAX_TRIES - 1:
                self._pause(_FIRST_PAUSE_S * 2.0**tries * self._rng.uniform(0.5, 1.0))
        raise self.back_off(problem)

    def _round(self, pending: list[Write], done: Written) -> tuple[list[Write], str]:
        """Send each item once; return the items to send again and the last error."""
        again: list[Write] = []
        problem = ""
        rejected: list[tuple[Write, str, str]] = []
        for chunk, body in self._chunks(pending):
            items = self._post(chunk, body)
            busy = False
            for write, item in zip(chunk, items, strict=True):
                error = item.get("error")
                if error is None:
                    continue
                status, kind = item["status"], str(error.get("type"))
                if write.condition and (
                    status == _CONFLICT or kind == "document_missing_exception"
                ):
                    done.conflicts.append(write)
                elif status == _TOO_LARGE or (status == 400 and kind in _DOCUMENT_FAULTS):
                    rejected.append((write, kind, mask(str(error.get("reason")))))
                else:
                    # Too many requests, a full disk, a closed index, too many shards: the cluster's
                    # fault, not the document's.
                    again.append(write)
                    problem = f"{status} {kind}"
                    busy = busy or status == _TOO_MANY
                    DOCUMENTS_RETRIED.labels(kind).inc()
            if busy:
                self._shrink()
        if rejected:
            self._keep_rejected(rejected)
            done.refused.extend(write for write, *_ in rejected)
        return again, problem

    def _chunks(self, writes: Sequence[Write]) -> Iterator[tuple[list[Write], bytes]]:
        """Split items into requests; yield the items and the body of each."""
        chunk: list[Write] = []
        lines: list[bytes] = []
        size = 0
        for write in writes:
            line = write.lines()
            if chunk and (len(chunk) >= self._max_items or size + len(line) > self._max_bytes):
                yield chunk, b"".join(lines)
                chunk, lines, size = [], [], 0
            chunk.append(write)
            lines.append(line)
            size += len(line)
        if chunk:
            yield chunk, b"".join(lines)

    def _shrink(self) -> None:
        self._max_items = max(MIN_ITEMS, self._max_items // 2)

    def _post(self, chunk: Sequence[Write], body: bytes) -> list[dict[str, Any]]:
        """Send one request and return the result of each item."""
        try:
            with BULK_SECONDS.time():
                answer = self.client.bulk(
                    body=body, params={"filter_path": "items.*.status,items.*.error"}
                )
        except TransportError as error:
            if error.status_code == _TOO_LARGE:
                return self._post_halves(chunk, body)
            if error.status_code == _TOO_MANY or isinstance(error, ConnectionTimeout):
                # Unless the next request is smaller, it might time out for ever.
                self._shrink()
            raise self.wait_for(error) from error
        return [item[write.action] for write, item in zip(chunk, answer["items"], strict=True)]

    def _post_halves(self, chunk: Sequence[Write], body: bytes) -> list[dict[str, Any]]:
        """Send a request in halves that is too large for OpenSearch or for a proxy before it."""
        if len(chunk) == 1:
            fault = {"type": _TOO_LARGE_A_DOCUMENT, "reason": f"{len(body)} bytes"}
            return [{"status": _TOO_LARGE, "error": fault}]
        # Later requests stay below the size that was refused.
        self._max_bytes = min(self._max_bytes, len(body) // 2)
        middle = len(chunk) // 2
        return [
            item
            for half in (chunk[:middle], chunk[middle:])
            for item in self._post(half, b"".join(write.lines() for write in half))
        ]

    def _keep_rejected(self, rejected: Sequence[tuple[Write, str, str]]) -> None:
        """Write refused documents to `REJECTED`, whose mapping accepts any, with the reason."""
        kept = []
        for write, kind, detail in rejected:
            DOCUMENTS_REFUSED.labels(kind).inc()
            _log.error("indexer.document_refused", document=write.id, reason=kind, detail=detail)
            kept.append(
                Write(
                    REJECTED,
                    write.id,
                    {
                        "reason": kind,
                        "detail": detail,
                        "index": write.index,
                        "rejected_at": utc_text(self._clock()),
                        # A document that is too large for a request would be too large here, too.
                        **({} if kind == _TOO_LARGE_A_DOCUMENT else {"document": write.body}),
                    },
                )
            )
        for chunk, body in self._chunks(kept):
            for item in self._post(chunk, body):
                if "error" in item:
                    raise self.back_off(f"{REJECTED}: {item['status']} {item['error'].get('type')}")

    def wait_for(self, error: TransportError) -> Backpressure:
        """Return the `Backpressure` to raise after a failed request."""
        return self.back_off(problem_of(error))

    def back_off(self, problem: str) -> Backpressure:
        """Return the `Backpressure` to raise; its wait grows with each failure in a row."""
        self.prepared = False
        self._failures += 1
        self.problem = f"OpenSearch ({problem})"
        wait_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(self._failures - 1, 10))
        return Backpressure(round(wait_s * self._rng.uniform(0.5, 1.0), 2), problem)


def problem_of(error: TransportError) -> str:
    """Return the status and type of an error, without its reason, which may quote a document."""
    if isinstance(error, OpenSearchConnectionError):
        return type(error).__name__
    return f"{error.status_code} {mask(str(error.error))}"


def reason_of(error: TransportError) -> str:
    """Return `problem_of` and the innermost reason, for requests that carry no document."""
    found = error.info.get("error") if isinstance(error.info, dict) else None
    while isinstance(found, dict) and isinstance(found.get("caused_by"), dict):
        found = found["caused_by"]
    reason = found.get("reason") if isinstance(found, dict) else None
    return problem_of(error) + (f": {mask(str(reason))}" if reason else "")
