"""What the audit log records of a change: names and numbers, and hashes of texts and values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from afd.catalogue import Catalogue
from afd.declarations import ResourceType
from afd.operations import Request
from fraud.policy.audit_content import MAX_HASHES, list_on_record, text_on_record, values_on_record
from fraud.security.pseudonyms import Pseudonyms

_NAMED_BY: Final = ("name", "ruleId", "detectorVersionId", "detectorId")
_TEXTS: Final = frozenset({"expression", "description", "defaultValue"})
# Five digits in a row may be personal data, such as part of a phone number.
_PLAIN: Final = re.compile(r"(?!.*[0-9]{5})[A-Za-z0-9_.:-]{1,128}", re.ASCII)
_THINGS: Final = (
    ("List", ResourceType.LIST),
    ("DetectorVersion", ResourceType.DETECTOR_VERSION),
    ("Detector", ResourceType.DETECTOR),
    ("Rule", ResourceType.RULE),
    ("Variable", ResourceType.VARIABLE),
    ("Outcome", ResourceType.OUTCOME),
    ("Label", ResourceType.LABEL),
    ("EntityType", ResourceType.ENTITY_TYPE),
    ("EventType", ResourceType.EVENT_TYPE),
)
"""Resource type of an operation by a part of the operation's name; the first match counts."""
_OF_DETECTORS: Final = (ResourceType.RULE, ResourceType.DETECTOR_VERSION)


class AuditContent:
    """Derives what the audit log records of a change.

    Args:
        catalogue: Declarations and policy state before the change.
        pseudonyms: Hashes personal values.
    """

    def __init__(self, catalogue: Catalogue, pseudonyms: Pseudonyms) -> None:
        self._catalogue = catalogue
        self._pseudonyms = pseudonyms
        self._declarations = catalogue.declarations

    def target(self, request: Request) -> str:
        """Return the path of the resource that a request changes, such as `detector/rule`."""
        return "/".join(map(self._name, reversed(_named(request)))) or "variables"

    def before(self, operation: str, request: Request) -> dict[str, Any] | None:
        """Return the log's view of the resource before a change; None if it does not exist yet."""
        policy_state, (name, *_) = self._catalogue.policy_state(), (*_named(request), "")
        if operation == "UpdateDetectorVersionStatus":
            # Activating a version replaces the rule set that is active before.
            return {"active": policy_state.active_rules.version}
        thing = next((thing for suffix, thing in _THINGS if suffix in operation), None)
        if thing is ResourceType.LIST:
            state = policy_state.lists().get(name)
            return None if state is None else list_on_record(self._pseudonyms, state)
        key = "/".join(reversed(_named(request)[:2])) if thing in _OF_DETECTORS else name
        known = self._declarations.get(thing, key) if thing else None
        return None if known is None else self.after(known)

    def after(self, members: Mapping[str, Any]) -> dict[str, Any]:
        """Return the log's view of a request: names, numbers, and hashes of texts and values."""
        return {name: self._one(name, value) for name, value in members.items() if name != "tags"}

    def _one(self, name: str, value: Any) -> Any:
        match value:
            case str() if name in _TEXTS:
                return text_on_record(self._pseudonyms, value)
            case str():
                return self._name(value)
            case [*values] if name == "elements":
                # Elements of any list type may be personal data.
                return values_on_record(self._pseudonyms, "entity_id", values)
            case [*values]:
                return [self._one(name, element) for element in values[:MAX_HASHES]]
            case dict():
                return self.after(value)
        return value

    def _name(self, text: str) -> str:
        """Return an identifier unchanged; hash any other text, as it may be personal data."""
        return text if _PLAIN.fullmatch(text) else text_on_record(self._pseudonyms, text)


def _named(request: Request) -> list[str]:
    """Return the names that identify the resource of a request, innermost first."""
    rule = request.get("rule") or {}
    return [str(part) for name in _NAMED_BY if (part := request.get(name) or rule.get(name))]
