"""The engine in use: models, rules and lists of the moment, switched by `fraud_control` while it decides."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, Self

import structlog

from fraud.contracts.control import (
    ACTIVE,
    CHALLENGER,
    CHAMPION,
    LIST,
    MODEL,
    NONE,
    RULES,
    Activations,
    ControlDocument,
    read_list_change,
    read_model,
    read_rules,
)
from fraud.contracts.decision import ModelRef
from fraud.contracts.lists import ListFold
from fraud.contracts.topics import Topic
from fraud.contracts.transaction import FIELDS, from_mapping
from fraud.decision.columns import FieldsOfTransactions
from fraud.decision.engine import Engine, TransactionBatch
from fraud.decision.lists import Lookup
from fraud.decision.policy import Challenge, Policy
from fraud.decision.rule_sets import CompiledRules, InvalidRules, shipped
from fraud.decision.scorer import Scorer
from fraud.features.packing import pack
from fraud.features.vector import feature_matrix
from fraud.kafka.control import ControlFollower, Name, Refused, Void
from fraud.kafka.topic_follower import TopicFeed
from fraud.runtime.background import Background
from fraud.runtime.clock import Clock, system_clock
from fraud.runtime.metrics import CONTROL_LAG, MODEL_IN_USE, POLICY_IN_USE
from fraud.runtime.settings import KafkaSettings
from model.registry import ModelError, Registry

READY_S: Final = 60.0
"""How long a process that starts waits for the control topic before it gives up."""

_LOOK_S: Final = 0.05

_log = structlog.get_logger("model.live")


class ControlUnread(Exception):
    """The control topic could not be read: which model decides is not known."""


def warm_up(engine: Engine) -> None:
    """Decide once, so that no batch pays for what is made on first use.

    Raises:
        ModelError: The model cannot decide.
    """
    transactions = [from_mapping({field.name: field.example for field in FIELDS})]
    packed = pack(transactions)
    rings = {key: [rows.tobytes()] for key, rows in packed.records.items()}
    (decided,) = engine.decide(
        TransactionBatch(packed, FieldsOfTransactions(transactions), rings, [False], [None])
    )
    failed = decided.error
    if not failed:
        try:
            engine.scorer.contributions(feature_matrix(packed, rings))
        except Exception as error:
            failed = type(error).__name__
            _log.warning("model.explanation_failed", exc_info=True)
    if failed:
        ref = engine.scorer.ref
        raise ModelError(f"model {ref.name}@{ref.version} cannot decide: {failed}")


class EngineInUse:
    """Holds the engine that decides. It starts with the registry's champion and the shipped rules.

    An engine is never changed, only replaced: whoever takes `current` once for a batch decides
    all of it by one policy, which each decision names. Documents are taken one by one and are in
    force together once `settle` was called.

    Args:
        registry: Where models are.
        service: Label of the metrics.
        clock: Time now, UTC epoch milliseconds.

    Raises:
        ModelError: There is no champion, or it cannot be used.
    """

    def __init__(self, registry: Registry, *, service: str, clock: Clock = system_clock) -> None:
        self._registry = registry
        self._service = service
        self._clock = clock
        self._scorer: Scorer = registry.champion()
        self._rules = shipped()
        self._challenger: Scorer | None = None
        self._challenger_rules: CompiledRules | None = None
        self._fold = ListFold()
        self._activations = Activations()
        self._lists: dict[str, Lookup] = {}
        self.current = self._made()
        warm_up(self.current)
        self._tell()

    @property
    def takes(self) -> dict[Name, Callable[[ControlDocument], None]]:
        """Who takes which document; each raises `InvalidMessage`, `Refused` or `Void`."""
        return {
            (MODEL, CHAMPION): self._take_champion,
            (MODEL, CHALLENGER): self._take_challenger,
            (RULES, ACTIVE): self._take_rules,
            (RULES, CHALLENGER): self._take_challenger_rules,
        }

    def _take_champion(self, document: ControlDocument) -> None:
        self._scorer = self._loaded(read_model(document), self._scorer)

    def _take_challenger(self, document: ControlDocument) -> None:
        self._challenger = (
            None
            if document.version == NONE
            else self._loaded(read_model(document), self._challenger)
        )

    def follow_rules(self, document: ControlDocument) -> None:
        """Take note of a document about rules, before any is put in force: some are void."""
        self._activations.take(document)

    def _take_rules(self, document: ControlDocument) -> None:
        if self._activations.void(document):
            raise Void(f"expected {document.expected} to be active, by then another one was")
        self._rules = _compiled(document)

    def _take_challenger_rules(self, document: ControlDocument) -> None:
        self._challenger_rules = None if document.version == NONE else _compiled(document)

    def take_list(self, document: ControlDocument) -> None:
        """Take the next change of a list.

        Raises:
            InvalidMessage: It is none.
        """
        change_id, change = read_list_change(document)
        time_ms = int(document.time.timestamp() * 1000)
        self._fold.take(document.name, change_id, change, document.author, time_ms)

    def forget(self) -> None:
        """Forget what was folded: the topic was made anew. What is in force stays until `settle`."""
        self._fold, self._activations = ListFold(), Activations()

    def settle(self) -> None:
        """Put in force what was taken, all at once. Decisions go on meanwhile by what was before."""
        before = self.current.policy
        engine = self._made()
        if engine.policy.version == before.version:
            return
        self.current = engine
        self._tell()
        _log.info(
            "policy.switched",
            service=self._service,
            policy_version=engine.policy.version,
            before=before.version,
            model=f"{engine.scorer.ref.name}@{engine.scorer.ref.version}",
            rules=engine.policy.rules.version,
        )

    def _made(self) -> Engine:
        challenge = None
        if self._challenger is not None or self._challenger_rules is not None:
            challenge = Challenge(
                (self._challenger or self._scorer).ref, self._challenger_rules or self._rules
            )
        self._look_up()
        policy = Policy(self._rules, self._scorer.ref, dict(self._lists), challenge)
        return Engine(self._scorer, policy, self._clock, challenger=self._challenger)

    def _look_up(self) -> None:
        """Make the look-ups of lists that changed, once, however many changes they had."""
        before = self._lists
        self._lists = {
            name: before[name]
            if name in before and before[name].version == state.version
            else Lookup(state, before.get(name))
            for name, state in self._fold.states().items()
        }

    def _loaded(self, ref: ModelRef, before: Scorer | None) -> Scorer:
        if before is not None and ref == before.ref:
            return before
        try:
            scorer = self._registry.load(ref.name, ref.version)
            # Tried by itself, so that one which cannot decide is refused and the one before goes on.
            warm_up(Engine(scorer, Policy(shipped(), ref), self._clock))
        except (ModelError, OSError) as problem:
            raise Refused(str(problem)) from problem
        return scorer

    def _tell(self) -> None:
        # Of this process there is one service; scrapers see one policy at a time.
        policy = self.current.policy
        MODEL_IN_USE.clear()
        MODEL_IN_USE.labels(self._service, policy.model.name, policy.model.version).set(1)
        POLICY_IN_USE.clear()
        POLICY_IN_USE.labels(self._service, policy.version, policy.rules.version).set(1)


def _compiled(document: ControlDocument) -> CompiledRules:
    try:
        return CompiledRules(read_rules(document))
    except InvalidRules as problem:
        raise Refused(str(problem)) from problem


class LiveEngine:
    """An engine in use that follows `fraud_control` in a thread of its own, as a context manager.

    Args:
        registry: Where models are.
        settings: How to reach Kafka; None decides by the registry's champion for good.
        service: Label of the metrics.
        stop: Set when following ends, by leaving or because it failed.

    Raises:
        ModelError: There is no champion, or it cannot be used.
    """

    def __init__(
        self,
        registry: Registry,
        settings: KafkaSettings | None,
        *,
        service: str,
        stop: threading.Event,
    ) -> None:
        self._in_use = EngineInUse(registry, service=service)
        self._settings = settings
        self._service = service
        self._stop = stop
        self._stack = ExitStack()
        self._follower: ControlFollower | None = None

    def __enter__(self) -> Self:
        if self._settings is None:
            return self
        with ExitStack() as stack:
            feed = stack.enter_context(
                TopicFeed(
                    self._settings,
                    Topic.CONTROL,
                    service=self._service,
                    lag=CONTROL_LAG.labels(self._service),
                )
            )
            follower = ControlFollower(
                feed,
                self._in_use.takes,
                fold={LIST: self._in_use.take_list, RULES: self._in_use.follow_rules},
                settle=self._in_use.settle,
                restart=self._in_use.forget,
                service=self._service,
            )
            stack.enter_context(
                Background("control", lambda: follower.run(self._stop), self._stop, daemon=True)
            )
            self._follower = follower
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def current(self) -> Engine:
        """Return the engine that decides now; take it once per batch."""
        return self._in_use.current

    @property
    def refused(self) -> int:
        """Control documents refused so far."""
        return self._follower.refused if self._follower else 0

    def waits_for(self) -> str | None:
        """Describe in a line what is missing before the champion is known, None when it is."""
        return self._follower.waits_for() if self._follower else None

    def wait_ready(self, timeout_s: float = READY_S) -> None:
        """Wait until what the control topic said at the start is in force.

        Raises:
            ControlUnread: It could not be read in time, or following it failed.
        """
        follower = self._follower
        if follower is None:
            return
        until_s = time.monotonic() + timeout_s
        while not follower.ready.wait(_LOOK_S):
            if self._stop.is_set():
                raise ControlUnread("following the control topic failed")
            if time.monotonic() >= until_s:
                raise ControlUnread(f"waited {timeout_s:g} s for {follower.waits_for()}")
