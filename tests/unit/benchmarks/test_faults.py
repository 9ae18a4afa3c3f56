"""The fault harness without servers: the plan, the load, the account, the cuts."""

from __future__ import annotations

import itertools
import socket
import socketserver
import threading
from collections import Counter

import pytest

from benchmarks.faults.account import account
from benchmarks.faults.load import payments
from benchmarks.faults.plan import CUTS, EVERYTHING, KINDS, draw
from benchmarks.faults.proxy import PROXY_HOST, Proxy
from benchmarks.faults.run import Result, rows
from fraud.contracts.errors import InvalidMessage
from fraud.contracts.transaction import MAX_RECORD_BYTES, decode

CHOICES = [(kind, victim) for kind, (victims, _, _) in KINDS.items() for victim in victims]


def test_a_seed_is_one_plan_that_covers_every_choice_before_it_repeats_one() -> None:
    count = len(CHOICES)
    steps = draw(7, records=10_000, faults=count, choices=CHOICES)
    faults = [fault for step in steps for fault in step.faults]
    assert steps == draw(7, records=10_000, faults=count, choices=list(reversed(CHOICES)))
    assert steps != draw(8, records=10_000, faults=count, choices=CHOICES)
    assert Counter((fault.kind, fault.victim) for fault in faults) == Counter(CHOICES)
    assert sum(step.records for step in steps) == 10_000
    for step, following in itertools.pairwise(steps):
        assert step.first + step.records == following.first
        assert 0 < step.begins < step.records
    together = [step.faults for step in steps if len(step.faults) > 1]
    assert together
    for first, second in together:
        assert first.victim != second.victim
        assert EVERYTHING not in (first.victim, second.victim)


def test_the_load_knows_which_of_its_records_are_dead_letters() -> None:
    """As the job will decide: otherwise the account would blame it for the harness."""
    found: Counter[bool] = Counter()
    for payment in payments(3, "run", 4000):
        try:
            decode(payment.value if payment.value is not None else b"")
            is_valid = payment.value is not None and len(payment.value) <= MAX_RECORD_BYTES
        except InvalidMessage:
            is_valid = False
        assert is_valid == (payment.event_id is not None), payment.value
        found[is_valid] += 1
    assert found[False] > 20
    assert found[True] > 3900


def test_the_account_finds_what_is_lost_repeated_and_in_the_wrong_place() -> None:
    found = account(
        inputs=[(0, number) for number in range(5)],
        is_dead_letter={(0, 0): False, (0, 1): True, (0, 2): False, (0, 3): False},
        processed={(0, 0): 1, (0, 1): 1, (0, 2): 3},
        dead={(0, 2): 1},
        events=["a", "b", "c"],
        documents=["a", "b", "b"],
        blocked=["a", "b"],
        named={"b": ["m1", "m2"], "c": ["m3", "m3"]},
    )
    assert found.faults(exactly_once=False) == {
        "lost": 2,
        "in_both": 1,
        "misplaced": 2,
        "documents_missing": 1,
        "documents_twice": 1,
        "alerts_unnamed": 1,
        "alerts_twice": 1,
        "unasked": 1,
    }
    assert found.faults(exactly_once=True)["repeated"] == found.repeated == 2


def test_the_table_has_a_row_for_each_kind_and_one_for_all() -> None:
    result = Result(
        account=account([], {}, {(0, 0): 4}, {}, [], [], [], {}),
        faults=Counter({"kill kafka": 2, "cut job to kafka": 1}),
        recoveries={"kill": [2.0, 4.0], "cut": [9.0]},
        repeated=Counter({"kill kafka and cut job to kafka": 3}),
    )
    found = {row["scenario"]: row for row in rows(result)}
    assert list(found) == ["kill", "cut", "all"]
    assert found["kill"]["recovery_p50_s"] == 2.0
    assert found["all"] == {
        "scenario": "all",
        "faults": 3,
        "repeated": 3,
        "recovery_p50_s": 4.0,
        "recovery_p95_s": 9.0,
        "recovery_max_s": 9.0,
    }


class Echo(socketserver.BaseRequestHandler):
    """Answers with what it gets."""

    def handle(self) -> None:
        while data := self.request.recv(1000):
            self.request.sendall(data)


def test_a_cut_holds_what_one_client_sends_and_no_other() -> None:
    """Until it is mended: then all of it arrives."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        proxy = Proxy(server.server_address[1])
        try:
            proxy.start()
        except OSError:
            proxy.stop()
            pytest.skip("needs all of 127.0.0.0/8, as Linux has it")
        address = PROXY_HOST, server.server_address[1]
        with socket.create_connection(address) as cut, socket.create_connection(address) as other:
            for client in (cut, other):
                client.settimeout(10)
                client.sendall(b"before")
                assert client.recv(1000) == b"before"
            proxy.cut(lambda: {cut.getsockname()[1]})
            other.sendall(b"during")
            assert other.recv(1000) == b"during"
            cut.sendall(b"held")
            cut.settimeout(0.3)
            with pytest.raises(TimeoutError):
                cut.recv(1000)
            proxy.mend()
            cut.settimeout(10)
            assert cut.recv(1000) == b"held"
        proxy.stop()
        server.shutdown()


def test_every_cut_is_between_a_client_and_a_server_behind_a_proxy() -> None:
    from benchmarks.faults.stack import _PROXIED

    assert {cut.partition(" to ")[2] for cut in CUTS} == set(_PROXIED)
