"""Settings of the notifier."""

from __future__ import annotations

from collections.abc import Iterable
from email.utils import parseaddr
from pathlib import Path
from typing import Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, SecretStr, field_validator

from fraud.runtime.settings import KafkaSettings, LinkSettings, SmtpSettings
from notifier.alerts import Severity
from notifier.quiet import QuietHours

NOBODY: Final = "none"


def addresses(given: Iterable[str]) -> tuple[str, ...]:
    """Check e-mail addresses, with or without a display name, and strip surrounding spaces.

    Raises:
        ValueError: An address is malformed.
    """
    found = tuple(address.strip() for address in given)
    for address in found:
        if any(char in address for char in "\r\n") or "@" not in parseaddr(address)[1].strip("@"):
            raise ValueError("expected e-mail addresses, as in alerts@example.com")
    return found


class Settings(KafkaSettings, SmtpSettings, LinkSettings):
    """Settings of the notifier."""

    notifier_from: str = Field(
        "Fraudstream <alerts@fraudstream.example>", description="Sender of the alerts."
    )
    notifier_to: str = Field(
        "fraud-team@fraudstream.example", description="Recipients of the alerts by e-mail, comma-separated, each told by itself; none = nobody by e-mail."
    )  # fmt: skip
    notifier_webhook_url: str = Field("", description="Address that alerts are posted to as signed JSON; empty = none.")  # fmt: skip
    notifier_webhook_secret: SecretStr = Field(SecretStr(""), description="Key of those signatures: whsec_ and at least 24 bytes in base64.")  # fmt: skip
    notifier_slack_url: SecretStr = Field(SecretStr(""), description="Incoming webhook of Slack, or of what takes the same JSON; empty = none.")  # fmt: skip
    notifier_routes: Path | None = Field(None, description="TOML file that says who is told what (docs/alerts.md); empty = every channel is told of blocks.")  # fmt: skip
    notifier_digest_s: float = Field(
        300.0, ge=0, description="Seconds in which further alerts of one entity are gathered into one digest; 0 = one message per alert."
    )  # fmt: skip
    notifier_limit_per_hour: int | None = Field(
        None, ge=0, description="Most messages to one recipient in 60 minutes, more go into summaries; 0 = no limit, empty = 300, and no limit when NOTIFIER_DIGEST_S is 0."
    )  # fmt: skip
    notifier_summary_s: float = Field(
        300.0, gt=0, description="Seconds in which what is above that limit is gathered into one summary."
    )  # fmt: skip
    notifier_quiet_hours: str = Field("", description="Local times at which nobody is told, as in 22:00-07:00, comma-separated; what was held back comes afterwards in one message.")  # fmt: skip
    notifier_quiet_breakthrough: Severity | Literal["none"] = Field(
        Severity.HIGH, description="Least severity that is told in quiet hours, too: low, medium, high or none."
    )  # fmt: skip
    notifier_time_zone: str = Field("UTC", description="Time zone of quiet hours, as in Europe/Berlin.")  # fmt: skip
    notifier_templates: Path | None = Field(None, description="Folder whose files replace the templates of the same name in notifier/templates.")  # fmt: skip
    notifier_group: str = Field("notifier", min_length=1, description="Kafka consumer group.")
    notifier_ledger_days: int = Field(
        400, ge=31, description="How long a sent alert is remembered, so that a replay sends none, and how long a dead letter is kept, days."
    )  # fmt: skip
    notifier_ops_port: int = Field(
        9103, ge=0, le=65535, description="Port of the notifier's metrics and health."
    )

    @field_validator("notifier_from")
    @classmethod
    def _sender(cls, value: str) -> str:
        addresses([value])
        return value

    @field_validator("notifier_to")
    @classmethod
    def _recipients(cls, value: str) -> str:
        if value != NOBODY:
            addresses(value.split(","))
        return value

    @property
    def recipients(self) -> tuple[str, ...]:
        """Addresses in `NOTIFIER_TO`; empty when it is `none`."""
        return () if self.notifier_to == NOBODY else addresses(self.notifier_to.split(","))

    @field_validator("notifier_quiet_hours")
    @classmethod
    def _hours(cls, value: str) -> str:
        QuietHours.parse(value, ZoneInfo("UTC"))
        return value

    @field_validator("notifier_time_zone")
    @classmethod
    def _zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("expected a time zone, as in Europe/Berlin") from None
        return value
