"""Operations on past events: GetEvent, ListEventPredictions, GetEventPredictionMetadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from afd import predictions
from afd.catalogue import Catalogue
from afd.decision_search import DecisionSearch, Document
from afd.errors import ResourceNotFoundException
from afd.events import NOBODY, UNKNOWN, read_time, their_label
from afd.operations import Answer, Operation, Request, in_a_thread
from afd.predictions import Names
from fraud.contracts.rules import Matching
from fraud.contracts.transaction import FIELD_BY_NAME
from fraud.contracts.versions import written_as
from fraud.security.api_keys import Role
from fraud.security.principals import Principal

_EVENT: Final = ("event_id", "entity_id", "event_time")
_PAGE: Final = 10
_MAX_VALUE: Final = 256
_MOST_IMPACT: Final = 5
_FULL_IMPACT: Final = 2.0
"""Contribution to the log odds that is rated highest; it makes the odds seven times as high."""


class PredictionLookup:
    """Handles the operations that read events and predictions.

    Args:
        decisions: Finds past decisions.
        catalogue: Declarations and policy state.
        names: Names by which clients know models and outcomes.
    """

    def __init__(self, decisions: DecisionSearch, catalogue: Catalogue, names: Names) -> None:
        self._decisions = decisions
        self._catalogue = catalogue
        self._names = names

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {
            "GetEvent": Operation(Role.ANALYST, in_a_thread(self.get_event)),
            "ListEventPredictions": Operation(Role.ANALYST, in_a_thread(self.list_predictions)),
            "GetEventPredictionMetadata": Operation(Role.ANALYST, in_a_thread(self.metadata)),
        }

    def get_event(self, request: Request, _caller: Principal) -> Answer:
        """Return an event as it was sent while Kafka keeps it, and as it is indexed after that."""
        document = self._decisions.decision(request["eventId"])
        if document is None:
            raise ResourceNotFoundException("the event is unknown, or not searchable yet")
        event: Answer = {
            "eventId": document["event_id"],
            "eventTypeName": request["eventTypeName"],
            "eventTimestamp": document["event_time"],
            "eventVariables": self._variables(document),
            "entities": [self._entity(document)],
        }
        label = document.get("label")
        if label:
            event["currentLabel"] = their_label(label["label"], self._catalogue.mapping)
            event["labelTimestamp"] = label["label_time"]
        return {"event": event}

    def list_predictions(self, request: Request, _caller: Principal) -> Answer:
        """Return a page of predictions, the newest first."""
        filters: list[dict[str, Any]] = []
        event_id = _value(request, "eventId")
        if event_id is not None:
            filters.append({"term": {"event_id": event_id}})
        span = request.get("predictionTimeRange")
        if span is not None:
            between = {
                "gte": read_time(span["startTime"], "predictionTimeRange.startTime"),
                "lte": read_time(span["endTime"], "predictionTimeRange.endTime"),
            }
            filters.append({"range": {"fd.scored_at": between}})
        detector, number = _value(request, "detectorId"), _value(request, "detectorVersionId")
        event_type = _value(request, "eventType")
        if detector is not None or number is not None:
            # Decisions name their rule set, and no detector.
            filters.append({"terms": {"fd.versions.rules": self._rule_sets(detector, number)}})
        if event_type is not None and self._catalogue.is_another_event_type(event_type):
            return {"eventPredictionSummaries": []}
        size = request.get("maxResults", _PAGE if request.keys() - {"nextToken"} else 1)
        found, token = self._decisions.decisions(filters, size=size, after=request.get("nextToken"))
        answer: Answer = {
            "eventPredictionSummaries": [self._summary(document, event_type) for document in found]
        }
        # A request without filters asks for the newest prediction only.
        if token is not None and request.keys() - {"nextToken"}:
            answer["nextToken"] = token
        return answer

    def metadata(self, request: Request, _caller: Principal) -> Answer:
        """Explain a prediction: its rules, its model, and what raised or lowered the score."""
        at = read_time(request["predictionTimestamp"], "predictionTimestamp")
        document = self._decisions.decision(request["eventId"], at)
        if document is None:
            raise ResourceNotFoundException("the prediction is unknown, or not searchable yet")
        decision = document["fd"]
        version = (decision.get("versions") or {}).get("rules")
        place = self._catalogue.place_of(version)
        rules = self._catalogue.rule_set(version)
        outcomes = [
            name
            for result in predictions.rule_results(decision, self._names)
            for name in result["outcomes"]
        ]
        return {
            "eventId": document["event_id"],
            "eventTypeName": request["eventTypeName"],
            **self._entity(document),
            "eventTimestamp": document["event_time"],
            "detectorId": place.detector,
            "detectorVersionId": place.number,
            "detectorVersionStatus": self._catalogue.status(place),
            "eventVariables": [
                {"name": name, "value": value, "source": "EVENT"}
                for name, value in self._variables(document).items()
            ],
            "rules": self._evaluated(decision, version),
            "ruleExecutionMode": (rules.matching if rules else Matching.ALL).value,
            "outcomes": list(dict.fromkeys(outcomes)),
            "evaluatedModelVersions": self._models(decision),
            "evaluatedExternalModels": [],
            "predictionTimestamp": decision["scored_at"],
        }

    def _summary(self, document: Document, event_type: str | None) -> Answer:
        version = (document["fd"].get("versions") or {}).get("rules")
        place = self._catalogue.place_of(version)
        return {
            "eventId": document["event_id"],
            "eventTypeName": event_type or self._catalogue.event_type_of(place.detector),
            "eventTimestamp": document["event_time"],
            "predictionTimestamp": document["fd"]["scored_at"],
            "detectorId": place.detector,
            "detectorVersionId": place.number,
        }

    def _rule_sets(self, detector: str | None, number: str | None) -> list[str]:
        """Return the rule set versions of a detector or of all, filtered by version number."""
        detectors = [detector] if detector is not None else self._catalogue.detectors()
        places = [
            place
            for detector_id in detectors
            for place in self._catalogue.versions_of(detector_id)
            if number in (None, place.number)
        ]
        found = [self._catalogue.rules_of(place) for place in places]
        return [
            form
            for rule_set in found
            if rule_set is not None
            for form in written_as(rule_set.rules.version)
        ]

    def _entity(self, document: Document) -> dict[str, str]:
        record = self._decisions.record(document) or document
        entity_id = str(record.get("entity_id", document["entity_id"]))
        # An id that was made up for an unknown entity, see `EventReader.read`.
        if entity_id.startswith(NOBODY):
            entity_id = UNKNOWN
        return {"entityType": self._catalogue.entity_type(), "entityId": entity_id}

    def _variables(self, document: Document) -> dict[str, str]:
        record = self._decisions.record(document)
        if record is None:
            record = {name: value for name, value in document.items() if name in FIELD_BY_NAME}
        theirs = {ours: name for name, ours in self._catalogue.names().items()}
        return {
            theirs.get(name, name): str(value)[:_MAX_VALUE]
            for name, value in record.items()
            if name not in _EVENT and value not in (None, "") and type(value) in (str, int, float)
        }

    def _evaluated(self, decision: Mapping[str, Any], version: str | None) -> list[Answer]:
        matched = {(rule["id"], rule["version"]) for rule in decision["rules"]}
        rules = self._catalogue.rule_set(version)
        if rules is None:
            return []
        first_only = rules.matching is Matching.FIRST
        evaluated: list[Answer] = []
        over = False
        for rule in rules.rules:
            hit = (rule.id, rule.version) in matched
            evaluated.append(
                {
                    "ruleId": rule.id,
                    "ruleVersion": str(rule.version),
                    "expression": rule.when,
                    "outcomes": list(
                        self._names.outcomes(rule.id, rule.version, rule.outcome.value)
                    ),
                    "evaluated": rule.enabled and not over,
                    "matched": hit,
                }
            )
            # If the first match decides, the rules after it were not evaluated.
            over = over or (first_only and hit)
        return evaluated

    def _models(self, decision: Mapping[str, Any]) -> list[Answer]:
        if decision.get("score") is None:
            return []
        model = decision["model"]
        explanations = [
            {
                "eventVariableName": reason["code"].lower(),
                "relativeImpact": _impact(reason["contribution"]),
                "logOddsImpact": reason["contribution"],
            }
            for reason in decision.get("reasons", ())
            if reason.get("contribution") is not None
        ]
        return [
            {
                "modelId": self._names.model(model["name"]),
                "modelVersion": self._names.model_number(model["name"], model["version"]),
                "modelType": predictions.MODEL_TYPE,
                "evaluations": [
                    {
                        "outputVariableName": self._names.score(model["name"]),
                        "evaluationScore": str(decision["score"]),
                        "predictionExplanations": {"variableImpactExplanations": explanations},
                    }
                ],
            }
        ]


def _impact(contribution: float) -> str:
    """Rate a contribution to the log odds from 0 to 5, with its direction.

    Example:
        >>> _impact(0.8), _impact(-9.0)
        ('2 increased', '5 decreased')
    """
    rating = min(_MOST_IMPACT, round(abs(contribution) / _FULL_IMPACT * _MOST_IMPACT))
    return f"{rating} {'increased' if contribution > 0 else 'decreased'}"


def _value(request: Request, member: str) -> str | None:
    condition = request.get(member) or {}
    value: str | None = condition.get("value")
    return value
