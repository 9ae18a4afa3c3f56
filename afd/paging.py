"""Paging through resources in memory; the token of a page is the last name of the page before."""

from __future__ import annotations

import base64
from bisect import bisect_right
from collections.abc import Mapping, Sequence

from afd.declarations import Value
from afd.errors import ResourceNotFoundException, ValidationException
from afd.operations import Answer, Request


def page(names: Sequence[str], token: str | None, size: int) -> tuple[Sequence[str], str | None]:
    """Return a page of names and the token of the next page, or None after the last page.

    Names that are added or removed between calls do not make a page skip or repeat others.

    Args:
        names: All names, in ascending order.
        token: Token from the page before; None for the first page.
        size: Most names on the page.

    Raises:
        ValidationException: The token is malformed.

    Example:
        >>> first, token = page(["a", "b", "c"], None, 2)
        >>> first, page(["a", "b", "bb", "c"], token, 2)
        (['a', 'b'], (['bb', 'c'], None))
    """
    start = 0 if not token else bisect_right(names, _name(token))
    some = names[start : start + size]
    more = start + size < len(names)
    return some, base64.urlsafe_b64encode(some[-1].encode()).decode() if more else None


def shown(known: Mapping[str, Value], request: Request, plural: str, size: int) -> Answer:
    """Return one resource by its name, or a page of all.

    Args:
        known: Resources by name.
        request: Names the resource or the page.
        plural: Member of the answer that holds the resources.
        size: Resources on a page, unless the request asks for another number.

    Raises:
        ResourceNotFoundException: No resource has the name.
    """
    name = request.get("name")
    if name is not None:
        if name not in known:
            raise ResourceNotFoundException(f"unknown name: {name}")
        return {plural: [known[name]]}
    names, token = page(sorted(known), request.get("nextToken"), request.get("maxResults", size))
    return {plural: [known[listed] for listed in names]} | ({"nextToken": token} if token else {})


def _name(token: str) -> str:
    try:
        return base64.b64decode(token.encode("ascii"), b"-_", validate=True).decode()
    except ValueError:
        raise ValidationException(
            "Value at 'nextToken': expected one that an answer gave"
        ) from None
