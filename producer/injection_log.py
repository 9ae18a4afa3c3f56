"""Injections into the running world, received on `fraud_control` and kept in a log.

Keys are `campaign/NAME/VERSION` and `drift/NAME/VERSION`; a stop is a new version of the same
name. The log records when each injection took effect, so that the run can be repeated exactly.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from fraud.contracts.control import ControlDocument, decode_control, read_key
from fraud.contracts.errors import InvalidMessage
from fraud.contracts.topics import Topic
from fraud.kafka.control import ControlFollower, ControlPublisher, Refused, read_control
from fraud.kafka.control_index import ControlIndex
from fraud.kafka.topic_follower import TopicFeed
from fraud.runtime.metrics import CONTROL_LAG
from fraud.runtime.settings import KafkaSettings
from producer.adaptation import LoggedInjections, Observed, observed_line, read_log
from producer.injections import (
    FOREVER_MS,
    Drift,
    Injection,
    document_of,
    injection_of,
    log_line,
)

_log = structlog.get_logger()

KINDS: Final = ("campaign", "drift")
"""Kinds of control documents that are injections."""


class InjectionLog:
    """All injections of a producer, in a JSON Lines file; one thread hears them, another applies them.

    Args:
        path: Log file; its folder is created.
        ahead_ms: Returns how far simulated time is ahead of real time, in which people state
            starts and stops.
        learns: Whether thieves see decisions, so that a drift `adapting` reacts to them.
    """

    def __init__(
        self, path: Path, ahead_ms: Callable[[], int] = lambda: 0, *, learns: bool = False
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._learns = learns
        log = read_log(path) if path.exists() else LoggedInjections()
        self._observed = log.observed
        self._seen: dict[str, tuple[int, int]] = {}
        self._ahead_ms = ahead_ms
        self._path = path
        self._known = {injection.key: injection for injection in log.injections}
        self._waiting: list[Injection] = []
        self._lock = threading.Lock()

    def hear(self, injection: Injection) -> None:
        """Queue an injection, or its stop, for `take_up`; ignore it if it is already known."""
        known = self._known.get(injection.key)
        stops = injection.stopped_ms != FOREVER_MS
        if known is not None and (not stops or known.stopped_ms != FOREVER_MS):
            return
        with self._lock:
            self._waiting.append(injection)

    def heard(self) -> bool:
        """Return whether anything is queued for `take_up`."""
        return bool(self._waiting) or bool(self._seen)

    def see(self, seen: dict[str, tuple[int, int]]) -> None:
        """Queue an observation for `take_up`: blocked and all decisions, by kind of fraud."""
        self._seen = seen

    def take_up(self, sent_until_ms: int) -> LoggedInjections:
        """Log what is queued, effective from `sent_until_ms` at the earliest; return the whole log.

        Args:
            sent_until_ms: Transactions before this time were sent and cannot change.
        """
        with self._lock:
            waiting, self._waiting = self._waiting, []
        ahead_ms = self._ahead_ms()
        for heard in (_shifted(injection, ahead_ms) for injection in waiting):
            known = self._known.get(heard.key)
            if known is None:
                begins = max(heard.start_ms, heard.effective_ms)
                learns = self._learns and heard.kind == Drift.ADAPTING
                injection = replace(heard, effective_ms=max(begins, sent_until_ms), learns=learns)
                over = (
                    injection.stopped_ms
                    if injection.what == "drift"
                    else min(injection.end_ms, injection.stopped_ms)
                )
                # It ended before it could take effect.
                if over <= sent_until_ms:
                    continue
            elif known.stopped_ms == FOREVER_MS and heard.stopped_ms != FOREVER_MS:
                injection = replace(known, stopped_ms=max(heard.stopped_ms, sent_until_ms))
            else:
                continue
            with self._path.open("ab") as file:
                file.write(log_line(injection))
            self._known[injection.key] = injection
            _log.info(
                "producer.injected",
                what=injection.what,
                kind=str(injection.kind),
                name=injection.name,
                stopped=injection.stopped_ms != FOREVER_MS,
            )
        if self._seen:
            seen, self._seen = Observed(sent_until_ms, self._seen), {}
            with self._path.open("ab") as file:
                file.write(observed_line(seen))
            self._observed = (*self._observed, seen)
        return LoggedInjections(tuple(self._known.values()), self._observed)


def _shifted(injection: Injection, by_ms: int) -> Injection:
    stopped_ms = injection.stopped_ms
    return replace(
        injection,
        start_ms=injection.start_ms + by_ms,
        stopped_ms=stopped_ms if stopped_ms == FOREVER_MS else stopped_ms + by_ms,
    )


def read_injection(document: ControlDocument) -> Injection:
    """Parse a control document of one of `KINDS`.

    Raises:
        Refused: The document is malformed; the message names the field.
    """
    try:
        return injection_of(document.content, document.kind, document.name)
    except ValueError as problem:
        raise Refused(str(problem)) from None


def control_document(injection: Injection, author: str, time: datetime) -> ControlDocument:
    """Return an injection as a document of `fraud_control`; version 2 is its stop."""
    return ControlDocument(
        kind=injection.what,
        name=injection.name,
        version="1" if injection.stopped_ms == FOREVER_MS else "2",
        author=author,
        time=time,
        content=document_of(injection),
    )


def follow(
    settings: KafkaSettings, hear: Callable[[Injection], None], stop: threading.Event
) -> None:
    """Call `hear` with all injections, past ones too, until `stop` is set; wait for an absent broker."""
    with TopicFeed(
        settings, Topic.CONTROL, service="producer", lag=CONTROL_LAG.labels("producer")
    ) as feed:
        ControlFollower(
            feed,
            {},
            fold=dict.fromkeys(KINDS, lambda document: hear(read_injection(document))),
            index=ControlIndex.of(settings),
            service="producer",
        ).run(stop)


def injections_on(settings: KafkaSettings) -> dict[tuple[str, str], Injection]:
    """Read the newest version of every injection.

    Raises:
        CannotRead: No broker answers, or the connection fails before the end.
    """
    found: dict[tuple[str, str], Injection] = {}
    for message in read_control(settings).records:
        try:
            if read_key(message.key)[0] in KINDS:
                injection = read_injection(decode_control(message.key, message.value))
                found[injection.key] = injection
        except (InvalidMessage, Refused):
            continue  # followers of the topic report it
    return found


def start_injection(
    settings: KafkaSettings, injection: Injection, author: str, time: datetime
) -> None:
    """Publish an injection under a new name.

    Raises:
        ValueError: The name was used before.
        CannotRead: The earlier injections cannot be read.
        CannotPublish: No broker accepts the document.
    """
    if injection.key in injections_on(settings):
        raise ValueError(f"name: {injection.name} was used before, expected a new one")
    ControlPublisher(settings).publish(control_document(injection, author, time))


def stop_injection(
    settings: KafkaSettings, what: str, name: str, author: str, time: datetime
) -> None:
    """Publish that an injection ends at `time`.

    Raises:
        ValueError: No injection has this name.
        CannotRead: The earlier injections cannot be read.
        CannotPublish: No broker accepts the document.
    """
    known = injections_on(settings).get((what, name))
    if known is None:
        raise ValueError(f"name: expected a {what} that was started, got {name}")
    stopped = replace(known, stopped_ms=int(time.timestamp() * 1000))
    ControlPublisher(settings).publish(control_document(stopped, author, time))
