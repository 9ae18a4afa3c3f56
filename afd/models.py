"""Operations that read models of the registry; training happens elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from afd.catalogue import Catalogue, arn
from afd.errors import ResourceNotFoundException
from afd.operations import Answer, Operation, Request, in_a_thread
from afd.paging import page
from afd.predictions import MODEL_TYPE, Names
from fraud.contracts.decision import ModelRef
from fraud.contracts.versions import EARLIER_DIGITS, same_version, shown
from fraud.security.api_keys import Role
from fraud.security.principals import Principal
from model.registry import Manifest, Registry

_PAGE: Final = 10


class ModelNumbers:
    """Numbers the versions of each model in the order of creation: 1.0, 2.0 and so on.

    Args:
        registry: The model registry.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        # By the digits of a version that decisions of any age have.
        self._known: dict[tuple[str, str], str] = {}

    def number(self, name: str, version: str) -> str:
        """Return the number of a version, `NO_NUMBER` if the registry does not have it."""
        version = version[:EARLIER_DIGITS]
        found = self._known.get((name, version))
        if found is None:
            # Read again: a model that was trained meanwhile comes after those known.
            counts: dict[str, int] = {}
            for manifest in self._registry.models():
                counts[manifest.name] = counts.get(manifest.name, 0) + 1
                known = manifest.name, manifest.version[:EARLIER_DIGITS]
                self._known[known] = f"{counts[manifest.name]}.0"
            found = self._known.setdefault((name, version), NO_NUMBER)
        return found


NO_NUMBER: Final = "0.0"
"""Number of a version that the registry does not have any more."""


class ModelOperations:
    """Handles the operations that read models.

    Args:
        registry: The model registry.
        names: Names by which clients know models.
        catalogue: Declarations and policy state.
        champion: Returns the model that decides.
    """

    def __init__(
        self,
        registry: Registry,
        names: Names,
        catalogue: Catalogue,
        champion: Callable[[], ModelRef],
    ) -> None:
        self._registry = registry
        self._names = names
        self._catalogue = catalogue
        self._champion = champion

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {
            "GetModels": Operation(Role.ANALYST, in_a_thread(self.get_models)),
            "GetModelVersion": Operation(Role.ANALYST, in_a_thread(self.get_model_version)),
            "DescribeModelVersions": Operation(Role.ANALYST, in_a_thread(self.describe_versions)),
        }

    def get_models(self, request: Request, _caller: Principal) -> Answer:
        """Return one model, or a page of all."""
        known: dict[str, Answer] = {}
        for manifest in self._registry.models():
            model_id = self._names.model(manifest.name)
            first = known.get(model_id, {}).get("createdTime", manifest.created_at)
            known[model_id] = {
                "modelId": model_id,
                "modelType": MODEL_TYPE,
                "eventTypeName": self._catalogue.event_type(),
                "createdTime": first[:30],
                "lastUpdatedTime": manifest.created_at[:30],
                "arn": arn("model", model_id),
            }
        if (wanted := request.get("modelId")) is not None:
            if wanted not in known or request.get("modelType", MODEL_TYPE) != MODEL_TYPE:
                raise ResourceNotFoundException(f"unknown model, or one of another type: {wanted}")
            return {"models": [known[wanted]]}
        names, token = page(
            sorted(known), request.get("nextToken"), request.get("maxResults", _PAGE)
        )
        return {"models": [known[name] for name in names]} | ({"nextToken": token} if token else {})

    def get_model_version(self, request: Request, _caller: Principal) -> Answer:
        """Return a version of a model; its ARN ends in the version as the registry writes it."""
        found = self._versions(request)
        if not found:
            raise ResourceNotFoundException("unknown version of the model")
        return self._version(found[0])

    def describe_versions(self, request: Request, _caller: Principal) -> Answer:
        """Return a page of model versions, with the AUC of each."""
        found = {f"{index:06d}": manifest for index, manifest in enumerate(self._versions(request))}
        names, token = page(
            sorted(found), request.get("nextToken"), request.get("maxResults", _PAGE)
        )
        details = []
        for name in names:
            manifest = found[name]
            made = manifest.created_at[:30]
            detail = self._version(manifest) | {"createdTime": made, "lastUpdatedTime": made}
            area = manifest.metrics.get("auc")
            if isinstance(area, int | float):
                detail["trainingResult"] = {"trainingMetrics": {"auc": float(area)}}
            details.append(detail)
        return {"modelVersionDetails": details} | ({"nextToken": token} if token else {})

    def _versions(self, request: Request) -> list[Manifest]:
        asked = {
            member: request[member]
            for member in ("modelId", "modelType", "modelVersionNumber")
            if member in request
        }
        return [
            manifest
            for manifest in self._registry.models()
            if asked.items() <= self._version(manifest).items()
        ]

    def _version(self, manifest: Manifest) -> Answer:
        champion = self._champion()
        decides = champion.name == manifest.name and same_version(
            champion.version, manifest.version
        )
        return {
            "modelId": self._names.model(manifest.name),
            "modelType": MODEL_TYPE,
            "modelVersionNumber": self._names.model_number(manifest.name, manifest.version),
            "status": "ACTIVE" if decides else "INACTIVE",
            "arn": arn("model-version", f"{manifest.name}/{shown(manifest.version)}"),
        }
