"""Assembles the JSON of decisions from the JSON of their fields, in the order of the contract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any, Final

import orjson
from pydantic import BaseModel

from fraud.contracts.decision import Decision, Shadow, Shared, fields_of


class Encoder:
    """Assembles JSON objects; shared fields stand together, in the place of the first of them.

    Args:
        declaration: Class that declares the fields: `Decision`, or a part of it.
    """

    def __init__(self, declaration: type[BaseModel]) -> None:
        places = dict.fromkeys(field.shared or field.name for field in fields_of(declaration))
        self._in_order = itemgetter(*places)
        members = (
            b"%b" if isinstance(place, Shared) else b'"%b":%%b' % place.encode() for place in places
        )
        self._template = b"{%b}" % b",".join(members)

    def encode(self, columns: Mapping[str, Iterable[bytes]]) -> list[bytes]:
        """Return n JSON objects.

        Args:
            columns: JSON of the n values of each field, by name; shared fields have one column per
                `Shared`, see `shared_json`.
        """
        rows = zip(*self._in_order(columns), strict=True)
        return [self._template % row for row in rows]


DECISION: Final = Encoder(Decision)
SHADOW: Final = Encoder(Shadow)


def shared_json(shared: Shared, values: Mapping[str, Any]) -> bytes:
    """Return the decision fields that a ruling or policy determines, as the inside of an object."""
    names = [field.name for field in fields_of(Decision) if field.shared is shared]
    return orjson.dumps({name: values[name] for name in names})[1:-1]
