"""The import, against a server that checks what OpenSearch Dashboards checks."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from typer.testing import CliRunner

from dashboards.commands import app
from dashboards.importer import ImportFailed, import_saved_objects
from dashboards.saved_objects import FILE, ndjson, saved_objects
from dashboards.settings import Settings


class Dashboards:
    """The two endpoints, with what they refuse.

    Attributes:
        states: What `/api/status` answers next; the last one stays.
        refused: Ids of objects that the import refuses.
        objects: What was imported.
    """

    def __init__(self) -> None:
        self.states: list[str | int] = ["green"]
        self.refused: set[str] = set()
        self.objects: dict[tuple[str, str], Any] = {}
        self.asked = 0
        self.sign_ins: list[str | None] = []
        dashboards = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                assert self.path == "/api/status"
                dashboards.asked += 1
                dashboards.sign_ins.append(self.headers.get("authorization"))
                states = dashboards.states
                state = states.pop(0) if len(states) > 1 else states[0]
                if isinstance(state, int):
                    self.answer(state, {})
                else:
                    self.answer(200, {"status": {"overall": {"state": state}}})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if "osd-xsrf" not in self.headers:
                    self.answer(400, {"message": "Request must contain an osd-xsrf header."})
                    return
                boundary = re.search(r"boundary=(\S+)", self.headers["content-type"])
                assert boundary
                (part,) = body.split(b"--" + boundary[1].encode())[1:-1]
                head, _, content = part.partition(b"\r\n\r\n")
                if not re.search(rb'name="file"; filename="[^"]+\.ndjson"', head):
                    self.answer(400, {"message": "Invalid file extension"})
                    return
                self.answer(200, dashboards.take(content, "overwrite=true" in self.path))

            def answer(self, status: int, body: dict[str, Any]) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                """Stay silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def take(self, content: bytes, overwrite: bool) -> dict[str, Any]:
        """Import lines as Dashboards does."""
        objects = {(o["type"], o["id"]): o for o in map(json.loads, content.strip().splitlines())}
        errors = []
        for key, one in objects.items():
            missing = [
                reference
                for reference in one["references"]
                if (reference["type"], reference["id"]) not in objects | self.objects
            ]
            reason = "missing_references" if missing else None
            if key in self.objects and not overwrite:
                reason = "conflict"
            if one["id"] in self.refused:
                reason = "unsupported_type"
            if reason:
                errors.append({"type": key[0], "id": key[1], "error": {"type": reason}})
            else:
                self.objects[key] = one
        count = len(objects) - len(errors)
        return {"success": not errors, "successCount": count} | (
            {"errors": errors} if errors else {}
        )


@pytest.fixture
def dashboards() -> Iterator[Dashboards]:
    server = Dashboards()
    thread = threading.Thread(target=server.server.serve_forever)
    thread.start()
    yield server
    server.server.shutdown()
    server.server.server_close()
    thread.join()


def settings(dashboards: Dashboards, **changes: Any) -> Settings:
    return Settings(dashboards_url=dashboards.url, **{"dashboards_wait_s": 30, **changes})


def test_all_objects_are_imported_and_again_changes_nothing(dashboards: Dashboards) -> None:
    expected = {(one["type"], one["id"]): one for one in saved_objects()}
    for _ in range(2):
        assert import_saved_objects(settings(dashboards)) == len(expected)
        assert dashboards.objects == expected


def test_it_waits_until_dashboards_is_ready(dashboards: Dashboards) -> None:
    """Starting, red, and then there."""
    dashboards.states = [503, "red", "yellow"]
    assert import_saved_objects(settings(dashboards)) == len(saved_objects())
    assert dashboards.asked == 3


def test_it_gives_up_in_time_and_says_what_it_waited_for(dashboards: Dashboards) -> None:
    dashboards.states = ["red"]
    with pytest.raises(ImportFailed, match=r"not ready within 1 s: its state is red"):
        import_saved_objects(settings(dashboards, dashboards_wait_s=1))
    assert dashboards.objects == {}


def test_a_server_that_is_not_there_is_said_so(dashboards: Dashboards) -> None:
    nowhere = Settings(dashboards_url="http://127.0.0.1:9", dashboards_wait_s=0.5)
    with pytest.raises(ImportFailed, match=r"127\.0\.0\.1:9 was not ready"):
        import_saved_objects(nowhere)


def test_a_refused_object_is_named(dashboards: Dashboards) -> None:
    dashboards.refused = {"fraudstream-top-rules"}
    with pytest.raises(ImportFailed, match="visualization fraudstream-top-rules: unsupported_type"):
        import_saved_objects(settings(dashboards))


def test_a_sign_in_is_sent_and_its_refusal_ends_the_import(dashboards: Dashboards) -> None:
    """No waiting will mend it."""
    given = {"dashboards_username": "ana", "dashboards_password": "secret"}
    with_password = settings(dashboards, **given)
    import_saved_objects(with_password)
    assert dashboards.sign_ins == ["Basic YW5hOnNlY3JldA=="]
    dashboards.states = [401]
    with pytest.raises(ImportFailed, match="DASHBOARDS_PASSWORD"):
        import_saved_objects(with_password)
    assert dashboards.asked == 2


def test_the_command_says_what_it_did(
    dashboards: Dashboards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASHBOARDS_URL", dashboards.url)
    done = CliRunner().invoke(app, ["import"])
    assert done.exit_code == 0, done.output
    assert f"imported {len(saved_objects())} saved objects" in done.output
    dashboards.refused = {"fraudstream"}
    failed = CliRunner().invoke(app, ["import"])
    assert failed.exit_code == 1
    assert "dashboard fraudstream" in failed.stderr


def test_write_gives_the_committed_file() -> None:
    written = CliRunner().invoke(app, ["write"])
    assert written.stdout_bytes == ndjson() == FILE.read_bytes()
