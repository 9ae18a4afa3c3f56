"""`up`, `status`, `logs`, `down` and `clean`, as a person runs them.

The mail catcher stands for the whole stack: it starts in a second, and the commands do not care.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from devstack import state
from devstack.ports import free_ports
from devstack.process import Identity, find_marked

pytestmark = pytest.mark.service

TIMEOUT_S = 120


@dataclass
class Project:
    """A project folder with its own ports."""

    folder: Path
    smtp_port: int
    ui_port: int

    @property
    def state_dir(self) -> Path:
        """Where its stack keeps its state."""
        return self.folder / ".fraudstream"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command in the folder."""
        return subprocess.Popen(
            [sys.executable, "-m", "devstack", *arguments],
            cwd=self.folder,
            env={name: value for name, value in os.environ.items() if not name.endswith("_PORT")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run a command; give its exit code and all that it printed."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=TIMEOUT_S)
        return process.returncode, output

    def processes(self) -> list[Identity]:
        """What runs of this project's stack."""
        record = state.read(self.state_dir)
        ours = [record.supervisor] if record and record.supervisor else []
        return [*(one for one in ours if one.is_alive()), *find_marked(str(self.state_dir))]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    smtp_port, ui_port = free_ports(2)
    (tmp_path / ".env").write_text(f"SMTP_PORT={smtp_port}\nMAIL_UI_PORT={ui_port}\n")
    project = Project(tmp_path, smtp_port, ui_port)
    yield project
    project.run("down")


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_stack_is_started_shown_stopped_and_started_again(project: Project) -> None:
    """The whole life: up, a second up, status, logs, down, and its mail is still there after."""
    code, output = project.run("up", "--only", "mail")
    assert code == 0, output
    assert f"http://127.0.0.1:{project.ui_port}" in output
    with socket.create_connection(("127.0.0.1", project.smtp_port), timeout=5) as smtp:
        file = smtp.makefile("rwb")
        for line in (
            b"",
            b"HELO me",
            b"MAIL FROM:<a@example.com>",
            b"RCPT TO:<b@example.com>",
            b"DATA",
        ):
            if line:
                file.write(line + b"\r\n")
                file.flush()
            file.readline()
        file.write(b"Subject: kept\r\n\r\nwords\r\n.\r\n")
        file.flush()
        assert file.readline().startswith(b"250")

    before = project.processes()
    code, output = project.run("up", "--only", "mail")
    assert code == 0, output
    assert "already running" in output
    code, output = project.run("up")
    assert code == 1
    assert "is running; stop it with `make down` first" in output
    assert project.processes() == before

    code, output = project.run("status")
    assert code == 0
    assert "mail" in output
    assert "ready" in output
    code, output = project.run("logs", "--no-follow", "mail")
    assert code == 0
    assert "mail.started" in output

    code, output = project.run("down")
    assert code == 0, output
    assert project.processes() == []
    assert project.run("status")[0] == 1

    assert project.run("up", "--only", "mail")[0] == 0
    messages = httpx.get(f"http://127.0.0.1:{project.ui_port}/api/v1/messages").json()["messages"]
    assert [one["Subject"] for one in messages] == ["kept"]
    assert project.run("clean")[0] == 0
    assert not project.state_dir.exists()


def test_a_busy_port_is_one_line_before_anything_starts(project: Project) -> None:
    """The line must name port, setting and process; nothing may be left running."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", project.ui_port))
        listener.listen()
        began = time.monotonic()
        code, output = project.run("up", "--only", "mail")
        assert time.monotonic() - began < 20
    assert code == 1
    (line,) = output.splitlines()
    assert f"port {project.ui_port} is in use by" in line
    assert "MAIL_UI_PORT" in line
    assert project.processes() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_an_interrupted_start_leaves_nothing_running(project: Project, number: int) -> None:
    """The start takes long, because the topics wait for a broker that is not there."""
    starting = project.start("up", "--only", "mail", "--only", "topics")
    wait_until(lambda: find_marked(str(project.state_dir)))
    starting.send_signal(number)
    output, _ = starting.communicate(timeout=TIMEOUT_S)
    assert starting.returncode == 130, output
    assert "nothing is left running" in output
    assert project.processes() == []


def test_what_a_killed_supervisor_left_is_stopped_by_down(project: Project) -> None:
    """Its services run on without it; status must say so and down must find them."""
    assert project.run("up", "--only", "mail")[0] == 0
    record = state.read(project.state_dir)
    assert record is not None
    assert record.supervisor is not None
    os.kill(record.supervisor.pid, signal.SIGKILL)
    wait_until(lambda: not record.is_supervised())
    code, output = project.run("status")
    assert code == 1
    assert "supervisor is gone" in output
    code, output = project.run("down")
    assert code == 0, output
    assert project.processes() == []


def test_what_a_killed_supervisor_left_is_replaced_by_up(project: Project) -> None:
    """A new start must not fail on the ports that its own orphans hold."""
    assert project.run("up", "--only", "mail")[0] == 0
    first = state.read(project.state_dir)
    assert first is not None
    assert first.supervisor is not None
    os.kill(first.supervisor.pid, signal.SIGKILL)
    wait_until(lambda: not first.is_supervised())
    code, output = project.run("up", "--only", "mail")
    assert code == 0, output
    second = state.read(project.state_dir)
    assert second is not None
    assert second.is_healthy()
    assert not any(one.is_alive() for one in first.processes())


def test_a_service_that_cannot_start_fails_the_start(project: Project) -> None:
    """Without a broker the topics cannot be made: up must say so, and stop the mail catcher too."""
    with (project.folder / ".env").open("a") as env:
        env.write("TOPICS_TIMEOUT_S=1\n")
    code, output = project.run("up", "--only", "topics", "--only", "mail")
    assert code == 1
    assert "topics does not start" in output
    assert project.processes() == []


def test_an_unknown_service_is_named(project: Project) -> None:
    code, output = project.run("up", "--only", "kafkaesque")
    assert code == 1
    assert "unknown service 'kafkaesque'" in output
