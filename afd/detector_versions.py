"""Versions of detectors: each stands for a Fraudstream rule set, and the active one decides."""

from __future__ import annotations

from afd.catalogue import Catalogue, Place, arn, ours_of
from afd.declarations import (
    CREATED,
    TIMES,
    UPDATED,
    DeclarationWriter,
    ResourceType,
    Value,
    without_ours,
)
from afd.errors import ConflictException, ResourceNotFoundException, ValidationException
from afd.events import PAGE
from afd.operations import Answer, Request
from afd.rules import reference, version_of
from afd.translation import rule_of
from fraud.contracts.rules import Matching, RuleSet, RuleStatus
from fraud.contracts.times import utc_text
from fraud.policy.editor import PolicyEditor


class DetectorVersionOperations:
    """Handles the operations on versions of detectors.

    Args:
        catalogue: Declarations and policy state.
        writer: Writes declarations.
    """

    def __init__(self, catalogue: Catalogue, writer: DeclarationWriter) -> None:
        self._catalogue = catalogue
        self._writer = writer
        self._declarations = catalogue.declarations

    def create(self, request: Request, editor: PolicyEditor) -> Answer:
        """Create a draft version from existing rules."""
        detector = request["detectorId"]
        self._catalogue.check_own(detector)
        drafted = editor.draft(self._rule_set(request))
        known = self._catalogue.versions_of(detector)
        number = str(max((int(place.number) for place in known), default=0) + 1)
        self._put_version(Place(detector, number), request, drafted, editor.author.name)
        status = self._catalogue.status(Place(detector, number))
        return {"detectorId": detector, "detectorVersionId": number, "status": status}

    def update(self, request: Request, editor: PolicyEditor) -> Answer:
        """Replace the rule set of a version that is still a draft."""
        place = Place(request["detectorId"], request["detectorVersionId"])
        self._catalogue.check_own(place.detector)
        self._catalogue.known(ResourceType.DETECTOR_VERSION, place.key, "detector version")
        if self._catalogue.status(place) != RuleStatus.DRAFT:
            raise ValidationException("expected a version with the status DRAFT: make another one")
        drafted = editor.draft(self._rule_set(request))
        self._put_version(place, request, drafted, editor.author.name)
        return {}

    def update_metadata(self, request: Request, author: str) -> Answer:
        """Change the description of a version."""
        place = Place(request["detectorId"], request["detectorVersionId"])
        known = self._catalogue.known(ResourceType.DETECTOR_VERSION, place.key, "detector version")
        self._writer.put(
            ResourceType.DETECTOR_VERSION,
            place.key,
            known | {"description": request["description"]},
            author,
        )
        return {}

    def update_status(self, request: Request, editor: PolicyEditor) -> Answer:
        """Activate a version; no other change of status is possible."""
        place = Place(request["detectorId"], request["detectorVersionId"])
        found = self._catalogue.rules_of(place)
        if found is None:
            raise ResourceNotFoundException(
                f"the detector {place.detector} does not have a version {place.number}"
            )
        wanted, now = request["status"], self._catalogue.status(place)
        if wanted == now:
            raise ValidationException(f"the version is {now} already")
        if wanted == RuleStatus.ACTIVE:
            editor.activate(found.rules.version)
        elif now == RuleStatus.ACTIVE:
            raise ValidationException(
                "one version always decides here: activate another instead, and this one becomes INACTIVE"
            )
        else:
            raise ValidationException(f"a version that is {now} can only become ACTIVE")
        return {}

    def delete(self, request: Request, author: str) -> Answer:
        """Delete a version that is not active."""
        place = Place(request["detectorId"], request["detectorVersionId"])
        self._catalogue.check_own(place.detector)
        self._catalogue.known(ResourceType.DETECTOR_VERSION, place.key, "detector version")
        if self._catalogue.status(place) == RuleStatus.ACTIVE:
            raise ConflictException("the version is ACTIVE: activate another first")
        self._writer.drop(ResourceType.DETECTOR_VERSION, place.key, author)
        return {}

    def get(self, request: Request) -> Answer:
        """Return a version of a detector."""
        place = Place(request["detectorId"], request["detectorVersionId"])
        if self._catalogue.rules_of(place) is None:
            raise ResourceNotFoundException(
                f"the detector {place.detector} does not have a version {place.number}"
            )
        return self.shown(place)

    def shown(self, place: Place) -> Value:
        """Return a version in the form of the protocol."""
        found = self._catalogue.rules_of(place)
        known = self._declarations.get(ResourceType.DETECTOR_VERSION, place.key)
        if known is not None:
            members = (
                "detectorId",
                "detectorVersionId",
                "description",
                "externalModelEndpoints",
                "modelVersions",
                "ruleExecutionMode",
                "rules",
                *TIMES,
            )
            shown = without_ours(known, *members)
        elif found is not None:
            # Versions of the built-in detector are not declared: the rule set describes them.
            shown = {
                "detectorId": place.detector,
                "detectorVersionId": place.number,
                "externalModelEndpoints": [],
                "modelVersions": [],
                "ruleExecutionMode": found.rules.matching.value,
                "rules": [
                    reference(place.detector, rule.id, str(rule.version))
                    for rule in found.rules.rules
                ],
                CREATED: utc_text(found.created_ms),
                UPDATED: utc_text(max(found.created_ms, found.activated_ms or 0)),
            }
            if found.rules.description:
                shown["description"] = found.rules.description[:128]
        else:
            shown = {"detectorId": place.detector, "detectorVersionId": place.number}
        return shown | {
            "status": self._catalogue.status(place),
            "arn": arn("detector-version", place.key),
        }

    def _rule_set(self, request: Request) -> RuleSet:
        if request.get("externalModelEndpoints"):
            raise ValidationException(
                f"externalModelEndpoints: there are no external models, see {PAGE}"
            )
        rules = []
        for wanted in request["rules"]:
            if wanted["detectorId"] != request["detectorId"]:
                raise ValidationException("rules: expected rules of this detector")
            known = self._declarations.get(
                ResourceType.RULE, f"{wanted['detectorId']}/{wanted['ruleId']}"
            )
            if known is None:
                raise ResourceNotFoundException(
                    f"unknown rule {wanted['ruleId']}: CreateRule makes it"
                )
            version = version_of(known, wanted["ruleVersion"])
            rules.append(
                rule_of(
                    wanted["ruleId"],
                    version["expression"],
                    version["outcomes"],
                    version["description"],
                    names=self._catalogue.names(),
                    chosen=self._catalogue.chosen,
                    lists=self._catalogue.policy_state().lists(),
                )
            )
        if len({rule.id for rule in rules}) != len(rules):
            raise ValidationException("rules: expected each rule in one version only")
        return RuleSet(
            matching=Matching(request.get("ruleExecutionMode", Matching.FIRST)),
            description=f"Version of the detector {request['detectorId']}.",
            rules=tuple(rules),
        )

    def _put_version(self, place: Place, request: Request, drafted: RuleSet, author: str) -> None:
        value = {
            "detectorId": place.detector,
            "detectorVersionId": place.number,
            "externalModelEndpoints": [],
            "modelVersions": list(request.get("modelVersions", ())),
            "ruleExecutionMode": drafted.matching.value,
            "rules": list(request["rules"]),
            **ours_of(drafted),
        }
        if request.get("description"):
            value["description"] = request["description"]
        self._writer.put(ResourceType.DETECTOR_VERSION, place.key, value, author)
