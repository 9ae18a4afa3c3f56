"""A few hundred decisions of an hour, with all that panels look at; the same for the same seed."""

from __future__ import annotations

import random

import orjson

from fraud.contracts.dead_letter import (
    ERROR_CODE,
    ERROR_MESSAGE,
    FAILED_AT,
    SOURCE_OFFSET,
    SOURCE_PARTITION,
    SOURCE_TOPIC,
)
from fraud.contracts.times import utc_text
from fraud.kafka.group_consumer import Message
from fraud.security.pseudonyms import Pseudonyms
from indexer.dead_letters import to_dead_letter
from indexer.documents import Document, to_document
from tests.support.builders import a_decision, a_record

PSEUDONYMS = Pseudonyms(b"a key of the tests, long enough to be one")
REASONS = {
    "ENTITY_TX_COUNT_1H": "7 payments within an hour.",
    "EMAIL_DOMAIN_IS_DISPOSABLE": "The e-mail address is at a throw-away provider.",
    "AMOUNT_BASE": "The amount is 1,890.00 in US dollars.",
    "IP_ENTITY_DISTINCT_24H": "4 customers paid from this IP address within a day.",
}
PLACES = [
    ("New York", "NY", "US", 40.75, -73.99), ("Austin", "TX", "US", 30.27, -97.74),
    ("Seattle", "WA", "US", 47.61, -122.33), ("Chicago", "IL", "US", 41.88, -87.63),
    ("London", None, "GB", 51.51, -0.13), ("Sao Paulo", None, "BR", -23.55, -46.63),
]  # fmt: skip
RATES = {"USD": 1.0, "EUR": 1.1, "GBP": 1.3, "XTS": None}


def processed_records(
    count: int, start_ms: int, length_ms: int, *, seed: int = 1, topic: str = "transactions"
) -> list[bytes]:
    """Make records of `processed_transactions`, spread over a range of time.

    Args:
        count: How many.
        start_ms: When the first may have come, UTC epoch milliseconds.
        length_ms: Length of the range.
        seed: Of everything that varies.
        topic: Name of the input topic; with the offset it makes the document's id.
    """
    rng = random.Random(seed)
    return [
        _record(rng, number, start_ms + rng.randrange(length_ms), topic) for number in range(count)
    ]


def _record(rng: random.Random, number: int, at_ms: int, topic: str) -> bytes:
    city, state, country, latitude, longitude = rng.choice(PLACES)
    currency = rng.choices(list(RATES), [70, 15, 10, 5])[0]
    amount = round(rng.lognormvariate(4, 1.2), 2)
    rate = RATES[currency]
    score = rng.choices(
        [rng.randrange(900), rng.randrange(900, 950), rng.randrange(950, 1001)], [88, 7, 5]
    )[0]
    outcome = "block" if score >= 950 else "review" if score >= 900 else "approve"
    rules = []
    if score >= 900:
        rules.append({"id": "R002_elevated_score", "version": 1, "outcome": "review"})
    if score >= 950:
        rules.append({"id": "R001_high_score", "version": 1, "outcome": "block"})
    reasons = rng.sample(sorted(REASONS), rng.randrange(1, 4)) if outcome != "approve" else []
    decision = a_decision(
        outcome=outcome,
        outcomes=[rule["outcome"] for rule in rules] or [outcome],
        score=score,
        probability=round(score / 1000, 4),
        reasons=[
            {"code": code, "text": REASONS[code], "contribution": round(2.0 / at, 3)}
            for at, code in enumerate(reasons, 1)
        ],
        rules=rules,
        model={"name": "fraud", "version": rng.choices(["fc26b93dab1d", "0a41c6e2b7f3"], [3, 1])[0]},
        features={
            "amount_base": None if rate is None else round(amount * rate, 2),
            "entity_tx_count_1h": float(rng.randrange(1, 9)),
        },
        scored_at=utc_text(at_ms + rng.randrange(5, 120)),
        frauddetector_time=round(rng.uniform(0.4, 6), 3),
        proc_time=float(rng.randrange(5, 80)),
        ttdf=float(rng.randrange(80, 400)),
        source={"topic": topic, "partition": number % 4, "offset": number // 4, "timestamp_ms": at_ms},
    )  # fmt: skip
    if rng.random() < 0.4:
        challenger = rng.choices([outcome, "approve", "review"], [90, 5, 5])[0]
        decision["shadow"] = {
            "outcome": challenger,
            "score": max(0, min(1000, score + rng.randrange(-30, 30))),
            "probability": 0.2,
            "model": {"name": "fraud", "version": "77d10b9be004"},
            "rules": [],
        }
    entity = rng.randrange(40)
    record = a_record(
        event_id=f"evt-{number:06d}",
        # Some ids are personal: the index holds their hashes.
        entity_id=f"{100 + entity}-45-{6000 + entity}" if entity % 2 else f"cust-{entity:07d}",
        event_time=utc_text(at_ms - 40),
        transaction_amt=amount,
        transaction_currency=currency,
        ip_address=f"203.0.113.{rng.randrange(60)}",
        billing_city=city,
        billing_state=state,
        billing_country=country,
        billing_latitude=latitude + rng.uniform(-0.2, 0.2),
        billing_longitude=longitude + rng.uniform(-0.2, 0.2),
        merchant_id=f"m-{rng.randrange(30):03d}",
    )
    return orjson.dumps(record | {"fd": decision})


def documents(values: list[bytes], *, seed: int = 1) -> list[Document]:
    """Make the documents of records, some of which are labelled by now."""
    rng = random.Random(seed)
    made = []
    for value in values:
        document = to_document(value, PSEUDONYMS)
        if rng.random() < 0.2:
            is_fraud = rng.random() < (0.7 if document.body["fd"]["outcome"] == "block" else 0.05)
            document.body["label"] = {
                "label": "fraud" if is_fraud else "legitimate",
                "label_time": document.body["fd"]["scored_at"],
                "source": "analyst",
            }
        made.append(document)
    return made


def dead_letters(
    count: int, start_ms: int, length_ms: int, *, seed: int = 1, topic: str = "transactions"
) -> list[Document]:
    """Make documents of dead letters, spread over a range of time."""
    rng = random.Random(seed)
    errors = [
        ("not_json", "expected JSON in UTF-8"),
        ("missing_field", "transaction_amt: expected a value, it is missing"),
        ("wrong_type", "event_time: expected ISO 8601"),
    ]
    made = []
    for number in range(count):
        code, message = rng.choices(errors, [3, 2, 1])[0]
        headers = {
            ERROR_CODE: code,
            ERROR_MESSAGE: message,
            SOURCE_TOPIC: topic,
            SOURCE_PARTITION: str(number % 4),
            SOURCE_OFFSET: str(10_000 + number),
            FAILED_AT: utc_text(start_ms + rng.randrange(length_ms)),
        }
        made.append(
            to_dead_letter(
                Message(
                    "transactions.dlq",
                    0,
                    number,
                    start_ms,
                    None,
                    b"{",
                    tuple((name, text.encode()) for name, text in headers.items()),
                )
            )
        )
    return made
