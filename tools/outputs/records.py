"""The fixed input of a snapshot: simulated transactions and the odd records of practice."""

from __future__ import annotations

import base64
import itertools
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

COUNT: Final = 20_000

_SEED: Final = 20260301
# What simulated history says besides the transaction.
_TRUTH: Final = ("label", "label_time", "is_fraud", "campaign", "made_by")
_REQUIRED: Final = (
    "event_id",
    "entity_id",
    "event_time",
    "transaction_amt",
    "transaction_currency",
)
_OPTIONAL: Final = (
    *("email_address", "ip_address", "user_agent", "phone", "card_bin", "customer_name"),
    *("customer_job", "product_category", "billing_street", "billing_city", "billing_state"),
    *("billing_zip", "billing_country", "billing_latitude", "billing_longitude"),
    *("merchant_id", "channel", "device_id"),
)

CODECS: Final = ("none", "gzip", "snappy", "lz4", "zstd")
_BATCH: Final = 400
"""Records that follow each other in one codec."""

_ODD_VALUES: Final[tuple[Any, ...]] = (
    *("", " ", "x" * 129, "x" * 5000, "\u0000", "\u202eevil", "é" * 200, "\uff11\uff12", "😀"),
    *("<script>alert(1)</script>", "'; DROP TABLE x; --", '"},"fd":{"outcome":"approve"}'),
    *("not a time", "2026-13-45", "2026-02-28", "2026-02-28T10:00:00+14:00", "1772323200"),
    *(0, -1, 1, 12.5, 1e308, 2**53 + 1, 2**63, 10**30, True, False, [], [1], {}, {"a": 1}),
    *("NaN", "Infinity", "1e309", " 12.50 ", "1,000.00", "usd", "EURO", "XXX", "ZWD", "JPY"),
    *("10.0.0.1", "::1", "2001:db8::1", "::ffff:8.8.8.8", "999.1.1.1", "a@b@c", "@", "+1", "001"),
)
_MALFORMED: Final[tuple[bytes | None, ...]] = (
    *(None, b"", b" ", b"null", b"[]", b"7", b'"text"', b"true", b"{}", b"{", b"}", b"\xff\xfe"),
    *(b"[" * 3000, b'{"a":' * 300 + b"1" + b"}" * 300, b"\xef\xbb\xbf{}", "{}".encode("utf-16")),
    b'{"event_id":"a"} {"event_id":"b"}',
    b'{"event_id":"\\ud800","entity_id":"c"}',
)
_DUPLICATED_KEY: Final = b'{"event_id":"twice","event_id":"again",'


@dataclass(frozen=True)
class Record:
    """One record of `transactions`.

    Attributes:
        key: Kafka's key.
        value: The raw value.
        headers: Kafka's headers.
        codec: Compression of its batch.
    """

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    codec: str


def make_records(simulated: Path) -> list[Record]:
    """Mix the end of simulated history with odd records, always the same for the same history.

    Args:
        simulated: JSON lines of `python -m producer history`.
    """
    draw = random.Random(_SEED)  # noqa: S311 - reproducible, not secret
    with simulated.open(encoding="utf-8") as lines:
        history = [json.loads(line) for line in lines][-COUNT:]
    values = itertools.islice(_values(draw, history), COUNT)
    return [
        Record(_key(draw, value), value, _headers(draw), _codec(number, value))
        for number, value in enumerate(values)
    ]


def write_records(records: Iterable[Record], path: Path) -> None:
    """Write records as JSON lines."""
    with path.open("w", encoding="ascii") as file:
        for record in records:
            headers = [[name, _text(value)] for name, value in record.headers]
            line = [_text(record.key), _text(record.value), headers, record.codec]
            file.write(json.dumps(line) + "\n")


def read_records(path: Path) -> list[Record]:
    """Read the records that `write_records` wrote."""
    records = []
    for line in path.read_text("ascii").splitlines():
        key, value, headers, codec = json.loads(line)
        pairs = tuple((name, _bytes(text) or b"") for name, text in headers)
        records.append(Record(_bytes(key), _bytes(value), pairs, codec))
    return records


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def _json(record: dict[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()


def _values(draw: random.Random, history: list[dict[str, Any]]) -> Iterator[bytes | None]:
    # Each field in turn takes each odd value, is null and is missing.
    odd = itertools.cycle(itertools.product((*_REQUIRED, *_OPTIONAL), (*_ODD_VALUES, None, ...)))
    malformed = itertools.cycle(_MALFORMED)
    earlier: list[dict[str, Any]] = []
    for told in history:
        record = {name: value for name, value in told.items() if name not in _TRUTH}
        kind = draw.random()
        if kind < 0.03:
            yield from (next(malformed) for _ in range(draw.randint(1, 3)))
        elif kind < 0.035:
            yield _DUPLICATED_KEY + _json(record)[1:]
            yield _json(record)[: draw.randint(1, 300)]
            yield _json(record | {"fd": {"outcome": "approve"}})
            yield json.dumps(record, indent=2).encode() + b"\n"
        elif kind < 0.0355:
            # Over a mebibyte unpacked; of one text, so that a batch of them stays small.
            yield _json(record | {"note": "x" * draw.choice((1_048_576, 1_300_000, 3_000_000))})
        elif kind < 0.16 and earlier:
            yield _json(_repeated(draw, draw.choice(earlier[-3000:])))
        elif kind < 0.30:
            name, value = next(odd)
            changed = record | {name: value}
            if value is ...:
                del changed[name]
            yield _json(changed)
        elif kind < 0.36:
            names = draw.sample(_OPTIONAL, draw.randint(2, len(_OPTIONAL)))
            yield _json({name: value for name, value in record.items() if name not in names})
        elif kind < 0.37:
            yield _json(
                record | {"basket": [{"sku": "a", "price": 1.5}], "": "empty", "ünknown": None}
            )
        elif kind < 0.40:
            yield _json(
                record | {"event_time": _moved(record["event_time"], -draw.randint(0, 3 * 86_400))}
            )
        earlier.append(record)
        yield _json(record)


def _repeated(draw: random.Random, record: dict[str, Any]) -> dict[str, Any]:
    """Repeat an event: as a retry, with other content, or under another entity."""
    return record | draw.choice(
        (
            {},
            {},
            {
                "event_time": _moved(record["event_time"], draw.randint(1, 600)),
                "user_agent": "retry/1",
            },
            {"transaction_amt": round(float(record["transaction_amt"]) + 1, 2)},
            {"entity_id": "somebody-else"},
        )
    )


def _moved(event_time: str, seconds: int) -> str:
    moved = datetime.fromisoformat(event_time) + timedelta(seconds=seconds)
    return moved.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _key(draw: random.Random, value: bytes | None) -> bytes | None:
    kind = draw.random()
    if kind < 0.2:
        return None
    try:
        entity = json.loads(value or b"")["entity_id"]
    except (ValueError, KeyError, TypeError, RecursionError):
        entity = "unknown"
    return str(entity).encode("utf-8", "replace")[:200] if kind < 0.9 else b"\xff\x00key"


def _headers(draw: random.Random) -> tuple[tuple[str, bytes], ...]:
    if draw.random() < 0.9:
        return ()
    return (("trace", b"1"), ("trace", b"2"), ("error_code", b"of the sender"), ("raw", b"\xff"))


def _codec(number: int, value: bytes | None) -> str:
    if value is not None and len(value) > 1_000_000:
        return "gzip"
    return CODECS[number // _BATCH % len(CODECS)]
