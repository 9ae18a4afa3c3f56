"""Injections on their way to the running stream."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from producer.injected import InjectionLog, control_record, read_control
from producer.injections import Injection
from producer.reactions import read_log

T0 = 20_700 * 86_400_000
ONE = Injection("campaign", "card_testing", "one", 2.0, T0, 10)


def test_a_record_is_read_as_it_was_written() -> None:
    key, value = control_record(ONE, "me", "2026-09-04T00:00:00Z")
    assert key == b"campaign/one/1"
    assert read_control(key, value) == ONE
    stopped = replace(ONE, stopped_ms=T0 + 5)
    key, value = control_record(stopped, "me", "2026-09-04T00:00:00Z")
    assert key == b"campaign/one/2"
    assert read_control(key, value) == stopped


@pytest.mark.parametrize("key", [b"model/champion/abc", None, b"campaign/one"])
def test_records_of_other_kinds_are_passed_over(key: bytes | None) -> None:
    assert read_control(key, b"{}") is None


@pytest.mark.parametrize("value", [None, b"not JSON", b"{}", b'{"content":{"kind":"x"}}'])
def test_a_wrong_record_is_refused(value: bytes | None) -> None:
    with pytest.raises(ValueError, match=r"content|start|JSON|unexpected"):
        read_control(b"campaign/one/1", value)


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
