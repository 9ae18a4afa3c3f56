"""Changes of the champion: they are recorded in the audit log, and running services are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fraud.contracts.control import ControlDocument
from fraud.contracts.decision import ModelRef
from fraud.contracts.versions import shown
from fraud.kafka.control import ControlPublisher
from fraud.kafka.sync_producer import CannotPublish
from fraud.policy.editor import PolicyEditor
from fraud.policy.state import PolicyState
from fraud.runtime.lifecycle import load_settings
from fraud.runtime.logs import configure_command_logs
from fraud.security.audit import AuditLog, Author, at_the_command_line
from fraud.security.pseudonyms import PersonalDataSettings, Pseudonyms
from model.registry import NoSuchModel, Registry
from model.settings import PromoteSettings, TrainSettings


class _Offline:
    """Publishes nothing: services read the champion when they start."""

    def publish(self, document: ControlDocument) -> None:
        """Accept a document without publishing it."""


def champion_editor(settings: TrainSettings, *, offline: bool) -> PolicyEditor:
    """Return the policy editor of a command, before the registry changes.

    Raises:
        CannotPublish: No broker answers, so running services could not be told.
    """
    publisher: ControlPublisher | _Offline = _Offline()
    if not offline:
        publisher = ControlPublisher(load_settings(PromoteSettings))
        publisher.check()
    return PolicyEditor(
        publisher,
        PolicyState,
        AuditLog(settings.state_dir),
        Author(at_the_command_line()),
        lambda: Pseudonyms.of(load_settings(PersonalDataSettings)),
    )


@contextmanager
def promoting(
    editor: PolicyEditor, models: Registry, ref: ModelRef
) -> Iterator[Callable[[], None]]:
    """Record a promotion in the audit log; in the block, make the model the registry's champion.

    Yields:
        Function that then tells running services.
    """
    configure_command_logs()
    try:
        before = models.champion_ref()
    except NoSuchModel:
        before = None
    with editor.promoting(before, ref) as tell:

        def told() -> None:
            try:
                tell()
            except CannotPublish as error:
                raise CannotPublish(
                    f"{ref.name}@{shown(ref.version)} is the registry's champion, but running services "
                    f"were not told: {error} Then: fraudstream promote {ref.name}@{shown(ref.version)}"
                ) from None

        yield told
