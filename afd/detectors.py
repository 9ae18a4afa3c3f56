"""Detectors, which own versions and rules."""

from __future__ import annotations

from afd.catalogue import OURS, Catalogue, arn
from afd.declarations import TIMES, UPDATED, DeclarationWriter, ResourceType, without_ours
from afd.detector_versions import DetectorVersionOperations
from afd.errors import ConflictException, ValidationException
from afd.operations import Answer, Request
from afd.paging import page, shown
from afd.rules import RuleOperations


class DetectorOperations:
    """Handles the operations on detectors.

    Args:
        catalogue: Declarations and policy state.
        writer: Writes declarations.
        rules: Handles the rules of detectors.
        versions: Handles the versions of detectors.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        writer: DeclarationWriter,
        rules: RuleOperations,
        versions: DetectorVersionOperations,
    ) -> None:
        self._catalogue = catalogue
        self._writer = writer
        self._rules = rules
        self._versions = versions
        self._declarations = catalogue.declarations

    def put(self, request: Request, author: str) -> Answer:
        """Declare a detector, or replace its declaration."""
        detector = request["detectorId"]
        self._catalogue.check_own(detector, must_exist=False)
        known = self._declarations.all(ResourceType.EVENT_TYPE)
        if known and request["eventTypeName"] not in known:
            raise ValidationException(
                f"unknown event type {request['eventTypeName']}: PutEventType makes it"
            )
        value = without_ours(dict(request), "detectorId", "description", "eventTypeName")
        self._writer.put(ResourceType.DETECTOR, detector, value, author)
        return {}

    def delete(self, request: Request, author: str) -> Answer:
        """Delete a detector; refused while it has versions or rules."""
        detector = request["detectorId"]
        self._catalogue.check_own(detector, must_exist=False)
        if self._declarations.get(ResourceType.DETECTOR, detector) is not None:
            if self._catalogue.versions_of(detector) or any(self._rules.of(detector)):
                raise ConflictException(f"the detector {detector} has versions or rules")
            self._writer.drop(ResourceType.DETECTOR, detector, author)
        return {}

    def get(self, request: Request) -> Answer:
        """Return one detector, or a page of all."""
        known = {
            key: without_ours(members, "detectorId", "description", "eventTypeName", *TIMES)
            for key, members in self._declarations.all(ResourceType.DETECTOR).items()
        }
        ours = self._catalogue.event_type()
        known[OURS] = {
            "detectorId": OURS,
            "description": "Rule sets made elsewhere.",
            "eventTypeName": ours,
        }
        for key, members in known.items():
            members["arn"] = arn("detector", key)
        return shown(known, _by_name(request, "detectorId"), "detectors", 10)

    def describe(self, request: Request) -> Answer:
        """Return a page of summaries of a detector's versions."""
        detector = request["detectorId"]
        if detector != OURS:
            self._catalogue.known(ResourceType.DETECTOR, detector, "detector")
        # Pages are sorted as text, so numbers are padded.
        places = {
            place.number.rjust(5, "0"): place for place in self._catalogue.versions_of(detector)
        }
        names, token = page(
            sorted(places), request.get("nextToken"), request.get("maxResults", 1000)
        )
        summaries = []
        for name in names:
            version = self._versions.shown(places[name])
            summaries.append(
                without_ours(version, "detectorVersionId", "status", "description", UPDATED)
            )
        answer: Answer = {
            "detectorId": detector,
            "detectorVersionSummaries": summaries,
            "arn": arn("detector", detector),
        }
        return answer | ({"nextToken": token} if token else {})


def _by_name(request: Request, member: str) -> Request:
    return {"name" if key == member else key: value for key, value in request.items()}
