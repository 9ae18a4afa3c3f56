"""The protocol, put together from the API's parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import APIRouter
from opensearchpy import OpenSearch

from afd.administration import Administration
from afd.catalogue import Catalogue
from afd.decision_search import Past
from afd.declarations import Declarations, DeclarationWriter
from afd.event_operations import Events
from afd.models import ModelNumbers, Models
from afd.prediction_lookup import Decided
from afd.predictions import Names
from afd.routes import CallDispatcher, afd_routes
from afd.translation import read_outcomes
from fraud.contracts.decision import ModelRef
from fraud.kafka.async_producer import Publisher as RecordPublisher
from fraud.policy.editor import PolicyEditor, Publisher
from fraud.policy.state import PolicyState
from fraud.security.audit import AuditLog
from fraud.security.aws_credentials import AwsCredentials
from fraud.security.pseudonyms import Pseudonyms
from model.datasets import ColumnMapping, DatasetError
from model.registry import Registry
from scoring_api.access import RateLimit
from scoring_api.history import RecentHistory
from scoring_api.labels import LabelSender
from scoring_api.scoring import Scoring
from scoring_api.settings import Settings


class UnusableSetting(Exception):
    """A setting of the protocol cannot be used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the API has and the protocol needs.

    Attributes:
        scoring: Decides.
        history: What it decides by.
        registry: Where models are.
        champion: Gives the model that decides.
        records: Writes events.
        labels: Sends labels.
        search: OpenSearch.
        declarations: What clients declared; follows the control topic with the policy state.
        policy_state: Gives what decides, and did.
        documents: Writes control documents; returns once policy state and declarations have them.
        audit: Keeps who changed what.
        pseudonyms: Hashes what is personal of it.
        access_keys: None lets anyone in.
        limit: How often each may ask.
    """

    scoring: Scoring
    history: RecentHistory
    registry: Registry
    champion: Callable[[], ModelRef]
    records: RecordPublisher
    labels: LabelSender
    search: OpenSearch
    declarations: Declarations
    policy_state: Callable[[], PolicyState]
    documents: Publisher
    audit: AuditLog
    pseudonyms: Pseudonyms
    access_keys: AwsCredentials | None
    limit: RateLimit


def afd(settings: Settings, parts: Parts) -> APIRouter:
    """Make the route.

    Raises:
        UnusableSetting: See there.
    """
    try:
        mapping = ColumnMapping.read(settings.afd_mapping) if settings.afd_mapping else None
    except DatasetError as problem:
        raise UnusableSetting(f"AFD_MAPPING: {problem}") from None
    try:
        chosen = read_outcomes(settings.afd_outcomes)
    except ValueError as problem:
        raise UnusableSetting(f"AFD_OUTCOMES: {problem}") from None
    catalogue = Catalogue(parts.declarations, parts.policy_state, mapping, chosen)
    names = Names(settings.afd_model_id, ModelNumbers(parts.registry).number, catalogue.outcomes)
    events = Events(
        parts.scoring,
        parts.history,
        catalogue,
        names,
        parts.records,
        parts.labels,
        publishes_events=settings.afd_publish_events,
    )
    decided = Decided(Past(parts.search, settings), catalogue, names)
    administration = Administration(
        catalogue,
        DeclarationWriter(parts.declarations, parts.documents),
        PolicyEditor(parts.documents, parts.policy_state),
        parts.audit,
        parts.pseudonyms,
    )
    models = Models(parts.registry, names, catalogue, parts.champion)
    operations = (
        events.operations()
        | decided.operations()
        | administration.operations()
        | models.operations()
    )
    return afd_routes(CallDispatcher(operations, parts.access_keys, parts.limit))
