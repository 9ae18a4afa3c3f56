"""The engine in use: its models, rules and lists are switched by `fraud_control` while it decides."""

from __future__ import annotations

import structlog

from fraud.contracts.control import (
    ACTIVE,
    CHALLENGER,
    CHAMPION,
    MODEL,
    NONE,
    RULES,
    ControlDocument,
    read_model,
    read_rules,
)
from fraud.contracts.decision import ModelRef
from fraud.contracts.transaction import FIELDS, from_mapping
from fraud.contracts.versions import same_version, shown
from fraud.decision.columns import FieldsOfTransactions
from fraud.decision.engine import Engine, TransactionBatch
from fraud.decision.lists import Lookup, lookups
from fraud.decision.policy import Policy, ShadowPolicy
from fraud.decision.rule_sets import CompiledRules, shipped
from fraud.decision.scorer import Scorer
from fraud.features.packing import pack
from fraud.features.vector import feature_matrix
from fraud.kafka.control import Refused
from fraud.policy.follower import Listener
from fraud.policy.state import PolicyState
from fraud.runtime.clock import Clock, system_clock
from fraud.runtime.metrics import MODEL_IN_USE, POLICY_IN_USE
from model.registry import ModelError, Registry

_log = structlog.get_logger("model.live")


def warm_up(engine: Engine) -> None:
    """Decide on an example, so that no later batch pays for what is made on first use.

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
        raise ModelError(f"model {ref.name}@{shown(ref.version)} cannot decide: {failed}")


class EngineInUse(Listener):
    """Holds the engine that decides, at first with the registry's champion and the shipped rules.

    An engine is never changed, only replaced: callers that read `current` once per batch decide all
    of it by one policy, which each decision names. Models and rules are received one by one, and take
    effect together with the lists of the policy state when `settle` is called. If the control topic
    is recreated, they stay in force until it replaces them.

    Args:
        registry: Registry of the models.
        service: Label of the metrics.
        clock: Time now, UTC epoch milliseconds.

    Raises:
        ModelError: The registry has no usable champion.
    """

    def __init__(self, registry: Registry, *, service: str, clock: Clock = system_clock) -> None:
        self._registry = registry
        self._service = service
        self._clock = clock
        self._scorer: Scorer = registry.champion()
        self._rules = shipped()
        self._challenger: Scorer | None = None
        self._challenger_rules: CompiledRules | None = None
        self._lists: dict[str, Lookup] = {}
        self.takes = {
            (MODEL, CHAMPION): self._take_champion,
            (MODEL, CHALLENGER): self._take_challenger,
            (RULES, ACTIVE): self._take_rules,
            (RULES, CHALLENGER): self._take_challenger_rules,
        }
        self.current = self._engine()
        warm_up(self.current)
        self._tell()

    def _take_champion(self, document: ControlDocument) -> None:
        self._scorer = self._loaded(read_model(document), self._scorer)

    def _take_challenger(self, document: ControlDocument) -> None:
        self._challenger = (
            None
            if document.version == NONE
            else self._loaded(read_model(document), self._challenger)
        )

    def _take_rules(self, document: ControlDocument) -> None:
        self._rules = CompiledRules(read_rules(document))

    def _take_challenger_rules(self, document: ControlDocument) -> None:
        self._challenger_rules = (
            None if document.version == NONE else CompiledRules(read_rules(document))
        )

    def settle(self, policy_state: PolicyState) -> None:
        """Put the received models, rules and lists in force, all at once; decisions go on meanwhile."""
        self._lists = lookups(policy_state.lists(), self._lists)
        earlier, engine = self.current.policy, self._engine()
        if engine.policy.version == earlier.version:
            return
        self.current = engine
        self._tell()
        _log.info(
            "policy.switched",
            service=self._service,
            policy_version=shown(engine.policy.version),
            before=shown(earlier.version),
            model=f"{engine.scorer.ref.name}@{shown(engine.scorer.ref.version)}",
            rules=shown(engine.policy.rules.version),
        )

    def _engine(self) -> Engine:
        challenge = None
        if self._challenger is not None or self._challenger_rules is not None:
            challenge = ShadowPolicy(
                (self._challenger or self._scorer).ref, self._challenger_rules or self._rules
            )
        policy = Policy(self._rules, self._scorer.ref, dict(self._lists), challenge)
        return Engine(self._scorer, policy, self._clock, challenger=self._challenger)

    def _loaded(self, ref: ModelRef, before: Scorer | None) -> Scorer:
        if (
            before is not None
            and ref.name == before.ref.name
            and same_version(ref.version, before.ref.version)
        ):
            return before
        try:
            scorer = self._registry.load(ref.name, ref.version)
            # Tested on its own: a model that cannot decide is refused, and the previous one stays.
            warm_up(Engine(scorer, Policy(shipped(), ref), self._clock))
        except (ModelError, OSError) as problem:
            raise Refused(str(problem)) from problem
        return scorer

    def _tell(self) -> None:
        # A process runs one service, and scrapers should see one policy at a time.
        policy = self.current.policy
        MODEL_IN_USE.clear()
        MODEL_IN_USE.labels(self._service, policy.model.name, shown(policy.model.version)).set(1)
        POLICY_IN_USE.clear()
        POLICY_IN_USE.labels(self._service, shown(policy.version), shown(policy.rules.version)).set(
            1
        )
