"""Channels, routes and limits of alerts, from the settings and an optional TOML file."""

from __future__ import annotations

import base64
import binascii
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parseaddr
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from fraud.contracts.decision import Outcome
from notifier.alerts import Alert, Severity, SeverityRule
from notifier.planning import DestinationPolicy
from notifier.quiet import QuietHours
from notifier.settings import Settings, addresses

_MAX_ALERTS: Final = {"email": 1000, "webhook": 500, "slack": 150}
"""Maximum number of alerts in one message. Slack accepts 50 blocks of 3,000 characters."""
_SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the published prefix
_MIN_SECRET_BYTES: Final = 24
_WEBHOOK_SECRET: Final = "NOTIFIER_WEBHOOK_SECRET"  # noqa: S105 - a variable's name
DEFAULT_LIMIT_PER_HOUR: Final = 300

Kind = Literal["email", "webhook", "slack"]


class RoutesError(ValueError):
    """The routes file or the channels in the settings are invalid; the text names the field."""


@dataclass(frozen=True, slots=True)
class Destination:
    """One recipient of one channel, with messages, counts and limits of its own.

    Attributes:
        id: Name in the ledger; holds no secret.
        channel: Name of the channel.
        kind: Kind of the channel.
        address: E-mail address, or URL (which is a secret).
        secret: Signing key of a webhook.
        policy: Limits of the recipient.
    """

    id: str
    channel: str
    kind: Kind
    address: str = field(repr=False)
    policy: DestinationPolicy
    secret: bytes = field(default=b"", repr=False)


def _addresses(value: Any) -> tuple[str, ...]:
    given = [value] if isinstance(value, str) else value
    if (
        not isinstance(given, list | tuple)
        or not given
        or not all(isinstance(item, str) for item in given)
    ):
        raise ValueError("expected a list of e-mail addresses, as in alerts@example.com")
    return addresses(given)


class _Channel(BaseModel):
    """Options of every channel; those not set fall back to the service's settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    digest_s: float | None = Field(None, ge=0)
    limit_per_hour: int | None = Field(None, ge=0)
    summary_s: float | None = Field(None, gt=0)
    quiet_hours: str | None = None
    quiet_breakthrough: Severity | Literal["none"] | None = None
    time_zone: str | None = None


class EmailChannel(_Channel):
    """A channel of e-mail addresses; each is a recipient of its own."""

    kind: Literal["email"]
    to: Annotated[tuple[str, ...], BeforeValidator(_addresses)]


class _HttpChannel(_Channel):
    """A URL to post to, given directly or as the name of an environment variable."""

    url: str | None = None
    url_env: str | None = None


class WebhookChannel(_HttpChannel):
    """A webhook that receives signed JSON in our own format."""

    kind: Literal["webhook"]
    secret_env: str


class SlackChannel(_HttpChannel):
    """An incoming webhook of Slack, or of a service that accepts the same JSON."""

    kind: Literal["slack"]


Channel = Annotated[EmailChannel | WebhookChannel | SlackChannel, Field(discriminator="kind")]


class Route(BaseModel):
    """A route: alerts of these outcomes and severities go to these channels."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    outcomes: frozenset[Literal[Outcome.REVIEW, Outcome.BLOCK]] = Field(
        frozenset({Outcome.BLOCK}), min_length=1
    )
    severities: frozenset[Severity] = Field(frozenset(Severity), min_length=1)
    channels: tuple[str, ...] = Field(min_length=1)


class RoutesFile(BaseModel):
    """The TOML file of channels and routes."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    severity: SeverityRule = SeverityRule()
    channels: dict[str, Channel] = {}
    routes: tuple[Route, ...] = ()


@dataclass(frozen=True, slots=True)
class Routing:
    """Which alerts go to which recipients.

    Attributes:
        destinations: All recipients, by their ids.
        routes: All routes; every route that matches an alert's outcome and severity applies.
        severities: Thresholds of high severity.
    """

    destinations: Mapping[str, Destination]
    routes: Sequence[Route]
    severities: SeverityRule

    @property
    def outcomes(self) -> frozenset[Outcome]:
        """Outcomes that at least one route sends."""
        return frozenset(outcome for route in self.routes for outcome in route.outcomes)

    def recipients(self, alert: Alert) -> list[str]:
        """Return the ids of the destinations of an alert, without duplicates."""
        channels = {
            channel
            for route in self.routes
            if alert.outcome in route.outcomes and alert.severity in route.severities
            for channel in route.channels
        }
        return [
            destination.id
            for destination in self.destinations.values()
            if destination.channel in channels
        ]

    def of_kind(self, *kinds: Kind) -> list[Destination]:
        """Return the destinations of the given kinds of channel."""
        return [
            destination for destination in self.destinations.values() if destination.kind in kinds
        ]


def load_routing(settings: Settings, environ: Mapping[str, str]) -> Routing:
    """Build the routing from the settings and the routes file, if there is one.

    Args:
        settings: Settings that declare the channels `email`, `webhook` and `slack`, and the default
            limits of all channels.
        environ: Environment variables, for the secrets and URLs that the file refers to.

    Raises:
        RoutesError: A value is invalid; the text names the field.
    """
    routes = _read(settings.notifier_routes) if settings.notifier_routes else RoutesFile()
    channels = _channels_of(settings) | dict(routes.channels)
    for route_number, route in enumerate(routes.routes):
        for name in route.channels:
            if name not in channels:
                raise RoutesError(
                    f"NOTIFIER_ROUTES: routes.{route_number}.channels: expected one of "
                    f"{', '.join(channels) or 'no channel, as none is declared'}; got {name!r}"
                )
    destinations: dict[str, Destination] = {}
    for name, channel in channels.items():
        for destination in _destinations(name, channel, settings, environ):
            known = destinations.get(destination.id)
            if known is not None:
                raise RoutesError(
                    f"NOTIFIER_ROUTES: channels.{name}.to: an address is in the channel "
                    f"{known.channel}, too; each belongs to one channel, and routes may name several"
                )
            destinations[destination.id] = destination
    default = (Route(channels=tuple(channels)),) if channels else ()
    return Routing(destinations, routes.routes or default, routes.severity)


def _read(path: Path) -> RoutesFile:
    try:
        return RoutesFile.model_validate(tomllib.loads(path.read_text("utf-8-sig")))
    except OSError as error:
        raise RoutesError(f"NOTIFIER_ROUTES: {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RoutesError(f"NOTIFIER_ROUTES: {path}: expected TOML: {error}") from None
    except ValidationError as error:
        lines = [
            f"NOTIFIER_ROUTES: {'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False)
        ]
        raise RoutesError("\n".join(lines)) from None


def _channels_of(settings: Settings) -> dict[str, EmailChannel | WebhookChannel | SlackChannel]:
    """Return the channels that the settings declare without a file."""
    found: dict[str, EmailChannel | WebhookChannel | SlackChannel] = {}
    if settings.recipients:
        found["email"] = EmailChannel(kind="email", to=settings.recipients)
    if settings.notifier_webhook_url:
        found["webhook"] = WebhookChannel(
            kind="webhook", url=settings.notifier_webhook_url, secret_env=_WEBHOOK_SECRET
        )
    if settings.notifier_slack_url.get_secret_value():
        found["slack"] = SlackChannel(
            kind="slack", url=settings.notifier_slack_url.get_secret_value()
        )
    return found


def _destinations(
    name: str,
    channel: EmailChannel | WebhookChannel | SlackChannel,
    settings: Settings,
    environ: Mapping[str, str],
) -> Iterable[Destination]:
    policy = _policy(name, channel, settings)
    if isinstance(channel, EmailChannel):
        for address in channel.to:
            own = f"email:{parseaddr(address)[1].lower()}"
            yield Destination(own, name, "email", address, policy)
        return
    secret = b""
    if isinstance(channel, WebhookChannel):
        known = {**environ}
        if settings.notifier_webhook_secret.get_secret_value():
            known[_WEBHOOK_SECRET] = settings.notifier_webhook_secret.get_secret_value()
        secret = _secret(channel.secret_env, known)
    url = _url(name, channel, environ)
    yield Destination(f"{channel.kind}:{name}", name, channel.kind, url, policy, secret)


def _url(name: str, channel: _HttpChannel, environ: Mapping[str, str]) -> str:
    place = f"channels.{name}.url"
    if (channel.url is None) == (channel.url_env is None):
        raise RoutesError(f"NOTIFIER_ROUTES: {place}: expected url or url_env, one of the two")
    url = channel.url if channel.url_env is None else environ.get(channel.url_env, "")
    if not url:
        raise RoutesError(f"environment variable {channel.url_env}: expected the URL of {name}")
    if not url.startswith(("http://", "https://")):
        raise RoutesError(f"{place}: expected an address that starts with http:// or https://")
    return url


def _secret(variable: str, environ: Mapping[str, str]) -> bytes:
    text = environ.get(variable, "")
    problem = RoutesError(
        f"environment variable {variable}: expected whsec_ and at least {_MIN_SECRET_BYTES} bytes "
        "in base64; make one with: echo whsec_$(openssl rand -base64 32)"
    )
    if not text.startswith(_SECRET_PREFIX):
        raise problem
    try:
        secret = base64.b64decode(text.removeprefix(_SECRET_PREFIX), validate=True)
    except binascii.Error:
        raise problem from None
    if len(secret) < _MIN_SECRET_BYTES:
        raise problem
    return secret


def _policy(
    name: str, channel: EmailChannel | WebhookChannel | SlackChannel, settings: Settings
) -> DestinationPolicy:
    digest_s = settings.notifier_digest_s if channel.digest_s is None else channel.digest_s
    limit = channel.limit_per_hour
    if limit is None:
        limit = settings.notifier_limit_per_hour
    if limit is None:
        # Digests are off, so one message per alert is wanted: a default limit would undo that.
        limit = DEFAULT_LIMIT_PER_HOUR if digest_s else 0
    summary_s = settings.notifier_summary_s if channel.summary_s is None else channel.summary_s
    hours = settings.notifier_quiet_hours if channel.quiet_hours is None else channel.quiet_hours
    zone = settings.notifier_time_zone if channel.time_zone is None else channel.time_zone
    least = channel.quiet_breakthrough or settings.notifier_quiet_breakthrough
    try:
        quiet = QuietHours.parse(hours, ZoneInfo(zone))
    except (ZoneInfoNotFoundError, OSError):
        raise RoutesError(
            f"channels.{name}.time_zone: expected a time zone as in Europe/Berlin"
        ) from None
    except ValueError as error:
        raise RoutesError(f"channels.{name}.quiet_hours: {error}") from None
    return DestinationPolicy(
        digest_ms=int(digest_s * 1000),
        limit_per_hour=limit,
        summary_ms=int(summary_s * 1000),
        quiet=quiet,
        breakthrough=None if least == "none" else Severity(least),
        max_alerts=_MAX_ALERTS[channel.kind],
    )
