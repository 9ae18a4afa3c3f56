"""The audit log: nothing is changed that is not on record."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from fraud.security.audit import Actor, AuditLog, Result, at_the_command_line

ADA = Actor(name="ada", key_id="key_1", role="admin", via="rest")


def test_a_change_is_on_record_before_it_is_made(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "new", lambda: 0)
    with log.change(ADA, "rule.activated", "rules/7", before={"a": 1}, request_id="r-1"):
        ((record,), _) = log.page(10)
    assert record.who == ADA
    assert (record.action, record.target, record.request_id) == ("rule.activated", "rules/7", "r-1")
    assert (record.before, record.after, record.result) == ({"a": 1}, None, Result.RECORDED)
    assert record.time.isoformat() == "1970-01-01T00:00:00+00:00"
    assert log.page(10) == ([record], None)
    assert stat.S_IMODE((tmp_path / "new" / "audit.jsonl").stat().st_mode) == 0o600


def test_a_change_that_failed_is_on_record_as_such(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    with pytest.raises(ConnectionError), log.change(ADA, "x", "y"):
        raise ConnectionError
    (failed, recorded), _ = log.page(10)
    assert failed.id == recorded.id
    assert (recorded.result, failed.result) == (Result.RECORDED, Result.FAILED)


def test_nothing_is_changed_that_cannot_be_recorded(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").mkdir()
    changed = False
    with pytest.raises(OSError), AuditLog(tmp_path).change(ADA, "x", "y"):  # noqa: PT011 - any
        changed = True
    assert not changed


def test_pages_go_back_to_the_first_record(tmp_path: Path) -> None:
    """Whatever their length; records that come meanwhile do not move them."""
    log = AuditLog(tmp_path)
    for number in range(50):
        with log.change(ADA, "x", str(number), after={"text": "y" * (number * 200)}):
            pass
    seen: list[str] = []
    cursor: int | None = None
    while True:
        page, cursor = log.page(7, cursor)
        assert len(page) <= 7
        seen += [record.target for record in page]
        with log.change(ADA, "x", "later"):
            pass
        if cursor is None:
            break
    assert seen == [str(number) for number in reversed(range(50))]


def test_a_torn_line_costs_no_other(tmp_path: Path) -> None:
    """A crash in the middle of a write."""
    log = AuditLog(tmp_path)
    assert log.page(10) == ([], None)
    with log.change(ADA, "x", "1"):
        pass
    with (tmp_path / "audit.jsonl").open("ab") as file:
        file.write(b'{"id":"torn')
    with log.change(at_the_command_line(), "x", "2"):
        pass
    page, _ = log.page(10)
    assert [record.target for record in page] == ["2", "1"]
