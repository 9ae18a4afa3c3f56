"""`python -m fraud.backtest RULES`: try a rule file on past transactions, and print the report as JSON."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fraud.backtest.dry_run import dry_run
from fraud.backtest.runner import BacktestRunner
from fraud.decision.rule_files import RuleFileError, read_rule_file
from fraud.decision.rule_sets import InvalidRules
from fraud.kafka.range_reader import CannotRead, Stopped
from fraud.policy.state import PolicyState
from fraud.runtime.lifecycle import load_settings, stop_event
from fraud.runtime.logs import configure_command_logs
from fraud.runtime.settings import KafkaSettings


def main(arguments: list[str]) -> int:
    """Run the command and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fraud.backtest", description=__doc__)
    parser.add_argument("rules", type=Path, help="rule set in TOML")
    parser.add_argument("--days", type=float, default=30, help="how far back")
    parser.add_argument("--limit", type=int, help="most transactions, the latest ones")
    asked = parser.parse_args(arguments)
    configure_command_logs()
    runner = BacktestRunner(
        load_settings(KafkaSettings), asked.days, asked.limit, stop=stop_event()
    )
    try:
        rules = read_rule_file(asked.rules.read_text("utf-8"))
        policy_state = PolicyState.folded(runner.control_documents())
        report = dry_run(runner, policy_state, rules)
    except Stopped:
        return 130
    except (CannotRead, InvalidRules, OSError, RuleFileError, UnicodeDecodeError) as error:
        sys.stderr.write(f"fraudstream: {error}\n")
        return 2
    sys.stdout.write(report.model_dump_json() + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
