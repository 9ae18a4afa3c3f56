"""Verification of AWS Signature Version 4, the `Authorization` header of a call. Pure.

The client signs a hash of method, path, query, some headers and the body with a key derived from
its secret. We compute the same signature from the call as received.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import parse_qsl, quote

from afd.errors import (
    IncompleteSignatureException,
    InvalidSignatureException,
    MissingAuthenticationTokenException,
    UnrecognizedClientException,
)
from fraud.security.aws_credentials import AwsCredential

MAX_SKEW: Final = timedelta(minutes=5)
"""Most that a call's time may differ from ours in either direction, as at AWS."""

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_TERMINATOR: Final = "aws4_request"
_TIME: Final = "%Y%m%dT%H%M%SZ"
_TIME_FORM: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z", re.ASCII)
_PART: Final = re.compile(r"\s*(\w+)=([^,]*?)\s*", re.ASCII)
_SPACES: Final = re.compile(rb"[ \t]+")
_MAX_AUTHORIZATION: Final = 8192
_MISMATCH: Final = (
    "The request signature we calculated does not match the signature you provided. Check your "
    "AWS Secret Access Key and signing method."
)


Headers = Iterable[tuple[bytes, bytes]]
"""Names and values of headers, in the order received."""


@dataclass(frozen=True, slots=True)
class SignedCall:
    """A call as it was received.

    Attributes:
        method: HTTP method in upper case.
        path: Path of the URL, as sent.
        query: Query of the URL without `?`, as sent.
        headers: Names and values of headers, in the order received.
        body: The whole body.
    """

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class _Authorization:
    key_id: str
    date: str
    scope: str
    region: str
    service: str
    signed: tuple[str, ...]
    signature: str


def verify(
    call: SignedCall, find: Callable[[str], AwsCredential | None], *, now_ms: int
) -> AwsCredential:
    """Return the access key that signed a call, after verifying the signature.

    Args:
        call: The call as it was received.
        find: Returns the access key of an id, or None if it is unknown.
        now_ms: Current time, UTC epoch milliseconds.

    Raises:
        MissingAuthenticationTokenException: The call is not signed.
        IncompleteSignatureException: The signature lacks a part, has a malformed one, or does not
            cover a required header.
        UnrecognizedClientException: The access key is unknown.
        InvalidSignatureException: The signature does not match the call, or is over `MAX_SKEW` off.
    """
    headers, given, credential = _claimed(call.headers, find)
    signed_at = _signed_at(headers, given)
    _check_time(signed_at, now_ms)
    to_sign = "\n".join(
        (
            _ALGORITHM,
            signed_at.strftime(_TIME),
            given.scope,
            hashlib.sha256(_canonical(call, headers, given.signed)).hexdigest(),
        )
    )
    # The signing key holds for one day, region and service only.
    key = f"AWS4{credential.secret}".encode()
    for part in (given.date, given.region, given.service, _TERMINATOR):
        key = hmac.digest(key, part.encode(), "sha256")
    expected = hmac.digest(key, to_sign.encode(), "sha256").hex()
    if not hmac.compare_digest(expected.encode(), given.signature.encode()):
        raise InvalidSignatureException(_MISMATCH)
    return credential


def check_claim(headers: Headers, find: Callable[[str], AwsCredential | None]) -> None:
    """Check that a call names a known access key, before its body is read.

    Raises:
        MissingAuthenticationTokenException: The call is not signed.
        IncompleteSignatureException: The signature lacks a part, has a malformed one, or does not
            cover a required header.
        UnrecognizedClientException: The access key is unknown.
    """
    _claimed(headers, find)


def _claimed(
    headers: Headers, find: Callable[[str], AwsCredential | None]
) -> tuple[dict[str, bytes], _Authorization, AwsCredential]:
    joined = _joined(headers)
    given = _authorization(joined)
    credential = find(given.key_id)
    if credential is None:
        raise UnrecognizedClientException("The security token included in the request is invalid.")
    return joined, given, credential


def _joined(headers: Headers) -> dict[str, bytes]:
    """Return header values as they are signed: with single spaces, repeated headers joined."""
    found: dict[str, bytes] = {}
    for name, value in headers:
        text = _SPACES.sub(b" ", value.strip())
        key = name.decode("latin-1").lower()
        found[key] = found[key] + b"," + text if key in found else text
    return found


def _authorization(headers: Mapping[str, bytes]) -> _Authorization:
    raw = headers.get("authorization", b"").decode("utf-8", "replace")
    if not raw:
        raise MissingAuthenticationTokenException("Missing Authentication Token")
    algorithm, _, rest = raw.partition(" ")
    if algorithm != _ALGORITHM or len(raw) > _MAX_AUTHORIZATION:
        raise IncompleteSignatureException(
            f"Authorization header requires the algorithm {_ALGORITHM}."
        )
    parts: dict[str, str] = {}
    for text in rest.split(","):
        if (match := _PART.fullmatch(text)) is not None:
            parts[match[1]] = match[2]
    for name in ("Credential", "Signature", "SignedHeaders"):
        if not parts.get(name):
            raise IncompleteSignatureException(f"Authorization header requires '{name}' parameter.")
    key_id, _, scope = parts["Credential"].partition("/")
    pieces = scope.split("/")
    if len(pieces) != 4 or not all(pieces) or pieces[3] != _TERMINATOR:
        raise IncompleteSignatureException(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/aws4_request."
        )
    signed = tuple(parts["SignedHeaders"].split(";"))
    # Headers that are not signed could be changed on the way.
    must = {"host"} | {name for name in headers if name.startswith("x-amz-")}
    if left_out := sorted(must - set(signed)):
        raise IncompleteSignatureException(f"The signature must cover the header {left_out[0]}.")
    if list(signed) != sorted(set(signed)) or not set(signed) <= headers.keys():
        raise IncompleteSignatureException(
            "SignedHeaders must name headers of the request, each once, in small letters and in order."
        )
    return _Authorization(
        key_id, pieces[0], scope, pieces[1], pieces[2], signed, parts["Signature"]
    )


def _signed_at(headers: Mapping[str, bytes], given: _Authorization) -> datetime:
    text = headers.get("x-amz-date", b"").decode("latin-1")
    if not _TIME_FORM.fullmatch(text):
        raise IncompleteSignatureException(
            "The header X-Amz-Date is required, e.g. 20260101T000000Z."
        )
    try:
        signed_at = datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError:
        raise IncompleteSignatureException("X-Amz-Date is not a valid time.") from None
    if given.date != text[:8]:
        raise InvalidSignatureException(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP."
        )
    return signed_at


def _check_time(signed_at: datetime, now_ms: int) -> None:
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    for verdict, late, edge in (
        ("Signature expired", signed_at < now - MAX_SKEW, now - MAX_SKEW),
        ("Signature not yet current", signed_at > now + MAX_SKEW, now + MAX_SKEW),
    ):
        if late:
            than = "earlier" if signed_at < now else "later"
            sign = "-" if signed_at < now else "+"
            raise InvalidSignatureException(
                f"{verdict}: {signed_at:{_TIME}} is now {than} than {edge:{_TIME}} ({now:{_TIME}} {sign} 5 min.)"
            )


def _canonical(call: SignedCall, headers: Mapping[str, bytes], signed: tuple[str, ...]) -> bytes:
    payload = hashlib.sha256(call.body).hexdigest()
    claimed = headers.get("x-amz-content-sha256")
    if claimed is not None and not hmac.compare_digest(claimed, payload.encode()):
        raise InvalidSignatureException(
            "The header X-Amz-Content-SHA256 is not the hash of the body."
        )
    # The canonical query is sorted, and encoded in one way only.
    query = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in parse_qsl(call.query, keep_blank_values=True)
    )
    return b"\n".join(
        (
            call.method.encode(),
            quote(call.path, safe="/-_.~").encode(),
            "&".join(f"{name}={value}" for name, value in query).encode(),
            *(name.encode() + b":" + headers[name] for name in signed),
            b"",
            ";".join(signed).encode(),
            payload.encode(),
        )
    )
