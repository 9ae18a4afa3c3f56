"""How devstack's commands end."""

from __future__ import annotations

import pytest

from devstack.cli import plainly
from devstack.errors import DevstackError


@pytest.mark.parametrize(
    "error", [DevstackError("port 9092 is taken"), ModuleNotFoundError("No module named 'psutil'")]
)
def test_what_is_missing_is_told_in_one_line(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    """A package can be: the image `services` has the commands without devstack's extra."""

    def command() -> None:
        raise error

    with pytest.raises(SystemExit, match="1"):
        plainly(command)()
    assert capsys.readouterr().err == f"fraudstream: {error}\n"
