"""Where the command line finds the editor: the topic read to its end, and a way to publish to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fraud.runtime.command_line import failing

if TYPE_CHECKING:
    from fraud.policy.editor import PolicyEditor
    from fraud.policy.state import PolicyState
    from fraud.security.pseudonyms import Pseudonyms


@dataclass(frozen=True)
class PolicySession:
    """The policy editor of whoever runs the command, and the policy state.

    Attributes:
        editor: Where things are changed, on record.
        policy_state: What the topic said when the command began.
    """

    editor: PolicyEditor
    policy_state: PolicyState


def pseudonyms() -> Pseudonyms:
    """Return what hashes personal values of a change."""
    from fraud.runtime.lifecycle import load_settings
    from fraud.security.pseudonyms import PersonalDataSettings, Pseudonyms

    try:
        return Pseudonyms.of(load_settings(PersonalDataSettings))
    except ValueError as problem:
        raise failing(f"the key of personal data cannot be used: {problem}") from None


@contextmanager
def policy_session() -> Iterator[PolicySession]:
    """Open the editor; end with one clear line and exit code 2 when something is not as needed."""
    import threading

    from fraud.contracts.errors import InvalidMessage
    from fraud.decision.rule_files import RuleFileError
    from fraud.decision.rule_sets import InvalidRules
    from fraud.kafka.control import ControlPublisher
    from fraud.kafka.sync_producer import CannotPublish
    from fraud.policy.editor import Conflict, NoSuch, PolicyEditor
    from fraud.policy.entry_files import EntryFileError
    from fraud.policy.follower import PolicyFollower, PolicyUnread, SeenPublisher
    from fraud.runtime.lifecycle import load_settings
    from fraud.runtime.logs import configure_command_logs
    from fraud.runtime.settings import KafkaSettings
    from fraud.security.audit import AuditLog, Author, at_the_command_line
    from fraudstream.environment import complete_environment

    complete_environment()
    configure_command_logs()
    settings = load_settings(KafkaSettings)
    try:
        publisher = ControlPublisher(settings)
        publisher.check()
        with PolicyFollower(settings, service="fraudstream", stop=threading.Event()) as live:
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
