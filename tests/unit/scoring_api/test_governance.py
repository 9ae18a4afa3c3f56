"""Rules, lists and models over REST: who may change them, what is refused, and what is on record."""

from __future__ import annotations

import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from fraud.contracts.versions import shown
from fraud.decision.rule_sets import default_rules
from fraud.security.api_keys import Role
from scoring_api.dry_runs import DryRuns, RunBusy, RunState
from tests.support.an_api import PSEUDONYMS, AnApi

RULE = {"id": "R1", "when": "$score >= 910", "outcome": "review"}
RULES = {"rules": [RULE]}
ENTITY = "070-69-2161"


@pytest.fixture
def api(tmp_path: Path) -> AnApi:
    return AnApi(tmp_path)


def audited(api: AnApi) -> list[tuple[str, str, Any]]:
    records, _ = api.audit.page(100)
    return [(one.action, one.result.value, one.after) for one in reversed(records)]


def test_an_analyst_drafts_and_activates_rules(api: AnApi) -> None:
    """Who drafted what and who activated it is on record, and in the version itself."""
    ask = api.asked_as(Role.ANALYST)
    made = ask("POST", "/v1/rules", json=RULES)
    assert made.status_code == HTTPStatus.CREATED, made.text
    version = made.json()["about"]["version"]
    assert made.json()["about"]["status"] == "DRAFT"
    shipped = shown(default_rules().version)
    activated = ask("POST", f"/v1/rules/{version}/activate", json={"expected": shipped})
    assert activated.status_code == HTTPStatus.OK, activated.text
    assert ask("GET", "/v1/rules/active").json()["rule_set"]["rules"][0]["when"] == RULE["when"]
    listed = {one["version"]: one["status"] for one in ask("GET", "/v1/rules").json()["items"]}
    assert listed == {version: "ACTIVE", shipped: "INACTIVE"}
    assert [action for action, _, _ in audited(api)] == ["rules.drafted", "rules.activated"]


def test_rules_that_could_not_decide_are_refused_by_place(api: AnApi) -> None:
    broken = {"rules": [RULE, RULE | {"id": "R2", "when": "$score >\n 1 and $scor > 2"}]}
    answer = api.asked_as(Role.ANALYST)("POST", "/v1/rules", json=broken)
    assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    (fault,) = answer.json()["errors"]
    assert (fault["field"], fault["line"], fault["column"]) == ("rules.R2.when", 2, 8)
    assert audited(api) == []


def test_a_change_that_was_made_meanwhile_is_a_conflict(api: AnApi) -> None:
    """And on record as a change that failed."""
    ask = api.asked_as(Role.ANALYST)
    version = ask("POST", "/v1/rules", json=RULES).json()["about"]["version"]
    answer = ask("POST", f"/v1/rules/{version}/activate", json={"expected": "abc"})
    assert (answer.status_code, answer.json()["code"]) == (HTTPStatus.CONFLICT, "conflict")
    assert [result for _, result, _ in audited(api)] == ["recorded", "recorded", "failed"]
    assert ask("POST", "/v1/rules/abc/activate", json={}).status_code == HTTPStatus.NOT_FOUND


def test_rules_challenge_and_are_called_back(api: AnApi) -> None:
    ask = api.asked_as(Role.ANALYST)
    version = ask("POST", "/v1/rules", json=RULES).json()["about"]["version"]
    for asked, expected in ((version, True), (None, False)):
        answer = ask("PUT", "/v1/rules/challenger", json={"version": asked})
        assert answer.status_code == HTTPStatus.OK, answer.text
        assert any(one["challenger"] for one in answer.json()["items"]) is expected


def finished(api: AnApi, run_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while True:
        run = api.asked_as(Role.ANALYST)("GET", f"/v1/rules/test/{run_id}").json()
        if run["state"] != "running":
            return run  # type: ignore[no-any-return]
        assert time.monotonic() < deadline


def test_rules_are_tried_in_a_process_of_their_own(api: AnApi) -> None:
    """One at a time; its report is asked for by its id."""
    ask = api.asked_as(Role.ANALYST)
    started = ask("POST", "/v1/rules/test", json={"rules": RULES, "days": 7})
    assert (started.status_code, started.json()["state"]) == (HTTPStatus.ACCEPTED, "running")
    assert finished(api, started.json()["id"])["report"] == {"rules": ["R1"]}
    failing = ask("POST", "/v1/rules/test", json={"rules": {"rules": [RULE | {"id": "fails"}]}})
    assert finished(api, failing.json()["id"])["detail"] == "no broker answers"
    broken = {"rules": {"rules": [RULE | {"when": "$scor > 1"}]}}
    refused = ask("POST", "/v1/rules/test", json=broken)
    assert refused.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert ask("GET", "/v1/rules/test/abc").status_code == HTTPStatus.NOT_FOUND


def test_a_list_is_made_filled_paged_and_dropped(api: AnApi) -> None:
    ask = api.asked_as(Role.ANALYST)
    made = ask("POST", "/v1/lists", json={"name": "bad", "type": "ip", "use": "block"})
    assert (made.status_code, made.json()["entries"]) == (HTTPStatus.CREATED, 0)
    again = ask("POST", "/v1/lists", json={"name": "bad", "type": "ip"})
    assert again.status_code == HTTPStatus.CONFLICT
    values = [f"198.51.100.{number}" for number in range(10, 15)]
    added = ask(
        "POST", "/v1/lists/bad/entries", json={"add": [{"value": value} for value in values]}
    )
    assert (added.status_code, added.json()["added"]) == (HTTPStatus.OK, 5), added.text
    ask("POST", "/v1/lists/bad/entries", json={"remove": values[:1]})
    seen, cursor = [], None
    while True:
        params = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = ask("GET", "/v1/lists/bad/entries", params=params).json()
        seen += [one["value"] for one in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == values[1:]
    for cursor in ("198.51.100.10", "-1", "9" * 10):
        refused = ask("GET", "/v1/lists/bad/entries", params={"cursor": cursor})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "cursor")
    assert ask("PATCH", "/v1/lists/bad", json={"use": "watch"}).json()["use"] == "watch"
    for description, expected in (("Ours.", "Ours."), (None, "Ours."), ("", "")):
        changed = ask("PATCH", "/v1/lists/bad", json={"description": description}).json()
        assert changed["description"] == expected
    assert ask("DELETE", "/v1/lists/bad").status_code == HTTPStatus.NO_CONTENT
    assert ask("GET", "/v1/lists/bad").status_code == HTTPStatus.NOT_FOUND


def test_a_bad_entry_is_refused_by_place_and_none_is_put_on(api: AnApi) -> None:
    ask = api.asked_as(Role.ANALYST)
    ask("POST", "/v1/lists", json={"name": "bad", "type": "ip"})
    entries = [{"value": "198.51.100.1"}, {"value": "ada@example.com"}]
    answer = ask("POST", "/v1/lists/bad/entries", json={"add": entries})
    assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert answer.json()["errors"][0]["field"] == "add.1.value"
    assert "ada@" not in answer.text
    assert ask("GET", "/v1/lists/bad").json()["entries"] == 0


def test_no_personal_value_is_on_record(api: AnApi, tmp_path: Path) -> None:
    """Their hashes are, so that whoever knows a value can find who put it on."""
    ask = api.asked_as(Role.ANALYST)
    ask("POST", "/v1/lists", json={"name": "people", "type": "entity", "use": "watch"})
    ask("POST", "/v1/lists/people/entries", json={"add": [{"value": ENTITY}]})
    record = (tmp_path / "audit.jsonl").read_text()
    assert "list.entries_changed" in record
    assert ENTITY not in record
    assert audited(api)[-1][2]["add"]["hashes"] == [PSEUDONYMS.hash("entity_id", ENTITY)]
    assert audited(api)[-1][2]["became"]["entries"] == 1


def test_no_personal_value_stands_in_an_address_or_in_a_kept_answer(
    api: AnApi, tmp_path: Path
) -> None:
    ask = api.asked_as(Role.ANALYST)
    once = {"Idempotency-Key": "k-1"}
    named = RULE | {"when": '$email_address == "ada@example.com"', "reason": "Ada Example"}
    answers = [ask("POST", "/v1/rules", json={"rules": [named]}, headers=once) for _ in range(2)]
    assert answers[0].text == answers[1].text
    assert "ada@example.com" in answers[0].json()["rule_set"]["rules"][0]["when"]
    ask("POST", "/v1/lists", json={"name": "ada", "type": "email", "description": "Ada Example"})
    values = [{"value": f"ada@example.com.{n}x"} for n in range(3)]
    ask("POST", "/v1/lists/ada/entries", json={"add": values}, headers={"Idempotency-Key": "k-2"})
    cursor = ask("GET", "/v1/lists/ada/entries?limit=1").json()["next_cursor"]
    assert cursor == "1"
    for file in tmp_path.rglob("*"):
        if file.is_file():
            for value in (b"ada@example.com", b"Ada Example"):
                assert value not in file.read_bytes(), file


def test_a_dry_run_that_hangs_is_ended_and_has_failed(api: AnApi) -> None:
    with DryRuns(command=lambda *_: ["sleep", "600"], most_s=0.2) as runs:
        started = runs.start(default_rules(), days=1, limit=None)
        deadline_s = time.monotonic() + 30
        while (run := runs.get(started)).state is RunState.RUNNING:
            assert time.monotonic() < deadline_s
        assert (run.state, run.detail) == (RunState.FAILED, "it took longer than 0.2 s")
        while True:
            try:
                runs.start(default_rules(), days=1, limit=None)
                break
            except RunBusy:
                assert time.monotonic() < deadline_s


def test_a_key_that_could_be_somebodys_is_not_repeated(api: AnApi) -> None:
    ask = api.asked_as(Role.ANALYST)
    for body in (RULES | {"ada@example.com": 1}, RULES | {"12025550143": 1}):
        answer = ask("POST", "/v1/rules", json=body)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "(a key)")
        assert "ada@" not in answer.text
        assert "1202" not in answer.text
    assert ask("POST", "/v1/rules", json=RULES | {"more": 1}).json()["errors"][0]["field"] == "more"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/v1/lists/ada@example.com", None),
        ("PATCH", "/v1/lists/ada@example.com", {"use": "watch"}),
        ("POST", "/v1/lists/ada@example.com/entries", {"remove": ["x"]}),
        ("POST", "/v1/rules/ada@example.com/activate", {}),
        ("PUT", "/v1/rules/challenger", {"version": "ada@example.com"}),
    ],
)
def test_a_change_of_nothing_is_not_on_record(
    api: AnApi, tmp_path: Path, method: str, path: str, body: Any
) -> None:
    """Nor is what it was said to be of, which may be anything."""
    assert api.asked_as(Role.ANALYST)(method, path, json=body).status_code == HTTPStatus.NOT_FOUND
    assert not (tmp_path / "audit.jsonl").exists()


def test_of_many_values_a_digest_is_on_record(api: AnApi) -> None:
    """Of all of them: another value anywhere is another digest."""
    ask = api.asked_as(Role.ANALYST)
    ask("POST", "/v1/lists", json={"name": "many", "type": "entity"})
    digests = []
    for last in ("x", "y"):
        values = [*(f"customer-{number}" for number in range(2_000)), last]
        ask("POST", "/v1/lists/many/entries", json={"add": [{"value": one} for one in values]})
        added = audited(api)[-1][2]["add"]
        assert (added["values"], len(added["hashes"])) == (2_001, 1_000)
        digests.append(added["digest"])
    assert len(set(digests)) == 2


def test_rules_and_descriptions_are_on_record_as_hashes(api: AnApi, tmp_path: Path) -> None:
    ask = api.asked_as(Role.ANALYST)
    named = RULE | {"when": '$customer_name == "Ada Example"', "description": "Ada Example's card"}
    rules = {"rules": [named], "description": "Since 070-69-2161 called."}
    version = ask("POST", "/v1/rules", json=rules).json()["about"]["version"]
    ask("POST", "/v1/lists", json={"name": "ada", "type": "email", "description": "Ada Example"})
    ask("PATCH", "/v1/lists/ada", json={"description": "070-69-2161"})
    ask("DELETE", "/v1/lists/ada")
    record = (tmp_path / "audit.jsonl").read_text()
    assert "Ada Example" not in record
    assert ENTITY not in record
    drafted = audited(api)[0][2]
    assert (shown(drafted["version"]), drafted["rules"]) == (version, 1)
    assert [(one["id"], one["version"]) for one in drafted["changed"]] == [("R1", 1)]
    assert "R001_high_score" in drafted["gone"]


def test_a_model_is_promoted_by_an_admin_and_challenges_for_an_analyst(api: AnApi) -> None:
    api.with_models()
    (model,) = api.registry.models()
    analyst, admin = api.asked_as(Role.ANALYST), api.asked_as(Role.ADMIN)
    challenged = analyst("PUT", "/v1/models/challenger", json={"model": "fraud"})
    assert challenged.json() == {"model": f"fraud@{shown(model.version)}"}, challenged.text
    assert api.policy_state.challenger is not None
    analyst("PUT", "/v1/models/challenger", json={"model": None})
    record = api.audit.page(1)[0][0]
    assert (record.before, record.after) == ({"model": f"fraud@{model.version}"}, {"model": None})
    refused = analyst("PUT", "/v1/models/champion", json={"model": "fraud"})
    assert refused.status_code == HTTPStatus.FORBIDDEN
    promoted = admin("PUT", "/v1/models/champion", json={"model": "fraud", "force": True})
    assert promoted.json() == {"name": "fraud", "version": shown(model.version)}, promoted.text
    assert api.policy_state.champion == api.registry.champion_ref()
    missing = admin("PUT", "/v1/models/champion", json={"model": "nobody"})
    assert missing.status_code == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/rules"),
        ("GET", "/v1/rules/active"),
        ("POST", "/v1/rules"),
        ("GET", "/v1/lists"),
        ("POST", "/v1/lists"),
        ("GET", "/v1/lists/bad/entries"),
        ("PUT", "/v1/models/challenger"),
    ],
)
def test_who_scores_changes_and_reads_nothing_of_it(api: AnApi, method: str, path: str) -> None:
    assert api.asked_as(Role.SCORE)(method, path, json={}).status_code == HTTPStatus.FORBIDDEN


def test_what_kafka_did_not_take_is_said(api: AnApi) -> None:
    api.control_is_away = True
    answer = api.asked_as(Role.ANALYST)("POST", "/v1/rules", json=RULES)
    assert answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert audited(api)[-1][1] == "failed"


def test_a_change_sent_again_is_made_once(api: AnApi) -> None:
    ask = api.asked_as(Role.ANALYST)
    body = {"name": "bad", "type": "ip"}
    answers = [
        ask("POST", "/v1/lists", json=body, headers={"Idempotency-Key": "one"}) for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [HTTPStatus.CREATED] * 2
    assert len(audited(api)) == 1
