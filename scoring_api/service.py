"""The API as a process: wiring, start, ordered shutdown."""

from __future__ import annotations

import gc
import socket
import sys
import threading
from contextlib import ExitStack, closing
from typing import Final

import structlog
import uvicorn
from fastapi import APIRouter
from opensearchpy import OpenSearch

from afd.declarations import KIND, Declarations
from fraud.contracts.topics import Topic
from fraud.kafka.async_producer import Publisher
from fraud.kafka.control import ControlPublisher
from fraud.kafka.topic_follower import TopicFeed
from fraud.policy.audited_editor import AuditedEditor
from fraud.policy.editor import PolicyEditor
from fraud.policy.follower import PolicyFollower, SeenPublisher
from fraud.runtime.background import Background
from fraud.runtime.clock import system_clock
from fraud.runtime.metrics import CONSUMER_LAG
from fraud.runtime.opensearch import connect
from fraud.security.api_keys import FIRST_KEY, KeyStore, KeysUnreadable
from fraud.security.audit import AuditLog
from fraud.security.aws_credentials import FILE_NAME, AwsCredentials, CredentialsUnreadable
from fraud.security.pseudonyms import Pseudonyms, kept_key
from fraud.security.sealing import Seal
from model.live import LiveEngine
from model.registry import Registry
from scoring_api.access import Access, RateLimit
from scoring_api.afd_protocol import Parts, UnusableSetting, afd
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

_SWITCH_S: Final = 0.0005
"""How long the follower's thread may keep a request from going on; Python's default is 5 ms."""

_BACKLOG: Final = 2048
_log = structlog.get_logger(SERVICE)


class CannotStart(Exception):
    """Something outside must change first; the message says what."""


def listen(host: str, port: int) -> socket.socket:
    """Take the port, before anything slow is done.

    Raises:
        CannotStart: It is taken, or not ours to take.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise CannotStart(
            f"cannot listen on {host} port {port}: {error.strerror}; set another API_PORT or stop what uses it"
        ) from None


def _keys(settings: Settings) -> KeyStore | None:
    """Return the API keys, with a first one if there are none; None when they are switched off."""
    if settings.api_keys == "off":
        _log.warning("scoring_api.keys_off", detail="anyone who reaches the API may do anything")
        return None
    try:
        keys = KeyStore(settings.state_dir)
    except KeysUnreadable as problem:
        raise CannotStart(str(problem)) from None
    if keys.ensure_first():
        _log.info("scoring_api.first_key_made", file=str(settings.state_dir / FIRST_KEY))
    return keys


def _access_keys(settings: Settings) -> AwsCredentials | None:
    """Return the access keys of Amazon Fraud Detector's protocol likewise."""
    if settings.api_keys == "off":
        return None
    try:
        credentials = AwsCredentials(settings.state_dir)
    except CredentialsUnreadable as problem:
        raise CannotStart(str(problem)) from None
    if credentials.ensure_first():
        _log.info("scoring_api.first_access_key_made", file=str(settings.state_dir / FILE_NAME))
    return credentials


def _live(
    settings: Settings, access: Access, search: OpenSearch, pseudonyms: Pseudonyms
) -> APIRouter:
    """Make the routes of the live page.

    Raises:
        CannotStart: A key that it needs cannot be read.
    """
    try:
        secret = kept_key(settings.state_dir / SERVICE / "session-key")
    except (ValueError, OSError) as problem:
        raise CannotStart(str(problem)) from None
    return live_routes(Board(search, pseudonyms, system_clock), Sessions(access, secret))


def serve(
    settings: Settings, registry: Registry, listener: socket.socket, stop: threading.Event
) -> None:
    """Answer until `stop` is set or SIGTERM comes.

    On the way out: answer what was asked, stop following, keep the history, close.

    Raises:
        ModelError: There is no champion, or it cannot be used.
        CannotStart: Keys or a mapping file cannot be read.
    """
    sys.setswitchinterval(_SWITCH_S)
    keys = _keys(settings)
    access_keys = _access_keys(settings)
    try:
        pseudonyms = Pseudonyms.of(settings)
    except (ValueError, OSError) as problem:
        raise CannotStart(f"the key of personal data cannot be used: {problem}") from None
    try:
        seal = Seal.of(settings.state_dir / SERVICE / "sealing-key")
    except (ValueError, OSError) as problem:
        raise CannotStart(str(problem)) from None
    history = RecentHistory(settings.api_history_keys)
    with ExitStack() as stack:
        engine = stack.enter_context(LiveEngine(registry, settings, service=SERVICE, stop=stop))
        feed = stack.enter_context(
            TopicFeed(settings, Topic.PROCESSED, service=SERVICE, lag=CONSUMER_LAG.labels(SERVICE))
        )
        follower = Follower(
            feed,
            history,
            SnapshotFile(settings.state_dir / SERVICE / "history.snapshot"),
            snapshot_s=settings.api_snapshot_s,
        )
        audit = AuditLog(settings.state_dir)
        publisher = stack.enter_context(Publisher(settings))
        search = stack.enter_context(closing(connect(settings, timeout_s=REQUEST_S)))
        labels = LabelSender(publisher, audit)
        routes = [
            decision_routes(Decisions(search, pseudonyms)),
            label_routes(labels),
            audit_routes(audit),
        ]
        if keys is not None:
            routes.append(key_routes(keys, audit))
        limit = RateLimit(settings.api_rate_limit)
        scoring = Scoring(
            engine.current, history, lambda: engine.waits_for() or follower.waits_for()
        )
        declarations = Declarations()
        policy_state = stack.enter_context(
            PolicyFollower(settings, service=SERVICE, stop=stop, beside={KIND: declarations})
        )
        documents = SeenPublisher(ControlPublisher(settings), policy_state)
        editor = AuditedEditor(
            PolicyEditor(documents, policy_state.current),
            policy_state.current,
            audit,
            lambda: pseudonyms,
        )
        routes += [
            rule_routes(editor, policy_state.current, stack.enter_context(DryRuns())),
            list_routes(editor, policy_state.current, seal),
            model_routes(registry, engine.current, editor),
        ]
        parts = Parts(
            scoring,
            history,
            registry,
            lambda: engine.current().scorer.ref,
            publisher,
            labels,
            search,
            declarations,
            policy_state.current,
            documents,
            audit,
            pseudonyms,
            access_keys,
            limit,
        )
        try:
            routes.append(afd(settings, parts))
        except UnusableSetting as problem:
            raise CannotStart(str(problem)) from None
        access = Access(keys, limit)
        routes.append(_live(settings, access, search, pseudonyms))
        app = create_app(
            scoring,
            access,
            *routes,
            answers=Answers(settings.state_dir / SERVICE / "idempotency.sqlite", seal),
        )
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                loop="uvloop",
                http="httptools",
                lifespan="off",
                access_log=False,  # costs time and tells who asked
                log_config=None,
                server_header=False,
                # Longer than clients' pools keep theirs: they are not to find a closed connection.
                timeout_keep_alive=75,
                timeout_graceful_shutdown=10,
            )
        )

        def follow() -> None:
            try:
                follower.run(stop)
            finally:
                server.should_exit = True

        stack.enter_context(Background("follower", follow, stop))
        # What lives from now on to the end is no garbage: collections need not look at it.
        gc.freeze()
        ref = engine.current().scorer.ref
        _log.info(
            "scoring_api.started",
            address=f"{settings.bind_host}:{listener.getsockname()[1]}",
            model=f"{ref.name}@{ref.version}",
        )
        server.run(sockets=[listener])
        _log.info("scoring_api.stopping")
