"""Checks of requests and answers by AWS's service model of Amazon Fraud Detector.

AWS publishes the model in botocore. Only its data file is read: importing botocore would cost 23 MB
and a fifth of a second, the file alone 2 MB and 20 ms.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

import orjson

from afd.errors import SerializationException, ValidationException

TARGET_PREFIX: Final = "AWSHawksNestServiceFacade."
"""Prefix of the header `X-Amz-Target`; the operation's name follows."""

CONTENT_TYPE: Final = "application/x-amz-json-1.1"

_MODEL: Final = ("data", "frauddetector", "2019-11-15", "service-2.json.gz")
_MAX_FAULTS: Final = 10
_PYTHON_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "structure": (dict,),
    "map": (dict,),
    "list": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "float": (float, int),
    "double": (float, int),
    "blob": (str,),  # as Base64
}
Shape = Mapping[str, Any]


@cache
def _model() -> dict[str, Any]:
    packed = files("botocore").joinpath(*_MODEL).read_bytes()
    return orjson.loads(gzip.decompress(packed))  # type: ignore[no-any-return]


@cache
def operations() -> frozenset[str]:
    """Return the names of all operations of the service."""
    return frozenset(_model()["operations"])


def check_request(operation: str, request: Any) -> dict[str, Any]:
    """Check a request and return it without null values and unknown members, as AWS does.

    Raises:
        SerializationException: A value is of another type than declared.
        ValidationException: Required members are missing, or values break constraints; the message
            lists the first ten faults.
    """
    checked: dict[str, Any] = check_shape(
        _model()["operations"][operation]["input"]["shape"], request
    )
    return checked


def check_answer(operation: str, answer: Any) -> dict[str, Any]:
    """Check an answer as `check_request` checks a request; raises the same errors."""
    checked: dict[str, Any] = check_shape(
        _model()["operations"][operation]["output"]["shape"], answer
    )
    return checked


def check_shape(name: str, value: Any) -> Any:
    """Check a value by its shape, such as `RuleDetail`; raises what `check_request` does."""
    faults: list[str] = []
    read = _read(name, value, "", faults)
    if faults:
        count = f"{len(faults)} validation error{'s'[: len(faults) > 1]} detected: "
        raise ValidationException(count + "; ".join(faults[:_MAX_FAULTS]))
    return read


def _read(name: str, value: Any, at: str, faults: list[str]) -> Any:
    shape = _model()["shapes"][name]
    kind = shape["type"]
    # In Python True is an int, in JSON it is not a number.
    fits = isinstance(value, _PYTHON_TYPES[kind])
    if not fits or (type(value) is bool and kind != "boolean"):
        raise SerializationException(f"'{at or 'request'}': expected a {kind}")
    faults += (
        f"Value at '{at}' failed to satisfy constraint: {fault}" for fault in _faults(shape, value)
    )
    if kind == "structure":
        members = shape["members"]
        faults += (
            f"Value null at '{_inner(at, member)}' failed to satisfy constraint: Member must not be null"
            for member in shape.get("required", ())
            if value.get(member) is None
        )
        return {
            member: _read(members[member]["shape"], inner, _inner(at, member), faults)
            for member, inner in value.items()
            if inner is not None and member in members
        }
    if kind == "list":
        member = shape["member"]["shape"]
        return [
            _read(member, inner, f"{at}.{place}.member", faults)
            for place, inner in enumerate(value, start=1)
        ]
    if kind == "map":
        found = {}
        for key, inner in value.items():
            if inner is not None:
                _read(shape["key"]["shape"], key, f"{at}.key", faults)
                found[key] = _read(shape["value"]["shape"], inner, f"{at}.value", faults)
        return found
    return value


def _inner(at: str, member: str) -> str:
    return f"{at}.{member}" if at else member


def _faults(shape: Shape, value: Any) -> Iterator[str]:
    kind = shape["type"]
    if kind in ("integer", "long", "float", "double"):
        if value < shape.get("min", value):
            yield f"Member must have value greater than or equal to {shape['min']}"
        if value > shape.get("max", value):
            yield f"Member must have value less than or equal to {shape['max']}"
        return
    if kind not in ("string", "list", "map"):
        return
    size = len(value)
    if size < shape.get("min", size):
        yield f"Member must have length greater than or equal to {shape['min']}"
    if size > shape.get("max", size):
        yield f"Member must have length less than or equal to {shape['max']}"
    elif kind == "string":
        pattern = _pattern(shape.get("pattern"))
        if pattern is not None and not pattern.search(value):
            yield f"Member must satisfy regular expression pattern: {shape['pattern']}"
        if value not in shape.get("enum", (value,)):
            yield f"Member must satisfy enum value set: [{', '.join(shape['enum'])}]"


@cache
def _pattern(text: str | None) -> re.Pattern[str] | None:
    if text is None:
        return None
    try:
        # `$` must not match before a final newline, and `\d` only ASCII digits, as in Java.
        return re.compile(text.removesuffix("$") + r"\Z" if text.endswith("$") else text, re.ASCII)
    except re.error:  # the pattern of tags, which only Java reads; tags are not kept
        return None
