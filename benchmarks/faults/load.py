"""The load: seeded payments, with bad and oversized records among them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import orjson
from confluent_kafka import Producer

_BAD_SHARE: Final = 0.01
_OVERSIZED_SHARE: Final = 0.0005
_OVERSIZED_BYTES: Final = 1_500_000
_BLOCKED_EVERY: Final = 50
"""Every so many records a stolen card pays, so that there are alerts to lose and to repeat."""

_STOLEN_CARDS: Final = 40
_SEND_S: Final = 0.05
_GIVE_UP_S: Final = 900

_CUSTOMER: Final[dict[str, Any]] = {
    "transaction_currency": "USD",
    "email_address": "grace.hopper@example.com",
    "user_agent": "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_4) Safari/605.1.15",
    "phone": "+1-202-555-0101",
    "customer_name": "Grace Hopper",
    "card_bin": "453211",
    "billing_street": "12 Harbor Road",
    "billing_city": "Arlington",
    "billing_state": "VA",
    "billing_zip": "22201",
    "billing_country": "US",
    "billing_latitude": 38.88,
    "billing_longitude": -77.1,
    "channel": "web",
}
_THIEF: Final[dict[str, Any]] = {
    "ip_address": "185.220.101.4",
    "user_agent": "python-requests/2.31",
    "email_address": "x83920411@mailinator.com",
    "phone": "+7-900-555-0199",
    "billing_latitude": 55.75,
    "billing_longitude": 37.6,
    "device_id": "d-ffff",
    "product_category": "shopping_net",
}


class Payment(NamedTuple):
    """A record to send.

    Attributes:
        key: Of the record.
        value: Of the record.
        event_id: Of a payment that is decided; None of a record that becomes a dead letter.
    """

    key: bytes | None
    value: bytes | None
    event_id: str | None


def event_id(run: str, number: int) -> str:
    """Return the id of the payment of a number; their order is that of the numbers."""
    return f"{run}-{number:08}"


def payments(seed: int, run: str, count: int) -> Iterator[Payment]:
    """Yield the records of a run; only their times are not drawn from the seed.

    Args:
        seed: Of everything that is drawn.
        run: Comes first in each event_id and entity_id, so that runs do not know each other.
        count: Number of records.
    """
    chance = random.Random(seed)  # noqa: S311 - a seeded load
    customers = max(1000, count // 4)
    for number in range(count):
        drawn = chance.random()
        customer = chance.randrange(customers)
        record = _CUSTOMER | {
            "event_id": event_id(run, number),
            "event_time": datetime.now(UTC).isoformat(),
            "entity_id": f"{run}-c{customer}",
            "ip_address": f"10.{customer >> 16 & 255}.{customer >> 8 & 255}.{customer & 255}",
            "merchant_id": f"m-{chance.randrange(500):06}",
            "transaction_amt": 20 + number % 30,
            "product_category": "grocery_pos",
        }
        if number % _BLOCKED_EVERY == 0:
            card = f"{run}-t{chance.randrange(_STOLEN_CARDS)}"
            record |= _THIEF | {"entity_id": card, "transaction_amt": 900}
        elif drawn < _BAD_SHARE:
            yield _bad(chance.randrange(7), record)
            continue
        elif drawn < _BAD_SHARE + _OVERSIZED_SHARE:
            record["customer_name"] = "x" * _OVERSIZED_BYTES
            yield Payment(record["entity_id"].encode(), orjson.dumps(record), None)
            continue
        yield Payment(record["entity_id"].encode(), orjson.dumps(record), record["event_id"])


def _bad(number: int, record: dict[str, Any]) -> Payment:
    value = orjson.dumps(record)
    values = (
        None,
        b"",
        b"\x00\xff\xfe\x80",
        value[: len(value) // 2],
        b"\xef\xbb\xbf" + value,
        orjson.dumps(record | {"transaction_amt": "much"}),
        orjson.dumps({name: part for name, part in record.items() if name != "entity_id"}),
    )
    return Payment(None if number == 2 else record["entity_id"].encode(), values[number], None)


class Load:
    """Sends the records of a run in the background, as far as it is allowed to.

    Args:
        bootstrap_servers: Of Kafka.
        seed: See `payments`.
        run: See `payments`.
        count: See `payments`.
        rate: Most records a second.
    """

    def __init__(self, bootstrap_servers: str, *, seed: int, run: str, count: int, rate: float):
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "enable.idempotence": True,
                "delivery.timeout.ms": _GIVE_UP_S * 1000,
                "compression.type": random.Random(seed).choice(["lz4", "zstd", "gzip", "snappy"]),  # noqa: S311
                # The client counts the bytes before compression, the broker those after it.
                "message.max.bytes": 8_000_000,
                "linger.ms": 5,
                "log_level": 0,
            }
        )
        self._payments = payments(seed, run, count)
        self._rate = rate
        self._allowed = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="load")
        self.queued = 0
        self.is_dead_letter: dict[tuple[int, int], bool] = {}
        """By partition and offset of each acknowledged record: whether it is to be a dead letter."""
        self.event_ids: set[str] = set()
        self._ends: dict[int, int] = {}
        self.failed = 0

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._producer.flush(1)

    @property
    def acknowledged(self) -> int:
        """Return how many records the broker has."""
        return len(self.is_dead_letter)

    def allow(self, count: int) -> None:
        """Raise the number of records that may be sent, counted from the first of the run."""
        self._allowed = count

    def ends(self) -> dict[int, int]:
        """Return the offset after the last acknowledged record, by partition."""
        return dict(self._ends)

    def _work(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(_SEND_S):
            now = time.monotonic()
            may = min(self._allowed - self.queued, int((now - last) * self._rate))
            if may > 0:
                last = now
            elif self.queued >= self._allowed:
                last = now  # what was not allowed is not caught up with
            for _ in range(may):
                self._send(next(self._payments))
            self._producer.poll(0)

    def _send(self, payment: Payment) -> None:
        def acknowledged(error: object, message: Any) -> None:
            if error:
                self.failed += 1
                return
            place = message.partition(), message.offset()
            self.is_dead_letter[place] = payment.event_id is None
            self._ends[place[0]] = max(self._ends.get(place[0], 0), place[1] + 1)
            if payment.event_id:
                self.event_ids.add(payment.event_id)

        while not self._stop.is_set():
            try:
                self._producer.produce(
                    "transactions", payment.value, payment.key, on_delivery=acknowledged
                )
            except BufferError:
                self._producer.poll(0.5)
                continue
            self.queued += 1
            return
