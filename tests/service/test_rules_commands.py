"""Rules and lists by the command line, on a real broker.

The story of an analyst:
- a rule set is written, compared, kept as a draft and activated; a broken one is refused by place;
- a list is made, filled from a file and by hand, exported, and asked for by a rule;
- what was active before comes back; history says who did what.
"""

from __future__ import annotations

import csv
from pathlib import Path

import orjson
import pytest

from tests.support.command_line import Analyst, environment, make_topics

pytestmark = pytest.mark.service

RULES = """
matching = "FIRST_MATCHED"
description = "Ours."

[[rules]]
id = "R1_seen"
when = "$ip_address in @seen"
outcome = "review"
reason = "An address seen in earlier cases."

[[rules]]
id = "R2_score"
when = "$score >= 940"
outcome = "block"
"""


@pytest.fixture
def analyst(kafka: str, tmp_path: Path) -> Analyst:
    env = environment(kafka, tmp_path, tmp_path.name.replace("_", "-"))
    make_topics(env)
    return Analyst(env)


def test_an_analyst_changes_rules_and_lists(analyst: Analyst, tmp_path: Path) -> None:
    """See the story above."""
    file = tmp_path / "rules.toml"
    file.write_text(RULES)
    shipped = next(iter(analyst.versions()))
    refused = analyst.run("rules", "apply", file, code=2)
    assert "rule R1_seen, when, line 1, column 16" in refused
    assert "seen" in refused

    analyst.run("lists", "create", "seen", "--type", "ip", "--use", "reference")
    entries = tmp_path / "entries.csv"
    entries.write_text(
        "value,reason,expires_at\n198.51.100.0/24,case 7,\n2001:db8::1,,2027-01-01T00:00:00Z\n"
    )
    assert "2 put on seen" in analyst.run("lists", "import", "seen", entries)
    assert "1 put on" in analyst.run("lists", "add", "seen", "203.0.113.7", "--reason", "by hand")
    bad = analyst.run("lists", "add", "seen", "ada@example.com", code=2)
    assert "add.0.value: expected an IP address" in bad
    assert "ada@" not in bad
    rows = list(csv.DictReader(analyst.run("lists", "export", "seen").splitlines()))
    assert {row["value"]: row["reason"] for row in rows} == {
        "198.51.100.0/24": "case 7",
        "2001:db8::1": "",
        "203.0.113.7": "by hand",
    }

    assert '+id = "R1_seen"' in analyst.run("rules", "diff", file, code=1)
    assert "kept as a draft" in analyst.run("rules", "apply", file, "--draft")
    ours = next(version for version in analyst.versions() if version != shipped)
    assert analyst.versions() == {ours: "DRAFT", shipped: "ACTIVE"}
    analyst.run("rules", "activate", ours, "--expect", shipped)
    assert analyst.versions() == {ours: "ACTIVE", shipped: "INACTIVE"}
    refused = analyst.run("rules", "activate", shipped, "--expect", shipped, code=2)
    assert f"expected {shipped} to be active, it is {ours}" in refused
    assert f"the same as {ours}" in analyst.run("rules", "diff", file)
    exported = tmp_path / "exported.toml"
    analyst.run("rules", "export", "-o", exported)
    assert "the same as" in analyst.run("rules", "diff", exported)
    assert "rules of version" in analyst.run("lists", "drop", "seen", code=2)

    analyst.run("rules", "activate", shipped)
    analyst.run("lists", "drop", "seen")
    assert orjson.loads(analyst.run("lists", "list", "--json")) == []
    assert "seen" in analyst.run("rules", "activate", ours, code=2)
