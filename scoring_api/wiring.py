"""Composition of the API: the only module of `scoring_api` that imports `afd`."""

from __future__ import annotations

import threading
from contextlib import ExitStack, closing
from dataclasses import dataclass

import structlog
from fastapi import APIRouter, FastAPI
from opensearchpy import OpenSearch

from afd.administration import Administration
from afd.catalogue import Catalogue
from afd.decision_search import DecisionSearch
from afd.declarations import Declarations, DeclarationWriter
from afd.event_operations import EventOperations
from afd.models import ModelNumbers, ModelOperations
from afd.prediction_lookup import PredictionLookup
from afd.predictions import Names
from afd.routes import CallDispatcher, afd_routes
from afd.translation import read_outcomes
from fraud.contracts.topics import Topic
from fraud.kafka.async_producer import AsyncProducer
from fraud.kafka.control import ControlPublisher
from fraud.kafka.control_index import with_key
from fraud.kafka.topic_follower import TopicFeed
from fraud.policy.editor import PolicyEditor
from fraud.policy.follower import PolicyFollower, SeenPublisher, follow_policy
from fraud.policy.history import PolicyHistory
from fraud.runtime.clock import steady_clock, system_clock
from fraud.runtime.files import FileDamaged
from fraud.runtime.lifecycle import CannotStart
from fraud.runtime.metrics import CONSUMER_LAG
from fraud.runtime.opensearch import connect
from fraud.security.api_keys import FIRST_KEY, KeyStore
from fraud.security.audit import AuditLog, Author
from fraud.security.aws_credentials import FILE_NAME, AwsCredentials
from fraud.security.principals import RateLimit
from fraud.security.pseudonyms import Pseudonyms, kept_key
from fraud.security.sealing import Seal
from model.datasets import ColumnMapping, DatasetError
from model.live import EngineInUse
from model.registry import Registry
from scoring_api.access import Access
from scoring_api.app import create_app
from scoring_api.decisions import REQUEST_S, Decisions
from scoring_api.dry_runs import DryRuns
from scoring_api.follower import SERVICE, Follower
from scoring_api.history import RecentHistory
from scoring_api.idempotency import Answers
from scoring_api.labels import LabelSender
from scoring_api.live.board import Board
from scoring_api.live.routes import live_routes
from scoring_api.live.session import Sessions
from scoring_api.routes.audit import audit_routes
from scoring_api.routes.decisions import decision_routes
from scoring_api.routes.keys import key_routes
from scoring_api.routes.labels import label_routes
from scoring_api.routes.lists import list_routes
from scoring_api.routes.models import model_routes
from scoring_api.routes.rules import rule_routes
from scoring_api.scoring import Scoring
from scoring_api.settings import Settings
from scoring_api.snapshot import SnapshotFile

_log = structlog.get_logger(SERVICE)


@dataclass(frozen=True, slots=True)
class Secrets:
    """The keys in the state folder.

    Attributes:
        api_keys: API keys of the REST API; None if keys are switched off.
        access_keys: Access keys of the AFD protocol; None if keys are switched off.
        pseudonyms: Hashes personal values.
        seal: Encrypts kept answers.
        session_key: Signs sessions of the live page.
    """

    api_keys: KeyStore | None
    access_keys: AwsCredentials | None
    pseudonyms: Pseudonyms
    seal: Seal
    session_key: bytes


@dataclass(frozen=True, slots=True)
class Stream:
    """State that follows the stream, and the scoring based on it.

    Attributes:
        policy: Follows the control topic; engine, history and declarations listen to it.
        engine: The engine that decides.
        history: Who changed the policy, and when.
        declarations: What AFD clients declared.
        follower: Reads decisions into the history of transactions.
        scoring: Scores requests by the engine and the history of transactions.
    """

    policy: PolicyFollower
    engine: EngineInUse
    history: PolicyHistory
    declarations: Declarations
    follower: Follower
    scoring: Scoring


@dataclass(frozen=True, slots=True)
class Backends:
    """Connections that routes read from and write to.

    Attributes:
        records: Writes events and labels to Kafka.
        search: OpenSearch.
        audit: Records who changed what.
        documents: Writes control documents; returns once policy and declarations include them.
    """

    records: AsyncProducer
    search: OpenSearch
    audit: AuditLog
    documents: SeenPublisher


def read_secrets(settings: Settings) -> Secrets:
    """Read the keys in the state folder, and make missing ones.

    Raises:
        CannotStart: A key cannot be read or made.
    """
    state_dir = settings.state_dir
    api_keys: KeyStore | None = None
    access_keys: AwsCredentials | None = None
    try:
        if settings.api_keys == "off":
            _log.warning(
                "scoring_api.keys_off", detail="anyone who reaches the API may do anything"
            )
        else:
            api_keys = KeyStore(state_dir)
            if api_keys.ensure_first():
                _log.info("scoring_api.first_key_made", file=str(state_dir / FIRST_KEY))
            access_keys = AwsCredentials(state_dir)
            if access_keys.ensure_first():
                _log.info("scoring_api.first_access_key_made", file=str(state_dir / FILE_NAME))
    except FileDamaged as problem:
        raise CannotStart(str(problem)) from None
    try:
        pseudonyms = Pseudonyms.of(settings)
    except (ValueError, OSError) as problem:
        raise CannotStart(f"the key of personal data cannot be used: {problem}") from None
    try:
        with_key(settings)
        seal = Seal.of(state_dir / SERVICE / "sealing-key")
        session_key = kept_key(state_dir / SERVICE / "session-key")
    except (ValueError, OSError) as problem:
        raise CannotStart(str(problem)) from None
    return Secrets(api_keys, access_keys, pseudonyms, seal, session_key)


def follow_stream(
    settings: Settings, registry: Registry, stop: threading.Event, stack: ExitStack
) -> Stream:
    """Start the engine, and prepare the history's follower, which the service runs in a thread.

    Raises:
        ModelError: The champion is missing, or cannot be used.
    """
    # All three listen to the control topic from its start.
    engine, changes, declarations = (
        EngineInUse(registry, service=SERVICE),
        PolicyHistory(),
        Declarations(),
    )
    policy = stack.enter_context(
        follow_policy(
            settings, service=SERVICE, stop=stop, listeners=[engine, changes, declarations]
        )
    )
    history = RecentHistory(settings.api_history_keys)
    feed = stack.enter_context(
        TopicFeed(settings, Topic.PROCESSED, service=SERVICE, lag=CONSUMER_LAG.labels(SERVICE))
    )
    snapshot = SnapshotFile(settings.state_dir / SERVICE / "history.snapshot")
    follower = Follower(feed, history, snapshot, snapshot_s=settings.api_snapshot_s)
    scoring = Scoring(
        lambda: engine.current,
        history,
        lambda: policy.waits_for() or follower.waits_for(),
        settings.event_time_limits,
    )
    return Stream(policy, engine, changes, declarations, follower, scoring)


def open_backends(settings: Settings, policy: PolicyFollower, stack: ExitStack) -> Backends:
    """Connect to Kafka and OpenSearch; the stack closes the connections."""
    records = stack.enter_context(AsyncProducer(settings))
    search = stack.enter_context(closing(connect(settings, timeout_s=REQUEST_S)))
    return Backends(
        records,
        search,
        AuditLog(settings.state_dir),
        SeenPublisher(ControlPublisher(settings), policy),
    )


def compose_app(
    settings: Settings,
    registry: Registry,
    secrets: Secrets,
    stream: Stream,
    backends: Backends,
    stack: ExitStack,
) -> FastAPI:
    """Return the app with all its routes.

    Raises:
        CannotStart: A setting cannot be used.
    """
    limit = RateLimit(settings.api_rate_limit)
    access = Access(secrets.api_keys, limit)
    labels = LabelSender(backends.records, backends.audit)
    board = Board(backends.search, secrets.pseudonyms, system_clock)
    return create_app(
        stream.scoring,
        access,
        *_record_routes(settings, secrets, backends, labels),
        *_policy_routes(registry, secrets, stream, backends, stack),
        _protocol_route(settings, registry, secrets, stream, backends, labels, limit),
        live_routes(board, Sessions(access, secrets.session_key)),
        answers=Answers(
            settings.state_dir / SERVICE / "idempotency.sqlite", secrets.seal, steady_clock()
        ),
    )


def _record_routes(
    settings: Settings, secrets: Secrets, backends: Backends, labels: LabelSender
) -> list[APIRouter]:
    """Return the routes of decisions, labels, the audit log and API keys."""
    routes = [
        decision_routes(Decisions(backends.search, secrets.pseudonyms)),
        label_routes(labels, ahead_s=settings.label_ahead_s),
        audit_routes(backends.audit),
    ]
    if secrets.api_keys is not None:
        routes.append(key_routes(secrets.api_keys, backends.audit))
    return routes


def _policy_routes(
    registry: Registry, secrets: Secrets, stream: Stream, backends: Backends, stack: ExitStack
) -> list[APIRouter]:
    """Return the routes of rules, lists and models."""
    policy_state = stream.policy.current

    def editor_of(author: Author) -> PolicyEditor:
        return PolicyEditor(
            backends.documents, policy_state, backends.audit, author, lambda: secrets.pseudonyms
        )

    return [
        rule_routes(editor_of, policy_state, stack.enter_context(DryRuns())),
        list_routes(editor_of, policy_state),
        model_routes(registry, lambda: stream.engine.current, editor_of),
    ]


def _protocol_route(
    settings: Settings,
    registry: Registry,
    secrets: Secrets,
    stream: Stream,
    backends: Backends,
    labels: LabelSender,
    limit: RateLimit,
) -> APIRouter:
    """Return the route of the Amazon Fraud Detector (AFD) protocol.

    Raises:
        CannotStart: A setting of the protocol cannot be used.
    """
    catalogue = _catalogue(settings, stream)
    names = Names(settings.afd_model_id, ModelNumbers(registry).number, catalogue.outcomes)
    events = EventOperations(
        stream.scoring,
        catalogue,
        names,
        backends.records,
        labels.send,
        publishes_events=settings.afd_publish_events,
    )
    predictions = PredictionLookup(DecisionSearch(backends.search, settings), catalogue, names)
    models = ModelOperations(registry, names, catalogue, lambda: stream.engine.current.scorer.ref)
    administration = Administration(
        catalogue,
        DeclarationWriter(stream.declarations, backends.documents),
        backends.documents,
        backends.audit,
        secrets.pseudonyms,
    )
    operations = (
        events.operations()
        | predictions.operations()
        | administration.operations()
        | models.operations()
    )
    return afd_routes(CallDispatcher(operations, secrets.access_keys, limit))


def _catalogue(settings: Settings, stream: Stream) -> Catalogue:
    """Return the AFD catalogue, with the mapping file and the outcomes of the settings."""
    try:
        mapping = ColumnMapping.read(settings.afd_mapping) if settings.afd_mapping else None
    except DatasetError as problem:
        raise CannotStart(f"AFD_MAPPING: {problem}") from None
    try:
        outcomes = read_outcomes(settings.afd_outcomes)
    except ValueError as problem:
        raise CannotStart(f"AFD_OUTCOMES: {problem}") from None
    return Catalogue(stream.declarations, stream.policy.current, stream.history, mapping, outcomes)
