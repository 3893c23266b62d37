"""The HTTP server over a real supervisor and real connections: its bounds, its headers, its beginning and end."""

import socket
import struct
import subprocess
import sys
from pathlib import Path

import anyio
import httpx
import pytest
import structlog
from aiohttp import web

from middleware.sandbox.ports import free_port
from middleware.service import running
from middleware.supervisor import StartError, Supervisor
from middleware.web import connections, health, server
from middleware.web.server import keep_open
from tests.supervisor.conftest import ECHO_WORKER, ask, settings, until
from tests.web.conftest import serving

pytestmark = pytest.mark.anyio


async def exchange(port: int, request: bytes) -> bytes:
    """All that is answered to these very bytes, until the connection ends."""
    with anyio.fail_after(20):
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(request)
            heard = b""
            try:
                while True:
                    heard += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return heard


async def test_answers_cannot_be_taken_for_what_they_are_not() -> None:
    async with serving() as (_, client):
        for path in ("/healthz", "/no-such-page"):
            headers = (await client.get(path)).headers
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["X-Frame-Options"] == "DENY"
            assert headers["Cache-Control"] == "no-store"
            assert headers["Content-Security-Policy"].startswith("default-src 'none'; frame-ancestors 'none'")
            # What serves it, and in which version, is nobody's business.
            assert headers["Server"] == "Pointsman"


async def test_head_is_get_without_a_body_and_what_is_not_there_is_said() -> None:
    async with serving() as (_, client):
        get, head = await client.get("/healthz"), await client.head("/healthz")
        assert (get.status_code, head.status_code) == (200, 200)
        assert head.headers["Content-Length"] == get.headers["Content-Length"]
        assert head.content == b""
        assert (await client.get("/no-such-page")).status_code == 404
        refused = await client.post("/healthz")
        assert refused.status_code == 405
        assert set(refused.headers["Allow"].split(",")) >= {"GET", "HEAD", "OPTIONS"}


@pytest.mark.parametrize(
    "request_",
    [
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: many\r\n\r\n",
        b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_is_no_request_is_refused_without_a_word_in_the_log(
    request_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as (_, client):
        heard = await exchange(client.base_url.port or 0, request_)
        assert heard.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
        assert (await client.get("/healthz")).status_code == 200
    assert caplog.records == []


async def test_a_body_is_bounded_in_size_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODY_S", 0.2)
    async with serving() as (_, client):
        too_big = await client.request("GET", "/healthz", content=b"x" * (server.BODY_BYTES_MAX + 1))
        assert too_big.status_code == 413
        assert (await client.request("GET", "/healthz", content=b"x" * 1000)).status_code == 200
        slow = await exchange(
            client.base_url.port or 0, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nnot yet"
        )
        assert slow.startswith(b"HTTP/1.1 408 ")


async def test_connections_are_bounded_and_silent_ones_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "FIRST_S", 1.0)
    monkeypatch.setattr(connections, "SWEEP_S", 0.1)
    async with serving() as (_, client):
        port = client.base_url.port or 0
        silent = [await anyio.connect_tcp("127.0.0.1", port) for _ in range(connections.CONNECTIONS_MAX)]

        async def refused() -> bool:
            return (
                await exchange(port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            ).startswith(b"HTTP/1.1 503 ")

        await until(refused, "a refusal")
        for one in silent:
            with anyio.fail_after(20), pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await one.receive()
            await one.aclose()
        assert (await client.get("/healthz")).status_code == 200


async def test_who_takes_no_answer_is_cut_off_and_a_stream_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_S", 0.3)
    monkeypatch.setattr(connections, "SWEEP_S", 0.1)
    ended: list[str] = []

    async def much(request: web.Request) -> web.StreamResponse:
        if request.path == "/stream":
            keep_open(request)
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 100_000)
        finally:
            ended.append(request.path)

    monkeypatch.setattr(health, "ROUTES", (*health.ROUTES, web.get("/much", much), web.get("/stream", much)))
    async with serving() as (_, client):
        port = client.base_url.port or 0
        async with (
            await anyio.connect_tcp("127.0.0.1", port) as stream,
            await anyio.connect_tcp("127.0.0.1", port) as one,
        ):
            await stream.send(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await one.send(b"GET /much HTTP/1.1\r\nHost: localhost\r\n\r\n")

            async def cut_off() -> bool:
                return ended == ["/much"]

            await until(cut_off, "its end")
            await anyio.sleep(0.5)
            assert ended == ["/much"]


async def test_a_bug_is_an_answer_and_a_traceback_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_request: web.Request) -> web.Response:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(health, "ROUTES", (*health.ROUTES, web.get("/broken", broken)))
    with structlog.testing.capture_logs() as logs:
        async with serving() as (_, client):
            answer = await client.get("/broken")
            assert answer.status_code == 500
            assert "ZeroDivisionError" not in answer.text
            assert (await client.get("/healthz")).status_code == 200
    (line,) = [line for line in logs if line["event"] == "request failed"]
    assert (line["path"], line["exc_info"], line["log_level"]) == ("/broken", True, "error")


async def test_it_serves_on_ipv6() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    port = free_port()
    chosen = settings(http_port=port, http_listen_addr="::1, 127.0.0.1")
    async with running(chosen, worker_command=ECHO_WORKER), httpx.AsyncClient(trust_env=False) as client:
        for host in ("[::1]", "127.0.0.1"):
            assert (await client.get(f"http://{host}:{port}/healthz")).status_code == 200


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1", r"http_port: could not listen on 127\.0\.0\.1:\d+: address already in use"),
        ("no.such.invalid", r'http_port: could not resolve http_listen_addr "no\.such\.invalid"'),
    ],
)
async def test_a_start_that_fails_names_the_setting_and_leaves_nothing_open(address: str, why: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        supervisor = Supervisor(
            settings(http_port=taken.getsockname()[1], http_listen_addr=address), worker_command=ECHO_WORKER
        )
        with pytest.raises(StartError, match=why):
            supervisor.listen()
        supervisor._shared.close()
        assert supervisor.web_sockets == []
        for host, port in supervisor.addresses:
            with pytest.raises(OSError):
                await anyio.connect_tcp(host, port)


async def test_the_command_says_which_setting_it_was(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = tmp_path / "pointsman.toml"
        config.write_text(
            f'listen_port = 0\nhttp_port = {taken.getsockname()[1]}\n[health_check]\nuser = "a"\n'
            '[nodes.db1]\nhost = "127.0.0.1"\nport = 1\n[users.app]\npassword = "a"\n'
        )
        done = await anyio.run_process(
            [sys.executable, "-m", "middleware", "serve", "-c", str(config)], check=False, stderr=subprocess.PIPE
        )
    assert done.returncode == 1
    assert done.stderr.decode().strip().splitlines()[-1].startswith("pointsman: http_port: could not listen on ")


async def test_while_it_drains_it_says_so_and_afterwards_nobody_listens() -> None:
    port = free_port()
    async with running(settings(http_port=port, shutdown_timeout=600.0), worker_command=ECHO_WORKER) as supervisor:
        await ask(supervisor, order="deaf")
        supervisor.stop()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            answer = await client.get("/readyz")
            assert (answer.status_code, answer.json()["phase"]) == (503, "draining")
            assert (await client.get("/healthz")).status_code == 200
            assert (await client.get("/primary")).status_code == 503
        supervisor.stop()
    with pytest.raises(OSError):
        await anyio.connect_tcp("127.0.0.1", port)


async def test_the_end_does_not_wait_for_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        keep_open(request)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun\n")
        await anyio.sleep_forever()
        return response

    monkeypatch.setattr(health, "ROUTES", (*health.ROUTES, web.get("/endless", endless)))
    with anyio.fail_after(20):
        async with serving() as (_, client):
            stream = await anyio.connect_tcp("127.0.0.1", client.base_url.port or 0)
            await stream.send(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
            heard = b""
            while b"begun" not in heard:
                heard += await stream.receive()
        await stream.aclose()


async def test_who_goes_away_in_the_middle_is_no_bug(caplog: pytest.LogCaptureFixture) -> None:
    with structlog.testing.capture_logs() as logs:
        async with serving() as (_, client):
            for _ in range(20):
                with socket.create_connection(("127.0.0.1", client.base_url.port or 0)) as one:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    one.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /heal")
            assert (await client.get("/healthz")).status_code == 200
    assert [line for line in logs if line["log_level"] == "error"] == []
    assert caplog.records == []


async def test_a_strangers_page_that_was_made_to_point_here_reads_nothing() -> None:
    async with serving() as (_, client):
        for path in ("/metrics", "/healthz", "/nodes/db1"):
            refused = await client.get(path, headers={"Host": "evil.example"})
            assert (refused.status_code, "Host" in refused.text) == (403, True)
        assert (await client.get("/healthz", headers={"Host": "localhost:1"})).status_code == 200


async def test_a_check_of_old_says_no_name() -> None:
    async with serving() as (supervisor, _):
        heard = await exchange(supervisor.web_sockets[0].getsockname()[1], b"GET /healthz HTTP/1.0\r\n\r\n")
        assert heard.startswith(b"HTTP/1.0 200")
