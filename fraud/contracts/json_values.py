"""JSON as RFC 8259 has it, and the true cause where bytes are something else.

orjson reads nearly everything and is fast. It refuses three things that JSON allows: numbers beyond a
double, escapes of half a surrogate pair, and integers of any length; Python's own reader takes them.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Any, Final, NoReturn

import orjson

from fraud.contracts.errors import ErrorCode, InvalidMessage

TOO_DEEP: Final = "expected fewer than 900 nested arrays and objects"
"""Detail of the error for JSON that is nested deeper than Python's reader can follow."""

_FRAME_BYTES: Final = 5
"""Length of the frame that serialisers of a schema registry put in front: 0, then the schema's id."""

_LONGEST_INT_DIGITS: Final = 20
_INT_RANGE: Final = range(-(2**63), 2**64)

_OTHER_FORMATS: Final = (
    (codecs.BOM_UTF8, "expected JSON without a byte order mark in front"),
    (codecs.BOM_UTF16_LE, "expected JSON in UTF-8, the value begins as UTF-16"),
    (codecs.BOM_UTF16_BE, "expected JSON in UTF-8, the value begins as UTF-16"),
    (b"\x1f\x8b", "expected JSON, the value is gzip: set the producer's compression.type instead"),
    (b"\x28\xb5\x2f\xfd", "expected JSON, the value is zstd: set the producer's compression.type instead"),
    (b"PK\x03\x04", "expected JSON, the value is a zip file"),
)  # fmt: skip


def load(raw: bytes) -> tuple[Any, bool]:
    """Read any JSON value.

    Returns:
        The value, and whether orjson read it. If not, it may hold infinite numbers (1e400 reads as
        infinity) and text with unpaired surrogates, which does not encode.

    Raises:
        InvalidMessage: `empty_value` or `not_json`, whose detail names the cause and never a value.

    Example:
        >>> load(b'{"a": 1}'), load(b'[1e400]')
        (({'a': 1}, True), ([inf], False))
    """
    try:
        return orjson.loads(raw), True
    except orjson.JSONDecodeError as error:
        return _load_as_python(raw, error), False


def loads(raw: bytes) -> Any:
    """Read any JSON value; see `load`."""
    return load(raw)[0]


def _load_as_python(raw: bytes, error: orjson.JSONDecodeError) -> Any:
    if not raw.strip():
        raise InvalidMessage(ErrorCode.EMPTY_VALUE, "expected JSON, the value is empty")
    for beginning, cause in _OTHER_FORMATS:
        if raw.startswith(beginning):
            raise InvalidMessage(ErrorCode.NOT_JSON, cause)
    if raw[0] == 0 and len(raw) > _FRAME_BYTES:
        schema_id = int.from_bytes(raw[1:_FRAME_BYTES])
        raise InvalidMessage(
            ErrorCode.NOT_JSON,
            f"expected JSON, the value begins with a schema registry's frame (schema {schema_id}): "
            "use a plain JSON serializer",
        )
    try:
        text = raw.decode()
    except UnicodeDecodeError as wrong:
        raise InvalidMessage(
            ErrorCode.NOT_JSON, f"expected JSON in UTF-8, byte {wrong.start + 1} is not"
        ) from None
    try:
        return json.loads(text, parse_int=_integer, parse_constant=_refuse_constant)
    except RecursionError:
        raise InvalidMessage(ErrorCode.NOT_JSON, TOO_DEEP) from None
    except json.JSONDecodeError:
        # orjson's own words hold positions only, never values.
        raise InvalidMessage(
            ErrorCode.NOT_JSON,
            f"expected JSON in UTF-8 (line {error.lineno}, column {error.colno})",
        ) from None


def _integer(digits: str) -> int | float:
    """Read an integer as orjson does: beyond 64 bits it is a double."""
    if len(digits) > _LONGEST_INT_DIGITS:
        return float(digits)
    value = int(digits)
    return value if value in _INT_RANGE else float(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidMessage(ErrorCode.NOT_JSON, f"expected JSON, {name} is not a JSON number")


_UNPAIRED: Final = re.compile("[\ud800-\udfff]")


def has_unpaired_surrogate(text: str) -> bool:
    """Check whether a text holds half of a surrogate pair, so that it cannot be encoded."""
    return _UNPAIRED.search(text) is not None
