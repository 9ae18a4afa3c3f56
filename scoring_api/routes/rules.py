"""`/v1/rules`: versions of the rule set, and which of them decides."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from fraud.contracts.rules import RuleSet, RuleStatus
from fraud.contracts.times import utc_text
from fraud.contracts.versions import shown
from fraud.policy.editor import EditorOf, NoSuch
from fraud.policy.state import PolicyState, RuleVersion
from fraud.security.api_keys import Role
from fraud.security.principals import Principal
from scoring_api.access import author_of, require
from scoring_api.documentation import problems
from scoring_api.dry_runs import DryRuns, RunState
from scoring_api.idempotency import OnceRoute, idempotent

_EXAMPLE: Final[dict[str, Any]] = {
    "description": "Ours.",
    "rules": [
        {
            "id": "R1_many_cards",
            "when": "$ip_entity_distinct_24h > 5 and $transaction_amt > 100",
            "outcome": "review",
            "reason": "Many customers from one address.",
        }
    ],
}
_Analyst = Annotated[Principal, Depends(require(Role.ANALYST))]


class RuleSetSummary(BaseModel):
    """A version of the rule set."""

    version: Annotated[str, Field(description="First 16 digits of the hash of its content.")]
    status: RuleStatus
    challenger: Annotated[bool, Field(description="Whether it decides in shadow.")]
    author: str
    created_at: Annotated[str | None, Field(description="ISO 8601; null for the shipped one.")]
    activated_at: Annotated[str | None, Field(description="When it was activated last.")]
    description: str
    rules: Annotated[int, Field(description="How many rules it has.")]


class RuleSetVersion(BaseModel):
    """A version of the rule set with its rules."""

    about: RuleSetSummary
    rule_set: RuleSet


class RuleSetVersions(BaseModel):
    """All versions of the rule set."""

    items: Annotated[list[RuleSetSummary], Field(description="The newest first.")]


class Activation(BaseModel):
    """A condition for activating a version."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{}]})

    expected: Annotated[
        str | None,
        Field(max_length=64, description="Version that must be active now; another one is a conflict."),
    ] = None  # fmt: skip


class Challenge(BaseModel):
    """The version that decides in shadow, or none."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"version": None}]})

    version: Annotated[str | None, Field(max_length=64, description="Null for none.")]


class DryRun(BaseModel):
    """A rule set to be tried on past transactions."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"rules": _EXAMPLE, "days": 7}]}
    )

    rules: RuleSet
    days: Annotated[
        float, Field(gt=0, le=3_650, description="How far back; Kafka keeps 30 days by default.")
    ] = 30.0
    limit: Annotated[int | None, Field(ge=1, description="Most transactions, the latest.")] = None


class DryRunState(BaseModel):
    """The current state of a dry run."""

    id: str
    state: RunState
    detail: Annotated[str, Field(description="Why it failed.")] = ""
    report: Annotated[
        dict[str, Any] | None,
        Field(description="Hits, money, frauds and false positives of each rule, and how outcomes would change."),
    ] = None  # fmt: skip


def rule_routes(
    editor_of: EditorOf, policy_state: Callable[[], PolicyState], runs: DryRuns
) -> APIRouter:
    """Return the routes of rules."""
    routes = APIRouter(
        prefix="/v1/rules", tags=["rules"], route_class=OnceRoute, responses=problems()
    )

    def summary(version: RuleVersion) -> RuleSetSummary:
        shadow = policy_state().challenger_rules
        return RuleSetSummary(
            version=shown(version.rules.version),
            status=version.status,
            challenger=shadow is not None and shadow.version == version.rules.version,
            author=version.author,
            created_at=utc_text(version.created_ms) if version.created_ms else None,
            activated_at=utc_text(version.activated_ms) if version.activated_ms else None,
            description=version.rules.description,
            rules=len(version.rules.rules),
        )

    def whole(version: str) -> RuleSetVersion:
        found = policy_state().rule_version(version)
        if found is None:
            raise NoSuch(f"unknown version of the rules: {version}")
        return RuleSetVersion(about=summary(found), rule_set=found.rules)

    @routes.get("", summary="List the versions")
    def list_versions(_who: _Analyst) -> RuleSetVersions:
        """Return all versions. One is `ACTIVE`; drafts have never decided."""
        return RuleSetVersions(
            items=[summary(version) for version in policy_state().rule_versions()]
        )

    @routes.get("/active", summary="Get the active rules")
    def active(_who: _Analyst) -> RuleSetVersion:
        """Return the active version. Send it as `expected` when you activate another one."""
        return whole(policy_state().active_rules.version)

    @routes.post(
        "/test",
        summary="Try rules on past transactions",
        status_code=HTTPStatus.ACCEPTED,
        responses=problems(409),
        dependencies=[Depends(idempotent)],
    )
    def test(asked: DryRun, _who: _Analyst) -> DryRunState:
        """Start a dry run, which changes nothing. It takes up to a minute for a million transactions: get its result by its id."""
        run_id = runs.start(policy_state().checked(asked.rules), days=asked.days, limit=asked.limit)
        return DryRunState(id=run_id, state=RunState.RUNNING)

    @routes.get("/test/{run_id}", summary="Get a dry run", responses=problems(404))
    def tested(run_id: str, _who: _Analyst) -> DryRunState:
        """Return a dry run, with its report once it is done. The last twenty are kept."""
        run = runs.get(run_id)
        return DryRunState(id=run_id, state=run.state, detail=run.detail, report=run.report)

    @routes.get("/{version}", summary="Get a version", responses=problems(404))
    def get_version(version: str, _who: _Analyst) -> RuleSetVersion:
        """Return a version: a draft, the active one, or one that was active before."""
        return whole(version)

    @routes.post(
        "",
        summary="Keep a draft",
        status_code=HTTPStatus.CREATED,
        responses=problems(503),
        dependencies=[Depends(idempotent)],
    )
    def draft(
        rules: Annotated[RuleSet, Body(examples=[_EXAMPLE])], who: _Analyst, request: Request
    ) -> RuleSetVersion:
        """Keep a rule set as a draft. It is checked as an active one would be: 422 names each invalid rule, with line and column."""
        return whole(editor_of(author_of(who, request)).draft(rules).version)

    @routes.post(
        "/{version}/activate",
        summary="Activate a version",
        responses=problems(404, 409, 503),
        dependencies=[Depends(idempotent)],
    )
    def activate(
        version: str, asked: Activation, who: _Analyst, request: Request
    ) -> RuleSetVersion:
        """Activate a version. The running job and API decide by it at once."""
        editor_of(author_of(who, request)).activate(version, expected=asked.expected)
        return whole(version)

    @routes.put("/challenger", summary="Set the challenger version", responses=problems(404, 503))
    def challenge(asked: Challenge, who: _Analyst, request: Request) -> RuleSetVersions:
        """Make a version, or none, decide in shadow: its decisions are recorded, and never acted on."""
        editor_of(author_of(who, request)).challenge_rules(asked.version)
        return list_versions(who)

    return routes
