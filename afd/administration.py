"""Operations on declarations, rules and lists; changes are audited and run one at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pydantic import ValidationError

from afd.audit_content import AuditContent
from afd.catalogue import Catalogue
from afd.declarations import DeclarationWriter
from afd.detector_versions import DetectorVersionOperations
from afd.detectors import DetectorOperations
from afd.errors import (
    ConflictException,
    InternalServerException,
    ResourceNotFoundException,
    ValidationException,
    invalid,
)
from afd.lists import ListOperations
from afd.named_resources import ENTITY_TYPES, EVENT_TYPES, LABELS, OUTCOMES, NamedResources
from afd.operations import Answer, Operation, Request, author_of, in_a_thread
from afd.rules import RuleOperations
from afd.translation import NotTranslated
from afd.variables import VariableOperations
from fraud.contracts.errors import InvalidMessage
from fraud.decision.rule_sets import InvalidRules
from fraud.kafka.sync_producer import CannotPublish
from fraud.policy.editor import Conflict, NoSuch, PolicyEditor, Publisher
from fraud.policy.follower import PolicyUnread
from fraud.runtime.clock import Clock, system_clock
from fraud.security.api_keys import Role
from fraud.security.audit import AuditLog
from fraud.security.principals import Principal
from fraud.security.pseudonyms import Pseudonyms


class Administration:
    """Handles the operations on declarations, rules and lists.

    Args:
        catalogue: Declarations and policy state.
        writer: Writes declarations.
        publisher: Writes control documents of rules and lists.
        audit: Records who changed what.
        pseudonyms: Hashes personal values for the audit log.
        clock: Returns the current time, UTC epoch milliseconds.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        writer: DeclarationWriter,
        publisher: Publisher,
        audit: AuditLog,
        pseudonyms: Pseudonyms,
        clock: Clock = system_clock,
    ) -> None:
        self._policy_state = catalogue.policy_state
        self._publisher = publisher
        self._audit = audit
        self._pseudonyms = pseudonyms
        self._audit_content = AuditContent(catalogue, pseudonyms)
        self._variables = VariableOperations(catalogue, writer)
        self._outcomes = NamedResources(OUTCOMES, catalogue, writer)
        self._labels = NamedResources(LABELS, catalogue, writer)
        self._entity_types = NamedResources(ENTITY_TYPES, catalogue, writer)
        self._event_types = NamedResources(EVENT_TYPES, catalogue, writer)
        self._rules = RuleOperations(catalogue, writer)
        self._versions = DetectorVersionOperations(catalogue, writer)
        self._detectors = DetectorOperations(catalogue, writer, self._rules, self._versions)
        self._lists = ListOperations(catalogue, writer, clock)
        # Each change is checked against the current state, so changes must not overlap.
        self._lock = threading.Lock()

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        reading: dict[str, Callable[[Request], Answer]] = {
            "GetVariables": self._variables.get,
            "BatchGetVariable": self._variables.get_batch,
            "GetOutcomes": self._outcomes.get,
            "GetLabels": self._labels.get,
            "GetEntityTypes": self._entity_types.get,
            "GetEventTypes": self._event_types.get,
            "GetDetectors": self._detectors.get,
            "DescribeDetector": self._detectors.describe,
            "GetDetectorVersion": self._versions.get,
            "GetRules": self._rules.get,
            "GetListsMetadata": self._lists.get_metadata,
            "GetListElements": self._lists.get_elements,
            # Clients may ask for external models and tags, which Fraudstream does not have.
            "GetExternalModels": lambda _: {"externalModels": []},
            "ListTagsForResource": lambda _: {"tags": []},
        }
        changing: dict[str, Callable[[Request, str], Answer]] = {
            "CreateVariable": self._variables.create,
            "BatchCreateVariable": self._variables.create_batch,
            "UpdateVariable": self._variables.update,
            "DeleteVariable": self._variables.delete,
            "PutOutcome": self._outcomes.put,
            "DeleteOutcome": self._outcomes.drop,
            "PutLabel": self._labels.put,
            "DeleteLabel": self._labels.drop,
            "PutEntityType": self._entity_types.put,
            "DeleteEntityType": self._entity_types.drop,
            "PutEventType": self._event_types.put,
            "DeleteEventType": self._event_types.drop,
            "PutDetector": self._detectors.put,
            "DeleteDetector": self._detectors.delete,
            "UpdateDetectorVersionMetadata": self._versions.update_metadata,
            "DeleteDetectorVersion": self._versions.delete,
            "CreateRule": self._rules.create,
            "UpdateRuleVersion": self._rules.update_version,
            "UpdateRuleMetadata": self._rules.update_metadata,
            "DeleteRule": self._rules.delete,
        }
        # These change lists and rule sets as well, so they get the policy editor.
        changing_policy: dict[str, Callable[[Request, PolicyEditor], Answer]] = {
            "CreateDetectorVersion": self._versions.create,
            "UpdateDetectorVersion": self._versions.update,
            "UpdateDetectorVersionStatus": self._versions.update_status,
            "CreateList": self._lists.create,
            "UpdateList": self._lists.update,
            "DeleteList": self._lists.delete,
        }
        changing_policy |= {name: _by_name(handle) for name, handle in changing.items()}
        return {
            name: Operation(Role.ANALYST, in_a_thread(_reads(handle)))
            for name, handle in reading.items()
        } | {
            name: Operation(Role.ANALYST, in_a_thread(self._changes(name, handle)))
            for name, handle in changing_policy.items()
        }

    def _changes(
        self, operation: str, handle: Callable[[Request, PolicyEditor], Answer]
    ) -> Callable[[Request, Principal], Answer]:
        def handled(request: Request, caller: Principal) -> Answer:
            author = author_of(caller)
            with (
                self._lock,
                _verdicts(),
                self._audit.change(
                    author.actor,
                    f"afd.{operation}",
                    self._audit_content.target(request),
                    before=self._audit_content.before(operation, request),
                    after=self._audit_content.after(request),
                    request_id=author.request_id,
                ) as change,
            ):
                editor = PolicyEditor(
                    self._publisher, self._policy_state, change, author, lambda: self._pseudonyms
                )
                return handle(request, editor)

        return handled


@contextmanager
def _verdicts() -> Iterator[None]:
    """Translate errors of a change into errors of the protocol."""
    try:
        yield
    except NoSuch as verdict:
        raise ResourceNotFoundException(str(verdict)) from None
    except Conflict as verdict:
        raise ConflictException(str(verdict)) from None
    except (InvalidRules, NotTranslated) as verdict:
        raise ValidationException(str(verdict)) from None
    except InvalidMessage as verdict:
        raise ValidationException(verdict.detail) from None
    except ValidationError as error:
        raise invalid(error) from None
    except (CannotPublish, PolicyUnread, OSError) as problem:
        raise InternalServerException(
            f"the change could not be made: {type(problem).__name__}"
        ) from None


def _reads(handle: Callable[[Request], Answer]) -> Callable[[Request, Principal], Answer]:
    return lambda request, _caller: handle(request)


def _by_name(
    handle: Callable[[Request, str], Answer],
) -> Callable[[Request, PolicyEditor], Answer]:
    return lambda request, editor: handle(request, editor.author.name)
