"""An alert says what happened, and nothing that identifies the customer."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.contracts.decision import Outcome
from fraud.contracts.errors import InvalidMessage
from notifier.alerts import Alert, Severity, SeverityRule, alert_key, one_line, read_alert
from tests.support.builders import a_decision, a_processed, a_record


def the_alert(
    record: dict[str, Any] | None = None, decision: dict[str, Any] | None = None
) -> Alert:
    keyed = read_alert(a_processed(record, decision))
    assert keyed is not None
    return keyed.alert


@pytest.mark.parametrize("outcome", ["approve", "review"])
def test_only_a_block_is_an_alert(outcome: str) -> None:
    """Approvals and reviews alert nobody."""
    assert read_alert(a_processed(decision={"outcome": outcome})) is None


def test_a_review_is_an_alert_where_someone_asks_for_it() -> None:
    """Of low severity."""
    keyed = read_alert(
        a_processed(decision={"outcome": "review"}), outcomes={Outcome.REVIEW, Outcome.BLOCK}
    )
    assert keyed is not None
    assert (keyed.alert.outcome, keyed.alert.severity) == (Outcome.REVIEW, Severity.LOW)


@pytest.mark.parametrize(
    ("amount", "severity"),
    [(99.0, "medium"), (100.0, "high"), (None, "medium"), ("100", "medium"), (True, "medium")],
)
def test_the_amount_in_dollars_makes_a_block_high(amount: Any, severity: str) -> None:
    """By the feature that is in every decision, whatever the currency."""
    raw = a_processed(decision={"features": {"amount_base": amount}})
    keyed = read_alert(raw, severities=SeverityRule(high_amount_usd=100.0))
    assert keyed is not None
    assert keyed.alert.severity == severity


def test_a_duplicate_is_no_alert() -> None:
    """Its first sight alerted already."""
    assert read_alert(a_processed(decision={"duplicate": True})) is None


def test_an_alert_says_what_happened() -> None:
    """Amount, currency, score, reasons, rules, versions, when and where."""
    alert = the_alert({"event_id": "evt-9", "transaction_amt": "1816.335", "billing_country": "US"})
    assert (alert.event_id, alert.amount, alert.currency) == ("evt-9", "1,816.34", "USD")
    assert alert.score == 973
    assert [reason.text for reason in alert.reasons] == ["Many payments within an hour"]
    assert alert.rules == ("R002_block version 1: block",)
    assert alert.model == "champion abc123"
    assert alert.policy_version == "p-1"
    assert alert.event_time == "2026-03-01T00:00:00.000Z"
    assert alert.place == "Stockton, NY, US"


def test_an_alert_holds_no_personal_data_in_clear() -> None:
    """The ledger keeps it and the mail carries it: both outside of what protects the record."""
    text = the_alert().model_dump_json()
    for secret in ("070-69", "jasonsnyder", "lynch", "Dennis", "Zachary", "436-2616"):
        assert secret not in text
    assert "***-**-2161" in text
    assert "j***@l***.org" in text
    assert "D. E." in text


@pytest.mark.parametrize(
    ("entity_id", "shown"),
    [
        ("070.69.2161", "***-**-2161"),
        ("tenant-7 070-69-2161", "***-**-2161"),
        ("ada.king@example.com", "a***@e***.com"),
        ("ada@example.com 070-69-2161", "***-**-2161"),
        ("ada@example.com 4111111111111111", "a***@e***"),
        ("4111111111111111", "***1111"),
        ("x" * 110 + " 4111 1111 1111 1111", "***1111"),
        ("+12025550143", "***0143"),
        ("cust-0042", "cust-0042"),
    ],
)
def test_an_id_that_is_itself_personal_is_masked(entity_id: str, shown: str) -> None:
    """Wherever it is told: in what is kept of an alert there is no more of it."""
    reasons = [{"code": "R1", "text": f"Card {entity_id} is on a list"}]
    alert = the_alert({"entity_id": entity_id}, {"reasons": reasons})
    assert alert.entity == shown
    if shown != entity_id:
        assert alert.reasons[0].text == "Card [redacted] is on a list"
        assert entity_id not in alert.model_dump_json()


def test_an_id_is_judged_as_it_would_be_shown() -> None:
    """An id may read as a card number although its characters differ from one."""
    assert the_alert({"entity_id": "4111\u200b1111\u200b1111\u200b1111"}).entity == "***1111"


def test_a_reason_quotes_nobody() -> None:
    """A rule's text may hold what it compared, as it compared it."""
    reasons = [{"code": "R1", "text": "dennis  example of jasonsnyder@lynch.org, Dennis Example"}]
    alert = the_alert({"customer_name": "Dennis Example"}, {"reasons": reasons})
    assert alert.reasons[0].text == "[redacted] of [redacted], [redacted]"


def test_a_failed_scoring_has_no_score() -> None:
    """Rules may block without a score."""
    assert the_alert(decision={"score": None, "probability": None, "reasons": []}).score is None


@pytest.mark.parametrize(
    "raw",
    [
        None,
        b"",
        b"\xff",
        b"[]",
        b"{}",
        orjson.dumps({"fd": {"outcome": "block"}}),
        a_processed({"event_id": 7}),
        a_processed({"entity_id": None}),
    ],
)
def test_what_is_no_decision_is_refused(raw: bytes | None) -> None:
    """The verdict is the loop's, not a crash."""
    with pytest.raises(InvalidMessage):
        read_alert(raw)


odd_values = st.sampled_from(
    [
        None, True, 0, -1, 10**30, 1.5, 1e308, "", " ", "\n", "x" * 5000, "\u202e\u0000", "1e999",
        "070-69-2161", "@", "a@", "9999-99-99T99:99:99", [], [None], [[]], [{}], [1], ["a"],
        [{"code": None, "text": 5}], {}, {"name": []}, {"version": {"a": 1}},
    ]
)  # fmt: skip
"""What a field may hold that nobody meant it to."""


@given(
    st.dictionaries(
        st.sampled_from(
            ["score", "reasons", "rules", "model", "policy_version", "scored_at", "features", "lists"]
        ),
        odd_values,
    ),
    st.dictionaries(
        st.sampled_from(
            [
                "transaction_amt", "transaction_currency", "event_time", "email_address",
                "customer_name", "billing_city", "merchant_id", "ip_address",
            ]
        ),
        odd_values,
    ),
)  # fmt: skip
def test_no_decision_breaks_the_notifier(decision: dict[str, Any], record: dict[str, Any]) -> None:
    """Whatever the other fields hold, a block becomes an alert that the ledger can keep."""
    keyed = read_alert(_encode(record, decision))
    assert keyed is not None
    assert Alert.model_validate_json(keyed.alert.model_dump_json()) == keyed.alert


def _encode(record: dict[str, Any], decision: dict[str, Any]) -> bytes:
    """Write JSON by the standard library, whose integers have no bounds."""
    return json.dumps(a_record(**record) | {"fd": a_decision(**decision)}).encode()


@given(st.text(max_size=600))
def test_one_line_is_one_short_line(text: str) -> None:
    """No control or format characters, at most 120 characters."""
    line = one_line(text)
    assert len(line) <= 120
    assert len(line.splitlines()) <= 1
    assert not {unicodedata.category(char) for char in line} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(st.text(), st.text(), st.text(), st.text())
def test_keys_are_equal_only_for_equal_pairs(a: str, b: str, c: str, d: str) -> None:
    """Moving a character from one id to the other is another alert."""

    def key(entity_id: str, event_id: str) -> bytes:
        return alert_key({"entity_id": entity_id, "event_id": event_id})

    assert (key(a, b) == key(c, d)) == ((a, b) == (c, d))
    assert key(a + b, c) != key(a, b + c) or not b


@pytest.mark.parametrize(
    "change",
    [{"transaction_amt": 10}, {"transaction_currency": "EUR"}, {"card_bin": None}, {"merchant_id": "m-9"}],
)  # fmt: skip
def test_the_same_id_with_other_content_is_another_alert(change: dict[str, Any]) -> None:
    """A retry with a new time or spelling is not."""
    record = a_record(transaction_amt=9.5, card_bin="411111", merchant_id="m-7")
    retry = record | {
        "event_time": "2026-03-02T00:00:00Z",
        "user_agent": "x",
        "transaction_amt": "9.50",
    }
    assert alert_key(retry) == alert_key(record)
    assert alert_key(record | change) != alert_key(record)
