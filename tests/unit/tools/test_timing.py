"""How long commands take."""

from __future__ import annotations

import sys

import pytest

from tools.timing import Run, main, median


@pytest.mark.parametrize(
    ("clock_s", "expected"), [([3.0], 3.0), ([1.0, 9.0, 2.0], 2.0), ([4.0, 1.0], 4.0)]
)
def test_the_median_is_one_of_the_runs(clock_s: list[float], expected: float) -> None:
    assert median([Run(seconds, 0.0) for seconds in clock_s]).clock_s == expected


def test_a_command_is_run_as_often_as_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["timing", "--runs", "3", sys.executable, "-c", "pass"])
    assert main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "run 1 of 3",
        "run 2 of 3",
        "run 3 of 3",
        "median of 3",
    ]


def test_a_failure_ends_the_runs_and_is_returned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-c", "raise SystemExit(5)"]
    monkeypatch.setattr(sys, "argv", ["timing", "--runs", "3", *command])
    assert main() == 5
    assert len(capsys.readouterr().out.splitlines()) == 1
