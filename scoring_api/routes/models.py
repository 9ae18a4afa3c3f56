"""`/v1/models`: the models there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from fraud.contracts.decision import ModelRef
from fraud.decision.engine import Engine
from fraud.kit.api_keys import Role
from model.registry import Registry
from scoring_api.access import require
from scoring_api.documentation import problems


class Model(BaseModel):
    """A model of the registry."""

    name: str
    version: Annotated[str, Field(description="Content hash, shortened.")]
    created_at: Annotated[str, Field(description="When it was trained, ISO 8601.")]
    metrics: Annotated[dict[str, Any], Field(description="Figures on the later period, which training did not see.")]  # fmt: skip


class Models(BaseModel):
    """The models there are, and which of them decide."""

    champion: Annotated[ModelRef, Field(description="The one that decides.")]
    challenger: Annotated[ModelRef | None, Field(description="The one that decides in shadow; null when none does.")]  # fmt: skip
    items: Annotated[list[Model], Field(description="All of the registry, the newest last.")]


def model_routes(registry: Registry, engine: Callable[[], Engine]) -> APIRouter:
    """Make the routes.

    Args:
        registry: Where models are.
        engine: Gives what decides now.
    """
    routes = APIRouter(
        prefix="/v1/models",
        tags=["models"],
        dependencies=[Depends(require(Role.ANALYST))],
        responses=problems(),
    )

    @routes.get("", summary="List the models")
    def list_models() -> Models:
        """All of the registry, and which of them decide now."""
        policy = engine().policy
        return Models(
            champion=policy.model,
            challenger=None if policy.challenge is None else policy.challenge.model,
            items=[
                Model(
                    name=one.name,
                    version=one.version,
                    created_at=one.created_at,
                    metrics=one.metrics,
                )
                for one in registry.models()
            ],
        )

    return routes
