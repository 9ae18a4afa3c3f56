"""Open the policy editor for a command, once the control topic was read to its end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fraud.contracts.errors import InvalidMessage
from fraud.contracts.rules import RuleSet
from fraud.decision.rule_files import RuleFileError, read_rule_file
from fraud.decision.rule_sets import InvalidRules
from fraud.kafka.control import ControlPublisher
from fraud.kafka.sync_producer import CannotPublish
from fraud.policy.editor import Conflict, NoSuch, PolicyEditor
from fraud.policy.entry_files import EntryFileError
from fraud.policy.follower import PolicyUnread, SeenPublisher, follow_policy
from fraud.policy.state import PolicyState
from fraud.runtime.command_line import failing
from fraud.runtime.lifecycle import load_settings
from fraud.runtime.logs import configure_command_logs
from fraud.runtime.settings import KafkaSettings
from fraud.security.audit import AuditLog, Author, at_the_command_line
from fraud.security.pseudonyms import PersonalDataSettings, Pseudonyms


@dataclass(frozen=True)
class PolicySession:
    """The policy editor of the user who runs the command, and the policy state.

    Attributes:
        editor: Makes changes and records them in the audit log.
        policy_state: Policy state of the control topic, which is followed during the command.
    """

    editor: PolicyEditor
    policy_state: PolicyState


def pseudonyms() -> Pseudonyms:
    """Return the hasher of personal values, or end with one clear line."""
    try:
        return Pseudonyms.of(load_settings(PersonalDataSettings))
    except ValueError as problem:
        raise failing(f"the key of personal data cannot be used: {problem}") from None


def read_file(path: Path) -> RuleSet:
    """Read a rule set from a file, or end with one clear line."""
    try:
        return read_rule_file(path.read_text("utf-8"))
    except (OSError, RuleFileError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise failing(f"{path}: {said}") from None


@contextmanager
def policy_session() -> Iterator[PolicySession]:
    """Open the policy editor; print errors of Kafka, input or policy and exit with code 2."""
    configure_command_logs()
    settings = load_settings(KafkaSettings)
    try:
        publisher = ControlPublisher(settings)
        publisher.check()
        with follow_policy(settings, service="fraudstream", stop=threading.Event()) as live:
            policy_state = live.wait_ready()
            editor = PolicyEditor(
                SeenPublisher(publisher, live),
                live.current,
                AuditLog(settings.state_dir),
                Author(at_the_command_line()),
                pseudonyms,
            )
            yield PolicySession(editor, policy_state)
    except OSError as error:
        raise failing(
            f"{error.filename}: {error.strerror}" if error.filename else str(error)
        ) from None
    except InvalidRules as error:
        raise failing(*error.problems) from None
    except InvalidMessage as error:
        raise failing(error.detail) from None
    except (PolicyUnread, CannotPublish, Conflict, EntryFileError, NoSuch, RuleFileError) as error:
        raise failing(error) from None
