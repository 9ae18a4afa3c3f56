"""Everything that keeps the stack from starting is found before anything starts."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devstack import preflight
from devstack.settings import DevstackSettings


def settings(tmp_path: Path, **changed: Any) -> DevstackSettings:
    return DevstackSettings(
        _env_file=None, **{"state_dir": tmp_path / "state", "min_memory_gb": 0, "min_disk_gb": 0} | changed
    )  # fmt: skip


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_machine_that_is_fit_has_no_problems(tmp_path: Path) -> None:
    assert preflight.problems(settings(tmp_path), {}) == []


def test_a_busy_port_is_named_with_its_setting_and_owner(tmp_path: Path, taken_port: int) -> None:
    """The line must say which port, who has it, and which setting changes it."""
    (line,) = preflight.problems(settings(tmp_path), {"KAFKA_PORT": taken_port})
    assert f"port {taken_port} is in use by" in line
    assert f"(pid {os.getpid()})" in line
    assert "set KAFKA_PORT in .env" in line


def test_two_settings_with_the_same_port_are_a_problem(tmp_path: Path) -> None:
    (line,) = preflight.problems(settings(tmp_path), {"API_PORT": 20999, "FLINK_PORT": 20999})
    assert "API_PORT and FLINK_PORT" in line


def test_a_bind_host_of_another_machine_is_one_line(tmp_path: Path) -> None:
    """However many ports there are, the wrong address is said once."""
    ports = {"KAFKA_PORT": 20997, "API_PORT": 20998}
    (line,) = preflight.problems(settings(tmp_path, bind_host="192.0.2.1"), ports)
    assert "BIND_HOST 192.0.2.1" in line


@pytest.mark.parametrize(
    ("setting", "words"),
    [("min_memory_gb", "of memory are free"), ("min_disk_gb", "of disk are free")],
)
def test_too_little_memory_or_disk_is_named(tmp_path: Path, setting: str, words: str) -> None:
    (line,) = preflight.problems(settings(tmp_path, **{setting: 10**6}), {})
    assert words in line
    assert setting.upper() in line


def test_memory_and_disk_do_not_matter_without_flink(tmp_path: Path) -> None:
    chosen = settings(tmp_path, min_memory_gb=10**6, min_disk_gb=10**6)
    assert preflight.problems(chosen, {}, needs_flink=False) == []


def test_a_state_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A folder below a plain file cannot be made by anybody, root included."""
    (tmp_path / "file").touch()
    (line,) = preflight.problems(settings(tmp_path, state_dir=tmp_path / "file" / "state"), {})
    assert "cannot write to the state folder" in line
    assert "STATE_DIR" in line


def test_a_server_left_out_must_be_reachable(tmp_path: Path) -> None:
    chosen = settings(tmp_path, devstack_without="kafka", kafka_bootstrap_servers="127.0.0.1:1")
    (line,) = preflight.problems(chosen, {})
    assert "KAFKA_BOOTSTRAP_SERVERS: cannot connect to 127.0.0.1:1" in line


def test_a_server_left_out_must_have_an_address(tmp_path: Path) -> None:
    lines = preflight.problems(settings(tmp_path, devstack_without="kafka,opensearch,mail"), {})
    assert [line.split("so ")[1].split()[0] for line in lines] == [
        "KAFKA_BOOTSTRAP_SERVERS",
        "OPENSEARCH_URL",
        "SMTP_HOST",
    ]


def test_a_server_left_out_and_reachable_is_fine(tmp_path: Path, taken_port: int) -> None:
    chosen = settings(
        tmp_path,
        devstack_without="kafka",
        kafka_bootstrap_servers=f"127.0.0.1:{taken_port},127.0.0.1:1",
    )
    assert preflight.problems(chosen, {}) == []


def test_an_address_elsewhere_without_leaving_out_the_server_is_a_contradiction(
    tmp_path: Path,
) -> None:
    """Else somebody would wonder for long why their own broker gets nothing."""
    (line,) = preflight.problems(settings(tmp_path, opensearch_url="https://search.example"), {})
    assert "add opensearch to DEVSTACK_WITHOUT" in line
