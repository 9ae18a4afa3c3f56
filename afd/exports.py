"""Import of an Amazon Fraud Detector export: read it, plan what it becomes, carry the plan out.

An export is what the AWS CLI prints: the answers of `get-rules`, `get-detector-version`,
`get-variables`, `get-outcomes`, `get-lists-metadata`, `get-list-elements` and the like, as the files
of a folder or together in one file. Answers with elements do not name their list, so the file name
does: `elements-LIST.json`, or `elements-LIST-2.json` for a further page.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from afd.catalogue import OURS, Place, ours_of
from afd.declarations import DeclarationWriter, ResourceType, Value, without_ours
from afd.errors import AfdError
from afd.events import DeclaredVariable, EventReader
from afd.protocol import check_shape
from afd.translation import NotTranslated, list_type_of, outcome_of, rule_of
from fraud.contracts.decision import Outcome
from fraud.contracts.lists import LIST_NAME, ListEntry, ListType, ListUse, normal
from fraud.contracts.rules import Matching, Rule, RuleSet
from fraud.contracts.transaction import FIELD_BY_NAME
from fraud.contracts.versions import same_version
from fraud.policy.editor import PolicyEditor
from fraud.policy.state import PolicyState
from model.datasets import ColumnMapping

_PARTS: Final[Mapping[str, tuple[str, str]]] = {
    "variables": ("Variable", "name"),
    "outcomes": ("Outcome", "name"),
    "labels": ("Label", "name"),
    "entityTypes": ("EntityType", "name"),
    "eventTypes": ("EventType", "name"),
    "detectors": ("Detector", "detectorId"),
    "lists": ("AllowDenyList", "name"),
    "ruleDetails": ("RuleDetail", ""),
}
"""By member of an answer, the shape of its elements and the member that names each of them."""

_ELEMENTS: Final = "elements"
_ELEMENTS_FILE: Final = re.compile(r"elements-([0-9a-z_]+?)(?:-[0-9]+)?", re.ASCII)
_VERSION: Final = "GetDetectorVersionResult"
_SHOWN: Final = 3


class ExportError(Exception):
    """The export cannot be read or imported; the message names what was expected."""


@dataclass
class Export:
    """The contents of an export.

    Attributes:
        things: Resources by member of an answer, such as `variables`, and then by name.
        rules: All versions of rules, in the order of the export.
        versions: Versions of detectors.
        elements: Elements by list name.
    """

    things: dict[str, dict[str, Value]] = field(
        default_factory=lambda: {name: {} for name in _PARTS}
    )
    rules: list[Value] = field(default_factory=list)
    versions: list[Value] = field(default_factory=list)
    elements: dict[str, list[str]] = field(default_factory=dict)


def read_export(path: Path) -> Export:
    """Read an export from a file, or from all files `*.json` of a folder.

    Raises:
        ExportError: A file cannot be read, or is not part of an export.
    """
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise ExportError(f"{path}: expected files *.json in it")
    export = Export()
    for file in files:
        try:
            loaded = orjson.loads(file.read_bytes())
        except OSError as error:
            raise ExportError(f"{file}: {error.strerror}") from None
        except orjson.JSONDecodeError as error:
            raise ExportError(
                f"{file.name}: expected JSON (line {error.lineno}, column {error.colno})"
            ) from None
        for answer in loaded if isinstance(loaded, list) else [loaded]:
            _take(export, answer, file)
    return export


def _take(export: Export, answer: Any, file: Path) -> None:
    if not isinstance(answer, dict):
        raise ExportError(
            f"{file.name}: expected what the AWS CLI prints, a JSON object, or a list of them"
        )
    known = False
    try:
        # Only an answer of get-detector-version has both.
        if "detectorVersionId" in answer and "rules" in answer:
            export.versions.append(check_shape(_VERSION, answer))
            known = True
        for member, (shape, name) in _PARTS.items():
            for element in _list(answer, member, file):
                value = check_shape(shape, element)
                if member == "ruleDetails":
                    export.rules.append(value)
                else:
                    export.things[member][value[name]] = value
            known = known or member in answer
        if _ELEMENTS in answer:
            _take_elements(export, answer[_ELEMENTS], file)
            known = True
    except (AfdError, KeyError) as problem:
        text = problem.message if isinstance(problem, AfdError) else f"expected a member {problem}"
        raise ExportError(f"{file.name}: {text}") from None
    if not known and answer:
        expected = ", ".join((*_PARTS, _ELEMENTS, "detectorVersionId and rules"))
        raise ExportError(f"{file.name}: expected an object with one of {expected}")


def _list(answer: Mapping[str, Any], member: str, file: Path) -> list[Any]:
    found = answer.get(member, [])
    if not isinstance(found, list):
        raise ExportError(f"{file.name}: {member}: expected a list")
    return found


def _take_elements(export: Export, elements: Any, file: Path) -> None:
    if isinstance(elements, dict):
        by_list = elements
    else:
        match = _ELEMENTS_FILE.fullmatch(file.stem)
        if match is None:
            raise ExportError(
                f"{file.name}: elements do not say of which list they are; expected the name elements-LIST.json"
            )
        by_list = {match[1]: elements}
    for name, values in by_list.items():
        export.elements.setdefault(name, []).extend(check_shape("ElementsList", values))


@dataclass(frozen=True, slots=True)
class Finding:
    """What one resource of an export becomes.

    Attributes:
        kind: Type of the resource, such as `rule`.
        name: Name in the export.
        ours: What it becomes here; empty if it is not imported.
        problem: Why it is not imported, or what is lost; empty if nothing is.
    """

    kind: str
    name: str
    ours: str
    problem: str = ""


@dataclass
class Plan:
    """A plan for importing an export.

    Attributes:
        export: The export.
        detector: Id of the detector whose rules are imported; empty without rules.
        findings: What each resource becomes.
        rules: The rule set to draft; None if no rule can be translated.
        numbers: Rule versions of the export by rule id.
        lists: Types and valid elements by list name.
    """

    export: Export
    detector: str
    findings: list[Finding]
    rules: RuleSet | None
    numbers: dict[str, str]
    lists: dict[str, tuple[ListType, list[str]]]

    @property
    def problems(self) -> list[Finding]:
        """Findings on resources that are not imported completely."""
        return [finding for finding in self.findings if finding.problem]


def plan(
    export: Export,
    *,
    mapping: ColumnMapping | None,
    chosen: Mapping[str, Outcome],
    detector: str | None = None,
    known_lists: Collection[str] = (),
) -> Plan:
    """Plan the import of an export, changing nothing.

    Args:
        export: What `read_export` returned.
        mapping: Mapping file of the variables, if there is one.
        chosen: Fraudstream outcomes by outcome name, set by the user.
        detector: Id of the detector whose rules are imported; None if the export has only one.
        known_lists: Names of the lists that exist already.

    Raises:
        ExportError: The detector is missing, ambiguous or named `OURS`, or rules of its version are
            not in the export.
    """
    detectors = sorted({rule["detectorId"] for rule in export.rules})
    if detector is None:
        if len(detectors) > 1:
            raise ExportError(
                f"expected --detector, one of {', '.join(detectors)}: rules of one detector are taken at a time"
            )
        detector = detectors[0] if detectors else ""
    elif detector not in detectors:
        raise ExportError(
            f"there are no rules of the detector {detector}; there are of: {', '.join(detectors) or 'none'}"
        )
    if detector == OURS:
        raise ExportError(f"a detector cannot be called {OURS} here")
    findings: list[Finding] = []
    variables = {
        name: DeclaredVariable(members.get("variableType"), members.get("defaultValue"))
        for name, members in export.things["variables"].items()
    }
    reader = EventReader(mapping, variables)
    names = reader.names()
    for name in variables:
        ours = names.get(name) or (name if name in FIELD_BY_NAME else "")
        findings.append(Finding("variable", name, ours or "passed through; rules cannot ask it"))
    for name in export.things["outcomes"]:
        findings.append(_found("outcome", name, chosen))
    lists = _lists(export, findings)
    rules, numbers = _rules(export, detector, names, chosen, {*lists, *known_lists}, findings)
    return Plan(export, detector, findings, rules, numbers, lists)


def _found(kind: str, name: str, chosen: Mapping[str, Outcome]) -> Finding:
    try:
        return Finding(kind, name, outcome_of(name, chosen).value)
    except NotTranslated as verdict:
        return Finding(kind, name, "", str(verdict))


def _lists(export: Export, findings: list[Finding]) -> dict[str, tuple[ListType, list[str]]]:
    lists: dict[str, tuple[ListType, list[str]]] = {}
    for name in sorted({*export.things["lists"], *export.elements}):
        kind = list_type_of(export.things["lists"].get(name, {}).get("variableType"))
        values, wrong = [], []
        for position, value in enumerate(export.elements.get(name, ()), start=1):
            try:
                normal(kind, value)
                values.append(value)
            except ValueError as fault:
                wrong.append((position, str(fault)))
        problem = ""
        if not re.fullmatch(LIST_NAME.strip("^$"), name):
            findings.append(
                Finding("list", name, "", "expected a name that begins with a letter or a digit")
            )
            continue
        if wrong:
            places = ", ".join(str(position) for position, _ in wrong[:_SHOWN])
            problem = (
                f"{len(wrong)} elements are left out ({wrong[0][1]}), the first ones: {places}"
            )
        elif name not in export.elements:
            problem = f"its elements are not in the export: elements-{name}.json"
        lists[name] = (kind, values)
        findings.append(Finding("list", name, f"{kind}, {len(values):,} entries", problem))
    return lists


def _chosen_rules(export: Export, detector: str) -> tuple[list[Value], Matching, str]:
    """Return the rules in order, how they match, and what was guessed (may be empty)."""
    known = {
        (rule["ruleId"], rule["ruleVersion"]): rule
        for rule in export.rules
        if rule["detectorId"] == detector
    }
    versions = [version for version in export.versions if version["detectorId"] == detector]
    if versions:
        # The active version, else the newest.
        version = max(
            versions,
            key=lambda version: (
                version.get("status") == "ACTIVE",
                int(version["detectorVersionId"]),
            ),
        )
        wanted = [(rule["ruleId"], rule["ruleVersion"]) for rule in version["rules"]]
        missing = [
            f"{rule}, version {number}" for rule, number in wanted if (rule, number) not in known
        ]
        if missing:
            raise ExportError(
                f"version {version['detectorVersionId']} of the detector has rules that are not in the export: {'; '.join(missing)}"
            )
        matching = Matching(version.get("ruleExecutionMode", Matching.FIRST))
        return [known[key] for key in wanted], matching, ""
    newest: dict[str, Value] = {}
    for (rule_id, number), rule in known.items():
        if rule_id not in newest or int(number) > int(newest[rule_id]["ruleVersion"]):
            newest[rule_id] = rule
    guessed = "the export has no detector version: the order of rules and FIRST_MATCHED are guessed"
    return list(newest.values()), Matching.FIRST, guessed if newest else ""


def _rules(
    export: Export,
    detector: str,
    names: Mapping[str, str],
    chosen: Mapping[str, Outcome],
    lists: Collection[str],
    findings: list[Finding],
) -> tuple[RuleSet | None, dict[str, str]]:
    details, matching, guessed = _chosen_rules(export, detector)
    if guessed:
        findings.append(Finding("detector", detector, matching.value, guessed))
    made: list[Rule] = []
    numbers: dict[str, str] = {}
    for detail in details:
        rule_id, number = detail["ruleId"], detail["ruleVersion"]
        try:
            rule = rule_of(
                rule_id,
                detail["expression"],
                detail["outcomes"],
                detail.get("description", ""),
                names=names,
                chosen=chosen,
                lists=lists,
            )
        except NotTranslated as verdict:
            # The others are imported all the same.
            findings.append(Finding("rule", f"{rule_id} {number}", "", str(verdict)))
        else:
            made.append(rule)
            numbers[rule_id] = number
            findings.append(
                Finding("rule", f"{rule_id} {number}", f"{rule.outcome} when {rule.when}")
            )
    if not made:
        return None, {}
    description = f"Imported from the detector {detector}."
    return RuleSet(matching=matching, description=description, rules=tuple(made)), numbers


_KEPT: Final = {
    "variables": (ResourceType.VARIABLE, ("name", "dataType", "dataSource", "defaultValue", "description", "variableType")),
    "outcomes": (ResourceType.OUTCOME, ("name", "description")),
    "labels": (ResourceType.LABEL, ("name", "description")),
    "entityTypes": (ResourceType.ENTITY_TYPE, ("name", "description")),
    "eventTypes": (ResourceType.EVENT_TYPE, ("name", "description", "eventVariables", "labels", "entityTypes", "eventIngestion")),
}  # fmt: skip


def take_over(
    plan: Plan,
    writer: DeclarationWriter,
    editor: PolicyEditor,
    policy_state: PolicyState,
) -> str | None:
    """Carry out a plan; doing it again changes nothing more.

    Afterwards lists have exactly the elements of the export. The active rule set stays active.

    Returns:
        Version of the drafted rule set; None if the plan has no rules.

    Raises:
        InvalidRules: The rule set cannot be drafted.
        InvalidMessage: A list exists already, and its type does not allow an element.
    """
    export, author = plan.export, editor.author.name
    for member, (thing, members) in _KEPT.items():
        for name, resource in export.things[member].items():
            writer.put(thing, name, without_ours(resource, *members), author)
    for name, (kind, values) in plan.lists.items():
        metadata = export.things["lists"].get(name, {})
        description = metadata.get("description", "")
        if name not in policy_state.lists():
            editor.make_list(name, kind, ListUse.REFERENCE, description=description)
        entries = [ListEntry(value=value, source="Amazon Fraud Detector") for value in values]
        editor.change_list(name, add=entries, replace=True)
        writer.put(
            ResourceType.LIST, name, {"name": name} | without_ours(metadata, "variableType"), author
        )
    if plan.rules is None:
        return None
    drafted = editor.draft(plan.rules)
    _keep_detector(plan, drafted, writer, author)
    return drafted.version


def _keep_detector(plan: Plan, drafted: RuleSet, writer: DeclarationWriter, author: str) -> None:
    export, detector = plan.export, plan.detector
    event_type = next(iter(export.things["eventTypes"]), "transaction")
    known = export.things["detectors"].get(detector) or {
        "detectorId": detector,
        "eventTypeName": event_type,
    }
    writer.put(
        ResourceType.DETECTOR,
        detector,
        without_ours(known, "detectorId", "description", "eventTypeName"),
        author,
    )
    by_id: dict[str, list[Value]] = {}
    for rule in export.rules:
        if rule["detectorId"] == detector:
            by_id.setdefault(rule["ruleId"], []).append(rule)
    for rule_id, details in by_id.items():
        key = f"{detector}/{rule_id}"
        # Versions that are declared already stay: detector versions may refer to them.
        before = writer.declarations.get(ResourceType.RULE, key)
        versions = (before["versions"] if before else {}) | {
            detail["ruleVersion"]: {
                "expression": detail["expression"],
                "language": detail.get("language", "DETECTORPL"),
                "outcomes": detail["outcomes"],
                "description": detail.get("description", ""),
                "createdTime": detail.get("createdTime", writer.now()),
            }
            for detail in details
        }
        newest = max(details, key=lambda detail: int(detail["ruleVersion"]))
        rule = {
            "detectorId": detector,
            "ruleId": rule_id,
            "description": newest.get("description", ""),
            "versions": versions,
        }
        writer.put(ResourceType.RULE, key, rule, author)
    place = _place(writer, detector, drafted.version)
    rules = [
        {"detectorId": detector, "ruleId": rule.id, "ruleVersion": plan.numbers[rule.id]}
        for rule in drafted.rules
    ]
    writer.put(
        ResourceType.DETECTOR_VERSION,
        place.key,
        {
            "detectorId": detector,
            "detectorVersionId": place.number,
            "externalModelEndpoints": [],
            "modelVersions": [],
            "ruleExecutionMode": drafted.matching.value,
            "rules": rules,
            **ours_of(drafted),
        },
        author,
    )


def _place(writer: DeclarationWriter, detector: str, rules_version: str) -> Place:
    """Return the detector version that has this rule set, else one with the next number."""
    known = [
        version
        for version in writer.declarations.all(ResourceType.DETECTOR_VERSION).values()
        if version["detectorId"] == detector
    ]
    for version in known:
        if same_version(version["rules_version"], rules_version):
            return Place(detector, version["detectorVersionId"])
    return Place(detector, str(max(_numbers(known), default=0) + 1))


def _numbers(versions: Iterable[Value]) -> list[int]:
    return [int(version["detectorVersionId"]) for version in versions]
