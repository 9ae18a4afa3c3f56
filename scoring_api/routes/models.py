"""`/v1/models`: all models, the champion and the challenger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from fraud.contracts.decision import ModelRef
from fraud.contracts.versions import shown
from fraud.decision.engine import Engine
from fraud.policy.editor import EditorOf
from fraud.security.api_keys import Role
from fraud.security.principals import Principal
from model.promotion import check
from model.registry import Registry
from scoring_api.access import author_of, require
from scoring_api.documentation import problems

_Analyst = Annotated[Principal, Depends(require(Role.ANALYST))]
_Admin = Annotated[Principal, Depends(require(Role.ADMIN))]


class Model(BaseModel):
    """A model of the registry."""

    name: str
    version: Annotated[str, Field(description="First 16 digits of its content hash.")]
    created_at: Annotated[str, Field(description="When it was trained, ISO 8601.")]
    metrics: Annotated[
        dict[str, Any],
        Field(description="Figures on the later period, which training did not see."),
    ]


class Models(BaseModel):
    """All models, the champion and the challenger."""

    champion: Annotated[ModelRef, Field(description="The one that decides.")]
    challenger: Annotated[
        ModelRef | None, Field(description="The one that decides in shadow; null when none does.")
    ]
    items: Annotated[list[Model], Field(description="All of the registry, the newest last.")]


class NamedModel(BaseModel):
    """A model by its name, or none."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"model": "fraud"}, {"model": None}]}
    )

    model: Annotated[
        str | None,
        Field(max_length=300, description="NAME, or NAME@VERSION; null for none."),
    ]


class Promotion(BaseModel):
    """A request to make a model the champion."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"model": "fraud"}]})

    model: Annotated[str, Field(max_length=300, description="NAME, or NAME@VERSION.")]
    force: Annotated[
        bool, Field(description="Also when it is worse than the champion, or cannot be compared.")
    ] = False


def model_routes(
    registry: Registry, engine: Callable[[], Engine], editor_of: EditorOf
) -> APIRouter:
    """Return the routes of models.

    Args:
        registry: The model registry.
        engine: Returns the engine that decides now.
        editor_of: Returns the policy editor for the author of a change.
    """
    routes = APIRouter(prefix="/v1/models", tags=["models"], responses=problems())

    @routes.put(
        "/champion",
        summary="Promote a model to champion",
        responses=problems(404, 409, 503),
    )
    def promote(asked: Promotion, who: _Admin, request: Request) -> ModelRef:
        """Make a model decide; the job and API switch at once. Refused (409) if it is worse than the champion on later transactions, or cannot be compared."""
        ref = registry.find(asked.model)
        if not asked.force:
            check(registry, ref)
        with editor_of(author_of(who, request)).promoting(engine().policy.model, ref) as tell:
            registry.promote(ref.name, ref.version, force=asked.force)
            tell()
        return _shown(ref)

    @routes.put("/challenger", summary="Set the challenger model", responses=problems(404, 503))
    def challenge(asked: NamedModel, who: _Analyst, request: Request) -> NamedModel:
        """Make a model, or none, score in shadow: its decisions are recorded, and never acted on."""
        ref = None if asked.model is None else registry.find(asked.model)
        if ref is not None:
            # A model that cannot be loaded is refused here.
            registry.load(ref.name, ref.version)
        editor_of(author_of(who, request)).challenge_model(ref)
        return NamedModel(model=ref and f"{ref.name}@{shown(ref.version)}")

    @routes.get("", summary="List the models")
    def list_models(_who: _Analyst) -> Models:
        """Return all models of the registry, the champion and the challenger."""
        policy = engine().policy
        return Models(
            champion=_shown(policy.model),
            challenger=None if policy.challenge is None else _shown(policy.challenge.model),
            items=[
                Model(
                    name=manifest.name,
                    version=shown(manifest.version),
                    created_at=manifest.created_at,
                    metrics=manifest.metrics,
                )
                for manifest in registry.models()
            ],
        )

    return routes


def _shown(ref: ModelRef) -> ModelRef:
    return ModelRef(name=ref.name, version=shown(ref.version))
