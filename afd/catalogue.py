"""Detectors, versions, rules and outcomes as AFD clients see them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from afd.declarations import Declarations, ResourceType, Value
from afd.errors import ResourceNotFoundException, ValidationException
from afd.events import DeclaredVariable, EventReader
from fraud.contracts.decision import Outcome
from fraud.contracts.rules import RuleSet, RuleStatus
from fraud.contracts.versions import EARLIER_DIGITS, same_version
from fraud.policy.history import PolicyHistory
from fraud.policy.state import PolicyState, RuleVersion
from model.datasets import ColumnMapping

OURS: Final = "fraudstream"
"""Id of the built-in detector, whose versions are the rule sets that no AFD client made."""

ENTITY_TYPE: Final = "customer"
EVENT_TYPE: Final = "transaction"
"""Types to report until a client declares some."""


@dataclass(frozen=True, slots=True)
class Place:
    """A version of a detector.

    Attributes:
        detector: Id of the detector.
        number: Number of the version, such as `1`.
    """

    detector: str
    number: str

    @property
    def key(self) -> str:
        """Key of the version among the declarations."""
        return f"{self.detector}/{self.number}"


class Catalogue:
    """Looks up what clients declared together with the policy state.

    Args:
        declarations: What clients declared.
        policy_state: Returns the current policy state, which includes past rule sets.
        history: Who changed the policy, and when.
        mapping: The mapping file, if there is one.
        chosen: Fraudstream outcomes by outcome name, from `AFD_OUTCOMES`.
    """

    def __init__(
        self,
        declarations: Declarations,
        policy_state: Callable[[], PolicyState],
        history: PolicyHistory,
        mapping: ColumnMapping | None,
        chosen: Mapping[str, Outcome],
    ) -> None:
        self.declarations = declarations
        self.policy_state = policy_state
        self.history = history
        self.mapping = mapping
        self.chosen = chosen
        self._read_with: Mapping[str, Value] | None = None
        self._reader = EventReader(mapping)

    def reader(self) -> EventReader:
        """Return a reader of events that knows the variables declared by now."""
        declared = self.declarations.all(ResourceType.VARIABLE)
        # Declarations are replaced and never changed, so a new object means a change.
        if self._read_with is not declared:
            variables = {
                name: DeclaredVariable(members.get("variableType"), members.get("defaultValue"))
                for name, members in declared.items()
            }
            self._read_with, self._reader = declared, EventReader(self.mapping, variables)
        return self._reader

    def names(self) -> dict[str, str]:
        """Return transaction fields by variable, see `EventReader.names`."""
        return self.reader().names()

    def outcomes(self, rule_id: str, version: int, outcome: str) -> Sequence[str]:
        """Return the names of the outcomes that a client gave a rule, else the Fraudstream outcome.

        If several detectors share the rule, the names of the active one count.
        """
        found = [
            detector_version
            for detector_version in self.declarations.all(ResourceType.DETECTOR_VERSION).values()
            if detector_version["rule_versions"].get(rule_id) == version
        ]
        active = self.policy_state().active_rules.version
        # False sorts first: the version that has the active rule set.
        for detector_version in sorted(
            found,
            key=lambda detector_version: (
                not same_version(detector_version["rules_version"], active)
            ),
        ):
            rule = self.declarations.get(
                ResourceType.RULE, f"{detector_version['detectorId']}/{rule_id}"
            )
            number = next(
                rule_version["ruleVersion"]
                for rule_version in detector_version["rules"]
                if rule_version["ruleId"] == rule_id
            )
            if rule is not None and number in rule["versions"]:
                outcomes: Sequence[str] = rule["versions"][number]["outcomes"]
                return outcomes
        return [outcome]

    def entity_type(self) -> str:
        """Return the entity type to report: the first declared one by name, or `ENTITY_TYPE`."""
        return min(self.declarations.all(ResourceType.ENTITY_TYPE), default=ENTITY_TYPE)

    def event_type(self) -> str:
        """Return the event type to report: the first declared one by name, or `EVENT_TYPE`."""
        return min(self.declarations.all(ResourceType.EVENT_TYPE), default=EVENT_TYPE)

    def event_type_of(self, detector: str) -> str:
        """Return the event type of a detector."""
        known = self.declarations.get(ResourceType.DETECTOR, detector)
        return str(known["eventTypeName"]) if known else self.event_type()

    def is_another_event_type(self, name: str) -> bool:
        """Whether event types were declared and this name is not among them."""
        known = self.declarations.all(ResourceType.EVENT_TYPE)
        return bool(known) and name not in known

    def detectors(self) -> list[str]:
        """Return the ids of all detectors."""
        return [*self.declarations.all(ResourceType.DETECTOR), OURS]

    def known(self, thing: ResourceType, key: str, word: str) -> Value:
        """Return a declared resource; `word` names its type in the error.

        Raises:
            ResourceNotFoundException: The resource was not declared.
        """
        found = self.declarations.get(thing, key)
        if found is None:
            raise ResourceNotFoundException(f"unknown {word}: {key}")
        return found

    def check_own(self, detector: str, *, must_exist: bool = True) -> None:
        """Check that clients may change a detector.

        Raises:
            ValidationException: The detector is `OURS`, or it must exist and does not.
        """
        if detector == OURS:
            raise ValidationException(
                f"the detector {OURS} shows the rule sets that were made elsewhere; make a detector with PutDetector"
            )
        if must_exist and self.declarations.get(ResourceType.DETECTOR, detector) is None:
            raise ValidationException(f"unknown detector {detector}: PutDetector makes it")

    def check_decides(self, detector: str, number: str | None) -> None:
        """Check that a detector exists and that its version, if one is named, is active.

        Until a detector is declared any name passes: the active rule set decides.

        Raises:
            ResourceNotFoundException: The detector or version does not exist.
            ValidationException: The version is not the active one.
        """
        if not self.declarations.all(ResourceType.DETECTOR):
            return
        if detector not in self.detectors():
            raise ResourceNotFoundException(f"unknown detector: {detector}")
        if number is None:
            return
        place = Place(detector, number)
        if self.rules_of(place) is None:
            raise ResourceNotFoundException(
                f"the detector {detector} does not have a version {number}"
            )
        if (status := self.status(place)) != RuleStatus.ACTIVE:
            raise ValidationException(
                f"version {number} of the detector {detector} is {status}: only the one that is ACTIVE decides"
            )

    def numbered(self) -> dict[str, RuleVersion]:
        """Return the rule sets that no AFD client made, numbered from 1, the oldest first."""
        theirs = {
            detector_version["rules_version"][:EARLIER_DIGITS]
            for detector_version in self.declarations.all(ResourceType.DETECTOR_VERSION).values()
        }
        own = [
            rule_set
            for rule_set in reversed(self.policy_state().rule_versions())
            if rule_set.rules.version[:EARLIER_DIGITS] not in theirs
        ]
        return {str(number): rule_set for number, rule_set in enumerate(own, start=1)}

    def place_of(self, rules_version: str | None) -> Place:
        """Return the detector version that has a rule set; of several, the highest-numbered."""
        found = [
            Place(detector_version["detectorId"], detector_version["detectorVersionId"])
            for detector_version in self.declarations.all(ResourceType.DETECTOR_VERSION).values()
            if same_version(detector_version["rules_version"], rules_version)
        ]
        if found:
            return max(found, key=lambda place: (int(place.number), place.detector))
        for number, rule_set in self.numbered().items():
            if same_version(rule_set.rules.version, rules_version):
                return Place(OURS, number)
        # A rule set that is not known any more is shown as the first one.
        return Place(OURS, "1")

    def rules_of(self, place: Place) -> RuleVersion | None:
        """Return the rule set of a detector's version, or None if it is unknown."""
        if place.detector == OURS:
            return self.numbered().get(place.number)
        known = self.declarations.get(ResourceType.DETECTOR_VERSION, place.key)
        return None if known is None else self.policy_state().rule_version(known["rules_version"])

    def status(self, place: Place) -> str:
        """Return the status of a detector's version."""
        found = self.rules_of(place)
        return RuleStatus.DRAFT.value if found is None else found.status.value

    def versions_of(self, detector: str) -> list[Place]:
        """Return a detector's versions, the newest first."""
        if detector == OURS:
            numbers = list(self.numbered())
        else:
            numbers = [
                detector_version["detectorVersionId"]
                for detector_version in self.declarations.all(
                    ResourceType.DETECTOR_VERSION
                ).values()
                if detector_version["detectorId"] == detector
            ]
        return [Place(detector, number) for number in sorted(numbers, key=int, reverse=True)]

    def rule_set(self, version: str | None) -> RuleSet | None:
        """Return a rule set by its version, or None if it is unknown."""
        found = self.policy_state().rule_version(version) if version else None
        return found.rules if found else None


def ours_of(rules: RuleSet) -> Value:
    """Return the members by which a detector's version refers to its rule set."""
    return {
        "rules_version": rules.version,
        "rule_versions": {rule.id: rule.version for rule in rules.rules},
    }


def arn(kind: str, name: str) -> str:
    """Return a resource name in the form of AWS; it names nothing in AWS."""
    # The protocol allows 256 characters.
    return f"arn:aws:frauddetector:local:000000000000:{kind}/{name}"[:256]
