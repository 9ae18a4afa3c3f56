"""The app with all its routes and a key of each role, over HTTP without a socket or a server."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
from opensearchpy.exceptions import ConnectionError as OpenSearchConnectionError

from fraud.contracts.control import ControlDocument, decode_control
from fraud.contracts.topics import Topic
from fraud.decision.scale import ScoreScale
from fraud.kafka.async_producer import NotPublished
from fraud.kafka.sync_producer import CannotPublish
from fraud.policy.editor import PolicyEditor
from fraud.policy.state import PolicyState
from fraud.security.api_keys import KeyStore, Role
from fraud.security.audit import AuditLog, Author
from fraud.security.principals import RateLimit
from fraud.security.sealing import Seal
from model.registry import Registry
from scoring_api.access import Access
from scoring_api.app import create_app
from scoring_api.decisions import Decisions
from scoring_api.dry_runs import DryRuns
from scoring_api.history import RecentHistory
from scoring_api.idempotency import Answers
from scoring_api.labels import LabelSender
from scoring_api.routes.audit import audit_routes
from scoring_api.routes.decisions import decision_routes
from scoring_api.routes.keys import key_routes
from scoring_api.routes.labels import label_routes
from scoring_api.routes.lists import list_routes
from scoring_api.routes.models import model_routes
from scoring_api.routes.rules import rule_routes
from scoring_api.scoring import Scoring
from tests.support.boosters import train_booster
from tests.support.editing import PSEUDONYMS
from tests.support.fakes import NOW_MS, an_engine

SEAL = Seal(b"k" * 32)
Hit = dict[str, Any]
SAYS_WHAT_IT_READ = """
import json, sys, tomllib
rules = tomllib.load(open(sys.argv[1], "rb"))["rules"]
if rules[0]["id"] == "fails":
    sys.exit("no broker answers")
print(json.dumps({"rules": [rule["id"] for rule in rules]}))
"""
"""Stands for `fraudstream rules test`, which `tests/service` runs on a real broker."""


class ScriptedSearch:
    """OpenSearch that gives what it was told to, or is away.

    Attributes:
        asked: Bodies of the requests so far.
        hits: What the next ones are answered.
        away: Whether nobody answers.
    """

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.hits: Sequence[Hit] = ()
        self.away = False

    def search(self, *, index: str, body: dict[str, Any], **options: bool) -> dict[str, Any]:
        assert index == "processed_transactions"
        if self.away:
            raise OpenSearchConnectionError("N/A", "refused", None)
        self.asked.append(body)
        return {"hits": {"hits": list(self.hits[: body["size"]])}}


class ListPublisher:
    """Kafka that keeps what it gets, or is away."""

    def __init__(self) -> None:
        self.sent: list[tuple[Topic, str, bytes]] = []
        self.away = False

    async def send(self, topic: Topic, key: str, value: bytes) -> None:
        if self.away:
            raise NotPublished("no answer")
        self.sent.append((topic, key, value))


class AnApi:
    """The app, asked by calling this.

    Args:
        folder: Its state folder.
        limit: Requests a second of each key.
    """

    def __init__(self, folder: Path, limit: int = 0) -> None:
        self.store = KeyStore(folder)
        self.audit = AuditLog(folder)
        self.search = ScriptedSearch()
        self.publisher = ListPublisher()
        self.registry = Registry(folder / "models")
        self.secrets = {
            role: self.store.create(f"the {role.value}", role, "ada")[1] for role in Role
        }
        self.policy_state = PolicyState()
        self.control_is_away = False
        self.runs = DryRuns(
            command=lambda file, days, limit: [sys.executable, "-c", SAYS_WHAT_IT_READ, str(file)]
        )
        engine = an_engine()
        self.app = create_app(
            Scoring(lambda: engine, RecentHistory(10), lambda: None),
            Access(self.store, RateLimit(limit, lambda: 0.0)),
            key_routes(self.store, self.audit),
            audit_routes(self.audit),
            decision_routes(Decisions(self.search, PSEUDONYMS)),  # type: ignore[arg-type]
            label_routes(LabelSender(self.publisher, self.audit), lambda: NOW_MS, ahead_s=300),  # type: ignore[arg-type]
            rule_routes(self.editor_of, lambda: self.policy_state, self.runs),
            list_routes(self.editor_of, lambda: self.policy_state),
            model_routes(self.registry, lambda: engine, self.editor_of),
            answers=Answers(folder / "idempotency.sqlite", SEAL),
        )

    def editor_of(self, author: Author) -> PolicyEditor:
        """Return the editor of whoever sent a request."""
        return PolicyEditor(
            self,
            lambda: self.policy_state,
            self.audit,
            author,
            lambda: PSEUDONYMS,
            clock=lambda: NOW_MS,
        )

    def publish(self, document: ControlDocument) -> None:
        """Be the topic of control documents, as `fraud.policy.editor.Publisher`."""
        if self.control_is_away:
            raise CannotPublish("no answer")
        self.policy_state.apply(decode_control(document.key, document.value))

    def __call__(
        self, method: str, path: str, secret: str | None = None, **more: Any
    ) -> httpx.Response:
        """Send a request, with an API key if one is given."""
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        headers |= more.pop("headers", {})

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
                return await http.request(method, path, headers=headers, **more)

        return asyncio.run(send())

    def asked_as(self, role: Role) -> Callable[..., httpx.Response]:
        """Return the same with the key of a role."""
        return lambda method, path, **more: self(method, path, self.secrets[role], **more)

    def with_models(self) -> None:
        """Put a model into the registry."""
        scale = ScoreScale([0.0, 1.0], [0.0, 1000.0])
        self.registry.add("fraud", train_booster(), scale, metrics={"auc": 0.9}, training={})
