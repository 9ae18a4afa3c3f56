"""A decision as JSON, from the JSON of its fields: `fraud.contracts.decision` says which and in what order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any, Final

import orjson
from pydantic import BaseModel

from fraud.contracts.decision import Decision, Shadow, Shared, fields_of


class Encoder:
    """Writes objects of a declaration. Values that are shared stand together, where the first does.

    Args:
        declaration: `Decision`, or a part of it.
    """

    def __init__(self, declaration: type[BaseModel]) -> None:
        places = dict.fromkeys(field.shared or field.name for field in fields_of(declaration))
        self._in_order = itemgetter(*places)
        members = (
            b"%b" if isinstance(place, Shared) else b'"%b":%%b' % place.encode() for place in places
        )
        self._template = b"{%b}" % b",".join(members)

    def encode(self, columns: Mapping[str, Iterable[bytes]]) -> list[bytes]:
        """Return the n objects, as JSON.

        Args:
            columns: JSON of the n values of each field; of shared ones see `shared_json`.
        """
        rows = zip(*self._in_order(columns), strict=True)
        return [self._template % row for row in rows]


DECISION: Final = Encoder(Decision)
SHADOW: Final = Encoder(Shadow)


def shared_json(shared: Shared, values: Mapping[str, Any]) -> bytes:
    """Write the decision's fields that are shared in this way, as the inside of a JSON object."""
    names = [field.name for field in fields_of(Decision) if field.shared is shared]
    return orjson.dumps({name: values[name] for name in names})[1:-1]
