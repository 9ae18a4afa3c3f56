"""`fraudstream`: one command line for all parts of the system."""

from __future__ import annotations

from typing import Final

import typer
from typer.completion import completion_init  # type: ignore[attr-defined]

from fraudstream.lazy import Entry, lazy_group

COMMANDS: Final = (
    Entry("up", "devstack.cli:up", "Start the stack in the background and wait until it works."),
    Entry("down", "devstack.cli:down", "Stop the stack and keep its state."),
    Entry(
        "status", "devstack.cli:status", "Show the state, start time and address of each service."
    ),
    Entry("logs", "devstack.cli:logs", "Show the end of the logs and follow them."),
    Entry(
        "replay",
        "fraudstream.replay:replay",
        "Send a file of transactions to Kafka, as if it happened now.",
    ),
    Entry(
        "train",
        "fraudstream.train:train",
        "Train a model on labelled transactions, and measure it on the latest of them.",
    ),
    Entry(
        "evaluate",
        "model.commands:evaluate",
        "Measure a model on files of labelled transactions. They should be later than what it learnt from.",
    ),
    Entry("models", "model.commands:list_models", "List the models of the registry, oldest first."),
    Entry(
        "score",
        "model.commands:score",
        "Score files offline, in event order, as the stream would have: event_id, probability, score, outcome.",
    ),
    Entry(
        "promote",
        "model.commands:promote",
        "Promote a model, unless it is worse than the champion: the running job and API switch at once.",
    ),
    Entry(
        "rollback",
        "model.commands:rollback",
        "Make the previous champion decide again: the running job and API switch at once.",
    ),
    Entry(
        "control",
        "fraudstream.control:app",
        "The control topic: whether it is whole, and how to go on if documents are lost.",
    ),
    Entry(
        "import-afd",
        "fraudstream.afd:import_afd",
        "Show what an export of Amazon Fraud Detector becomes here, and make it with --apply.",
    ),
    Entry(
        "compare",
        "fraudstream.compare:compare",
        "Compare the challenger with what decided: agreement, outcomes, scores, and which is better.",
    ),
    Entry(
        "recheck",
        "fraudstream.compare:recheck",
        "Compute past decisions again from the versions they name; exit code 1 when any differs.",
    ),
    Entry(
        "bench",
        "benchmarks.__main__:app",
        "Measure latency and rate; `bench --help` lists what. Needs a checkout.",
        needs="a checkout of the project, made ready by `make setup`",
    ),
    Entry(
        "simulate",
        "fraudstream.simulate:app",
        "Write simulated history: transactions, their labels as known by its end, and the truth.",
    ),
    Entry(
        "campaign",
        "fraudstream.injections:campaign",
        "Inject campaigns of fraud into the running producer.",
    ),
    Entry(
        "drift",
        "fraudstream.injections:drift",
        "Start and stop drift of the running producer's traffic.",
    ),
    Entry("dashboards", "dashboards.commands:app", "The dashboards of OpenSearch Dashboards."),
    Entry("index", "fraudstream.index:app", "Look after the index of decisions in OpenSearch."),
    Entry(
        "dlq",
        "fraudstream.dlq:app",
        "Dead letters: records that could not be decided, with the reason.",
    ),
    Entry(
        "alerts",
        "notifier.commands:app",
        "Who is told of decisions, what waits, and what was refused for good.",
    ),
    Entry("keys", "fraudstream.keys:app", "Make, list and revoke keys of the REST API."),
    Entry(
        "rules",
        "fraudstream.rules:app",
        "Rules: read them, try them, switch them while everything runs.",
    ),
    Entry(
        "lists",
        "fraudstream.lists:app",
        "Lists of entities, addresses, networks and the like; changed while everything runs.",
    ),
    Entry(
        "challenge",
        "fraudstream.challenge:app",
        "The challenger: a model or rules that decide in shadow, beside what decides.",
    ),
)

app = typer.Typer(
    name="fraudstream",
    cls=lazy_group(COMMANDS),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
completion_init()  # completion in the shell, without options that write to the user's own files


@app.callback()
def root() -> None:
    """Real-time fraud prevention on your own machines."""
