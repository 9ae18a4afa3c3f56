"""Imports the saved objects into OpenSearch Dashboards; the import can be repeated."""

from __future__ import annotations

import ssl
from typing import Any, Final

import httpx
import stamina
import structlog

from dashboards.saved_objects import FILE
from dashboards.settings import Settings

_REQUEST_S: Final = 60.0
_FIRST_WAIT_S: Final = 0.5
_LONGEST_WAIT_S: Final = 5.0
_log = structlog.get_logger("dashboards")


class ImportFailed(Exception):
    """The saved objects could not be imported; the message says why."""


class _NotReady(Exception):
    """Dashboards answers, but is not ready for requests yet."""


def import_saved_objects(settings: Settings) -> int:
    """Import the saved objects of `FILE`, replacing those with the same ids; others stay.

    Waits up to `DASHBOARDS_WAIT_S` seconds for Dashboards to be ready.

    Returns:
        Number of objects imported.

    Raises:
        ImportFailed: Dashboards was not ready in time, or refused the credentials, the file or some
            of the objects.
    """
    sign_in = None
    if settings.dashboards_username:
        password = settings.dashboards_password.get_secret_value()
        sign_in = httpx.BasicAuth(settings.dashboards_username, password)
    trusted = ssl.create_default_context(cafile=settings.dashboards_ca_certs or None)
    with httpx.Client(
        base_url=settings.dashboards_url.rstrip("/"),
        auth=sign_in,
        verify=trusted,
        timeout=_REQUEST_S,
        headers={"osd-xsrf": "true"},
    ) as client:
        try:
            for attempt in stamina.retry_context(
                on=(httpx.TransportError, _NotReady),
                attempts=None,
                timeout=settings.dashboards_wait_s,
                wait_initial=_FIRST_WAIT_S,
                wait_max=_LONGEST_WAIT_S,
            ):
                with attempt:
                    _check_ready(client)
                    return _send(client)
        except (httpx.TransportError, _NotReady) as error:
            raise ImportFailed(
                f"{settings.dashboards_url} was not ready within "
                f"{settings.dashboards_wait_s:g} s: {str(error) or type(error).__name__}"
            ) from None
    raise AssertionError("unreachable: the last attempt raises")


def _check_ready(client: httpx.Client) -> None:
    answer = client.get("/api/status")
    if answer.status_code in (401, 403):
        raise ImportFailed(
            f"sign-in refused ({answer.status_code}): check DASHBOARDS_USERNAME and DASHBOARDS_PASSWORD"
        )
    if answer.status_code != 200:
        raise _NotReady(f"/api/status answered {answer.status_code}")
    try:
        state = answer.json()["status"]["overall"]["state"]
    except (ValueError, KeyError, TypeError):
        raise _NotReady("/api/status answered something else") from None
    if state == "red":
        raise _NotReady("its state is red")


def _send(client: httpx.Client) -> int:
    content = FILE.read_bytes()
    answer = client.post(
        "/api/saved_objects/_import",
        params={"overwrite": "true"},
        files={"file": (FILE.name, content, "application/ndjson")},
    )
    if answer.status_code in (429, 502, 503, 504):
        raise _NotReady(f"the import answered {answer.status_code}")
    if answer.status_code != 200:
        raise ImportFailed(f"the import answered {answer.status_code}: {_message(answer)}")
    result: dict[str, Any] = answer.json()
    refused = [
        f"{problem.get('type')} {problem.get('id')}: {problem.get('error', {}).get('type')}"
        for problem in result.get("errors", ())
    ]
    if refused or not result.get("success"):
        raise ImportFailed(f"{len(refused)} objects were refused: {'; '.join(refused)}")
    imported = int(result["successCount"])
    _log.info("dashboards.imported", objects=imported)
    return imported


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json().get("message"))
    except (ValueError, AttributeError):
        return answer.text[:200]
