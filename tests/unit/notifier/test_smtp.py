"""What a mail server answers becomes the right verdict, in a real SMTP conversation."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from fraud.kit.settings import SmtpSettings
from notifier.smtp import Refused, ServerUnavailable, SmtpServer, TryLater


class Script:
    """Answers as told: by the step of the conversation, then by the recipient."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}
        self.taken = 0
        self.sessions: set[int] = set()

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.sessions.add(id(session))
        answer = self.answers.get("MAIL", "250 OK")
        if answer.startswith("250"):
            envelope.mail_from = address
        return answer

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = self.answers.get(address, "250 OK")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        answer = self.answers.get("DATA", "250 OK")
        self.taken += answer.startswith("250")
        return answer


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def settings(script: Script) -> Iterator[SmtpSettings]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = Controller(script, hostname="127.0.0.1", port=port)
    controller.start()
    yield SmtpSettings(smtp_host="127.0.0.1", smtp_port=port)
    controller.stop()


def send(server: SmtpServer, *recipients: str) -> int:
    mail = EmailMessage()
    mail["Subject"] = "test"
    mail.set_content("test")
    return server.send(
        mail,
        sender="Alerts <alerts@example.com>",
        recipients=recipients or ("Team <team@example.com>",),
    )


def test_one_session_carries_several_mails(settings: SmtpSettings, script: Script) -> None:
    """Connecting for each would cost more than the mail."""
    server = SmtpServer(settings)
    for _ in range(3):
        assert send(server) == 0
    server.rest()
    assert script.taken == 3
    assert len(script.sessions) == 1


@pytest.mark.parametrize("step", ["MAIL", "team@example.com", "DATA"])
@pytest.mark.parametrize(
    ("answer", "verdict"),
    [("451 later", TryLater), ("550 never", Refused), ("421 going down", ServerUnavailable)],
)
def test_answers_become_verdicts(
    settings: SmtpSettings, script: Script, step: str, answer: str, verdict: type[Exception]
) -> None:
    """4xx is later, 5xx is never, 421 is about the server; and the next mail passes."""
    server = SmtpServer(settings)
    script.answers = {step: answer}
    with pytest.raises(verdict, match=answer[:3]):
        send(server)
    script.answers = {}
    assert send(server) == 0
    server.rest()


def test_asking_for_sign_in_is_about_the_server(settings: SmtpSettings, script: Script) -> None:
    """Our missing password must not mark every alert as failed."""
    server = SmtpServer(settings)
    script.answers = {"MAIL": "530 authentication required"}
    with pytest.raises(ServerUnavailable):
        send(server)


def test_some_refused_recipients_are_counted(settings: SmtpSettings, script: Script) -> None:
    """The mail is sent when one recipient gets it."""
    server = SmtpServer(settings)
    script.answers = {"b@example.com": "550 never"}
    assert send(server, "a@example.com", "b@example.com") == 1
    assert script.taken == 1
    script.answers = {"a@example.com": "451 later", "b@example.com": "550 never"}
    with pytest.raises(TryLater):
        send(server, "a@example.com", "b@example.com")
    server.rest()


def test_a_server_that_is_not_there_is_unavailable() -> None:
    """Connection refused is no error of the mail."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = SmtpServer(SmtpSettings(smtp_host="127.0.0.1", smtp_port=port))
    with pytest.raises(ServerUnavailable, match="ConnectionRefusedError"):
        send(server)


def test_a_session_that_the_server_ended_is_opened_anew(script: Script, settings: Any) -> None:
    """The try that notices says so; the next one connects."""
    server = SmtpServer(settings)
    send(server)
    assert server._session is not None
    assert server._session.sock is not None
    server._session.sock.shutdown(socket.SHUT_RDWR)
    with pytest.raises(ServerUnavailable):
        send(server)
    assert send(server) == 0
    server.rest()
