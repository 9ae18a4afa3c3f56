"""The variables that rules on transactions may use."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from fraud.contracts.transaction import FIELDS, Kind
from fraud.features.catalogue import FEATURES
from fraud.rules import SCORED_AT, Type
from fraud.rules.variables import RESULTS

_OF_KIND: Final = MappingProxyType(
    {
        Kind.ID: Type.TEXT,
        Kind.TEXT: Type.TEXT,
        Kind.NUMBER: Type.NUMBER,
        Kind.TIME: Type.TIME,
        Kind.CURRENCY: Type.TEXT,
    }
)


def standard_variables() -> dict[str, Type]:
    """Return the types of all variables: fields, features, model results, and decision time.

    Example:
        >>> variables = standard_variables()
        >>> variables["transaction_amt"].value, variables["score"].value
        ('number', 'number')
    """
    variables = {field.name: _OF_KIND[field.kind] for field in FIELDS}
    variables["ip_address"] = Type.IP
    variables |= {feature.name: Type.SINGLE for feature in FEATURES}
    variables |= dict.fromkeys(RESULTS, Type.NUMBER)
    variables[SCORED_AT] = Type.TIME
    return variables
