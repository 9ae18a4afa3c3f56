"""Dead letters by the command line, on a real broker.

The story of an operator:
- a producer forgot a field, a record is broken, one is null, and one was refused twice by a restart;
- they are listed by their codes, and looked at without personal data;
- the currency is set and those that are then valid are sent back, once, whatever is run again;
- what would be refused again stays.
"""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner

from fraud.contracts import dead_letter
from fraud.contracts.errors import ErrorCode, InvalidMessage
from fraud.contracts.transaction import decode
from fraud.kafka.dead_letters import DeadLetterWriter
from fraud.kafka.group_consumer import Message
from fraud.runtime.settings import KafkaSettings
from fraud.security.audit import AuditLog
from fraudstream.cli import app
from tests.support.builders import START_MS, a_record
from tests.support.command_line import environment, make_topics, read_all

pytestmark = pytest.mark.service

NAME = "Ada Lovelace"


class Operator:
    """Runs `fraudstream dlq` as a person would; the topics are its own."""

    def __init__(self, servers: str, folder: Path) -> None:
        self.servers = servers
        self.env = environment(servers, folder, folder.name.replace("_", "-"))
        make_topics(self.env)

    def run(self, *arguments: str, code: int = 0) -> str:
        made = CliRunner().invoke(app, ["dlq", *arguments], env=self.env)
        assert made.exit_code == code, made.output
        return made.output

    def refuse(
        self, offset: int, code: str, value: bytes | None, key: bytes | None = None, **further: str
    ) -> None:
        """Put a record on the topic of dead letters, as the job does."""
        producer = Producer({"bootstrap.servers": self.servers})
        headers = {
            dead_letter.ERROR_CODE: code,
            dead_letter.ERROR_MESSAGE: "said by ada@example.com",
            dead_letter.SOURCE_TOPIC: "transactions",
            dead_letter.SOURCE_PARTITION: "3",
            dead_letter.SOURCE_OFFSET: str(offset),
            dead_letter.FAILED_AT: "2026-03-01T00:00:00.000Z",
            **further,
        }
        producer.produce(
            self.env["TOPIC_TRANSACTIONS_DLQ"],
            value,
            key,
            headers=[(name, text.encode()) for name, text in headers.items()],
        )
        assert producer.flush(30) == 0

    def sent_back(self) -> list:
        return read_all(self.servers, self.env["TOPIC_TRANSACTIONS"])


@pytest.fixture
def operator(kafka: str, tmp_path: Path) -> Operator:
    return Operator(kafka, tmp_path)


def without_currency(event_id: str) -> bytes:
    record = a_record(event_id=event_id, entity_id="cust-1", customer_name=NAME)
    del record["transaction_currency"]
    return orjson.dumps(record)


def test_an_operator_sends_dead_letters_back(operator: Operator, tmp_path: Path) -> None:
    """See the story above."""
    operator.refuse(1, "missing_field", without_currency("e1"), b"cust-1")
    operator.refuse(1, "missing_field", without_currency("e1"), b"cust-1")
    operator.refuse(2, "not_json", b'{"event_id": "e2", "customer_name": "Ada Lovelace"')
    operator.refuse(3, "null_value", None)
    operator.refuse(4, "missing_field", without_currency("e4"))

    rows = orjson.loads(operator.run("list", "--json"))
    assert [row["place"] for row in rows] == ["0-4", "0-3", "0-2", "0-1", "0-0"]
    assert [row["source"] for row in rows[:2]] == ["transactions-3-4", "transactions-3-3"]
    assert rows[1]["bytes"] is None
    text = operator.run("list", "--code", "missing_field", "--since", "1h", "--limit", "1")
    assert "3 missing_field" in text
    assert "0-4" in text
    assert "0-0" not in text
    assert "ada@example.com" not in text
    assert operator.run("list", "--since", "2099-01-01T00:00:00Z") == "There are none.\n"

    shown = operator.run("show", "0-0")
    assert "missing_field" in shown
    assert '"event_id": "e1"' in shown
    assert NAME not in shown
    assert NAME not in operator.run("show", "0-2")
    assert (
        operator.run("show", "0-2", "--clear")
        == '{"event_id": "e2", "customer_name": "Ada Lovelace"'
    )
    assert "no dead letter is at 0-9" in operator.run("show", "0-9", code=1)

    assert "0 sent back" in operator.run("replay")
    assert not operator.sent_back()
    would = operator.run("replay", "--set", "transaction_currency=USD", "--dry-run")
    assert "2 would be sent back" in would
    assert "1 would be dead letters again: not_json" in would
    assert "1 without a value" in would
    assert not operator.sent_back()

    assert "1 sent back" in operator.run("replay", "0-0", "--set", "transaction_currency=USD")
    everything = operator.run("replay", "--set", "transaction_currency=USD")
    assert "1 sent back to" in everything
    assert "1 sent back before" in everything
    assert "0 sent back to" in operator.run("replay", "--set", "transaction_currency=USD")

    first, second = sorted(operator.sent_back(), key=lambda record: record.value)
    assert decode(first.value).event_id == "e1"
    assert decode(second.value).transaction_currency == "USD"
    assert (first.key, second.key) == (b"cust-1", None)
    assert dict(first.headers) == {
        "replayed_from": f"{operator.env['TOPIC_TRANSACTIONS_DLQ']}-0-0".encode()
    }
    marks = {
        row["place"]: row["replayed_at"] for row in orjson.loads(operator.run("list", "--json"))
    }
    assert {place for place, at in marks.items() if at} == {"0-0", "0-1", "0-4"}

    records, _ = AuditLog(tmp_path).page(10)
    assert {record.action for record in records} == {"dlq.replayed"}
    assert records[0].after is not None
    assert records[0].after["fields_set"] == ["transaction_currency"]


def test_bytes_go_back_untouched(operator: Operator) -> None:
    """Without a field to set, the record that comes back is the record that was refused."""
    value = b' {"event_id":"e5", "entity_id":"c" ,"event_time":"2026-03-01T00:00:00Z","transaction_amt":1.50,"transaction_currency":"EUR"} '
    operator.refuse(5, "wrong_type", value, b"\xff\x00")
    operator.refuse(6, "not_json", b"nothing")
    assert "1 sent back" in operator.run("replay")
    assert "1 sent back" in operator.run("replay", "--force", "--code", "not_json")
    assert "1 sent back" in operator.run("replay", "0-0", "--again")
    sent = operator.sent_back()
    assert sorted(record.value for record in sent) == sorted([value, b"nothing", value])
    assert {record.key for record in sent if record.value == value} == {b"\xff\x00"}


def test_what_was_cut_is_not_sent_back(operator: Operator) -> None:
    """Its beginning is not a record, whatever the options."""
    beginning = without_currency("e7")
    operator.refuse(7, "too_large", beginning, **{dead_letter.ORIGINAL_VALUE_BYTES: "5000000"})
    done = operator.run("replay", "--force", "--set", "transaction_currency=USD")
    assert "0 sent back" in done
    assert "1 cut to what the topic takes" in done
    assert not operator.sent_back()


def test_a_label_goes_back_to_the_labels(operator: Operator) -> None:
    """As the indexer refused it, on the real broker; with its own headers and none of ours."""
    env = operator.env
    settings = KafkaSettings(
        **{name.lower(): value for name, value in env.items() if name.isupper()}
    )  # type: ignore[arg-type]
    good = b'{"event_id":"e1","label":"fraud","source":"chargeback"}'
    bad = b'{"event_id":"e1","label":"maybe"}'
    refused = [
        (
            Message(env["TOPIC_LABELS"], 0, offset, 0, b"e1", value, (("trace", b"\xff"), ("error_code", b"x"))),
            InvalidMessage(ErrorCode.WRONG_TYPE, "label: expected fraud or legitimate", "label"),
        )
        for offset, value in enumerate((good, bad))
    ]  # fmt: skip
    DeadLetterWriter(settings, clock=lambda: START_MS).write(refused)
    assert env["TOPIC_LABELS"] + "-0-1" in operator.run("list", "--json")
    done = operator.run("replay")
    assert f"1 sent back to {env['TOPIC_LABELS']}" in done
    assert "1 would be dead letters again: wrong_type" in done
    (record,) = read_all(operator.servers, env["TOPIC_LABELS"])
    assert (record.key, record.value) == (b"e1", good)
    assert dict(record.headers) == {"trace": b"\xff", "replayed_from": f"{env['TOPIC_TRANSACTIONS_DLQ']}-0-0".encode()}  # fmt: skip
    assert not operator.sent_back()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "--code", "odd"], "--code: expected one of"),
        (["list", "--since", "soon"], "--since: expected a time"),
        (["show", "17"], "expected PARTITION-OFFSET"),
        (["replay", "--set", "currency"], "--set: expected FIELD=VALUE"),
    ],
)
def test_what_is_wrong_is_said(arguments: list[str], said: str) -> None:
    made = CliRunner().invoke(app, ["dlq", *arguments])
    assert made.exit_code == 2
    assert said in made.output
