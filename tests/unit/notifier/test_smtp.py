"""What a mail server answers becomes the right verdict, in a real SMTP conversation."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from email.policy import SMTP as WIRE
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from pydantic import SecretStr

from devstack.ports import free_ports
from fraud.runtime.settings import SmtpSettings
from notifier import smtp
from notifier.channels import MessageRefused, ServerUnavailable, TryLater, Unanswered, Unreachable
from notifier.smtp import SmtpServer


class Script:
    """Answers as told: by the step of the conversation, then by the recipient."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}
        self.taken = 0
        self.contents: list[Any] = []
        self.until: Callable[[], bool] = lambda: True
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
        self.contents.append(envelope.content)
        if answer == "hang up":
            server.transport.close()
            return "250 OK"
        if answer == "wait":
            deadline = time.monotonic() + 30
            while not self.until() and time.monotonic() < deadline:
                await asyncio.sleep(0.01)
            answer = "250 OK"
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


def send(server: SmtpServer, recipient: str = "Team <team@example.com>") -> None:
    mail = EmailMessage(policy=WIRE)
    mail["Subject"] = "test"
    mail.set_content("test\n.\n..dots\nend")
    server.send(mail.as_bytes(), sender="Alerts <alerts@example.com>", recipient=recipient)


def test_one_session_carries_several_mails(settings: SmtpSettings, script: Script) -> None:
    """Connecting for each would cost more than the mail."""
    server = SmtpServer(settings)
    for _ in range(3):
        send(server)
    server.rest()
    assert script.taken == 3
    assert len(script.sessions) == 1


@pytest.mark.parametrize("step", ["MAIL", "team@example.com", "DATA"])
@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("451 later", TryLater),
        ("552 too big", MessageRefused),
        ("421 going down", ServerUnavailable),
    ],
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
    send(server)
    server.rest()


@pytest.mark.parametrize("answer", ["550 no such sender", "553 not yours", "501 bad address"])
def test_a_refused_sender_is_about_the_server(
    settings: SmtpSettings, script: Script, answer: str
) -> None:
    """Every mail has it: alerts wait until the setting is mended, and none is a dead letter."""
    server = SmtpServer(settings)
    script.answers = {"MAIL": answer}
    with pytest.raises(ServerUnavailable, match=f"{answer[:3]} for the sender"):
        send(server)
    script.answers = {}
    send(server)
    server.rest()


def test_a_line_that_begins_with_a_dot_arrives(settings: SmtpSettings, script: Script) -> None:
    """A dot alone ends a mail, unless it is doubled on the wire."""
    server = SmtpServer(settings)
    send(server)
    server.rest()
    assert script.contents[0].endswith(b"test\r\n.\r\n..dots\r\nend\r\n")


def test_the_answer_to_a_whole_mail_is_waited_for(settings: SmtpSettings, script: Script) -> None:
    """Content filters take longer than all else; the next mail is not waited for so long."""
    server = SmtpServer(settings)

    def timeout_s() -> float | None:
        return server._session.sock.gettimeout() if server._session and server._session.sock else 0

    script.answers = {"DATA": "wait"}
    script.until = lambda: timeout_s() == 600
    send(server)
    assert script.taken == 1
    assert timeout_s() == 15
    server.rest()


@pytest.mark.parametrize("answer", ["wait", "hang up"])
def test_no_answer_to_a_whole_mail_is_told_apart(
    settings: SmtpSettings,
    script: Script,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
) -> None:
    """The server may have taken it: each further try may be one more copy."""
    monkeypatch.setattr(smtp, "_ACCEPTANCE_TIMEOUT_S", 0.05)
    server = SmtpServer(settings)
    script.answers = {"DATA": answer}
    go_on = threading.Event()
    script.until = go_on.is_set
    with pytest.raises(Unanswered, match="SMTPServerDisconnected"):
        send(server)
    go_on.set()
    script.answers = {}
    send(server)
    server.rest()


def test_asking_for_sign_in_is_about_the_server(settings: SmtpSettings, script: Script) -> None:
    """Our missing password must not mark every alert as failed."""
    server = SmtpServer(settings)
    script.answers = {"MAIL": "530 authentication required"}
    with pytest.raises(ServerUnavailable):
        send(server)


def test_a_refused_recipient_is_about_that_recipient(
    settings: SmtpSettings, script: Script
) -> None:
    """Others get theirs."""
    server = SmtpServer(settings)
    script.answers = {"b@example.com": "550 never", "c@example.com": "451 later"}
    with pytest.raises(MessageRefused, match="550"):
        send(server, "b@example.com")
    with pytest.raises(TryLater, match="451"):
        send(server, "c@example.com")
    send(server, "a@example.com")
    assert script.taken == 1
    server.rest()


def test_an_address_that_the_server_cannot_take_holds_up_nobody(script: Script) -> None:
    """Letters beyond ASCII need a server that says it takes them."""
    controller = Controller(
        script,
        hostname="127.0.0.1",
        port=free_ports(1, "127.0.0.1")[0],
        enable_SMTPUTF8=False,
    )
    controller.start()
    server = SmtpServer(SmtpSettings(smtp_host="127.0.0.1", smtp_port=controller.port))
    with pytest.raises(MessageRefused, match="SMTPUTF8"):
        send(server, "jürgen@example.com")
    send(server)
    server.rest()
    controller.stop()
    assert script.taken == 1


def test_a_server_that_is_not_there_is_unavailable() -> None:
    """A refused connection is not an error of the mail."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = SmtpServer(SmtpSettings(smtp_host="127.0.0.1", smtp_port=port))
    with pytest.raises(Unreachable, match="ConnectionRefusedError"):
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
    send(server)
    server.rest()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    """A certificate authority of ours, and its file."""
    authority = trustme.CA()
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return authority, path


# It does not know that the whole connection is encrypted.
@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize(
    ("password", "trusted", "problem"),
    [("right", True, None), ("wrong", True, "535"), ("right", False, "SSLCertVerificationError")],
)
def test_encrypted_and_signed_in(
    security: str,
    password: str,
    trusted: bool,
    problem: str | None,
    authority: tuple[trustme.CA, Path],
    script: Script,
) -> None:
    """By both ways of TLS: a wrong password or an unknown certificate is about the server."""
    signed_in: list[bytes] = []

    def authenticate(server: Any, session: Any, envelope: Any, kind: str, data: Any) -> AuthResult:
        signed_in.append(data.password)
        return AuthResult(success=data == LoginPassword(b"fraud", b"right"), handled=False)

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority[0].issue_cert("127.0.0.1").configure_cert(context)
    by_start = security == "starttls"
    controller = Controller(
        script,
        hostname="127.0.0.1",
        port=free_ports(1, "127.0.0.1")[0],
        ssl_context=None if by_start else context,
        tls_context=context if by_start else None,
        require_starttls=by_start,
        auth_required=True,
        auth_require_tls=by_start,
        authenticator=authenticate,
    )
    controller.start()
    server = SmtpServer(
        SmtpSettings(
            smtp_host="127.0.0.1",
            smtp_port=controller.port,
            smtp_security=security,  # type: ignore[arg-type]
            smtp_username="fraud",
            smtp_password=SecretStr(password),
            smtp_ca_certs=str(authority[1]) if trusted else "",
        )
    )
    try:
        if problem is None:
            send(server)
        else:
            with pytest.raises(ServerUnavailable, match=problem):
                send(server)
        server.rest()
    finally:
        controller.stop()
    assert script.taken == (problem is None)
    assert bool(signed_in) == trusted
