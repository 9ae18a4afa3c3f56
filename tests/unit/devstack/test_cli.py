"""How devstack's commands end."""

from __future__ import annotations

import pytest

from devstack.cli import plainly
from devstack.errors import DevstackError


def test_what_is_missing_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error, with exit code 1; of a missing package, the lazy group tells."""

    def command() -> None:
        raise DevstackError("port 9092 is taken")

    with pytest.raises(SystemExit, match="1"):
        plainly(command)()
    assert capsys.readouterr().err == "fraudstream: port 9092 is taken\n"
