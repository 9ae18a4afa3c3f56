"""The engine in use: the champion of the moment, switched by `fraud_control` while it decides."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, Self

import structlog

from fraud.contracts.control import CHAMPION, MODEL, ControlDocument, read_model
from fraud.contracts.decision import ModelRef
from fraud.contracts.topics import Topic
from fraud.contracts.transaction import FIELDS, from_mapping
from fraud.decision.engine import Batch, Engine
from fraud.decision.policy import DEFAULT_RULES, Policy
from fraud.decision.scorer import Scorer
from fraud.features.packing import pack
from fraud.features.vector import feature_matrix
from fraud.kit.background import Background
from fraud.kit.clock import system_clock
from fraud.kit.control import ControlFollower, Refused
from fraud.kit.feed import TopicFeed
from fraud.kit.metrics import CONTROL_LAG, MODEL_IN_USE
from fraud.kit.settings import KafkaSettings
from model.registry import ModelError, Registry

READY_S: Final = 60.0
"""How long a process that starts waits for the control topic before it gives up."""

_LOOK_S: Final = 0.05

_log = structlog.get_logger("model.live")


class ControlUnread(Exception):  # noqa: N818 - said as it is
    """The control topic could not be read: which model decides is not known."""


def warm_up(engine: Engine) -> None:
    """Decide once, so that no batch pays for what is made on first use."""
    packed = pack([from_mapping({field.name: field.example for field in FIELDS})])
    rings = {key: [rows.tobytes()] for key, rows in packed.records.items()}
    engine.decide(Batch(packed, rings, [False], [None]))
    engine.scorer.contributions(feature_matrix(packed, rings))


class EngineInUse:
    """Holds the engine that decides. It starts with the registry's champion.

    An engine is never changed, only replaced: whoever takes `current` once for a batch decides
    all of it by one model and one policy, which each decision names.

    Args:
        registry: Where models are.
        service: Label of the metrics.
        make: Makes an engine of a model.

    Raises:
        ModelError: There is no champion, or it cannot be used.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        service: str,
        make: Callable[[Scorer], Engine] = lambda scorer: Engine(
            scorer, Policy(DEFAULT_RULES, scorer.ref), system_clock
        ),
    ) -> None:
        self._registry = registry
        self._service = service
        self._make = make
        self.current = self._made(registry.champion())
        self._tell(self.current.scorer.ref)

    def take(self, document: ControlDocument) -> None:
        """Switch to the model that a document names, once it is loaded and warm.

        Decisions go on meanwhile by the one before.

        Raises:
            InvalidMessage: The document names no model.
            Refused: The model is missing, altered, or of other features.
        """
        ref, before = read_model(document), self.current.scorer.ref
        if ref == before:
            return
        try:
            engine = self._made(self._registry.load(ref.name, ref.version))
        except (ModelError, OSError) as problem:
            raise Refused(str(problem)) from problem
        self.current = engine
        self._tell(ref)
        _log.info(
            "model.switched",
            service=self._service,
            model=f"{ref.name}@{ref.version}",
            before=f"{before.name}@{before.version}",
            policy_version=engine.policy.version,
        )

    def _made(self, scorer: Scorer) -> Engine:
        engine = self._make(scorer)
        warm_up(engine)
        return engine

    def _tell(self, ref: ModelRef) -> None:
        # Of this process there is one service; scrapers see one model at a time.
        MODEL_IN_USE.clear()
        MODEL_IN_USE.labels(self._service, ref.name, ref.version).set(1)


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
                feed, {(MODEL, CHAMPION): self._in_use.take}, service=self._service
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
        """Give the engine that decides now; take it once per batch."""
        return self._in_use.current

    @property
    def refused(self) -> int:
        """Control documents refused so far."""
        return self._follower.refused if self._follower else 0

    def waits_for(self) -> str | None:
        """Say in a line what is missing before the champion is known, None when it is."""
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
