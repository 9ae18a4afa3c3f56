"""The producer as a service: settings in, transactions out, ordered shutdown."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import structlog

from fraud.contracts.topics import Topic
from fraud.kafka.batched_producer import KafkaWriter, WriterError
from fraud.runtime.background import Background
from fraud.runtime.clock import Clock, system_clock
from fraud.runtime.lifecycle import OpsServer
from producer.fraud_outcomes import FraudOutcomes
from producer.injection_log import InjectionLog, follow
from producer.progress import StreamProgress
from producer.settings import ProducerSettings
from producer.simulation import Process, SimulationPlan, World
from producer.stream import MAX_BEHIND_MS, LiveStream

_log = structlog.get_logger()

FLUSH_S = 15.0
"""Longest wait for Kafka's acknowledgements on shutdown, seconds."""


def plan_of(settings: ProducerSettings) -> SimulationPlan:
    """Return the simulation plan of the settings."""
    return SimulationPlan(
        customers=settings.producer_customers or None,
        rate=settings.producer_rate,
        prevalence=settings.producer_prevalence,
    )


def world_name(settings: ProducerSettings) -> str:
    """Return the name of the settings' world in `StreamProgress`."""
    return f"seed-{settings.producer_seed}"


def simulated_clock(anchor_ms: int, speed: float, real: Clock = system_clock) -> Clock:
    """Return a clock that shows `anchor_ms` now and runs `speed` times as fast as the real one."""
    began_ms = real()
    return lambda: anchor_ms + int((real() - began_ms) * speed)


def clock_of(sent_until_ms: int, speed: float, real: Clock = system_clock) -> Clock:
    """Return the world's clock, which never goes back: after a fast run it stays ahead.

    Args:
        sent_until_ms: Transactions before this time were sent.
        speed: At 1 it is the real clock, unless the world is ahead of it.
        real: Real clock, UTC epoch milliseconds.
    """
    ahead_ms = sent_until_ms - real()
    if speed == 1 and ahead_ms <= MAX_BEHIND_MS:
        return real
    if ahead_ms > 0:
        _log.warning("producer.ahead_of_time", ahead_ms=ahead_ms)
    return simulated_clock(max(sent_until_ms, real()), speed, real)


def run(settings: ProducerSettings, stop: threading.Event) -> int:
    """Send the simulated world to Kafka until `stop` is set.

    On shutdown it sends no new transactions, flushes, stores acknowledgements and closes.

    Returns:
        Exit code: 0, or 1 if records were not delivered.
    """
    with ExitStack() as resources:
        writer = KafkaWriter(settings.librdkafka())
        progress = resources.enter_context(StreamProgress(settings.state_dir / "producer.db"))
        telling: list[LiveStream] = []

        def ready() -> str | None:
            if not telling or not telling[0].started:
                return "making the simulated world"
            return None if writer.reachable else "waiting for Kafka"

        resources.enter_context(OpsServer(settings.bind_host, settings.producer_ops_port, ready))
        _log.info(
            "producer.started",
            rate=settings.producer_rate,
            prevalence=settings.producer_prevalence,
            seed=settings.producer_seed,
        )
        world = World.load(settings.producer_seed, settings.state_dir / "population")
        name = world_name(settings)
        speed = settings.producer_speed
        clock = clock_of(progress.sent_until_ms(name), speed)
        injections = InjectionLog(
            settings.state_dir / "injections.jsonl",
            lambda: 0 if clock is system_clock else clock() - system_clock(),
            learns=True,
        )
        outcomes = FraudOutcomes(settings.librdkafka(), settings.topic(Topic.PROCESSED))
        stream = LiveStream(
            Process(world, settings.producer_seed, plan_of(settings)),
            name,
            writer,
            progress,
            settings.state_dir / "truth",
            transactions=settings.topic(Topic.TRANSACTIONS),
            labels=settings.topic(Topic.LABELS),
            clock=clock,
            stop=stop,
            speed=speed,
            disorder=settings.disorder,
            injections=injections,
            outcomes=outcomes,
        )
        telling.append(stream)
        try:
            with (
                Background("injections", lambda: follow(settings, injections.hear, stop), stop),
                Background("verdicts", lambda: outcomes.follow(stop), stop),
            ):
                stream.run()
        except WriterError as problem:
            _log.error("producer.kafka_refused", reason=str(problem))
            return 1
        left = writer.flush(FLUSH_S)
        stream.settle()
        _log.info("producer.stopped", acknowledged=sum(writer.acknowledged.values()), lost=left)
        return 1 if left else 0
