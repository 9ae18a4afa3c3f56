"""An alert as an e-mail, text and HTML. Pure but for the templates it loads."""

from __future__ import annotations

from collections.abc import Sequence
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from fraud.kit.clock import to_datetime
from notifier.alerts import Alert, one_line

_TEMPLATES: Final = Environment(
    loader=PackageLoader("notifier"),
    autoescape=select_autoescape(["html.j2"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def message_id(key: bytes, sender: str) -> str:
    """Give the Message-ID of an alert: the same whenever and however often it is sent.

    Args:
        key: See `notifier.alerts.alert_key`.
        sender: Address of the sender; its domain is used.

    Example:
        >>> message_id(bytes(32), "alerts@example.com")
        '<0000000000000000000000000000000000000000@example.com>'
    """
    domain = parseaddr(sender)[1].rpartition("@")[2] or "localhost"
    return f"<{key.hex()[:40]}@{domain}>"


def render_alert(
    key: bytes, alert: Alert, *, sender: str, recipients: Sequence[str], sent_at_ms: int
) -> EmailMessage:
    """Write the mail for an alert.

    Args:
        key: See `notifier.alerts.alert_key`.
        alert: What to say.
        sender: Address of the sender.
        recipients: Addresses, at least one.
        sent_at_ms: For the header Date, UTC epoch milliseconds.
    """
    mail = EmailMessage(policy=SMTP)
    score = "no score" if alert.score is None else f"score {alert.score}"
    mail["Subject"] = one_line(
        f"Payment blocked: {alert.amount} {alert.currency}, {score}, event {alert.event_id}", 150
    )
    mail["From"] = sender
    mail["To"] = ", ".join(recipients)
    mail["Date"] = format_datetime(to_datetime(sent_at_ms))
    mail["Message-ID"] = message_id(key, sender)
    mail["Auto-Submitted"] = "auto-generated"
    facts = (
        ("Event", alert.event_id),
        ("When", alert.event_time),
        ("Where", alert.place),
        ("IP", alert.ip_address),
        ("Merchant", alert.merchant),
        ("Category", alert.product_category),
        ("Channel", alert.channel),
        ("Customer", alert.entity),
        ("Name", alert.customer_name),
        ("E-mail", alert.email_address),
    )
    shown = [(name, value) for name, value in facts if value]
    mail.set_content(
        _TEMPLATES.get_template("alert.txt.j2").render(alert=alert), cte="quoted-printable"
    )
    mail.add_alternative(
        _TEMPLATES.get_template("alert.html.j2").render(alert=alert, facts=shown),
        subtype="html",
        cte="quoted-printable",
    )
    return mail
