"""The rule language: conditions on a transaction, its features, its score, and lists."""

from fraud.rules.errors import ExpressionError
from fraud.rules.expression import Expression, compile_expression
from fraud.rules.plan import Columns
from fraud.rules.variables import SCORED_AT, Type

__all__ = [
    "SCORED_AT",
    "Columns",
    "Expression",
    "ExpressionError",
    "Type",
    "compile_expression",
]
