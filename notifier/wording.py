"""Renders the text of messages from templates, built-in or the user's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import structlog
from jinja2 import (
    BaseLoader,
    ChoiceLoader,
    Environment,
    FileSystemLoader,
    PackageLoader,
    StrictUndefined,
    TemplateError,
    select_autoescape,
)

from dashboards.panels import Index
from dashboards.saved_objects import index_pattern_id
from fraud.contracts.decision import Outcome
from notifier.alerts import Alert, ReasonLine, Severity, one_line
from notifier.ledger import OutgoingMessage
from notifier.planning import MessageKind

_TEMPLATE_OF: Final = {
    MessageKind.ALERT: "alert",
    MessageKind.DIGEST: "digest",
    MessageKind.SUMMARY: "summary",
    MessageKind.QUIET: "summary",
}
PARTS: Final = ("subject.j2", "txt.j2", "html.j2", "slack.j2")
"""Suffixes of a message's templates: subject, text and HTML of mails; Slack's text."""
_MAX_SUBJECT: Final = 150
_PATTERN: Final = index_pattern_id(Index.DECISIONS)
_TOP: Final = 5

_log = structlog.get_logger("notifier")


class TemplatesError(ValueError):
    """A template of the user is invalid; the text names the file."""


@dataclass(frozen=True, slots=True)
class Links:
    """Builds the links in messages.

    Attributes:
        public_url: Address of the API, which serves the live page; empty = no link.
        dashboards_url: Address of OpenSearch Dashboards; empty = no link.
    """

    public_url: str = ""
    dashboards_url: str = ""

    def live(self, alert: Alert | None = None) -> str:
        """Return the address of the live page, opened at the alert's event if one is given."""
        if not self.public_url:
            return ""
        # Browsers do not send the fragment, so the id does not end up in server logs.
        fragment = f"#{urlencode({'event': alert.event_id})}" if alert else ""
        return f"{self.public_url}/live{fragment}"

    def dashboards(self, alert: Alert | None = None) -> str:
        """Return the address of Dashboards, or of its search for the alert's event."""
        if not self.dashboards_url or alert is None:
            return self.dashboards_url
        # The query is KQL, which escapes " with \, inside rison, which escapes ! and ' with !.
        query = 'event_id:"' + alert.event_id.replace("\\", "\\\\").replace('"', '\\"') + '"'
        text = query.replace("!", "!!").replace("'", "!'")
        parts = {
            "_a": f"(metadata:(indexPattern:'{_PATTERN}',view:discover))",
            "_g": "(time:(from:now-90d,to:now))",
            "_q": f"(filters:!(),query:(language:kuery,query:'{text}'))",
        }
        state = "&".join(f"{name}={quote(part, safe='(),:!')}" for name, part in parts.items())
        return f"{self.dashboards_url}/app/data-explorer/discover#?{state}"


def _slack(value: Any) -> str:
    """Escape characters that Slack reads as markup."""
    text = str(value)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _environments(folder: Path | None) -> tuple[Environment, Environment]:
    """Return two environments of the same templates: for text and HTML, and for Slack's escapes."""
    ours = PackageLoader("notifier")
    loader: BaseLoader = ChoiceLoader([FileSystemLoader(folder), ours]) if folder else ours

    def make(finalize: Callable[[Any], Any] | None) -> Environment:
        return Environment(
            loader=loader,
            autoescape=select_autoescape(["html.j2"]),
            undefined=StrictUndefined,
            finalize=finalize,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    return make(None), make(_slack)


@dataclass(frozen=True, slots=True)
class Wording:
    """Rendered text of an e-mail.

    Attributes:
        subject: Subject, one line.
        text: Body as plain text.
        html: Body as HTML.
    """

    subject: str
    text: str
    html: str


class Templates:
    """Renders messages from templates.

    Args:
        links: Builds the links in messages.
        folder: Folder of the user's templates, which replace built-in ones of the same name.
        limits: Messages per hour by destination id; summaries mention the limit.

    Raises:
        TemplatesError: A file in the folder is not a valid template, or cannot render a message.
    """

    def __init__(
        self, links: Links, folder: Path | None = None, limits: Mapping[str, int] | None = None
    ) -> None:
        self._links = links
        self._limits = limits or {}
        self._ours = _environments(None)
        self._text, self._slack = self._ours
        if folder is not None:
            self._text, self._slack = _environments(folder)
            self._check(folder)

    def mail(self, message: OutgoingMessage) -> Wording:
        """Render subject, text and HTML of an e-mail."""
        return Wording(
            one_line(self._render(message, "subject.j2"), _MAX_SUBJECT),
            self._render(message, "txt.j2"),
            self._render(message, "html.j2"),
        )

    def slack(self, message: OutgoingMessage) -> str:
        """Render a message as text for Slack, escaped."""
        return self._render(message, "slack.j2")

    def subject(self, message: OutgoingMessage) -> str:
        """Render the subject line of a message."""
        return one_line(self._render(message, "subject.j2"), _MAX_SUBJECT)

    def _render(self, message: OutgoingMessage, part: str) -> str:
        """Render one part; fall back to the built-in template if the user's fails."""
        at = 1 if part == "slack.j2" else 0
        environment = (self._text, self._slack)[at]
        name = f"{_TEMPLATE_OF[message.kind]}.{part}"
        context = self._context(message)
        try:
            return environment.get_template(name).render(context)
        except Exception as error:
            if environment is self._ours[at]:
                raise
            _log.error(
                "notifier.template_failed",
                template=name,
                error=type(error).__name__,
                message=message.number,
            )
            return self._ours[at].get_template(name).render(context)

    def _context(self, message: OutgoingMessage) -> dict[str, Any]:
        alerts, first = message.alerts, message.alerts[0]
        blocked = sum(alert.outcome == Outcome.BLOCK for alert in alerts)
        reasons = Counter(
            reason.text or reason.code for alert in alerts for reason in alert.reasons[:1]
        )
        return {
            "kind": str(message.kind),
            "alerts": alerts,
            "alert": first,
            "facts": _facts(first),
            "count": len(alerts),
            "blocked": blocked,
            "reviews": len(alerts) - blocked,
            "severities": [
                (str(severity), number)
                for severity in reversed(Severity)
                if (number := sum(alert.severity == severity for alert in alerts))
            ],
            "entities": Counter(alert.entity for alert in alerts).most_common(_TOP),
            "reasons": reasons.most_common(_TOP),
            "limit": self._limits.get(message.destination, 0),
            "links": self._links,
        }

    def _check(self, folder: Path) -> None:
        if not folder.is_dir():
            raise TemplatesError(f"NOTIFIER_TEMPLATES: {folder}: expected a folder")
        known = set(PackageLoader("notifier").list_templates())
        for file in sorted(folder.glob("*.j2")):
            if file.name not in known:
                raise TemplatesError(
                    f"NOTIFIER_TEMPLATES: {file}: expected one of {', '.join(sorted(known))}"
                )
        for message in _samples():
            context = self._context(message)
            for part in PARTS:
                name = f"{_TEMPLATE_OF[message.kind]}.{part}"
                environment = self._slack if part == "slack.j2" else self._text
                try:
                    environment.get_template(name).render(context)
                except TemplateError as error:
                    line = getattr(error, "lineno", None)
                    where = f" line {line}" if line else ""
                    raise TemplatesError(
                        f"NOTIFIER_TEMPLATES: {folder / name}{where}: {error}"
                    ) from None


def _facts(alert: Alert) -> list[tuple[str, str]]:
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
        ("Lists", ", ".join(alert.lists)),
    )
    return [(name, value) for name, value in facts if value]


def sample_alert(**changes: Any) -> Alert:
    """Return an alert with made-up data, for testing channels and templates."""
    return Alert(
        event_id="sample-event", entity="sample-customer", event_time="2026-01-01T12:00:00.000Z",
        amount="1,234.50", currency="EUR", score=995,
        reasons=(ReasonLine(code="SAMPLE", text="This is a sample, no payment was made."),),
        rules=("R001_high_score version 1: block",), model="sample 000000000000",
        policy_version="sample", scored_at="2026-01-01T12:00:00.100Z", customer_name="S. C.",
        email_address="s***@e***.com", ip_address="203.0.113.7", place="Sample Town",
        merchant="sample-merchant", product_category="sample", channel="web",
        source="transactions-0-0", severity=Severity.HIGH,
    ).model_copy(update=changes)  # fmt: skip


def _samples() -> list[OutgoingMessage]:
    bare = sample_alert(
        score=None, reasons=(), rules=(), customer_name=None, email_address=None, ip_address=None,
        place=None, merchant=None, product_category=None, channel=None,
        outcome=Outcome.REVIEW, severity=Severity.LOW,
    )  # fmt: skip
    contents = {
        MessageKind.ALERT: ((sample_alert(),), (bare,)),
        MessageKind.DIGEST: ((sample_alert(), bare),),
        MessageKind.SUMMARY: ((sample_alert(), bare),),
        MessageKind.QUIET: ((bare,),),
    }
    return [
        OutgoingMessage(0, "0" * 40, "email:sample", kind, alerts, 0, 0, None)
        for kind, several in contents.items()
        for alerts in several
    ]
