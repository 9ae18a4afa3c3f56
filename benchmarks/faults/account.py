"""The account of a run: what became of each input offset, document and alert."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.request import Request, urlopen

import orjson

Place = tuple[int, int]
_PAGE: Final = 5000
_TIMEOUT_S: Final = 60


@dataclass(frozen=True, slots=True)
class Account:
    """Figures of a run; all but counts of everything and `repeated` must be 0.

    Attributes:
        records: Input offsets.
        dead_letters: Of them, those in `transactions.dlq`.
        lost: Offsets in neither output topic.
        in_both: Offsets in both.
        misplaced: Offsets in the other topic than the record belongs in.
        repeated: Outputs that came again, all told. At least once allows them, exactly once does not.
        documents_missing: Decided events without a document.
        documents_twice: Events with more than one document.
        alerts: Events that were blocked.
        messages: Messages that name one; above `alerts` when one was sent again.
        alerts_unnamed: Blocked events that no message names.
        alerts_twice: Blocked events that messages of different Message-IDs name.
        unasked: Events that a message names and no decision blocked.
    """

    records: int
    dead_letters: int
    lost: int
    in_both: int
    misplaced: int
    repeated: int
    documents_missing: int
    documents_twice: int
    alerts: int
    messages: int
    alerts_unnamed: int
    alerts_twice: int
    unasked: int

    def faults(self, *, exactly_once: bool) -> dict[str, int]:
        """Return the figures that break the promise; empty when it is kept."""
        promised = {
            name: getattr(self, name)
            for name in (
                "lost",
                "in_both",
                "misplaced",
                "documents_missing",
                "documents_twice",
                "alerts_unnamed",
                "alerts_twice",
                "unasked",
            )
        }
        if exactly_once:
            promised["repeated"] = self.repeated
        return {name: figure for name, figure in promised.items() if figure}


def account(
    inputs: Collection[Place],
    is_dead_letter: Mapping[Place, bool],
    processed: Mapping[Place, int],
    dead: Mapping[Place, int],
    events: Collection[str],
    documents: Iterable[str],
    blocked: Collection[str],
    named: Mapping[str, Collection[str]],
) -> Account:
    """Compare what went in with what came out.

    Args:
        inputs: All input offsets.
        is_dead_letter: Of records whose topic is known, whether it is that of dead letters.
        processed: How often each offset is in `processed_transactions`.
        dead: How often each offset is in `transactions.dlq`.
        events: Ids of the events that must have a document.
        documents: The event_id of each document.
        blocked: Events that must be named by one message.
        named: Message-IDs by the event that the messages name.

    Example:
        >>> found = account([(0, 0), (0, 1)], {(0, 1): True}, {(0, 0): 2}, {}, ["a"], ["a", "a"], ["a"], {"a": {"m1"}})
        >>> found.lost, found.repeated, found.documents_twice, found.alerts_twice
        (1, 1, 1, 0)
    """
    per_event = Counter(documents)
    return Account(
        records=len(inputs),
        dead_letters=sum(place in dead for place in inputs),
        lost=sum(place not in processed and place not in dead for place in inputs),
        in_both=len(processed.keys() & dead.keys()),
        misplaced=sum(
            place in (processed if is_dead else dead) for place, is_dead in is_dead_letter.items()
        ),
        repeated=sum(count - 1 for counts in (processed, dead) for count in counts.values()),
        documents_missing=sum(event not in per_event for event in events),
        documents_twice=sum(count > 1 for count in per_event.values()),
        alerts=len(blocked),
        messages=sum(map(len, named.values())),
        alerts_unnamed=sum(event not in named for event in blocked),
        alerts_twice=sum(len(set(messages)) > 1 for messages in named.values()),
        unasked=len(named.keys() - set(blocked)),
    )


def _ask(url: str, body: object = None) -> Any:
    data = None if body is None else orjson.dumps(body)
    request = Request(url, data, {"Content-Type": "application/json"})  # noqa: S310 - our own server
    with urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - our own server
        return orjson.loads(answer.read())


def count_documents(opensearch: str, prefix: str) -> int:
    """Count the documents of a run, by the beginning of their event_id."""
    _ask(f"{opensearch}/processed_transactions/_refresh", {})
    query = {"query": {"prefix": {"event_id": prefix}}}
    return int(_ask(f"{opensearch}/processed_transactions/_count", query)["count"])


def documents(opensearch: str, prefix: str) -> list[str]:
    """Return the event_id of each document of a run."""
    found: list[str] = []
    body = {"size": _PAGE, "query": {"prefix": {"event_id": prefix}}, "_source": ["event_id"]}
    answer = _ask(f"{opensearch}/processed_transactions/_search?scroll=2m", body)
    while hits := answer["hits"]["hits"]:
        found += [hit["_source"]["event_id"] for hit in hits]
        scroll = {"scroll": "2m", "scroll_id": answer["_scroll_id"]}
        answer = _ask(f"{opensearch}/_search/scroll", scroll)
    return found


def messages(mail_api: str, prefix: str) -> dict[str, list[str]]:
    """Return the Message-IDs by event of a run that the subject of the message names."""
    named: dict[str, list[str]] = {}
    seen: set[str] = set()
    start, total = 0, 1
    while start < total:
        # Newest first: a message that comes meanwhile moves the pages.
        page = _ask(f"{mail_api}/api/v1/messages?start={start}&limit=1000")
        total = page["total"]
        for mail in page["messages"]:
            event = mail["Subject"].rsplit(" ", 1)[-1]
            if mail["ID"] not in seen and event.startswith(prefix):
                named.setdefault(event, []).append(mail["MessageID"])
            seen.add(mail["ID"])
        start += len(page["messages"]) or 1
    return named
