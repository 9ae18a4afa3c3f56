"""Operations that declare and change: variables, outcomes, labels, types, detectors, rules, lists."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from fraud.contracts.errors import InvalidMessage
from fraud.contracts.lists import LIST_NAME, ListEntry, ListType, ListUse
from fraud.contracts.rules import Matching, RuleSet, RuleStatus
from fraud.contracts.times import utc_text
from fraud.decision.rulesets import InvalidRules
from fraud.governance.audited import list_on_record, text_on_record, values_on_record
from fraud.governance.desk import Conflict, Desk, NoSuch
from fraud.governance.following import BookUnread
from fraud.kit.api_keys import Role
from fraud.kit.audit import AuditLog
from fraud.kit.clock import Clock, system_clock
from fraud.kit.control import CannotPublish
from fraud.kit.pseudonyms import Pseudonyms
from scoring_api.access import Principal
from scoring_api.afd.catalogue import OURS, Catalogue, Place, arn, ours_of
from scoring_api.afd.errors import (
    AfdError,
    ConflictException,
    InternalServerException,
    ResourceNotFoundException,
    ValidationException,
    invalid,
)
from scoring_api.afd.events import FRAUD_LABELS, LEGITIMATE_LABELS, PAGE
from scoring_api.afd.operations import Answer, Operation, Request, by, in_a_thread
from scoring_api.afd.pages import page
from scoring_api.afd.protocol import check_shape
from scoring_api.afd.shelf import CREATED, UPDATED, Clerk, Thing, Value, without_ours
from scoring_api.afd.translation import NotTranslated, list_type_of, outcome_of, rule_of

_NAME: Final = re.compile(r"[0-9A-Za-z_]{1,64}", re.ASCII)
_TIMES: Final = (CREATED, UPDATED)
_OUR_OUTCOMES: Final = ("approve", "block", "review")
_ALREADY_EXISTS: Final = 400
_VARIABLE_TYPE: Final = "variableType"


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of things that is put whole and shown as it was put.

    Attributes:
        thing: On the shelf.
        put: The operation that puts one; its answer is empty.
        get: The operation that gives them.
        drop: The operation that takes one away.
        plural: The member of the answer that holds them.
        members: What is kept of a request.
        page: Most that one answer gives, unless asked for fewer.
    """

    thing: Thing
    put: str
    get: str
    drop: str
    plural: str
    members: tuple[str, ...]
    page: int


_KINDS: Final = (
    _Kind(Thing.OUTCOME, "PutOutcome", "GetOutcomes", "DeleteOutcome", "outcomes", ("name", "description"), 100),
    _Kind(Thing.LABEL, "PutLabel", "GetLabels", "DeleteLabel", "labels", ("name", "description"), 50),
    _Kind(Thing.ENTITY_TYPE, "PutEntityType", "GetEntityTypes", "DeleteEntityType", "entityTypes", ("name", "description"), 10),
    _Kind(
        Thing.EVENT_TYPE, "PutEventType", "GetEventTypes", "DeleteEventType", "eventTypes",
        ("name", "description", "eventVariables", "labels", "entityTypes", "eventIngestion"), 10,
    ),
)  # fmt: skip


class Administration:
    """Answers them.

    Args:
        catalogue: What there is.
        clerk: Puts what only clients know on the shelf.
        desk: Changes rules and lists.
        audit: Keeps who changed what.
        pseudonyms: Hashes what is personal of it.
        clock: Time now, UTC epoch milliseconds.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        clerk: Clerk,
        desk: Desk,
        audit: AuditLog,
        pseudonyms: Pseudonyms,
        clock: Clock = system_clock,
    ) -> None:
        self._catalogue = catalogue
        self._clerk = clerk
        self._desk = desk
        self._audit = audit
        self._pseudonyms = pseudonyms
        self._clock = clock
        self._shelf = catalogue.shelf
        # One change at a time: each looks at what is there first.
        self._lock = threading.Lock()

    def operations(self) -> dict[str, Operation]:
        """Give what this answers."""
        reading: dict[str, Callable[[Request], Answer]] = {
            "GetVariables": self._get_variables,
            "BatchGetVariable": self._batch_get_variable,
            "GetDetectors": self._get_detectors,
            "DescribeDetector": self._describe_detector,
            "GetDetectorVersion": self._get_detector_version,
            "GetRules": self._get_rules,
            "GetListsMetadata": self._get_lists_metadata,
            "GetListElements": self._get_list_elements,
            "GetExternalModels": lambda _: {"externalModels": []},
            "ListTagsForResource": lambda _: {"tags": []},
        }
        changing: dict[str, Callable[[Request, str], Answer]] = {
            "CreateVariable": self._create_variable,
            "BatchCreateVariable": self._batch_create_variable,
            "UpdateVariable": self._update_variable,
            "DeleteVariable": self._delete_variable,
            "PutDetector": self._put_detector,
            "DeleteDetector": self._delete_detector,
            "CreateDetectorVersion": self._create_detector_version,
            "UpdateDetectorVersion": self._update_detector_version,
            "UpdateDetectorVersionMetadata": self._update_detector_version_metadata,
            "UpdateDetectorVersionStatus": self._update_detector_version_status,
            "DeleteDetectorVersion": self._delete_detector_version,
            "CreateRule": self._create_rule,
            "UpdateRuleVersion": self._update_rule_version,
            "UpdateRuleMetadata": self._update_rule_metadata,
            "DeleteRule": self._delete_rule,
            "CreateList": self._create_list,
            "UpdateList": self._update_list,
            "DeleteList": self._delete_list,
        }
        for kind in _KINDS:
            reading[kind.get] = _of(self._get, kind)
            changing[kind.put] = _of2(self._put, kind)
            changing[kind.drop] = _of2(self._drop, kind)
        return {
            name: Operation(Role.ANALYST, in_a_thread(_reads(handle)))
            for name, handle in reading.items()
        } | {
            name: Operation(Role.ANALYST, in_a_thread(self._changes(name, handle)))
            for name, handle in changing.items()
        }

    def _changes(
        self, operation: str, handle: Callable[[Request, str], Answer]
    ) -> Callable[[Request, Principal], Answer]:
        def handled(request: Request, caller: Principal) -> Answer:
            who = by(caller)
            with (
                self._lock,
                _verdicts(),
                self._audit.change(
                    who.actor,
                    f"afd.{operation}",
                    self._target(request),
                    before=self._before(operation, request),
                    after=self._on_record(request),
                    request_id=who.request_id,
                ),
            ):
                return handle(request, caller.name)

        return handled

    def _target(self, request: Request) -> str:
        return "/".join(map(self._said, reversed(_named(request)))) or "variables"

    def _before(self, operation: str, request: Request) -> dict[str, Any] | None:
        """Give what a change is of as the log has it; None when it is not there yet."""
        book, (name, *_) = self._catalogue.book(), (*_named(request), "")
        if operation == "UpdateDetectorVersionStatus":
            return {"active": book.active_rules.version}
        thing = next((thing for suffix, thing in _THINGS if suffix in operation), None)
        if thing is Thing.LIST:
            state = book.lists().get(name)
            return None if state is None else list_on_record(self._pseudonyms, state)
        key = "/".join(reversed(_named(request)[:2])) if thing in _OF_DETECTORS else name
        known = self._shelf.get(thing, key) if thing else None
        return None if known is None else self._on_record(known)

    def _on_record(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """Give what was said as the log has it: names and numbers; of texts and values hashes."""
        return {name: self._one_on_record(name, value) for name, value in said.items() if name != "tags"}  # fmt: skip

    def _one_on_record(self, name: str, value: Any) -> Any:
        match value:
            case str() if name in _TEXTS:
                return text_on_record(self._pseudonyms, value)
            case str():
                return self._said(value)
            case [*values] if name == "elements":
                return values_on_record(self._pseudonyms, "entity_id", values)
            case [*values]:
                return [self._one_on_record(name, one) for one in values[:_MOST_ON_RECORD]]
            case dict():
                return self._on_record(value)
        return value

    def _said(self, text: str) -> str:
        """Give a name as it is, and anything else as a hash: it may be somebody's."""
        return text if _PLAIN.fullmatch(text) else text_on_record(self._pseudonyms, text)

    # --- Outcomes, labels, types ---

    def _put(self, kind: _Kind, request: Request, author: str) -> Answer:
        name = request["name"]
        if kind.thing is Thing.OUTCOME:
            outcome_of(name, self._catalogue.chosen)
        if kind.thing is Thing.LABEL:
            self._check_label(name)
        self._clerk.put(kind.thing, name, without_ours(dict(request), *kind.members), author)
        return {}

    def _check_label(self, name: str) -> None:
        mapping = self._catalogue.mapping
        known = mapping.fraud | mapping.legitimate if mapping else FRAUD_LABELS | LEGITIMATE_LABELS
        if (name if mapping else name.lower()) not in known:
            raise ValidationException(f"label {name}: expected one of {', '.join(sorted(known))}; others are given a meaning in the file AFD_MAPPING, see {PAGE}")  # fmt: skip

    def _get(self, kind: _Kind, request: Request) -> Answer:
        known = {name: without_ours(one, *kind.members, *_TIMES) for name, one in self._shelf.all(kind.thing).items()}  # fmt: skip
        if kind.thing is Thing.OUTCOME:
            known = {name: {"name": name} for name in _OUR_OUTCOMES} | known
        for name, one in known.items():
            one["arn"] = arn(kind.thing.value, name)
        return _shown(known, request, kind.plural, kind.page)

    def _drop(self, kind: _Kind, request: Request, author: str) -> Answer:
        name = request["name"]
        if self._shelf.get(kind.thing, name) is None:
            return {}
        if kind.thing is Thing.OUTCOME:
            users = [
                rule["ruleId"]
                for rule in self._shelf.all(Thing.RULE).values()
                if any(name in version["outcomes"] for version in rule["versions"].values())
            ]
        elif kind.thing is Thing.EVENT_TYPE:
            detectors = self._shelf.all(Thing.DETECTOR)
            users = [key for key, one in detectors.items() if one["eventTypeName"] == name]
        else:
            member = "labels" if kind.thing is Thing.LABEL else "entityTypes"
            types = self._shelf.all(Thing.EVENT_TYPE)
            users = [key for key, one in types.items() if name in one.get(member, ())]
        if users:
            raise ConflictException(f"{name} is in use by {users[0]}")
        self._clerk.drop(kind.thing, name, author)
        return {}

    # --- Variables ---

    def _create_variable(self, request: Request, author: str) -> Answer:
        if self._shelf.get(Thing.VARIABLE, request["name"]) is not None:
            raise ValidationException(f"there is a variable {request['name']} already")
        self._clerk.put(Thing.VARIABLE, request["name"], self._variable(request), author)
        return {}

    def _batch_create_variable(self, request: Request, author: str) -> Answer:
        errors = []
        for entry in request["variableEntries"]:
            name = entry.get("name", "")
            try:
                check_shape("DataType", entry.get("dataType", ""))
                check_shape("DataSource", entry.get("dataSource", ""))
                self._create_variable(entry, author)
            except (KeyError, ValidationException) as fault:
                text = fault.message if isinstance(fault, AfdError) else "expected a name"
                errors.append({"name": name, "code": _ALREADY_EXISTS, "message": text})
        return {"errors": errors}

    def _variable(self, request: Request) -> Value:
        name = request["name"]
        if not _NAME.fullmatch(name):
            raise ValidationException("name: expected up to 64 letters, digits and _")
        if request.get("dataSource") == "EXTERNAL_MODEL_SCORE":
            raise ValidationException(f"dataSource: there are no external models, see {PAGE}")
        if request.get(_VARIABLE_TYPE):
            check_shape(_VARIABLE_TYPE, request[_VARIABLE_TYPE])
        return without_ours(dict(request), "name", "dataType", "dataSource", "defaultValue", "description", _VARIABLE_TYPE)  # fmt: skip

    def _update_variable(self, request: Request, author: str) -> Answer:
        before = self._known(Thing.VARIABLE, request["name"], "variable")
        self._clerk.put(Thing.VARIABLE, request["name"], self._variable({**before, **request}), author)  # fmt: skip
        return {}

    def _delete_variable(self, request: Request, author: str) -> Answer:
        name = request["name"]
        if self._shelf.get(Thing.VARIABLE, name) is not None:
            users = [key for key, one in self._shelf.all(Thing.EVENT_TYPE).items() if name in one["eventVariables"]]  # fmt: skip
            if users:
                raise ConflictException(f"{name} is in use by the event type {users[0]}")
            self._clerk.drop(Thing.VARIABLE, name, author)
        return {}

    def _variables(self) -> dict[str, Value]:
        return {name: one | {"arn": arn("variable", name)} for name, one in self._shelf.all(Thing.VARIABLE).items()}  # fmt: skip

    def _get_variables(self, request: Request) -> Answer:
        return _shown(self._variables(), request, "variables", 100)

    def _batch_get_variable(self, request: Request) -> Answer:
        known = self._variables()
        return {
            "variables": [known[name] for name in request["names"] if name in known],
            "errors": [
                {"name": name, "code": 404, "message": "there is no such variable"}
                for name in request["names"]
                if name not in known
            ],
        }

    # --- Rules ---

    def _rule_versions(self, detector: str, rule_id: str) -> Value | None:
        return self._shelf.get(Thing.RULE, f"{detector}/{rule_id}")

    def _checked_rule(self, rule_id: str, request: Request, description: str) -> Value:
        rule_of(
            rule_id,
            request["expression"],
            request["outcomes"],
            description,
            names=self._catalogue.names(),
            chosen=self._catalogue.chosen,
            lists=self._catalogue.book().lists(),
        )
        known = {*self._shelf.all(Thing.OUTCOME), *_OUR_OUTCOMES}
        if missing := sorted(set(request["outcomes"]) - known):
            raise ValidationException(f"there is no outcome {missing[0]}: PutOutcome makes it")
        return {
            "expression": request["expression"],
            "language": request["language"],
            "outcomes": list(request["outcomes"]),
            "description": description,
            CREATED: self._clerk.now(),
        }

    def _create_rule(self, request: Request, author: str) -> Answer:
        detector, rule_id = request["detectorId"], request["ruleId"]
        self._own(detector)
        if self._rule_versions(detector, rule_id) is not None:
            raise ValidationException(f"there is a rule {rule_id} already: UpdateRuleVersion makes its next version")  # fmt: skip
        description = request.get("description", "")
        version = self._checked_rule(rule_id, request, description)
        self._put_rule(detector, rule_id, description, {"1": version}, author)
        return {"rule": _reference(detector, rule_id, "1")}

    def _put_rule(self, detector: str, rule_id: str, description: str, versions: Value, author: str) -> None:  # fmt: skip
        rule = {
            "detectorId": detector,
            "ruleId": rule_id,
            "description": description,
            "versions": versions,
        }
        self._clerk.put(Thing.RULE, f"{detector}/{rule_id}", rule, author)

    def _update_rule_version(self, request: Request, author: str) -> Answer:
        detector, rule_id = request["rule"]["detectorId"], request["rule"]["ruleId"]
        self._own(detector)
        known = self._known(Thing.RULE, f"{detector}/{rule_id}", "rule")
        self._version_of(known, request["rule"]["ruleVersion"])
        number = max(map(int, known["versions"])) + 1
        description = request.get("description", known["description"])
        version = self._checked_rule(rule_id, request, description)
        versions = known["versions"] | {str(number): version}
        self._put_rule(detector, rule_id, description, versions, author)
        return {"rule": _reference(detector, rule_id, str(number))}

    def _update_rule_metadata(self, request: Request, author: str) -> Answer:
        detector, rule_id = request["rule"]["detectorId"], request["rule"]["ruleId"]
        self._own(detector)
        known = self._known(Thing.RULE, f"{detector}/{rule_id}", "rule")
        self._put_rule(detector, rule_id, request["description"], known["versions"], author)
        return {}

    def _delete_rule(self, request: Request, author: str) -> Answer:
        detector, rule_id, number = (request["rule"][part] for part in ("detectorId", "ruleId", "ruleVersion"))  # fmt: skip
        self._own(detector)
        known = self._rule_versions(detector, rule_id)
        if known is None or number not in known["versions"]:
            return {}
        for place in self._catalogue.versions_of(detector):
            version = self._known(Thing.DETECTOR_VERSION, place.key, "detector version")
            if {"ruleId": rule_id, "ruleVersion": number}.items() <= _one_of(version["rules"], rule_id).items():  # fmt: skip
                raise ConflictException(f"version {place.number} of the detector {detector} has the rule {rule_id}")  # fmt: skip
        versions = {one: value for one, value in known["versions"].items() if one != number}
        if versions:
            self._put_rule(detector, rule_id, known["description"], versions, author)
        else:
            self._clerk.drop(Thing.RULE, f"{detector}/{rule_id}", author)
        return {}

    def _get_rules(self, request: Request) -> Answer:
        detector = request["detectorId"]
        known: dict[str, Value] = {}
        for rule in self._rules(detector):
            rule_id, number = rule["ruleId"], rule["ruleVersion"]
            if request.get("ruleId", rule_id) == rule_id and request.get("ruleVersion", number) == number:  # fmt: skip
                known[f"{rule_id}/{int(number):05d}"] = rule
        if request.get("ruleId") and not known:
            raise ResourceNotFoundException(f"there is no such rule of the detector {detector}")
        wanted = {name: value for name, value in request.items() if name != "name"}
        return _shown(known, wanted, "ruleDetails", 100)

    def _rules(self, detector: str) -> Iterator[Value]:
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
        for known in self._shelf.all(Thing.RULE).values():
            if known["detectorId"] != detector:
                continue
            for number, version in known["versions"].items():
                shown = {
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
                yield shown | (
                    {"description": known["description"]} if known["description"] else {}
                )

    # --- Detectors ---

    def _put_detector(self, request: Request, author: str) -> Answer:
        detector = request["detectorId"]
        self._own(detector, must_exist=False)
        known = self._shelf.all(Thing.EVENT_TYPE)
        if known and request["eventTypeName"] not in known:
            raise ValidationException(f"there is no event type {request['eventTypeName']}: PutEventType makes it")  # fmt: skip
        value = without_ours(dict(request), "detectorId", "description", "eventTypeName")
        self._clerk.put(Thing.DETECTOR, detector, value, author)
        return {}

    def _own(self, detector: str, *, must_exist: bool = True) -> None:
        """Check that a detector is the clients' to change."""
        if detector == OURS:
            raise ValidationException(f"the detector {OURS} shows the rule sets that were made elsewhere; make a detector with PutDetector")  # fmt: skip
        if must_exist and self._shelf.get(Thing.DETECTOR, detector) is None:
            raise ValidationException(f"there is no detector {detector}: PutDetector makes it")

    def _delete_detector(self, request: Request, author: str) -> Answer:
        detector = request["detectorId"]
        self._own(detector, must_exist=False)
        if self._shelf.get(Thing.DETECTOR, detector) is not None:
            if self._catalogue.versions_of(detector) or any(self._rules(detector)):
                raise ConflictException(f"the detector {detector} has versions or rules")
            self._clerk.drop(Thing.DETECTOR, detector, author)
        return {}

    def _get_detectors(self, request: Request) -> Answer:
        known = {
            key: without_ours(one, "detectorId", "description", "eventTypeName", *_TIMES)
            for key, one in self._shelf.all(Thing.DETECTOR).items()
        }
        ours = self._catalogue.event_type()
        known[OURS] = {"detectorId": OURS, "description": "Rule sets made elsewhere.", "eventTypeName": ours}  # fmt: skip
        for key, one in known.items():
            one["arn"] = arn("detector", key)
        return _shown(known, _by_name(request, "detectorId"), "detectors", 10)

    def _describe_detector(self, request: Request) -> Answer:
        detector = request["detectorId"]
        if detector != OURS:
            self._known(Thing.DETECTOR, detector, "detector")
        places = {place.number.rjust(5, "0"): place for place in self._catalogue.versions_of(detector)}  # fmt: skip
        names, token = page(sorted(places), request.get("nextToken"), request.get("maxResults", 1000))  # fmt: skip
        summaries = []
        for name in names:
            shown = self._shown_version(places[name])
            summaries.append(without_ours(shown, "detectorVersionId", "status", "description", UPDATED))  # fmt: skip
        answer: Answer = {
            "detectorId": detector,
            "detectorVersionSummaries": summaries,
            "arn": arn("detector", detector),
        }
        return answer | ({"nextToken": token} if token else {})

    def _get_detector_version(self, request: Request) -> Answer:
        place = Place(request["detectorId"], request["detectorVersionId"])
        if self._catalogue.rules_of(place) is None:
            raise ResourceNotFoundException(f"there is no version {place.number} of the detector {place.detector}")  # fmt: skip
        return self._shown_version(place)

    def _shown_version(self, place: Place) -> Value:
        found = self._catalogue.rules_of(place)
        known = self._shelf.get(Thing.DETECTOR_VERSION, place.key)
        if known is not None:
            members = ("detectorId", "detectorVersionId", "description", "externalModelEndpoints", "modelVersions", "ruleExecutionMode", "rules", *_TIMES)  # fmt: skip
            shown = without_ours(known, *members)
        elif found is not None:
            shown = {
                "detectorId": place.detector,
                "detectorVersionId": place.number,
                "externalModelEndpoints": [],
                "modelVersions": [],
                "ruleExecutionMode": found.rules.matching.value,
                "rules": [
                    _reference(place.detector, rule.id, str(rule.version))
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
            raise ValidationException(f"externalModelEndpoints: there are no external models, see {PAGE}")  # fmt: skip
        rules = []
        for one in request["rules"]:
            if one["detectorId"] != request["detectorId"]:
                raise ValidationException("rules: expected rules of this detector")
            known = self._rule_versions(one["detectorId"], one["ruleId"])
            if known is None:
                raise ResourceNotFoundException(f"there is no rule {one['ruleId']}: CreateRule makes it")  # fmt: skip
            version = self._version_of(known, one["ruleVersion"])
            rules.append(
                rule_of(
                    one["ruleId"],
                    version["expression"],
                    version["outcomes"],
                    version["description"],
                    names=self._catalogue.names(),
                    chosen=self._catalogue.chosen,
                    lists=self._catalogue.book().lists(),
                )
            )
        if len({rule.id for rule in rules}) != len(rules):
            raise ValidationException("rules: expected each rule in one version only")
        return RuleSet(
            matching=Matching(request.get("ruleExecutionMode", Matching.FIRST)),
            description=f"Version of the detector {request['detectorId']}.",
            rules=tuple(rules),
        )

    def _create_detector_version(self, request: Request, author: str) -> Answer:
        detector = request["detectorId"]
        self._own(detector)
        drafted = self._desk.draft(self._rule_set(request), author)
        known = self._catalogue.versions_of(detector)
        number = str(max((int(place.number) for place in known), default=0) + 1)
        self._put_version(Place(detector, number), request, drafted, author)
        status = self._catalogue.status(Place(detector, number))
        return {"detectorId": detector, "detectorVersionId": number, "status": status}

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
        self._clerk.put(Thing.DETECTOR_VERSION, place.key, value, author)

    def _update_detector_version(self, request: Request, author: str) -> Answer:
        place = Place(request["detectorId"], request["detectorVersionId"])
        self._own(place.detector)
        self._known(Thing.DETECTOR_VERSION, place.key, "detector version")
        if self._catalogue.status(place) != RuleStatus.DRAFT:
            raise ValidationException("expected a version with the status DRAFT: make another one")
        self._put_version(place, request, self._desk.draft(self._rule_set(request), author), author)
        return {}

    def _update_detector_version_metadata(self, request: Request, author: str) -> Answer:
        place = Place(request["detectorId"], request["detectorVersionId"])
        known = self._known(Thing.DETECTOR_VERSION, place.key, "detector version")
        self._clerk.put(Thing.DETECTOR_VERSION, place.key, known | {"description": request["description"]}, author)  # fmt: skip
        return {}

    def _update_detector_version_status(self, request: Request, author: str) -> Answer:
        place = Place(request["detectorId"], request["detectorVersionId"])
        found = self._catalogue.rules_of(place)
        if found is None:
            raise ResourceNotFoundException(f"there is no version {place.number} of the detector {place.detector}")  # fmt: skip
        wanted, now = request["status"], self._catalogue.status(place)
        if wanted == now:
            raise ValidationException(f"the version is {now} already")
        if wanted == RuleStatus.ACTIVE:
            self._desk.activate(found.rules.version, author)
        elif now == RuleStatus.ACTIVE:
            raise ValidationException("one version always decides here: activate another instead, and this one becomes INACTIVE")  # fmt: skip
        else:
            raise ValidationException(f"a version that is {now} can only become ACTIVE")
        return {}

    def _delete_detector_version(self, request: Request, author: str) -> Answer:
        place = Place(request["detectorId"], request["detectorVersionId"])
        self._own(place.detector)
        self._known(Thing.DETECTOR_VERSION, place.key, "detector version")
        if self._catalogue.status(place) == RuleStatus.ACTIVE:
            raise ConflictException("the version is ACTIVE: activate another first")
        self._clerk.drop(Thing.DETECTOR_VERSION, place.key, author)
        return {}

    # --- Lists ---

    def _create_list(self, request: Request, author: str) -> Answer:
        name = request["name"]
        if not re.fullmatch(LIST_NAME.strip("^$"), name):
            raise ValidationException("name: expected one that begins with a letter or a digit")
        self._desk.make_list(
            name,
            list_type_of(request.get(_VARIABLE_TYPE)),
            ListUse.REFERENCE,
            author,
            description=request.get("description", ""),
            entries=_entries(request.get("elements", ())),
        )
        self._put_list(name, request.get(_VARIABLE_TYPE), author)
        return {}

    def _put_list(self, name: str, variable_type: str | None, author: str) -> None:
        value = {_VARIABLE_TYPE: variable_type} if variable_type else {}
        self._clerk.put(Thing.LIST, name, {"name": name} | value, author)

    def _update_list(self, request: Request, author: str) -> Answer:
        name = request["name"]
        elements, mode = request.get("elements", ()), request.get("updateMode")
        if "elements" in request and mode is None:
            raise ValidationException(
                "updateMode: expected REPLACE, APPEND or REMOVE with elements"
            )
        kind = self._new_type(name, request.get(_VARIABLE_TYPE))
        if kind is not None or mode is not None or "description" in request:
            # One change, so that whatever of it is at fault leaves the list as it is.
            self._desk.change_list(
                name,
                author,
                add=() if mode == "REMOVE" else _entries(elements),
                remove=elements if mode == "REMOVE" else (),
                replace=mode == "REPLACE",
                kind=kind,
                description=request.get("description"),
            )
        if kind is not None:
            self._put_list(name, request[_VARIABLE_TYPE], author)
        return {}

    def _new_type(self, name: str, variable_type: str | None) -> ListType | None:
        """Say what a list is of once it has a variable's type, None when it has it already."""
        state = self._list(name)
        declared = (self._shelf.get(Thing.LIST, name) or {}).get(_VARIABLE_TYPE)
        if variable_type in (None, declared):
            return None
        if declared is not None or state.type is not ListType.TEXT:
            raise ValidationException("variableType: the list has one already, which stays")
        return list_type_of(variable_type)

    def _delete_list(self, request: Request, author: str) -> Answer:
        name = request["name"]
        self._desk.drop_list(name, author)
        if self._shelf.get(Thing.LIST, name) is not None:
            self._clerk.drop(Thing.LIST, name, author)
        return {}

    def _list(self, name: str) -> Any:
        found = self._catalogue.book().lists().get(name)
        if found is None:
            raise ResourceNotFoundException(f"there is no list {name}")
        return found

    def _get_lists_metadata(self, request: Request) -> Answer:
        if request.get("name"):
            self._list(request["name"])
        known = {}
        for name, state in self._catalogue.book().lists().items():
            declared = self._shelf.get(Thing.LIST, name) or {}
            changes = list(self._catalogue.book().changes("list", name))
            known[name] = {
                "name": name,
                "createdTime": declared.get(CREATED) or utc_text(changes[-1].time_ms),
                "updatedTime": utc_text(changes[0].time_ms),
                "arn": arn("list", name),
            }
            if state.description:
                known[name]["description"] = state.description[:128]
            if declared.get(_VARIABLE_TYPE):
                known[name][_VARIABLE_TYPE] = declared[_VARIABLE_TYPE]
        return _shown(known, request, "lists", 50)

    def _get_list_elements(self, request: Request) -> Answer:
        now_ms = self._clock()
        entries = self._list(request["name"]).entries
        values = sorted(value for value, one in entries.items() if one.counts(now_ms))
        names, token = page(values, request.get("nextToken"), request.get("maxResults", 500))
        return {"elements": list(names)} | ({"nextToken": token} if token else {})

    def _known(self, thing: Thing, key: str, word: str) -> Value:
        found = self._shelf.get(thing, key)
        if found is None:
            raise ResourceNotFoundException(f"there is no {word} {key}")
        return found

    @staticmethod
    def _version_of(rule: Value, number: str) -> Value:
        found: Value | None = rule["versions"].get(number)
        if found is None:
            raise ResourceNotFoundException(f"there is no version {number} of the rule {rule['ruleId']}")  # fmt: skip
        return found


@contextmanager
def _verdicts() -> Iterator[None]:
    """Turn what the desk says into errors of the protocol."""
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
    except (CannotPublish, BookUnread, OSError) as problem:
        raise InternalServerException(f"the change could not be made: {type(problem).__name__}") from None  # fmt: skip


def _reads(handle: Callable[[Request], Answer]) -> Callable[[Request, Principal], Answer]:
    return lambda request, _caller: handle(request)


def _of(handle: Callable[[_Kind, Request], Answer], kind: _Kind) -> Callable[[Request], Answer]:
    return lambda request: handle(kind, request)


def _of2(handle: Callable[[_Kind, Request, str], Answer], kind: _Kind) -> Callable[[Request, str], Answer]:  # fmt: skip
    return lambda request, author: handle(kind, request, author)


def _shown(known: Mapping[str, Value], request: Request, plural: str, size: int) -> Answer:
    """Give one thing by its name, or a page of all."""
    name = request.get("name")
    if name is not None:
        if name not in known:
            raise ResourceNotFoundException(f"there is no {name}")
        return {plural: [known[name]]}
    names, token = page(sorted(known), request.get("nextToken"), request.get("maxResults", size))
    return {plural: [known[one] for one in names]} | ({"nextToken": token} if token else {})


def _by_name(request: Request, member: str) -> Request:
    return {"name" if key == member else key: value for key, value in request.items()}


def _reference(detector: str, rule_id: str, number: str) -> Value:
    return {"detectorId": detector, "ruleId": rule_id, "ruleVersion": number}


def _one_of(rules: Iterable[Value], rule_id: str) -> Value:
    return next((one for one in rules if one["ruleId"] == rule_id), {})


def _entries(values: Sequence[str]) -> list[ListEntry]:
    return [ListEntry(value=value) for value in values]


_NAMED_BY: Final = ("name", "ruleId", "detectorVersionId", "detectorId")
_TEXTS: Final = frozenset({"expression", "description", "defaultValue"})
_MOST_ON_RECORD: Final = 1_000
# Numbers of five digits and more may be somebody's.
_PLAIN: Final = re.compile(r"(?!.*[0-9]{5})[A-Za-z0-9_.:-]{1,128}", re.ASCII)
_THINGS: Final = (
    ("List", Thing.LIST),
    ("DetectorVersion", Thing.DETECTOR_VERSION),
    ("Detector", Thing.DETECTOR),
    ("Rule", Thing.RULE),
    ("Variable", Thing.VARIABLE),
    ("Outcome", Thing.OUTCOME),
    ("Label", Thing.LABEL),
    ("EntityType", Thing.ENTITY_TYPE),
    ("EventType", Thing.EVENT_TYPE),
)
"""What an operation is of, by a part of its name; the first that fits."""
_OF_DETECTORS: Final = (Thing.RULE, Thing.DETECTOR_VERSION)


def _named(request: Request) -> list[str]:
    """Give the names that say what a request is of, the innermost first."""
    rule = request.get("rule") or {}
    return [str(part) for name in _NAMED_BY if (part := request.get(name) or rule.get(name))]
