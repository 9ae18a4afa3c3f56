"""What people inject into the running world: heard on `fraud_control`, kept in a log of its own.

Keys are `campaign/NAME/VERSION` and `drift/NAME/VERSION`; a stop is a new version of the same
name. The log says for each from when it took effect, so that the run can be told again exactly.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import orjson
import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition

from producer.injections import (
    FOREVER_MS,
    Drift,
    Injection,
    document_of,
    injection_of,
    log_line,
)
from producer.reactions import Log, Observed, observed_line, read_log

_log = structlog.get_logger()
_KEY: Final = re.compile(r"(campaign|drift)/([A-Za-z0-9][A-Za-z0-9_.-]{0,99})/([0-9]+)", re.ASCII)
_POLL_S: Final = 0.5


class InjectionLog:
    """All injections of a producer, in a file of JSON lines; heard in one thread, taken up in another.

    Args:
        path: The file; its folder is made.
        ahead_ms: Gives by how much the world's time is ahead of the real one, in which people
            say when something starts.
        learns: Whether thieves see decisions, so that a drift `adapting` reacts to these.
    """

    def __init__(
        self, path: Path, ahead_ms: Callable[[], int] = lambda: 0, *, learns: bool = False
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._learns = learns
        log = read_log(path) if path.exists() else Log()
        self._observed = log.observed
        self._seen: dict[str, tuple[int, int]] = {}
        self._ahead_ms = ahead_ms
        self._path = path
        self._known = {one.key: one for one in log.injections}
        self._waiting: list[Injection] = []
        self._lock = threading.Lock()

    def hear(self, injection: Injection) -> None:
        """Note an injection, to be taken up soon."""
        known = self._known.get(injection.key)
        stops = injection.stopped_ms != FOREVER_MS
        if known is not None and (not stops or known.stopped_ms != FOREVER_MS):
            return
        with self._lock:
            self._waiting.append(injection)

    def heard(self) -> bool:
        """Whether something waits to be taken up."""
        return bool(self._waiting) or bool(self._seen)

    def see(self, seen: dict[str, tuple[int, int]]) -> None:
        """Note how decisions on fraud turned out, by kind: blocked and all."""
        self._seen = seen

    def take_up(self, told_ms: int) -> Log:
        """Log what was heard and seen, in effect from `told_ms` at the earliest; give all there is.

        Args:
            told_ms: The world was told until here, and that cannot be changed.
        """
        with self._lock:
            waiting, self._waiting = self._waiting, []
        ahead_ms = self._ahead_ms()
        for heard in (_shifted(one, ahead_ms) for one in waiting):
            known = self._known.get(heard.key)
            if known is None:
                begins = max(heard.start_ms, heard.effective_ms)
                learns = self._learns and heard.kind == Drift.ADAPTING
                one = replace(heard, effective_ms=max(begins, told_ms), learns=learns)
                over = one.stopped_ms if one.what == "drift" else min(one.end_ms, one.stopped_ms)
                if over <= told_ms:
                    continue
            elif known.stopped_ms == FOREVER_MS and heard.stopped_ms != FOREVER_MS:
                one = replace(known, stopped_ms=max(heard.stopped_ms, told_ms))
            else:
                continue
            with self._path.open("ab") as file:
                file.write(log_line(one))
            self._known[one.key] = one
            _log.info("producer.injected", what=one.what, kind=str(one.kind), name=one.name, stopped=one.stopped_ms != FOREVER_MS)  # fmt: skip
        if self._seen:
            seen, self._seen = Observed(told_ms, self._seen), {}
            with self._path.open("ab") as file:
                file.write(observed_line(seen))
            self._observed = (*self._observed, seen)
        return Log(tuple(self._known.values()), self._observed)


def _shifted(injection: Injection, by_ms: int) -> Injection:
    stopped_ms = injection.stopped_ms
    return replace(
        injection,
        start_ms=injection.start_ms + by_ms,
        stopped_ms=stopped_ms if stopped_ms == FOREVER_MS else stopped_ms + by_ms,
    )


def read_control(key: bytes | None, value: bytes | None) -> Injection | None:
    """Read a record of `fraud_control`; None when it is of another kind.

    Raises:
        ValueError: It is of ours, and wrong; the text names the field.
    """
    match = _KEY.fullmatch((key or b"").decode("utf-8", "replace"))
    if match is None:
        return None
    try:
        document = orjson.loads(value or b"null")
    except orjson.JSONDecodeError:
        raise ValueError("value: expected JSON") from None
    content = document.get("content") if isinstance(document, dict) else None
    if not isinstance(content, dict):
        raise ValueError("content: expected a JSON object")
    return injection_of(content, match[1], match[2])


def control_record(injection: Injection, author: str, time: str) -> tuple[bytes, bytes]:
    """Write an injection as key and value of a record of `fraud_control`."""
    version = 1 if injection.stopped_ms == FOREVER_MS else 2
    value = {"author": author, "time": time, "content": document_of(injection)}
    return f"{injection.what}/{injection.name}/{version}".encode(), orjson.dumps(value)


class ControlTopic:
    """The control topic, as injections need it.

    Args:
        connection: Settings for confluent-kafka.
        topic: Physical name.
    """

    def __init__(self, connection: dict[str, Any], topic: str) -> None:
        self._connection = connection
        self._topic = topic

    def _consumer(self) -> Consumer:
        consumer = Consumer(
            {
                **self._connection, "group.id": "fraudstream-injections", "enable.auto.commit": False,
                "log_level": 0,
            }
        )  # fmt: skip
        consumer.assign([TopicPartition(self._topic, 0, OFFSET_BEGINNING)])
        return consumer

    def follow(self, hear: Callable[[Injection], None], stop: threading.Event) -> None:
        """Hear all injections, those of old too, until `stop` is set; a broker is waited for."""
        consumer = self._consumer()
        try:
            while not stop.is_set():
                message = consumer.poll(_POLL_S)
                if message is None or message.error() is not None:
                    continue
                try:
                    one = read_control(message.key(), message.value())
                except ValueError as problem:
                    _log.warning("producer.injection_refused", offset=message.offset(), detail=str(problem))  # fmt: skip
                    continue
                if one is not None:
                    hear(one)
        finally:
            consumer.close()

    def known(self, timeout_s: float = 10.0) -> dict[tuple[str, str], Injection]:
        """Read all injections so far, the newest version of each.

        Raises:
            ConnectionError: No broker answers, or it has no such topic.
        """
        consumer = self._consumer()
        found: dict[tuple[str, str], Injection] = {}
        try:
            _, end = consumer.get_watermark_offsets(
                TopicPartition(self._topic, 0), timeout=timeout_s
            )
            at = 0
            while at < end:
                message = consumer.poll(timeout_s)
                if message is None or message.error() is not None:
                    break
                at = (message.offset() or 0) + 1
                try:
                    one = read_control(message.key(), message.value())
                except ValueError:
                    continue
                if one is not None:
                    found[one.key] = one
        except KafkaException as problem:
            raise ConnectionError(f"no answer from Kafka: {problem.args[0].str()}") from None
        finally:
            consumer.close()
        return found

    def publish(self, key: bytes, value: bytes, timeout_s: float = 10.0) -> None:
        """Write a record; it is on the topic when this returns.

        Raises:
            ConnectionError: The broker did not take it.
        """
        problems: list[str] = []
        producer = Producer(
            {**self._connection, "message.timeout.ms": int(timeout_s * 1000), "log_level": 0}
        )
        producer.produce(
            self._topic, value, key, on_delivery=lambda error, _: problems.append(error.str()) if error else None
        )  # fmt: skip
        if producer.flush(timeout_s + 1) or problems:
            raise ConnectionError(f"Kafka did not take it: {', '.join(problems) or 'no answer'}")
