"""Pages of things that are all in memory: the next one begins behind a name."""

from __future__ import annotations

import base64
from bisect import bisect_right
from collections.abc import Mapping, Sequence

from afd.declarations import Value
from afd.errors import ResourceNotFoundException, ValidationException
from afd.operations import Answer, Request


def page(names: Sequence[str], token: str | None, size: int) -> tuple[Sequence[str], str | None]:
    """Return a page of names, and the token of the next one, None when there is none.

    What is added or taken away meanwhile makes no page miss or repeat another name.

    Args:
        names: In ascending order.
        token: As the page before gave it, None for the first.
        size: Most names.

    Raises:
        ValidationException: The token is none of ours.

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
    """Return one thing by its name, or a page of all.

    Args:
        known: The things by their names.
        request: Says which, or which page.
        plural: The member of the answer that holds them.
        size: Most on a page, unless asked for fewer.

    Raises:
        ResourceNotFoundException: There is none of that name.
    """
    name = request.get("name")
    if name is not None:
        if name not in known:
            raise ResourceNotFoundException(f"there is no {name}")
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
