"""Rules of detectors; a rule decides once an active detector version uses it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from afd.catalogue import OURS, Catalogue, arn
from afd.declarations import CREATED, UPDATED, DeclarationWriter, ResourceType, Value
from afd.errors import ConflictException, ResourceNotFoundException, ValidationException
from afd.named_resources import OUR_OUTCOMES
from afd.operations import Answer, Request
from afd.paging import shown
from afd.translation import rule_of
from fraud.contracts.times import utc_text


class RuleOperations:
    """Handles the operations on rules.

    Args:
        catalogue: Declarations and policy state.
        writer: Writes declarations.
    """

    def __init__(self, catalogue: Catalogue, writer: DeclarationWriter) -> None:
        self._catalogue = catalogue
        self._writer = writer
        self._declarations = catalogue.declarations

    def create(self, request: Request, author: str) -> Answer:
        """Create a rule with version 1."""
        detector, rule_id = request["detectorId"], request["ruleId"]
        self._catalogue.check_own(detector)
        if self._declarations.get(ResourceType.RULE, _key(detector, rule_id)) is not None:
            raise ValidationException(
                f"there is a rule {rule_id} already: UpdateRuleVersion makes its next version"
            )
        description = request.get("description", "")
        version = self._checked_rule(rule_id, request, description)
        self._put_rule(detector, rule_id, description, {"1": version}, author)
        return {"rule": reference(detector, rule_id, "1")}

    def update_version(self, request: Request, author: str) -> Answer:
        """Create the next version of a rule."""
        detector, rule_id = request["rule"]["detectorId"], request["rule"]["ruleId"]
        self._catalogue.check_own(detector)
        known = self._catalogue.known(ResourceType.RULE, _key(detector, rule_id), "rule")
        version_of(known, request["rule"]["ruleVersion"])
        number = max(map(int, known["versions"])) + 1
        description = request.get("description", known["description"])
        version = self._checked_rule(rule_id, request, description)
        versions = known["versions"] | {str(number): version}
        self._put_rule(detector, rule_id, description, versions, author)
        return {"rule": reference(detector, rule_id, str(number))}

    def update_metadata(self, request: Request, author: str) -> Answer:
        """Change the description of a rule."""
        detector, rule_id = request["rule"]["detectorId"], request["rule"]["ruleId"]
        self._catalogue.check_own(detector)
        known = self._catalogue.known(ResourceType.RULE, _key(detector, rule_id), "rule")
        self._put_rule(detector, rule_id, request["description"], known["versions"], author)
        return {}

    def delete(self, request: Request, author: str) -> Answer:
        """Delete a version of a rule; refused while a version of the detector uses it."""
        detector, rule_id, number = (
            request["rule"][part] for part in ("detectorId", "ruleId", "ruleVersion")
        )
        self._catalogue.check_own(detector)
        known = self._declarations.get(ResourceType.RULE, _key(detector, rule_id))
        if known is None or number not in known["versions"]:
            return {}
        for place in self._catalogue.versions_of(detector):
            version = self._catalogue.known(
                ResourceType.DETECTOR_VERSION, place.key, "detector version"
            )
            if {"ruleId": rule_id, "ruleVersion": number}.items() <= _one_of(
                version["rules"], rule_id
            ).items():
                raise ConflictException(
                    f"version {place.number} of the detector {detector} has the rule {rule_id}"
                )
        versions = {other: value for other, value in known["versions"].items() if other != number}
        if versions:
            self._put_rule(detector, rule_id, known["description"], versions, author)
        else:
            self._writer.drop(ResourceType.RULE, _key(detector, rule_id), author)
        return {}

    def get(self, request: Request) -> Answer:
        """Return one version of a rule, all its versions, or a page of all rules of a detector."""
        detector = request["detectorId"]
        known: dict[str, Value] = {}
        for rule in self.of(detector):
            rule_id, number = rule["ruleId"], rule["ruleVersion"]
            if (
                request.get("ruleId", rule_id) == rule_id
                and request.get("ruleVersion", number) == number
            ):
                # Padded, so that the versions of a rule sort by number.
                known[f"{rule_id}/{int(number):05d}"] = rule
        if request.get("ruleId") and not known:
            raise ResourceNotFoundException(f"the detector {detector} does not have the rule")
        wanted = {name: value for name, value in request.items() if name != "name"}
        return shown(known, wanted, "ruleDetails", 100)

    def of(self, detector: str) -> Iterator[Value]:
        """Yield all versions of a detector's rules."""
        if detector == OURS:
            for place in self._catalogue.versions_of(OURS):
                found = self._catalogue.rules_of(place)
                for rule in found.rules.rules if found else ():
                    made = utc_text(found.created_ms) if found else ""
                    yield {
                        "detectorId": OURS,
                        "ruleId": rule.id,
                        "ruleVersion": str(rule.version),
                        "description": rule.description[:128] or rule.id,
                        "expression": rule.when,
                        "language": "DETECTORPL",
                        "outcomes": [rule.outcome.value],
                        CREATED: made,
                        UPDATED: made,
                        "arn": arn("rule", f"{OURS}/{rule.id}"),
                    }
            return
        for known in self._declarations.all(ResourceType.RULE).values():
            if known["detectorId"] != detector:
                continue
            for number, version in known["versions"].items():
                detail = {
                    "detectorId": detector,
                    "ruleId": known["ruleId"],
                    "ruleVersion": number,
                    "expression": version["expression"],
                    "language": version["language"],
                    "outcomes": version["outcomes"],
                    CREATED: version[CREATED],
                    UPDATED: known[UPDATED],
                    "arn": arn("rule", f"{detector}/{known['ruleId']}"),
                }
                yield detail | (
                    {"description": known["description"]} if known["description"] else {}
                )

    def _checked_rule(self, rule_id: str, request: Request, description: str) -> Value:
        # Only a check: the client's own text is kept, and translated once a version uses it.
        rule_of(
            rule_id,
            request["expression"],
            request["outcomes"],
            description,
            names=self._catalogue.names(),
            chosen=self._catalogue.chosen,
            lists=self._catalogue.policy_state().lists(),
        )
        known = {*self._declarations.all(ResourceType.OUTCOME), *OUR_OUTCOMES}
        if missing := sorted(set(request["outcomes"]) - known):
            raise ValidationException(f"unknown outcome {missing[0]}: PutOutcome makes it")
        return {
            "expression": request["expression"],
            "language": request["language"],
            "outcomes": list(request["outcomes"]),
            "description": description,
            CREATED: self._writer.now(),
        }

    def _put_rule(
        self, detector: str, rule_id: str, description: str, versions: Value, author: str
    ) -> None:
        rule = {
            "detectorId": detector,
            "ruleId": rule_id,
            "description": description,
            "versions": versions,
        }
        self._writer.put(ResourceType.RULE, _key(detector, rule_id), rule, author)


def version_of(rule: Value, number: str) -> Value:
    """Return a version of a rule.

    Raises:
        ResourceNotFoundException: The rule does not have the version.
    """
    found: Value | None = rule["versions"].get(number)
    if found is None:
        raise ResourceNotFoundException(
            f"the rule {rule['ruleId']} does not have a version {number}"
        )
    return found


def reference(detector: str, rule_id: str, number: str) -> Value:
    """Return a reference to a rule's version in the form of the protocol."""
    return {"detectorId": detector, "ruleId": rule_id, "ruleVersion": number}


def _key(detector: str, rule_id: str) -> str:
    return f"{detector}/{rule_id}"


def _one_of(rules: Iterable[Value], rule_id: str) -> Value:
    return next((rule for rule in rules if rule["ruleId"] == rule_id), {})
