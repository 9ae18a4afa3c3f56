"""What a change of the champion entails: it goes on record, and running services are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fraud.contracts.decision import ModelRef
from fraud.kafka.control import CannotPublish, ControlPublisher
from fraud.policy.audited_editor import By, champion_on_record
from fraud.policy.editor import PolicyEditor
from fraud.policy.state import PolicyState
from fraud.runtime.lifecycle import load_settings, user_name
from fraud.runtime.logs import configure_command_logs
from fraud.security.audit import AuditLog, at_the_command_line
from model.registry import NoSuchModel, Registry
from model.settings import PromoteSettings, TrainSettings


def champion_announcer(*, offline: bool) -> Callable[[ModelRef], None]:
    """Return what tells running services of a champion.

    Called before the registry is changed, to see whether they can be told.

    Raises:
        CannotPublish: No broker answers.
    """
    if offline:
        return lambda _: None
    publisher = ControlPublisher(load_settings(PromoteSettings))
    publisher.check()
    editor = PolicyEditor(publisher, PolicyState)

    def tell(ref: ModelRef) -> None:
        try:
            editor.champion(ref, user_name())
        except CannotPublish as error:
            raise CannotPublish(
                f"{ref.name}@{ref.version} is the registry's champion, but running services were not "
                f"told: {error} Then: fraudstream promote {ref.name}@{ref.version}"
            ) from None

    return tell


@contextmanager
def on_record(settings: TrainSettings, models: Registry, ref: ModelRef) -> Iterator[None]:
    """Record that a model is to decide, then let the block see to it."""
    configure_command_logs()
    try:
        before = models.champion_ref()
    except NoSuchModel:
        before = None
    by = By(at_the_command_line())
    with champion_on_record(AuditLog(settings.state_dir), by, before, ref):
        yield
