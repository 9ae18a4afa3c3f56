"""Injections on their way to the running stream."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fraud.contracts.control import decode_control
from fraud.contracts.errors import InvalidMessage
from fraud.kafka.control import Refused
from producer.adaptation import read_log
from producer.injection_log import InjectionLog, control_document, read_injection
from producer.injections import Injection

T0 = 20_700 * 86_400_000
NOW = datetime(2026, 9, 4, tzinfo=UTC)
ONE = Injection("campaign", "card_testing", "one", 2.0, T0, 10)


def test_a_document_is_read_as_it_was_written() -> None:
    document = control_document(ONE, "me", NOW)
    assert document.key == b"campaign/one/1"
    assert read_injection(decode_control(document.key, document.value)) == ONE
    stopped = replace(ONE, stopped_ms=T0 + 5)
    document = control_document(stopped, "me", NOW)
    assert document.key == b"campaign/one/2"
    assert read_injection(decode_control(document.key, document.value)) == stopped


@pytest.mark.parametrize("content", [{}, {"kind": "x"}, {"kind": "bust_out", "start": "soon"}])
def test_a_wrong_document_is_refused(content: dict[str, str]) -> None:
    document = control_document(ONE, "me", NOW).model_copy(update={"content": content})
    with pytest.raises(Refused, match=r"intensity|start"):
        read_injection(document)


def test_a_name_that_is_no_part_of_a_key_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="key"):
        _ = control_document(replace(ONE, name="a name"), "me", NOW).key


def test_what_was_heard_late_takes_effect_from_then_on(tmp_path: Path) -> None:
    path = tmp_path / "new" / "injections.jsonl"
    log = InjectionLog(path)
    log.hear(ONE)
    assert log.heard()
    (taken,) = log.take_up(T0 + 7_000).injections
    assert taken == replace(ONE, effective_ms=T0 + 7_000)
    assert not log.heard()
    log.hear(ONE)
    assert not log.heard(), "what is known changes nothing"
    log.hear(replace(ONE, stopped_ms=T0 + 8_000))
    (stopped,) = log.take_up(T0 + 9_000).injections
    assert stopped == replace(taken, stopped_ms=T0 + 9_000)
    assert read_log(path).injections == InjectionLog(path).take_up(0).injections == (stopped,)


def test_what_is_over_is_not_taken_up(tmp_path: Path) -> None:
    log = InjectionLog(tmp_path / "log.jsonl")
    log.hear(ONE)
    assert log.take_up(T0 + 3_600_000).injections == ()


def test_a_world_ahead_of_time_starts_it_in_its_own_time(tmp_path: Path) -> None:
    log = InjectionLog(tmp_path / "log.jsonl", lambda: 1_000_000)
    log.hear(ONE)
    (taken,) = log.take_up(T0 + 900_000).injections
    assert taken.start_ms == taken.effective_ms == T0 + 1_000_000
