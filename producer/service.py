"""The producer as a service: settings in, transactions out, ordered shutdown."""

from __future__ import annotations

from contextlib import ExitStack

import structlog

from fraud.contracts.topics import Topic
from fraud.kit.clock import system_clock
from fraud.kit.lifecycle import OpsServer, stop_event
from producer.ledger import Ledger
from producer.live import LiveStream
from producer.settings import ProducerSettings
from producer.simulation import Plan, Process, World
from producer.writer import KafkaWriter, WriterError

_log = structlog.get_logger()

FLUSH_S = 15.0
"""How long a stop waits for Kafka's acknowledgements."""


def plan_of(settings: ProducerSettings) -> Plan:
    """Give the plan that the settings ask for."""
    return Plan(
        customers=settings.producer_customers or None,
        rate=settings.producer_rate,
        fraud_rate=settings.producer_fraud_rate,
    )


def world_name(settings: ProducerSettings) -> str:
    """Name a world by all that its event ids hang on."""
    return f"seed-{settings.producer_seed}"


def serve(settings: ProducerSettings) -> int:
    """Tell the world to Kafka until a signal asks to stop.

    On a stop: no new transactions, flush, note acknowledgements, close.

    Returns:
        Exit code: 0, or 1 when records could not be delivered by then.
    """
    stop = stop_event()
    with ExitStack() as resources:
        writer = KafkaWriter(settings.librdkafka())
        ledger = resources.enter_context(Ledger(settings.state_dir / "producer.db"))
        telling: list[LiveStream] = []

        def ready() -> str | None:
            if not telling or not telling[0].started:
                return "making the simulated world"
            return None if writer.reachable else "waiting for Kafka"

        resources.enter_context(OpsServer(settings.bind_host, settings.producer_ops_port, ready))
        _log.info(
            "producer.started",
            rate=settings.producer_rate,
            fraud_rate=settings.producer_fraud_rate,
            seed=settings.producer_seed,
        )
        world = World.load(settings.producer_seed, settings.state_dir / "population")
        stream = LiveStream(
            Process(world, settings.producer_seed, plan_of(settings)),
            world_name(settings),
            writer,
            ledger,
            settings.state_dir / "truth",
            transactions=settings.topic(Topic.TRANSACTIONS),
            labels=settings.topic(Topic.LABELS),
            clock=system_clock,
            stop=stop,
        )
        telling.append(stream)
        try:
            stream.run()
        except WriterError as problem:
            _log.error("producer.kafka_refused", reason=str(problem))
            return 1
        left = writer.flush(FLUSH_S)
        stream.settle()
        _log.info("producer.stopped", acknowledged=sum(writer.acknowledged.values()), lost=left)
        return 1 if left else 0
