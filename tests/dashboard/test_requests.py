"""The dashboard's requests, as programs and other sites' pages may make them: who may look, who may do something."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import anyio
import httpx
import pytest

from middleware.supervisor.workers import WORKER_COMMAND
from middleware.web import connections, dashboard
from middleware.web.sessions import FAILURES_MAX
from middleware.web.stream import LISTENERS_MAX, QUEUE_MAX, Listener
from tests.dashboard.conftest import PASSWORD, serving
from tests.supervisor.conftest import until

pytestmark = pytest.mark.anyio


async def log_in(client: httpx.AsyncClient) -> Mapping[str, str]:
    """Begin a session; returns the headers of what does something."""
    answer = await client.post("login", json={"password": PASSWORD})
    assert answer.status_code == 200
    return {"X-Pointsman-Token": answer.json()["csrf"]}


async def messages(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in answer.aiter_lines():
        if line:
            assert line.startswith("data: ")
            yield json.loads(line.removeprefix("data: "))


async def test_the_page_may_load_nothing_from_elsewhere_and_run_nothing_inline() -> None:
    async with serving() as (_, client):
        for path in ("", "main.js", "style.css", "session", "no-such-file"):
            headers = (await client.get(path)).headers
            policy = headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
            assert "unsafe" not in policy
            assert "require-trusted-types-for 'script'" in policy
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Referrer-Policy"] == "no-referrer"
        page = (await client.get("")).text
        assert "://" not in page
        assert "style=" not in page
        assert "<script>" not in page


async def test_files_are_served_once_and_only_those() -> None:
    async with serving() as (_, client):
        first = await client.get("main.js")
        assert first.headers["Content-Type"] == "text/javascript; charset=utf-8"
        again = await client.get("main.js", headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        for path in ("../web/server.py", "%2e%2e/server.py", "..%2fserver.py", "index.html/", "static/main.js"):
            assert (await client.get(path)).status_code == 404
        there = await client.get(httpx.URL(client.base_url).join("/"), follow_redirects=True)
        assert str(there.url) == str(client.base_url)


async def test_without_a_password_there_is_nothing_to_log_in_to() -> None:
    async with serving(dashboard_password="") as (_, client):
        assert (await client.get("session")).json() == {"look": True, "full": False, "buttons": "none", "csrf": ""}
        answer = await client.post("login", json={"password": ""})
        assert (answer.status_code, answer.json()["message"]) == (403, "no password is set")
        assert (await client.post("command", json={"do": "cache_off"})).status_code == 401


async def test_a_session_begins_with_the_password_and_ends() -> None:
    async with serving() as (_, client):
        assert (await client.get("session")).json()["buttons"] == "login"
        answer = await client.post("login", json={"password": PASSWORD})
        name, _, rest = answer.headers["Set-Cookie"].partition("=")
        assert name == f"pointsman_{client.base_url.port}"
        assert rest.partition("; ")[2] == "Max-Age=43200; HttpOnly; SameSite=Strict"
        told = (await client.get("session")).json()
        assert told == answer.json()
        assert (told["look"], told["buttons"]) == (True, "here")
        headers = {"X-Pointsman-Token": told["csrf"]}
        cookies = dict(client.cookies)
        assert (await client.post("logout", json={}, headers=headers)).json()["buttons"] == "login"
        # What the browser has forgotten, the server has too.
        assert dict(client.cookies) == {}
        client.cookies.update(cookies)
        assert (await client.get("session")).json()["buttons"] == "login"


async def test_behind_a_proxy_that_ends_tls_the_cookie_is_for_tls_alone() -> None:
    async with serving() as (_, client):
        answer = await client.post("login", json={"password": PASSWORD}, headers={"X-Forwarded-Proto": "https"})
        assert answer.headers["Set-Cookie"].endswith("; HttpOnly; SameSite=Strict; Secure")


async def test_another_password_ends_all_sessions() -> None:
    async with serving() as (supervisor, client):
        await log_in(client)
        await supervisor.set("dashboard_password", "another", "somebody")
        assert (await client.get("session")).json()["buttons"] == "login"


async def test_a_wrong_password_is_refused_and_soon_not_looked_at(capfd: pytest.CaptureFixture[str]) -> None:
    async with serving() as (_, client):
        for _attempt in range(FAILURES_MAX):
            answer = await client.post("login", json={"password": "Correct horse"})
            assert (answer.status_code, answer.json()["message"]) == (403, "password authentication failed")
            assert "Set-Cookie" not in answer.headers
        # The right one is not told from the wrong ones any more.
        answer = await client.post("login", json={"password": PASSWORD})
        assert (answer.status_code, answer.json()["message"]) == (429, "too many logins have failed")
        assert 0 < int(answer.headers["Retry-After"]) <= 60
    assert "orrect horse" not in "".join(capfd.readouterr())


OURS = {"Content-Type": "application/json"}


STRANGERS = [
    # As a form of another site may send it, without asking: it has no header of ours, and is no JSON.
    ({"Content-Type": "text/plain"}, 415),
    ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    # As its script may, had it asked and been allowed: the browser says whose it is.
    ({**OURS, "Origin": "http://evil.example"}, 403),
    ({**OURS, "Origin": "null"}, 403),
    ({**OURS, "Sec-Fetch-Site": "cross-site"}, 403),
    # As that of another program on this machine may: of the same site, on another port.
    ({**OURS, "Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"}, 403),
    # Its name was made to point here.
    ({**OURS, "Host": "evil.example", "Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"}, 403),
]
BODIES = {"command": {"do": "cache_clear"}, "login": {"password": PASSWORD}, "logout": {}, "cancel": {"id": 1}}


@pytest.mark.parametrize("path", BODIES)
async def test_a_page_of_another_site_can_do_nothing(path: str) -> None:
    async with serving() as (supervisor, client):
        token = await log_in(client)
        for headers, status in STRANGERS:
            answer = await client.post(path, content=json.dumps(BODIES[path]), headers={**headers, **token})
            assert answer.status_code == status, headers
            assert "Set-Cookie" not in answer.headers
        assert not [one for one in supervisor.happenings if one.what == "cache_cleared"]
        assert (await client.get("session")).json()["buttons"] == "here"


async def test_nor_can_it_hold_a_stream_open_but_link_to_the_page() -> None:
    async with serving() as (_, client):
        for site in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}):
            for path in ("stream", "session"):
                assert (await client.get(path, headers=site)).status_code == 403
            assert (await client.get("", headers=site)).status_code == 200
        assert (await client.head("stream")).status_code == 405


async def test_nor_can_it_ask_whether_it_may() -> None:
    async with serving() as (_, client):
        asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
        answer = await client.options("command", headers={**asked, "Access-Control-Request-Headers": "content-type"})
        assert answer.status_code == 403
        assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_a_cookie_alone_does_nothing() -> None:
    async with serving() as (supervisor, client):
        await log_in(client)
        for token in ([], [b""], [b"x"], ["ä".encode()], [b"x" * 4000]):
            headers = [(b"X-Pointsman-Token", one) for one in token]
            answer = await client.post("command", json={"do": "cache_clear"}, headers=headers)
            assert answer.status_code == 403
            assert "X-Pointsman-Token" in answer.json()["message"]
        assert not [one for one in supervisor.happenings if one.what == "cache_cleared"]


async def test_the_token_of_another_session_does_nothing() -> None:
    async with serving() as (_, client):
        theirs = await log_in(client)
        client.cookies.clear()
        await log_in(client)
        assert (await client.post("command", json={"do": "cache_clear"}, headers=theirs)).status_code == 403


async def test_a_button_is_a_command_of_the_console() -> None:
    async with serving() as (supervisor, client):
        headers = await log_in(client)
        answer = await client.post("command", json={"do": "cache_clear"}, headers=headers)
        assert (answer.status_code, answer.json()["command"], answer.json()["ok"]) == (200, "CACHE CLEAR", True)
        assert [one.text for one in supervisor.happenings if one.what == "cache_cleared"] == [
            "the query cache was cleared by admin"
        ]


async def test_errors_are_told_as_postgresql_tells_them() -> None:
    async with serving() as (_, client):
        headers = await log_in(client)
        answer = await client.post("command", json={"do": "drain", "node": "db9"}, headers=headers)
        assert answer.status_code == 409
        assert answer.json() == {
            "message": 'node "db9" does not exist',
            "detail": "",
            "hint": "",
            "sqlstate": "42704",
        }
        refused = (await client.post("command", json={"do": "switchover"}, headers=headers)).json()
        assert (refused["command"], refused["ok"]) == ("SWITCHOVER", False)
        assert refused["sqlstate"] == "55000"


NO_BUTTONS = [
    b"",
    b"{}",
    b"[]",
    b'{"do": "shutdown"}',
    b'{"do": "cache_off", "route": "x"}',
    b'{"do": "SHOW USERS"}',
    b'{"do": "drain", "node": 1}',
    b'{"do": "drain"',
    b"\xff",
    b"[" * 4000,
]


async def test_what_is_no_button_is_refused() -> None:
    async with serving() as (_, client):
        headers = {**await log_in(client), "Content-Type": "application/json"}
        for body in NO_BUTTONS:
            assert (await client.post("command", content=body, headers=headers)).status_code == 400, body


async def test_a_node_is_one_of_those_there_are() -> None:
    async with serving() as (_, client):
        headers = await log_in(client)
        for node in ("db1; SHUTDOWN", "db1\nSHUTDOWN", "", '"db1"', "db1 ", "DB1"):
            answer = await client.post("command", json={"do": "detach", "node": node}, headers=headers)
            assert (answer.status_code, answer.json()["sqlstate"]) == (409, "42704"), node


async def test_a_body_has_a_bound() -> None:
    async with serving() as (_, client):
        headers = {**await log_in(client), "Content-Type": "application/json"}
        size = dashboard.BODY_BYTES_MAX + 1
        assert (await client.post("command", content=b" " * size, headers=headers)).status_code == 413

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(size):
                yield b" "

        assert (await client.post("command", content=chunks(), headers=headers)).status_code == 413


@pytest.mark.parametrize(
    ("watching", "headers", "status"),
    [
        ("on", {"X-Forwarded-For": "10.0.0.7"}, 200),
        ("local", {}, 200),
        ("local", {"X-Forwarded-For": "10.0.0.7"}, 403),
        ("login", {}, 403),
        ("off", {}, 404),
    ],
)
async def test_who_may_look_without_a_login(watching: str, headers: dict[str, str], status: int) -> None:
    async with serving(worker_command=WORKER_COMMAND, dashboard=watching) as (_, client):
        async with client.stream("GET", "stream", headers=headers) as answer:
            assert answer.status_code == status
        page = await client.get("", headers=headers)
        assert page.status_code == (404 if watching == "off" else 200)


async def test_who_is_logged_in_may_look_until_the_session_ends() -> None:
    async with serving(worker_command=WORKER_COMMAND, dashboard="login") as (_, client):
        headers = await log_in(client)
        async with client.stream("GET", "stream") as answer:
            assert answer.status_code == 200
            heard = messages(answer)
            assert (await anext(heard))["kind"] == "opened"
            await client.post("logout", json={}, headers=headers)
            with anyio.fail_after(10):
                async for _message in heard:
                    pass


async def test_a_stream_begins_with_what_was_and_goes_on_with_what_is() -> None:
    async with serving(worker_command=WORKER_COMMAND) as (supervisor, client):
        await asyncio.sleep(1.2)
        async with client.stream("GET", "stream") as answer:
            assert answer.headers["Content-Type"] == "text/event-stream"
            heard = messages(answer)
            opened = await anext(heard)
            assert opened["kind"] == "opened"
            assert len(opened["points"]) >= 2
            assert [one["seq"] for one in opened["events"]] == list(range(1, supervisor.journal.last + 1))
            snapshot = await anext(heard)
            assert snapshot["kind"] == "snapshot"
            assert [(one["name"], one["used"]) for one in snapshot["nodes"]] == [("db1", False)]
            assert snapshot["alarms"][0]["text"].startswith("There is no primary")
            assert snapshot["point"] == opened["points"][-1]
            supervisor.cache.clear("somebody")
            kinds, events = set(), []
            with anyio.fail_after(20):
                async for message in heard:
                    kinds.add(message["kind"])
                    events += message.get("events", [])
                    if kinds == {"snapshot", "details", "events"}:
                        break
            assert [one["what"] for one in events] == ["cache_cleared"]
            assert [one["seq"] for one in events] == [supervisor.journal.last]


async def test_a_stream_lasts_longer_than_a_request_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_S", 0.5)
    async with serving(worker_command=WORKER_COMMAND) as (_, client), client.stream("GET", "stream") as answer:
        began = time.monotonic()
        with anyio.fail_after(20):
            async for _message in messages(answer):
                # Well beyond the next look at what has lasted too long.
                if time.monotonic() - began > 3 * connections.SWEEP_S:
                    return
        pytest.fail("it has ended")


async def test_so_many_may_look_and_one_more_is_told_so() -> None:
    async with serving(worker_command=WORKER_COMMAND) as (_, client):
        limits = httpx.Limits(max_connections=LISTENERS_MAX + 5)
        async with httpx.AsyncClient(base_url=client.base_url, timeout=20, trust_env=False, limits=limits) as many:
            streams = [many.stream("GET", "stream") for _ in range(LISTENERS_MAX)]
            for stream in streams:
                assert (await stream.__aenter__()).status_code == 200
            async with many.stream("GET", "stream") as refused:
                assert refused.status_code == 503
            assert (await client.get("session")).json()["full"]
            await streams[0].__aexit__(None, None, None)

            async def has_room() -> bool:
                return not (await client.get("session")).json()["full"]

            await until(has_room, "a place to be free")
            for stream in streams[1:]:
                await stream.__aexit__(None, None, None)


async def test_who_reads_too_slowly_is_cut_off() -> None:
    dropped = []
    listener = Listener(lambda: dropped.append(True))
    for _ in range(QUEUE_MAX):
        assert listener.put(b"x")
    assert await listener.next() == b"x" * QUEUE_MAX
    for _ in range(QUEUE_MAX):
        assert listener.put(b"x")
    assert not listener.put(b"x")
    assert dropped == [True]
    # And nothing of it is kept.
    assert await listener.next() == b""


async def test_an_open_stream_does_not_hold_up_the_end() -> None:
    async with serving(worker_command=WORKER_COMMAND) as (supervisor, client), client.stream("GET", "stream") as answer:
        heard = messages(answer)
        await anext(heard)
        supervisor.stop()
        with anyio.fail_after(10):
            async for _message in heard:
                pass
