"""Signatures, made by botocore's own signer and checked by ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from afd.errors import (
    AfdError,
    IncompleteSignatureException,
    InvalidSignatureException,
    MissingAuthenticationTokenException,
    UnrecognizedClientException,
)
from afd.signature import SignedCall, verify
from fraud.security.api_keys import Role
from fraud.security.aws_credentials import AwsCredential

NOW_MS = 1_772_323_200_000
OURS = AwsCredential("default", "FSKAABCDEFGHIJKLMNOP", "a-secret-of-more-than-twenty-characters", Role.ADMIN)  # fmt: skip
TARGET = "AWSHawksNestServiceFacade.GetEvent"


def find(key_id: str) -> AwsCredential | None:
    return OURS if key_id == OURS.access_key_id else None


def signed(
    monkeypatch: pytest.MonkeyPatch,
    *,
    body: bytes = b"{}",
    url: str = "http://127.0.0.1:8000/",
    at_ms: int = NOW_MS,
    key_id: str = OURS.access_key_id,
    secret: str = OURS.secret,
    region: str = "us-east-1",
    headers: dict[str, str] | None = None,
) -> SignedCall:
    """Sign a call as boto3 does."""
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: moment)
    request = AWSRequest(
        "POST",
        url,
        {"X-Amz-Target": TARGET, "Content-Type": "application/x-amz-json-1.1", **(headers or {})},
        body,
    )
    SigV4Auth(Credentials(key_id, secret), "frauddetector", region).add_auth(request)
    _, _, rest = url.partition("//")
    host, _, path = rest.partition("/")
    path, _, query = path.partition("?")
    sent = [(b"host", host.encode())]
    sent += [
        (name.lower().encode(), str(value).encode()) for name, value in request.headers.items()
    ]
    return SignedCall("POST", f"/{path}", query, sent, body)


def with_header(call: SignedCall, name: bytes, change: Callable[[bytes], bytes]) -> SignedCall:
    headers = [(key, change(value) if key == name else value) for key, value in call.headers]
    return replace(call, headers=headers)


def test_a_signed_call_is_its_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    call = signed(monkeypatch, body=b'{"eventId":"1"}')
    assert verify(call, find, now_ms=NOW_MS) is OURS


@pytest.mark.parametrize(
    "more",
    [
        {"region": "eu-central-1"},
        {"headers": {"X-Amz-Meta": "  two   spaces ", "X-Amz-Date-Like": "a,b"}},
        {"url": "http://fraud.example.com/a%20path/?b=2&a=1&empty=&s=a%2Fb"},
        {"headers": {"X-Amz-Security-Token": "not asked for"}},
    ],
)
def test_whatever_is_signed_along(monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]) -> None:
    """Any region, spaces, queries and paths."""
    assert verify(signed(monkeypatch, **more), find, now_ms=NOW_MS) is OURS


def test_a_call_unsigned_or_half_signed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    call = signed(monkeypatch)
    unsigned = replace(call, headers=[(k, v) for k, v in call.headers if k != b"authorization"])
    with pytest.raises(MissingAuthenticationTokenException):
        verify(unsigned, find, now_ms=NOW_MS)

    def changed(old: bytes, new: bytes) -> SignedCall:
        return with_header(call, b"authorization", lambda value: value.replace(old, new))

    for half in (
        changed(b"AWS4-HMAC-SHA256", b"Bearer"),
        changed(b"Signature=", b"Signed="),
        changed(b"/aws4_request", b""),
        changed(b"host;", b""),
        changed(b";x-amz-target", b""),
        changed(b"host;", b"host;host;"),
        changed(b"host;", b"host;not-there;"),
        replace(call, headers=[*call.headers, (b"x-amz-late", b"added")]),
        replace(call, headers=[(k, v) for k, v in call.headers if k != b"x-amz-date"]),
        with_header(call, b"x-amz-date", lambda _: b"20261399T000000Z"),
    ):
        with pytest.raises(IncompleteSignatureException):
            verify(half, find, now_ms=NOW_MS)


def test_an_unknown_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    call = signed(monkeypatch, key_id="FSKAZZZZZZZZZZZZZZZZ")
    with pytest.raises(UnrecognizedClientException):
        verify(call, find, now_ms=NOW_MS)


def test_what_was_changed_on_the_way_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Body, target, host, path, query, method, date, scope, secret."""
    call = signed(monkeypatch, body=b'{"eventId":"1"}')
    for tampered in (
        replace(call, body=b'{"eventId":"2"}'),
        with_header(call, b"x-amz-target", lambda _: b"AWSHawksNestServiceFacade.DeleteEvent"),
        with_header(call, b"host", lambda _: b"elsewhere"),
        with_header(call, b"x-amz-date", lambda value: value[:-2] + b"9Z"),
        with_header(
            call, b"authorization", lambda value: value.replace(b"us-east-1", b"us-east-2")
        ),
        replace(call, path="/other"),
        replace(call, query="a=1"),
        replace(call, method="PUT"),
        signed(monkeypatch, secret="another secret of the same length......"),
        signed(monkeypatch, headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}),
    ):
        with pytest.raises(InvalidSignatureException):
            verify(tampered, find, now_ms=NOW_MS)


def test_it_is_good_for_five_minutes_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    call = signed(monkeypatch)
    minute = 60_000
    for skew_ms in (-5 * minute, 0, 5 * minute):
        assert verify(call, find, now_ms=NOW_MS + skew_ms) is OURS
    for skew_ms, word in ((-5 * minute - 1000, "not yet current"), (5 * minute + 1000, "expired")):
        with pytest.raises(InvalidSignatureException, match=word):
            verify(call, find, now_ms=NOW_MS + skew_ms)


@given(
    st.dictionaries(st.sampled_from(["authorization", "x-amz-date", "host", "x-amz-target"]), st.text(max_size=80)),
    st.binary(max_size=20),
)  # fmt: skip
def test_nothing_that_arrives_is_a_crash(headers: dict[str, str], body: bytes) -> None:
    sent = [(name.encode(), value.encode("utf-8", "replace")) for name, value in headers.items()]
    with pytest.raises(AfdError):
        verify(SignedCall("POST", "/", "", sent, body), find, now_ms=NOW_MS)
